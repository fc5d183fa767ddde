//! The members that have this cache open, and what they are known to have.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{CoreKey, Replica};
use crate::crdt::{Dot, VersionVector};
use crate::hlc::{HlcTime, Now, nanos};
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

/// A clock of a member and its watermark at that clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) clock: HlcTime,
    pub(super) watermark: HlcTime,
}

/// What a wall clock said, and when it did by our monotonic clock: a step of our own wall clock does not spoil it.
#[derive(Clone, Copy, Debug)]
pub(super) struct WallClock {
    pub(super) said: HlcTime,
    pub(super) at: u64,
}

impl WallClock {
    /// What it says now.
    pub(super) fn reads(self, now: Now) -> HlcTime {
        self.said.saturating_add(now.mono.saturating_sub(self.at))
    }
}

/// A member, live or dead but not yet forgotten.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// When it was found dead, by monotonic time.
    pub(super) dead_since: Option<u64>,
    /// The highest vector it ever reported.
    pub(super) reported: VersionVector,
    /// Its usable watermark.
    pub(super) watermark: HlcTime,
    /// The clock of its newest statement, first or second hand, and that statement.
    pub(super) latest: Pair,
    /// Pairs whose clock our own vector does not cover yet: the oldest and the newest.
    pub(super) pending: [Option<Pair>; 2],
    /// Whether it has given up values.
    pub(super) lossy: bool,
    pub(super) last_heard: u64,
    /// When it became a member, by monotonic time.
    pub(super) known_since: u64,
    /// What it is believed to have of our own writes.
    pub(super) sent_to: HlcTime,
    /// A large message is on its way to it.
    pub(super) busy: bool,
    /// It said that it lacks own writes after `sent_to`: in a large cluster it gets them by itself.
    pub(super) behind: bool,
    /// The push interval after `sent_to` cannot be pushed: a session is needed.
    pub(super) needs_session: bool,
    /// No answer to a digest of it before this monotonic time.
    pub(super) serve_after: u64,
    /// That is because it asked to wait.
    pub(super) was_asked_to_wait: bool,
    /// How far it was with live origins of which it lacks much, and since which monotonic time.
    pub(super) progress: BTreeMap<ReplicaId, (HlcTime, u64)>,
    /// Monotonic time of the last push that is not yet acknowledged, and how often we have asked.
    pub(super) unacked_since: Option<u64>,
    pub(super) asked: u32,
    /// An acknowledgement of its pushes is due at this monotonic time.
    pub(super) ack_due: Option<u64>,
    /// The next acknowledgement to it may leave at this monotonic time.
    pub(super) ack_after: u64,
    /// It said it had written up to this; checked again at the monotonic time.
    pub(super) suspected: Option<(HlcTime, u64)>,
    /// What we need to have seen to be caught up with what it first told us.
    pub(super) target: Option<(VersionVector, HlcTime)>,
    /// The greatest session of it that is finished or superseded.
    pub(super) session_done: u64,
    /// The last own write of it that is known of.
    pub(super) wrote: HlcTime,
    /// Its newest clock, and since when it said then that it had written nothing.
    pub(super) word: (HlcTime, HlcTime),
    /// Its id is another process's too.
    pub(super) has_twin: bool,
    /// Its wall clock, by its last digest.
    pub(super) wall: Option<WallClock>,
    /// It is new, holds nothing and its clock is behind: it is about to take the time of its members, and would defer
    /// whatever it is sent before.
    pub(super) held_back: bool,
    /// Until this monotonic time it is not asked for what it sent and we deferred; and how often that was so in a row.
    pub(super) deferred_until: u64,
    pub(super) deferrals: u32,
    /// Of an unmet peer: whether the last replica that named it called it alive.
    pub(super) named_alive: bool,
    /// The replicas that name it, as long as it has not spoken to us: see [`named`](super::named).
    pub(super) unmet: Option<Namers>,
}

/// Forgotten members remembered at most.
const MAX_FORGOTTEN: usize = 4_096;

/// Members that were forgotten here, and when by monotonic time. Members that have not heard of it yet name them still.
#[derive(Debug, Default)]
pub(super) struct Forgotten(BTreeMap<ReplicaId, u64>);

impl Forgotten {
    pub(super) fn note(&mut self, id: ReplicaId, now: Now) {
        if self.0.len() >= MAX_FORGOTTEN
            && let Some(oldest) = self.0.iter().min_by_key(|(_, at)| **at).map(|(id, _)| *id)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(id, now.mono);
    }

    pub(super) fn contains(&self, id: &ReplicaId) -> bool {
        self.0.contains_key(id)
    }

    /// A member that was forgotten by mistake has spoken.
    pub(super) fn remove(&mut self, id: &ReplicaId) {
        self.0.remove(id);
    }

    pub(super) fn expire(&mut self, now: Now, after: u64) {
        self.0.retain(|_, at| now.mono.saturating_sub(*at) < after);
    }
}

/// The replicas that name an unmet peer, and whether they met it.
pub(super) type Namers = BTreeMap<ReplicaId, bool>;

/// Those who are not here.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// There are others, none of whom has been heard: nothing can be stable.
    pub(super) awaited: bool,
    /// How far we were when a member was last forgotten: it has seen no more of us.
    pub(super) forgot_at: HlcTime,
    /// The last own write that a departed member was known to have.
    pub(super) handed_over: HlcTime,
    pub(super) forgotten: Forgotten,
    /// Told of us, and not heard of yet: a greeting may have been lost.
    pub(super) greeted: BTreeSet<ReplicaId>,
}

impl Peer {
    fn new(now: Now, wrote: HlcTime) -> Self {
        Self {
            dead_since: None,
            reported: VersionVector::new(),
            watermark: 0,
            latest: Pair { clock: 0, watermark: 0 },
            pending: [None; 2],
            lossy: false,
            last_heard: now.mono,
            known_since: now.mono,
            sent_to: 0,
            busy: false,
            behind: false,
            needs_session: false,
            serve_after: 0,
            was_asked_to_wait: false,
            progress: BTreeMap::new(),
            unacked_since: None,
            asked: 0,
            ack_due: None,
            ack_after: 0,
            suspected: None,
            target: None,
            session_done: 0,
            wrote,
            word: (0, 0),
            has_twin: false,
            wall: None,
            held_back: false,
            deferred_until: 0,
            deferrals: 0,
            named_alive: false,
            unmet: None,
        }
    }

    /// A peer that others name, unreachable since this monotonic time.
    pub(super) fn unmet(now: Now, since: u64, namers: Namers) -> Self {
        Self { dead_since: Some(since), unmet: Some(namers), ..Self::new(now, 0) }
    }

    pub(super) fn is_live(&self) -> bool {
        self.dead_since.is_none()
    }
}

/// What is known of a member.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerView {
    /// The member.
    pub id: ReplicaId,
    /// Whether the failure detector calls it alive.
    pub live: bool,
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

impl<K: CoreKey, V> Replica<K, V> {
    /// The members that have spoken to us, by id.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        self.peers.iter().filter(|(_, peer)| peer.unmet.is_none()).map(|(id, peer)| PeerView {
            id: *id,
            live: peer.is_live(),
            reported: peer.reported.clone(),
            watermark: peer.watermark,
            sent_to: peer.sent_to,
            last_heard: peer.last_heard,
            lossy: peer.lossy,
        })
    }

    /// How many members there are, dead but not forgotten ones included; without this replica.
    #[must_use]
    pub fn peer_len(&self) -> usize {
        self.peers.len() - self.unmet_len()
    }

    pub(super) fn live_peers(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.peers.iter().filter(|(_, peer)| peer.is_live()).map(|(id, _)| *id)
    }

    pub(super) fn is_live_peer(&self, id: &ReplicaId) -> bool {
        self.peers.get(id).is_some_and(Peer::is_live)
    }

    /// A member that was heard of directly.
    pub(super) fn hear(&mut self, now: Now, from: ReplicaId) -> &mut Peer {
        self.absent.greeted.remove(&from);
        if !self.is_live_peer(&from) {
            self.relay.forget_successors();
        }
        let logs = &mut self.logs;
        let mut wrote = || logs.get_mut(&from).and_then(|log| log.last_up_to(HlcTime::MAX)).unwrap_or(0);
        self.absent.forgotten.remove(&from);
        let peer = self.peers.entry(from).or_insert_with(|| Peer::new(now, wrote()));
        if peer.unmet.take().is_some() {
            (peer.known_since, peer.wrote) = (now.mono, wrote());
        }
        peer.dead_since = None;
        peer.last_heard = now.mono;
        peer
    }

    /// The failure detector calls a member dead. It holds back collection until it is forgotten.
    pub fn handle_member_down(&mut self, now: Now, id: ReplicaId) {
        self.absent.greeted.remove(&id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.dead_since.get_or_insert(now.mono);
        peer.busy = false;
        self.relay.forget_successors();
        self.abort_outgoing(id);
        self.abandon_incoming_from(now, id);
        self.release_retained();
    }

    /// A member left cleanly, restarted, or an operator says it will not return: it is forgotten at
    /// once. If it does return, it gets a reconcile.
    pub fn handle_member_left(&mut self, now: Now, id: ReplicaId) {
        self.handle_member_down(now, id);
        self.absent.forgotten.note(id, now);
        if let Some(peer) = self.peers.remove(&id) {
            self.absent.handed_over = self.absent.handed_over.max(peer.reported.get(&self.id));
            if peer.unmet.is_none() {
                self.counters.forgotten += 1;
                self.absent.forgot_at = self.vector.get(&self.id);
            }
        }
        let (for_it, others): (VecDeque<_>, _) =
            std::mem::take(&mut self.control).into_iter().partition(|(to, _)| *to == id);
        self.control = others;
        self.purge_deferred(id);
        self.forget_named_by(now, id);
        for_it.iter().for_each(|(_, message)| self.set_aside(message.entries()));
        self.release_retained();
    }

    pub(super) fn forget_the_long_dead(&mut self, now: Now) {
        self.expire_forgotten(now);
        self.release_held_back(now);
        let patience = nanos(self.config.forget_after);
        let gone = |peer: &Peer| peer.dead_since.is_some_and(|since| now.mono.saturating_sub(since) >= patience);
        let forgotten: Vec<_> = self.peers.iter().filter(|(_, peer)| gone(peer)).map(|(id, _)| *id).collect();
        for id in forgotten {
            let returns = self.absent.greeted.contains(&id);
            self.handle_member_left(now, id);
            if returns {
                self.absent.greeted.insert(id);
            }
        }
    }

    /// Takes note of what a member said of its clock and watermark, first or second hand.
    pub(super) fn note_watermark(&mut self, member: ReplicaId, clock: HlcTime, watermark: HlcTime) {
        let covered = self.vector.get(&member) >= clock;
        let Some(peer) = self.peers.get_mut(&member) else { return };
        let pair = Pair { clock, watermark };
        if clock > peer.latest.clock {
            peer.latest = pair;
        }
        if covered {
            peer.watermark = peer.watermark.max(watermark);
        } else if peer.pending[0].is_none_or(|oldest| clock < oldest.clock) {
            peer.pending[0] = Some(pair);
        } else if peer.pending[1].is_none_or(|newest| clock > newest.clock) {
            peer.pending[1] = Some(pair);
        }
    }

    /// Uses pending pairs that our vector has come to cover.
    pub(super) fn use_pending(&mut self, member: ReplicaId) {
        let seen = self.vector.get(&member);
        let Some(peer) = self.peers.get_mut(&member) else { return };
        for pending in &mut peer.pending {
            if let Some(pair) = pending.take_if(|pair| pair.clock <= seen) {
                peer.watermark = peer.watermark.max(pair.watermark);
            }
        }
        if peer.pending[0].is_none() {
            peer.pending.swap(0, 1);
        }
    }

    /// Raises our vector for one origin by a claim that was properly made.
    pub(super) fn claim(&mut self, origin: ReplicaId, time: HlcTime) {
        // What we have written ourselves nobody knows better.
        if origin != self.id && self.vector.raise(origin, time) {
            self.use_pending(origin);
        }
    }

    /// The lowest dot time up to which every live member has reported our own writes. A push that has left may still be
    /// lost, so that it was cut or sent says nothing. Zero while members are expected and none was heard yet.
    pub(super) fn held_by_all_live(&self) -> HlcTime {
        if self.absent.awaited && self.peers.is_empty() {
            return 0;
        }
        let live = self.peers.values().filter(|peer| peer.is_live());
        let cut = self.bugs.released_when_cut;
        live.map(|peer| if cut { peer.sent_to } else { peer.reported.get(&self.id) }).min().unwrap_or(HlcTime::MAX)
    }

    /// Whether it is worth waiting to hand over own writes: some are not known to have reached a member, and there is a
    /// member, dead but not forgotten ones included, or one may still appear.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.handed_over() < self.last_own && (!self.peers.is_empty() || self.may_meet_members())
    }

    /// Counts the own writes and deletes that no member is known to have, whether or not there is a member to send them to.
    /// Overwritten ones do not count. Returns at least one if there is anything to hand over, an invalidation for instance.
    pub fn count_unsent(&mut self) -> u64 {
        let (seen, id) = (self.handed_over(), self.id);
        if seen >= self.last_own {
            return 0;
        }
        if let Some(log) = self.logs.get_mut(&id) {
            log.sort();
        }
        let current = |(time, slot): &(HlcTime, SlotRef)| {
            self.store.meta(*slot).is_some_and(|meta| self.dot_of(&meta) == Dot::new(id, *time))
        };
        let count = self.logs.get(&id).map_or(0, |log| log.sorted_after(seen).filter(current).count());
        (count as u64).max(1)
    }

    /// The last own write that some member is known to have: one that is alive, or else one that ever was a member.
    fn handed_over(&self) -> HlcTime {
        let has = |peer: &Peer| peer.reported.get(&self.id);
        let live = self.peers.values().filter(|peer| peer.is_live()).map(has).max();
        live.unwrap_or_else(|| self.peers.values().map(has).fold(self.absent.handed_over, HlcTime::max))
    }

    /// The lowest dot time of ours that every member is known to have.
    #[must_use]
    pub fn own_seen_by_all(&self) -> HlcTime {
        self.peers.values().map(|peer| peer.reported.get(&self.id)).min().unwrap_or(HlcTime::MAX)
    }

    pub(super) fn check_caught_up(&mut self) {
        if self.caught_up.is_some() || self.incoming.is_some() {
            return;
        }
        let reached = self.peers.iter().find_map(|(id, peer)| {
            let (target, as_of) = peer.target.as_ref()?;
            self.vector.dominates(target).then_some(super::CaughtUp { from: *id, as_of: *as_of })
        });
        if reached.is_some() {
            self.caught_up = reached;
            self.peers.values_mut().for_each(|peer| peer.target = None);
        }
    }
}
