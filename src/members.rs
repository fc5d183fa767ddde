//! The members that have this cache open, and what is believed of them. Nothing here knows of keys and values.
//!
//! | file | what |
//! | --- | --- |
//! | `peer` | what is believed of one member |
//! | `named` | members that others name and that have not spoken to us |
//! | `skew` | clocks that are wrong |
//! | `cut` | what every member has seen |
//! | `rings` | who passes what on in a large cluster |
//! | `retired` | origins that nobody expects to hear of again |
//! | `former` | the id that this replica had before |

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

/// Forgotten members remembered at most.
const MAX_FORGOTTEN: usize = 4_096;

/// The members that were forgotten here: by monotonic time when, and whether because they were unreachable for too long. Members
/// that have not received the news of a departure name the departed member still.
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

    /// Returns true if a statement that this member exists is to be ignored. If it was unreachable for too long here and is
    /// `reached` by the replica that names it, it exists, and only the link between it and this replica is broken.
    fn hides(&self, id: &ReplicaId, reached: bool) -> bool {
        self.0.get(id).is_some_and(|(_, timed_out)| !(*timed_out && reached))
    }
}

/// Those who are not here.
#[derive(Debug, Default)]
struct Absent {
    /// There are others, none of whom has been heard: nothing can be stable.
    awaited: bool,
    /// How far we were when a member was last forgotten: it has seen no more of us.
    forgot_at: HlcTime,
    /// The last own write that a departed member was known to have.
    handed_over: HlcTime,
    forgotten: Forgotten,
    /// Told of us, and not heard of yet: a greeting may have been lost.
    greeted: BTreeSet<ReplicaId>,
}

/// When and from whom a replica first had everything a member had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaughtUp {
    /// The member.
    pub from: ReplicaId,
    /// Its clock when it said what it had.
    pub as_of: HlcTime,
}

/// What is known of a member.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerView {
    /// The member.
    pub id: ReplicaId,
    /// Whether the failure detector calls it alive.
    pub live: bool,
    /// Monotonic time at which it was found dead.
    pub dead_since: Option<u64>,
    /// The highest vector it ever reported.
    pub reported: VersionVector,
    /// No write it has not yet issued will be stamped at or below this.
    pub watermark: HlcTime,
    /// What it was sent of our own writes.
    pub sent_to: HlcTime,
    /// Monotonic time of its last message.
    pub last_heard: u64,
    /// Whether it has given up values.
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
    absent: Absent,
    caught_up: Option<CaughtUp>,
    /// The stable cut of the last look.
    cut: StableCut,
    /// Writes up to this time are no longer remembered as contests of fills.
    contests_pruned: HlcTime,
    /// Our successors among the live members; none if they are to be worked out again.
    successors: Option<Vec<ReplicaId>>,
    /// Who is sent a digest next, the last one first.
    turns: Vec<ReplicaId>,
    former: Former,
}

/// Returns true if a member has been dead for so long that it is to be forgotten.
fn is_long_dead(peer: &Peer, env: &Env) -> bool {
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

    /// Members, dead but not forgotten and unmet ones included.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The members that have spoken to us.
    pub(crate) fn met(&self) -> impl Iterator<Item = (&ReplicaId, &Peer)> {
        self.peers.iter().filter(|(_, peer)| peer.is_met())
    }

    /// The members that have spoken to us, by id.
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

    /// The stable cut of now, and up to which time contests of fills were dropped by it.
    pub(crate) fn set_cut(&mut self, cut: StableCut, contests_pruned: HlcTime) {
        self.cut = cut;
        self.contests_pruned = self.contests_pruned.max(contests_pruned);
    }

    /// What contests a fill of this replica is remembered if the fill's bound begins here or later.
    pub(crate) fn contests_kept_after(&self, replica: &ReplicaId) -> HlcTime {
        self.peers.get(replica).map_or(self.contests_pruned, |peer| peer.contests_kept_after)
    }

    pub(crate) fn former(&self) -> &Former {
        &self.former
    }

    pub(crate) fn former_mut(&mut self) -> &mut Former {
        &mut self.former
    }

    /// Whether there are others who have not been heard yet.
    pub(crate) fn await_company(&mut self, awaits: bool) {
        self.absent.awaited = awaits;
    }

    /// Whether members are expected and none was heard: as long as that is so, nothing is removed without a trace.
    pub(crate) fn is_lonely(&self) -> bool {
        self.absent.awaited && self.peers.is_empty()
    }

    /// Whether members are expected that this replica has not heard: the node says so, or this replica has begun anew.
    pub(crate) fn may_meet_more(&self) -> bool {
        self.absent.awaited || self.former.is_any()
    }

    /// How far we were when a member was last forgotten.
    pub(crate) fn forgot_at(&self) -> HlcTime {
        self.absent.forgot_at
    }

    /// Whether a member is told of us and was not heard of yet.
    pub(crate) fn is_greeted(&self, id: &ReplicaId) -> bool {
        self.absent.greeted.contains(id)
    }

    pub(crate) fn greeted(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.absent.greeted.iter().copied()
    }

    /// A member is told of us, again and again until it answers.
    pub(crate) fn note_greeted(&mut self, id: ReplicaId) {
        self.absent.greeted.insert(id);
    }

    /// Returns the part of this vector that all members have seen, below the lowest of their watermarks and our `own`.
    pub(crate) fn stable_cut(&self, vector: &VersionVector, own: HlcTime, older_than: HlcTime) -> StableCut {
        if self.is_lonely() {
            return StableCut::default();
        }
        // Members times origins: each pair is looked at once, side by side.
        let mut seen_by_all: Vec<_> = vector.iter().collect();
        for peer in self.peers.values() {
            for (seen, (_, ours, theirs)) in seen_by_all.iter_mut().zip(vector.beside(&peer.reported)) {
                seen.1 = theirs.min(ours).min(seen.1);
            }
        }
        let theirs = self.peers.values().map(|peer| peer.stability.watermark).min();
        let watermark = theirs.unwrap_or(own).min(own);
        StableCut { seen_by_all: seen_by_all.into_iter().collect(), watermark, older_than }
    }

    /// Returns the members that have reported writes, which this vector lacks, of a replica that is no member here: one that left
    /// before we came, for instance. No watermark covers its writes. Up to `retired_up_to` they are lacked for good. Only a member
    /// that was `heard_since` then, by monotonic time, counts: no other can send them, nor say that it has dropped their record. One
    /// that is dead counts no less, for it may return with them.
    pub(crate) fn owing<'a>(
        &'a self,
        vector: &'a VersionVector,
        retired_up_to: HlcTime,
        heard_since: u64,
    ) -> impl Iterator<Item = &'a ReplicaId> {
        let gone = |origin: &ReplicaId| !self.peers.contains_key(origin);
        let owes = move |peer: &Peer| {
            let mut reported = peer.reported.beside(vector);
            reported.any(|(id, theirs, ours)| theirs > ours.max(retired_up_to) && gone(&id))
        };
        let speaks = move |peer: &Peer| peer.is_met() && peer.last_heard >= heard_since;
        self.peers.iter().filter(move |(_, peer)| speaks(peer) && owes(peer)).map(|(id, _)| id)
    }

    /// A few digest intervals for each member: a live one that was not heard for so long has no link to us.
    pub(crate) fn few_rounds(&self, env: &Env) -> u64 {
        nanos(env.config.digest_interval).saturating_mul(4 * (self.len() as u64 + 1))
    }

    /// A member was heard of directly. `wrote` is its last own write that is held here.
    pub(crate) fn hear(&mut self, now: Now, from: ReplicaId, wrote: impl FnOnce() -> HlcTime) -> &mut Peer {
        self.absent.greeted.remove(&from);
        if !self.is_live(&from) {
            self.successors = None;
        }
        self.absent.forgotten.0.remove(&from);
        let is_new = self.peers.get(&from).is_none_or(|peer| !peer.is_met());
        let wrote = if is_new { wrote() } else { 0 };
        let peer = self.peers.entry(from).or_insert_with(|| Peer::new(now, wrote, self.contests_pruned));
        if peer.unmet.take().is_some() {
            (peer.known_since, peer.word.wrote) = (now.mono, wrote);
        }
        peer.dead_since = None;
        peer.last_heard = now.mono;
        peer
    }

    /// The failure detector calls a member dead. Returns whether it was one.
    pub(crate) fn note_down(&mut self, now: Now, id: ReplicaId) -> bool {
        self.absent.greeted.remove(&id);
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        peer.dead_since.get_or_insert(now.mono);
        peer.delivery.busy = false;
        self.successors = None;
        true
    }

    /// Forgets a member. `seen_of_us`: the time of our own vector entry.
    pub(crate) fn forget(&mut self, env: &mut Env, id: ReplicaId, seen_of_us: HlcTime) {
        let timed_out = self.peers.get(&id).is_some_and(|peer| is_long_dead(peer, env));
        self.absent.forgotten.note(id, env.now, timed_out);
        let Some(peer) = self.peers.remove(&id) else { return };
        self.absent.handed_over = self.absent.handed_over.max(peer.reported.get(&env.id));
        if peer.is_met() {
            env.counters.forgotten += 1;
            self.absent.forgot_at = seen_of_us;
        }
    }

    /// Members that have been dead for so long that they are to be forgotten.
    pub(crate) fn long_dead(&mut self, env: &Env) -> Vec<ReplicaId> {
        self.absent.forgotten.expire(env.now, nanos(env.config.forget_after));
        skew::release_held_back(self, env);
        self.peers.iter().filter(|(_, peer)| is_long_dead(peer, env)).map(|(id, _)| *id).collect()
    }

    /// Takes note of what a member said of its clock and watermark, first or second hand. `seen`: how far we have come with it.
    pub(crate) fn note_watermark(&mut self, member: ReplicaId, clock: HlcTime, watermark: HlcTime, seen: HlcTime) {
        if let Some(peer) = self.peers.get_mut(&member) {
            peer.stability.note(Pair { clock, watermark }, seen >= clock);
        }
    }

    /// Our vector has come to this time of a member.
    pub(crate) fn note_seen(&mut self, member: &ReplicaId, seen: HlcTime) {
        if let Some(peer) = self.peers.get_mut(member) {
            peer.stability.use_pending(seen);
        }
    }

    /// The lowest dot time up to which every live member has reported our own writes. A push that has left may still be
    /// lost, so that it was cut or sent says nothing. Zero while members are expected and none was heard yet.
    pub(crate) fn held_by_all_live(&self, env: &Env) -> HlcTime {
        if self.is_lonely() {
            return 0;
        }
        let live = self.peers.values().filter(|peer| peer.is_live());
        let has = |peer: &Peer| {
            if env.bugs().released_when_cut { peer.delivery.sent_to } else { peer.reported.get(&env.id) }
        };
        live.map(has).min().unwrap_or(HlcTime::MAX)
    }

    /// The last own write that some member is known to have: one that is alive, or else one that ever was a member.
    pub(crate) fn handed_over(&self, env: &Env) -> HlcTime {
        let has = |peer: &Peer| {
            if env.bugs().handed_over_when_cut { peer.delivery.sent_to } else { peer.reported.get(&env.id) }
        };
        let live = self.peers.values().filter(|peer| peer.is_live()).map(has).max();
        live.unwrap_or_else(|| self.peers.values().map(has).fold(self.absent.handed_over, HlcTime::max))
    }

    /// The lowest dot time of ours that every member is known to have.
    pub(crate) fn own_seen_by_all(&self, own: &ReplicaId) -> HlcTime {
        self.peers.values().map(|peer| peer.reported.get(own)).min().unwrap_or(HlcTime::MAX)
    }

    /// Until we are caught up with somebody, what the first digest of each says is what we aim at.
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

    /// Looks whether this vector has reached what some member had when it was first heard.
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

    /// Each live member has a turn in a round, in an order that is drawn anew for each. If each turn were drawn by itself, one member
    /// in a thousand would not be heard in seven rounds, and nothing is stable before all are.
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

    /// Whether a member is to be told that it has a twin. Not before we, who have seen this vector, have what it has: it will
    /// give that up.
    pub(crate) fn has_twin(&self, member: &ReplicaId, vector: &VersionVector) -> bool {
        let Some(peer) = self.peers.get(member) else { return false };
        let was_ours = self.former.was_ours(member);
        let filled = || peer.reported.iter().all(|(origin, time)| origin == *member || vector.get(&origin) >= time);
        let waited = self.former.has_waited() || (self.caught_up.is_some() && (!was_ours || filled()));
        (peer.word.has_twin || was_ours) && waited
    }
}
