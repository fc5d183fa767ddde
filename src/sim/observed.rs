//! What was observed of one replica: when its floors rose and what it knew then, which members it had, what it said of
//! itself. [`history`](super::history) notes it.

use std::collections::{BTreeMap, BTreeSet};

use crate::crdt::{Marker, VersionVector};
use crate::hlc::{HlcTime, Stamp};
use crate::replica::Counters;
use crate::replica_id::ReplicaId;

/// A member that has been one for this long is in the stable cut that an eviction goes by: a replica takes it anew every
/// second at the latest.
const CUT_AGE: u64 = 1_050_000_000;

/// The two floors of a replica: below the first a value that arrives for an empty place is voided for all replicas, below
/// the second it is a miss at this one.
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
    /// A session brought the floor of this opening.
    pub(super) source: Option<usize>,
    /// The replica removed registers without a trace. In one event it may do both.
    pub(super) own: Option<Removal>,
}

/// What a replica knew when it removed registers without a trace.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    /// What it had seen by then.
    pub(super) seen: VersionVector,
    /// Its members by then.
    pub(super) members: BTreeSet<ReplicaId>,
    /// It removed registers beyond a cap, whether they were stable or not.
    pub(super) forced: bool,
}

/// Whom one opening has for members, and has heard of.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Members without a break since.
    pub(super) members: BTreeMap<ReplicaId, u64>,
    /// The same, also over a time in which this replica stood still, and what its clock was then.
    pub(super) admitted: BTreeMap<ReplicaId, (u64, HlcTime)>,
    /// Live members without a break since.
    pub(super) live: BTreeMap<ReplicaId, u64>,
    /// Replicas that the senders of digests had met, with these senders; and ids that ever were members here, or were reported gone.
    pub(super) named: BTreeMap<ReplicaId, BTreeSet<usize>>,
    pub(super) ever: BTreeSet<ReplicaId>,
    /// By process: the greatest replica of it that was heard here.
    pub(super) greatest: BTreeMap<usize, ReplicaId>,
    /// Replicas that are there and that this one does not know, and since when.
    pub(super) strangers: BTreeMap<ReplicaId, u64>,
}

impl Company {
    /// Takes note of the members that a replica has now, and whether each is live. `clock` is the replica's.
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

    /// Takes every member for a new one: the stable cut of a replica that stood still is from before.
    pub(super) fn note_resumed(&mut self, at: u64) {
        self.members.values_mut().for_each(|since| *since = at);
    }

    /// Returns the members that its stable cut waits for.
    pub(super) fn settled(&self, at: u64) -> impl Iterator<Item = ReplicaId> {
        self.members.iter().filter(move |(_, since)| *since + CUT_AGE <= at).map(|(id, _)| *id)
    }
}

/// What one opening has sent, and was sent.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// Registers that it has sent in audits of its own, ever.
    pub(super) audited: usize,
    /// How often a member sent what waits here for its time, by its dot.
    pub(super) sent_early: BTreeMap<(usize, ReplicaId, HlcTime), u32>,
}

/// What was observed of one opening.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Of the gc floor, and of the eviction floor.
    pub(super) rises: [Vec<Rise>; 2],
    pub(super) company: Company,
    /// By the clock of a digest of this replica: the members that it had met by then, and what it had seen of writes.
    pub(super) said: BTreeMap<HlcTime, (Vec<ReplicaId>, VersionVector)>,
    /// It has said that it is caught up.
    pub(super) ready: bool,
    /// The highest watermark in any of its digests.
    pub(super) watermark: HlcTime,
    /// It has evicted values.
    pub(super) has_evicted: bool,
    /// The greatest time of what it has evicted while it had no members.
    pub(super) evicted_alone: HlcTime,
    /// It took over the state of a replica that had evicted something which this one had not seen.
    pub(super) took_from_evicter: bool,
    /// By opening, the gc floor that the last session of it came with.
    pub(super) floors: BTreeMap<usize, Stamp>,
    /// The sender of the frame that is being handled.
    pub(super) frame_from: Option<usize>,
    /// The frame that is being handled was the last one of a session of this opening.
    pub(super) completed_from: Option<usize>,
    /// By key: what it held after its last event.
    pub(super) held: Vec<Option<Marker>>,
    pub(super) counted: Counters,
    pub(super) sent: Spoken,
    /// The event under way has voided, or doubted, something.
    pub(super) voided: bool,
    pub(super) doubted: bool,
}

impl History {
    /// Forgets what the last event has voided or doubted.
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
