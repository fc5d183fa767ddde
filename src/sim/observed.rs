//! The observations of one replica: the rises of its floors with its knowledge at that time, its members, and its own
//! statements. [`history`](super::history) records them.

use std::collections::{BTreeMap, BTreeSet};

use crate::crdt::{Marker, VersionVector};
use crate::hlc::{HlcTime, Stamp};
use crate::replica::Counters;
use crate::replica_id::ReplicaId;

/// The age in nanoseconds at which a member counts in the stable cut that an eviction uses. A replica renews that cut
/// every second at the latest.
const CUT_AGE: u64 = 1_050_000_000;

/// The two floors of a replica. A value that arrives for an empty place is voided for all replicas if it is at or below
/// the first floor. It is a miss at this replica if it is at or below the second floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Floor {
    Gc,
    Eviction,
}

/// One rise of a floor.
#[derive(Clone, Debug)]
pub(super) struct Rise {
    pub(super) floor: Stamp,
    pub(super) at: u64,
    /// The opening whose session brought the floor, if any.
    pub(super) source: Option<usize>,
    /// The removal of registers without a trace by this replica, if any. One event may have both causes.
    pub(super) own: Option<Removal>,
}

/// The knowledge of a replica when it removed registers without a trace.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    /// The vector that the replica had claimed by then.
    pub(super) seen: VersionVector,
    /// The members that it had by then.
    pub(super) members: BTreeSet<ReplicaId>,
    /// True if it removed registers beyond a cap, stable or not.
    pub(super) forced: bool,
}

/// The members that one opening has, and the replicas that it knows of.
#[derive(Debug, Default)]
pub(super) struct MembershipHistory {
    /// The members, each with the start of its uninterrupted membership. A pause of this replica restarts that time.
    pub(super) members: BTreeMap<ReplicaId, u64>,
    /// The same, but a pause of this replica does not restart the time. Includes the reading of the replica's clock at
    /// the admission.
    pub(super) admitted: BTreeMap<ReplicaId, (u64, HlcTime)>,
    /// The members that are live without interruption, each with the start of that time.
    pub(super) live: BTreeMap<ReplicaId, u64>,
    /// Replicas that the senders of digests had met, with these senders. `ever` holds the ids that ever were members
    /// here, or were reported gone.
    pub(super) named: BTreeMap<ReplicaId, BTreeSet<usize>>,
    pub(super) ever: BTreeSet<ReplicaId>,
    /// The greatest replica of each process from which a digest has arrived here.
    pub(super) greatest: BTreeMap<usize, ReplicaId>,
    /// Present replicas that this replica does not know, each with the start of that state.
    pub(super) strangers: BTreeMap<ReplicaId, u64>,
}

impl MembershipHistory {
    /// Records the present members of a replica, each with true if it is live. `clock` is the replica's clock.
    pub(super) fn note_members(&mut self, at: u64, clock: HlcTime, now: BTreeMap<ReplicaId, bool>) {
        self.members.retain(|id, _| now.contains_key(id));
        self.admitted.retain(|id, _| now.contains_key(id));
        self.live.retain(|id, _| now.get(id).is_some_and(|live| *live));
        for (id, live) in now {
            self.members.entry(id).or_insert(at);
            self.admitted.entry(id).or_insert((at, clock));
            self.ever.insert(id);
            if live {
                self.live.entry(id).or_insert(at);
            }
        }
    }

    /// Restarts the membership time of every member. The stable cut of a replica that was paused dates from before the
    /// pause.
    pub(super) fn note_resumed(&mut self, at: u64) {
        self.members.values_mut().for_each(|since| *since = at);
    }

    /// Returns the members that the replica's stable cut waits for.
    pub(super) fn settled(&self, at: u64) -> impl Iterator<Item = ReplicaId> {
        self.members.iter().filter(move |(_, since)| *since + CUT_AGE <= at).map(|(id, _)| *id)
    }
}

/// The registers that one opening has sent in audits, and the early registers that it has received.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// The total number of registers that it has sent in audits of its own.
    pub(super) audited: usize,
    /// The number of times that an opening has sent a register that is deferred here, by sender and dot.
    pub(super) sent_early: BTreeMap<(usize, ReplicaId, HlcTime), u32>,
}

/// The observations of one opening.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The rises of the gc floor, and those of the eviction floor.
    pub(super) rises: [Vec<Rise>; 2],
    pub(super) membership: MembershipHistory,
    /// The members that this replica had met and the writes that it had seen, by the clock of the digest that it sent
    /// then.
    pub(super) said: BTreeMap<HlcTime, (Vec<ReplicaId>, VersionVector)>,
    /// True once it has reported that it is caught up.
    pub(super) ready: bool,
    /// The highest watermark in any digest that it sent.
    pub(super) watermark: HlcTime,
    /// True if it has evicted values.
    pub(super) has_evicted: bool,
    /// The greatest time among the values that it evicted while it had no members.
    pub(super) evicted_alone: HlcTime,
    /// True if it took over the state of a replica that had evicted something which this replica had not seen.
    pub(super) took_from_evicter: bool,
    /// The gc floor of the last session of each opening.
    pub(super) floors: BTreeMap<usize, Stamp>,
    /// The sender of the frame that is being handled.
    pub(super) frame_from: Option<usize>,
    /// The sender of the frame that is being handled, if that frame completed the session.
    pub(super) completed_from: Option<usize>,
    /// The register that it held for each key after its last event.
    pub(super) held: Vec<Option<Marker>>,
    pub(super) counted: Counters,
    pub(super) sent: Spoken,
    /// True if the present event has voided something. `doubted` is the same for doubts.
    pub(super) voided: bool,
    pub(super) doubted: bool,
}

impl History {
    /// Clears the notes of voids and doubts of the last event.
    pub(super) fn begin_event(&mut self) {
        (self.voided, self.doubted) = (false, false);
    }

    pub(super) fn new(keys: usize) -> Self {
        Self { held: vec![None; keys], ..Self::default() }
    }

    pub(super) fn rise_over(&self, which: Floor, stamp: Stamp, until: u64) -> Option<&Rise> {
        self.rises[which as usize].iter().take_while(|rise| rise.at <= until).find(|rise| rise.floor >= stamp)
    }
}
