//! The members that have this cache open, and the state that this replica keeps about each. Nothing here depends on
//! keys and values.
//!
//! | file | owns |
//! | --- | --- |
//! | this one | which member is live, dead or forgotten, and since when; the computation of the stable cut; the turns of digests |
//! | `peer` | the state kept about one member |
//! | `named` | members that other members name, and that have sent nothing to this replica |
//! | `skew` | wrong clocks |
//! | `cut` | the type of the stable cut: the part of the history that every member has seen |
//! | `rings` | the relays of pushes in a large cluster |
//! | `retired` | origins without a member |
//! | `former` | the former id of this replica |

use std::collections::{BTreeMap, BTreeSet};

use crate::crdt::VersionVector;
use crate::env::Env;
use crate::hlc::{HlcTime, Now, nanos};
use crate::message::Digest;
use crate::replica_id::ReplicaId;

mod cut;
mod former;
pub(crate) mod named;
pub(crate) mod peer;
pub(crate) mod retired;
pub(crate) mod rings;
pub(crate) mod skew;

pub use cut::StableCut;
pub(crate) use former::Former;
pub use skew::Skew;

use peer::{Pair, Peer};

/// The highest number of forgotten members that are remembered.
const MAX_FORGOTTEN: usize = 4_096;

/// The members that were forgotten here. Each has the monotonic time at which it was forgotten, and true if it had been
/// unreachable for `forget_after`. They are remembered because digests still name them: the senders of these digests
/// have not yet received news of the departure.
#[derive(Debug, Default)]
struct Forgotten(BTreeMap<ReplicaId, (u64, bool)>);

impl Forgotten {
    fn note(&mut self, id: ReplicaId, now: Now, timed_out: bool) {
        if self.0.len() >= MAX_FORGOTTEN
            && let Some(oldest) = self.0.iter().min_by_key(|(_, (at, _))| *at).map(|(id, _)| *id)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(id, (now.mono, timed_out));
    }

    fn expire(&mut self, now: Now, after: u64) {
        self.0.retain(|_, (at, _)| now.mono.saturating_sub(*at) < after);
    }

    /// Returns true if the naming of this member in a digest must be ignored. `reached` is true if the replica that
    /// names the member reaches it. Returns false for a reached member that was forgotten here because it was
    /// unreachable: the member exists, and only its link to this replica is broken.
    fn hides(&self, id: &ReplicaId, reached: bool) -> bool {
        self.0.get(id).is_some_and(|(_, timed_out)| !(*timed_out && reached))
    }
}

/// The state about replicas that are expected, greeted, departed or forgotten.
#[derive(Debug, Default)]
struct NonMembers {
    /// True if the node expects members from which nothing was received yet. While this is true and there is no member,
    /// nothing can be stable.
    awaited: bool,
    /// The time of this replica's own vector entry when a member was last forgotten. That member has seen no later
    /// write of this replica.
    own_time_at_last_forget: HlcTime,
    /// The last own write that a departed member was known to have.
    handed_over: HlcTime,
    forgotten: Forgotten,
    /// Replicas that were greeted and have not answered. Digests are sent to them in turn, as to members, because the
    /// greeting may have been lost.
    greeted: BTreeSet<ReplicaId>,
}

/// The first member whose state this replica has fully received, and that member's clock when it reported the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// The member.
    pub from: ReplicaId,
    /// The member's clock when it reported its state.
    pub as_of: HlcTime,
}

/// A copy of the main state that a replica keeps about a member.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerView {
    /// The member.
    pub id: ReplicaId,
    /// True if the failure detector reports it alive.
    pub live: bool,
    /// Monotonic time at which the failure detector reported it dead.
    pub dead_since: Option<u64>,
    /// The highest vector it ever reported.
    pub reported: VersionVector,
    /// The member's usable watermark: every write that it has not yet issued will be stamped above it.
    pub watermark: HlcTime,
    /// The time up to which it was sent this replica's own writes.
    pub sent_to: HlcTime,
    /// Monotonic time of its last message.
    pub last_heard: u64,
    /// True if it has evicted or dropped values that other replicas may still hold.
    pub lossy: bool,
}

impl PeerView {
    pub(crate) fn of(id: ReplicaId, peer: &Peer, reported: VersionVector) -> Self {
        Self {
            id,
            live: peer.is_live(),
            dead_since: peer.dead_since,
            reported,
            watermark: peer.stability.watermark,
            sent_to: peer.delivery.sent_to,
            last_heard: peer.last_heard,
            lossy: peer.lossy,
        }
    }
}

/// The members of one cache, as one replica knows them.
#[derive(Debug, Default)]
pub(crate) struct Members {
    peers: BTreeMap<ReplicaId, Peer>,
    absent: NonMembers,
    caught_up: Option<CaughtUp>,
    /// The stable cut, as computed at the last collection.
    cut: StableCut,
    /// The time up to which writes are no longer remembered as contests of fills.
    contests_pruned: HlcTime,
    /// This replica's successors among the live members. `None` if they must be computed again.
    successors: Option<Vec<ReplicaId>>,
    /// The members that are still to be sent a digest in this round. The last one is next.
    turns: Vec<ReplicaId>,
    former: Former,
}

/// Returns true if a member has been dead for so long that it is to be forgotten.
fn is_due_to_forget(peer: &Peer, env: &Env) -> bool {
    let patience = nanos(env.config.forget_after);
    peer.dead_since.is_some_and(|since| env.now.mono.saturating_sub(since) >= patience)
}

impl Members {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ReplicaId, &Peer)> + Clone {
        self.peers.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&ReplicaId, &mut Peer)> {
        self.peers.iter_mut()
    }

    pub(crate) fn get(&self, id: &ReplicaId) -> Option<&Peer> {
        self.peers.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &ReplicaId) -> Option<&mut Peer> {
        self.peers.get_mut(id)
    }

    pub(crate) fn contains(&self, id: &ReplicaId) -> bool {
        self.peers.contains_key(id)
    }

    /// Returns the number of members, including dead ones that are not yet forgotten, and unmet ones.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Returns the members that have sent a digest to this replica.
    pub(crate) fn met(&self) -> impl Iterator<Item = (&ReplicaId, &Peer)> {
        self.peers.iter().filter(|(_, peer)| peer.is_met())
    }

    /// Returns a view of each member that has sent a digest to this replica, by id.
    pub(crate) fn views(&self) -> impl Iterator<Item = PeerView> + '_ {
        self.met().map(|(id, peer)| PeerView::of(*id, peer, peer.reported.clone()))
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.peers.iter().filter(|(_, peer)| peer.is_live()).map(|(id, _)| *id)
    }

    pub(crate) fn is_live(&self, id: &ReplicaId) -> bool {
        self.peers.get(id).is_some_and(Peer::is_live)
    }

    pub(crate) fn caught_up(&self) -> Option<CaughtUp> {
        self.caught_up
    }

    pub(crate) fn cut(&self) -> &StableCut {
        &self.cut
    }

    /// Sets the current stable cut, and the time up to which contests of fills were dropped by it.
    pub(crate) fn set_cut(&mut self, cut: StableCut, contests_pruned: HlcTime) {
        self.cut = cut;
        self.contests_pruned = self.contests_pruned.max(contests_pruned);
    }

    /// Returns the time from which contests are kept for fills of the replica `replica`. Stamps that contest such a
    /// fill are remembered if the bound of the fill begins at or above this time.
    pub(crate) fn contests_kept_from(&self, replica: &ReplicaId) -> HlcTime {
        self.peers.get(replica).map_or(self.contests_pruned, |peer| peer.contests_kept_from)
    }

    pub(crate) fn former(&self) -> &Former {
        &self.former
    }

    pub(crate) fn former_mut(&mut self) -> &mut Former {
        &mut self.former
    }

    /// Sets the flag that the node expects members from which nothing was received yet.
    pub(crate) fn expect_peers(&mut self, awaits: bool) {
        self.absent.awaited = awaits;
    }

    /// Returns true if members are expected and there is none yet. While this holds, nothing is removed without a
    /// trace.
    pub(crate) fn awaits_first_member(&self) -> bool {
        self.absent.awaited && self.peers.is_empty()
    }

    /// Returns true if members are expected that this replica has not met: the node says so, or this replica has taken
    /// a new id.
    pub(crate) fn may_meet_peers(&self) -> bool {
        self.absent.awaited || self.former.is_any()
    }

    /// Returns the time of this replica's own vector entry when a member was last forgotten.
    pub(crate) fn own_time_at_last_forget(&self) -> HlcTime {
        self.absent.own_time_at_last_forget
    }

    /// Returns true if a replica was greeted and has not answered.
    pub(crate) fn is_greeted(&self, id: &ReplicaId) -> bool {
        self.absent.greeted.contains(id)
    }

    pub(crate) fn greeted(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.absent.greeted.iter().copied()
    }

    /// Notes that a replica is to be greeted repeatedly until it answers.
    pub(crate) fn note_greeted(&mut self, id: ReplicaId) {
        self.absent.greeted.insert(id);
    }

    /// Returns the part of this vector that all members have seen, below the lowest of their watermarks and the
    /// watermark `own` of this replica. Only dots at or below `older_than` count as old enough.
    pub(crate) fn stable_cut(&self, vector: &VersionVector, own: HlcTime, older_than: HlcTime) -> StableCut {
        if self.awaits_first_member() {
            return StableCut::default();
        }
        // The cost is members times origins. Walking both sorted vectors together visits each pair once.
        let mut seen_by_all: Vec<_> = vector.iter().collect();
        for peer in self.peers.values() {
            for (seen, (_, ours, theirs)) in seen_by_all.iter_mut().zip(vector.zip(&peer.reported)) {
                seen.1 = theirs.min(ours).min(seen.1);
            }
        }
        let theirs = self.peers.values().map(|peer| peer.stability.watermark).min();
        let watermark = theirs.unwrap_or(own).min(own);
        StableCut { seen_by_all: seen_by_all.into_iter().collect(), watermark, older_than }
    }

    /// Returns the members that owe writes: they have reported writes that this vector lacks, of a replica that is no
    /// member here. Such a replica may have left before this replica came. No watermark covers its writes. Writes up to
    /// `retired_up_to` will never arrive and do not count. A member counts only if its last message came at or after
    /// the monotonic time `heard_since`. A member that has been silent for longer can neither send the writes nor
    /// report that it has dropped their record. A dead member counts as well as a live one, because it may return with
    /// the writes.
    pub(crate) fn owing<'a>(
        &'a self,
        vector: &'a VersionVector,
        retired_up_to: HlcTime,
        heard_since: u64,
    ) -> impl Iterator<Item = &'a ReplicaId> {
        let gone = |origin: &ReplicaId| !self.peers.contains_key(origin);
        let owes = move |peer: &Peer| {
            let mut reported = peer.reported.zip(vector);
            reported.any(|(id, theirs, ours)| theirs > ours.max(retired_up_to) && gone(&id))
        };
        let speaks = move |peer: &Peer| peer.is_met() && peer.last_heard >= heard_since;
        self.peers.iter().filter(move |(_, peer)| speaks(peer) && owes(peer)).map(|(id, _)| id)
    }

    /// Returns four digest intervals in nanoseconds, times the number of replicas: the members and this one. A live
    /// member from which nothing was received for so long has no link to this replica.
    pub(crate) fn silence_limit(&self, env: &Env) -> u64 {
        nanos(env.config.digest_interval).saturating_mul(4 * (self.len() as u64 + 1))
    }

    /// Notes a message received directly from a replica, which is a member from now on. `wrote` returns the dot time of
    /// the last register held here that the member issued.
    pub(crate) fn hear(&mut self, now: Now, from: ReplicaId, wrote: impl FnOnce() -> HlcTime) -> &mut Peer {
        self.absent.greeted.remove(&from);
        if !self.is_live(&from) {
            self.successors = None;
        }
        self.absent.forgotten.0.remove(&from);
        // Only a new member needs `wrote`: it is the basis for detecting a duplicate of its id.
        let is_new = self.peers.get(&from).is_none_or(|peer| !peer.is_met());
        let wrote = if is_new { wrote() } else { 0 };
        let peer = self.peers.entry(from).or_insert_with(|| Peer::new(now, wrote, self.contests_pruned));
        if peer.unmet.take().is_some() {
            (peer.known_since, peer.claims.wrote) = (now.mono, wrote);
        }
        peer.dead_since = None;
        peer.last_heard = now.mono;
        peer
    }

    /// Notes that the failure detector reports a member dead. Returns true if it was a member.
    pub(crate) fn note_down(&mut self, now: Now, id: ReplicaId) -> bool {
        self.absent.greeted.remove(&id);
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        peer.dead_since.get_or_insert(now.mono);
        peer.delivery.busy = false;
        self.successors = None;
        self.want_digests();
        true
    }

    /// Refuses the stills of all members until each has sent a digest: what this replica knows of the members has
    /// changed, and a digest that it already has may now have another effect.
    fn want_digests(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.stills.heard = None);
    }

    /// Forgets a member. `seen_of_us` is the time of this replica's own vector entry.
    pub(crate) fn forget(&mut self, env: &mut Env, id: ReplicaId, seen_of_us: HlcTime) {
        let timed_out = self.peers.get(&id).is_some_and(|peer| is_due_to_forget(peer, env));
        self.absent.forgotten.note(id, env.now, timed_out);
        self.want_digests();
        let Some(peer) = self.peers.remove(&id) else { return };
        // The report of a forgotten member still proves that these own writes reached a second replica.
        self.absent.handed_over = self.absent.handed_over.max(peer.reported.get(&env.id));
        if peer.is_met() {
            env.counters.forgotten += 1;
            self.absent.own_time_at_last_forget = seen_of_us;
        }
    }

    /// Returns the members that have been dead for at least `forget_after`. Also drops the memory of members that were
    /// forgotten long enough ago, and allows data again for newcomers from which it was held back long enough.
    pub(crate) fn due_to_forget(&mut self, env: &Env) -> Vec<ReplicaId> {
        self.absent.forgotten.expire(env.now, nanos(env.config.forget_after));
        skew::release_held_back(self, env);
        self.peers.iter().filter(|(_, peer)| is_due_to_forget(peer, env)).map(|(id, _)| *id).collect()
    }

    /// Notes a member's clock and watermark, reported by itself or by another member. `seen` is this replica's vector
    /// entry for the member.
    pub(crate) fn note_watermark(&mut self, member: ReplicaId, clock: HlcTime, watermark: HlcTime, seen: HlcTime) {
        if let Some(peer) = self.peers.get_mut(&member) {
            peer.stability.note(Pair { clock, watermark }, seen >= clock);
        }
    }

    /// Notes that this replica's vector has reached this time of a member.
    pub(crate) fn note_seen(&mut self, member: &ReplicaId, seen: HlcTime) {
        if let Some(peer) = self.peers.get_mut(member) {
            peer.stability.use_pending(seen);
        }
    }

    /// Returns the lowest dot time up to which every live member has reported this replica's own writes. A push that
    /// was cut or sent proves nothing, because it may still be lost. Returns zero while members are expected and there
    /// is none yet, and the highest time if no member is alive.
    pub(crate) fn held_by_all_live(&self, env: &Env) -> HlcTime {
        if self.awaits_first_member() {
            return 0;
        }
        let live = self.peers.values().filter(|peer| peer.is_live());
        let has = |peer: &Peer| {
            if env.bugs().released_when_cut { peer.delivery.sent_to } else { peer.reported.get(&env.id) }
        };
        live.map(has).min().unwrap_or(HlcTime::MAX)
    }

    /// Returns the last own write that some member is known to have. If no member is alive, dead and departed members
    /// count.
    pub(crate) fn handed_over(&self, env: &Env) -> HlcTime {
        let has = |peer: &Peer| {
            if env.bugs().handed_over_when_cut { peer.delivery.sent_to } else { peer.reported.get(&env.id) }
        };
        let live = self.peers.values().filter(|peer| peer.is_live()).map(has).max();
        live.unwrap_or_else(|| self.peers.values().map(has).fold(self.absent.handed_over, HlcTime::max))
    }

    /// Returns the lowest dot time up to which every member has reported this replica's own writes.
    pub(crate) fn own_seen_by_all(&self, own: &ReplicaId) -> HlcTime {
        self.peers.values().map(|peer| peer.reported.get(own)).min().unwrap_or(HlcTime::MAX)
    }

    /// Records the state in the first digest of each member as the target for catching up, until this replica has
    /// caught up with some member.
    pub(crate) fn note_target(&mut self, from: ReplicaId, theirs: &VersionVector, digest: &Digest) {
        if self.caught_up.is_some() {
            return;
        }
        let mut target = theirs.clone();
        target.remove(&from);
        target.raise(from, digest.quiet_since);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.target.get_or_insert((target, digest.clock));
        }
    }

    /// Checks if this vector has reached the state that some member had in its first digest.
    #[inline]
    pub(crate) fn check_caught_up(&mut self, env: &Env, vector: &VersionVector) {
        if self.caught_up.is_none() && !self.peers.is_empty() {
            self.look_for_target(env, vector);
        }
    }

    fn look_for_target(&mut self, env: &Env, vector: &VersionVector) {
        self.caught_up = self.peers.iter().find_map(|(id, peer)| {
            let (target, as_of) = peer.target.as_ref()?;
            (vector.dominates(target) || env.bugs().caught_up_at_once).then_some(CaughtUp { from: *id, as_of: *as_of })
        });
        if self.caught_up.is_some() {
            self.peers.values_mut().for_each(|peer| peer.target = None);
        }
    }

    /// Returns the next member to be sent a digest. Each live or greeted member has one turn in a round, in an order
    /// that is drawn anew for each round. If each turn were drawn independently, one member in a thousand would get no
    /// digest in seven rounds. Nothing is stable before every member has reported.
    pub(crate) fn next_turn(&mut self, random: &mut fastrand::Rng) -> Option<ReplicaId> {
        while let Some(next) = self.turns.pop() {
            if self.is_live(&next) || self.is_greeted(&next) {
                return Some(next);
            }
        }
        self.turns = self.live().chain(self.greeted()).collect();
        random.shuffle(&mut self.turns);
        self.turns.pop()
    }

    /// Returns true if this replica must ask a member to take a new id, because another process uses the member's id.
    /// `vector` is the vector of this replica. This replica asks only after it has caught up with some member. If the
    /// member uses this replica's former id, a second condition applies: this replica has seen all that the member has
    /// reported of other origins. The reason is that the member will drop its state when asked. Once a minute has
    /// passed since this replica left a former id, it asks without these conditions.
    pub(crate) fn must_renew(&self, member: &ReplicaId, vector: &VersionVector) -> bool {
        let Some(peer) = self.peers.get(member) else { return false };
        let was_ours = self.former.was_ours(member);
        let filled = || peer.reported.iter().all(|(origin, time)| origin == *member || vector.get(&origin) >= time);
        let waited = self.former.has_waited() || (self.caught_up.is_some() && (!was_ours || filled()));
        (peer.claims.has_duplicate_id || was_ours) && waited
    }
}
