//! Fresh writes, sent eagerly: delta intervals of one origin.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::fill_bound::contester;
use super::log::OriginLog;
use super::merge::Merged;
use super::message::{Ack, Entry, FillNote, Message, Push, bound_in};
use super::peers::Peer;
use super::relay::MAX_HOPS;
use super::{CoreKey, Replica, Transmit};
use crate::crdt::{Dot, Kind};
use crate::hlc::{HlcTime, Now, nanos};
use crate::item::Body;
use crate::learnt::LearntBy;
use crate::replica_id::ReplicaId;
use crate::store::{SlotRef, Snapshot};

/// Pushes that came before their predecessor, kept at most.
const MAX_EARLY: usize = 64;
/// Bytes of keys and values in one of them, at most.
const MAX_EARLY_BYTES: usize = 1 << 20;
/// Origins whose pushes are told apart, at most.
const MAX_ORIGINS: usize = 4_096;
/// Acknowledgements to one member are at least this far apart, nanoseconds.
pub(super) const ACK_DELAY: u64 = 10_000_000;
/// What an entry weighs on the wire besides its key and value, roughly.
pub(super) const ENTRY_OVERHEAD: usize = 24;

/// What is buffered of the network's disorder.
pub(super) struct EarlyPushes<K, V> {
    waiting: VecDeque<(u64, ReplicaId, Push<K, V>)>,
    /// By origin, how far its pushes were merged. What is claimed beyond that a session has claimed, and may have left out.
    merged: BTreeMap<ReplicaId, HlcTime>,
}

impl<K, V> Default for EarlyPushes<K, V> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), merged: BTreeMap::new() }
    }
}

impl<K, V> EarlyPushes<K, V> {
    pub(super) fn deadline(&self) -> Option<u64> {
        self.waiting.front().map(|(deadline, ..)| *deadline)
    }

    fn note_merged(&mut self, origin: ReplicaId, to: HlcTime) {
        if self.merged.len() >= MAX_ORIGINS {
            self.merged.clear(); // Pushes that come twice are looked at twice.
        }
        let merged = self.merged.entry(origin).or_default();
        *merged = to.max(*merged);
    }

    /// How many wait, and how many may.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn burden(&self) -> (usize, usize) {
        (self.waiting.len(), MAX_EARLY)
    }
}

/// Where a push starts, and who gets it.
struct Round {
    from: HlcTime,
    to: Vec<ReplicaId>,
    /// They pass it on.
    relayed: bool,
}

/// How far an interval of our own log can be pushed.
struct Cut<K, V> {
    to: HlcTime,
    entries: Vec<Entry<K, V>>,
    /// The next write was overtaken by another replica, or is gone.
    blocked: bool,
}

impl<K: CoreKey, V> Replica<K, V> {
    /// The register in a place as it goes on the wire, if it still has this dot.
    pub(super) fn entry_at(&self, dot: Dot, slot: SlotRef) -> Option<(Entry<K, V>, Snapshot<K, V>)> {
        let held = self.store.resolve(slot)?;
        let mut marker = self.marker_of(&held.meta);
        if marker.dot != dot {
            return None;
        }
        if held.meta.retained {
            marker.kind = Kind::Live;
        }
        debug_assert!(marker.kind.is_live() != matches!(held.item.body, Body::Absent));
        let entry = Entry {
            hash: held.hash,
            item: crate::item::ItemRef::clone(&held.item),
            marker,
            expires: held.meta.expires,
            size: held.meta.size,
            weight: held.meta.weight,
        };
        Some((entry, held))
    }

    /// The next push, to all members that are to get the same one.
    pub(super) fn poll_push(&mut self, now: Now) -> Option<Transmit<K, V>> {
        while let Some(round) = self.next_round() {
            let from = round.from;
            let hidden = from < self.push_barrier || from < self.dropped.get(&self.id);
            let cut = if hidden { Cut { to: from, entries: Vec::new(), blocked: true } } else { self.cut_push(from) };
            self.note_round(now, &round, &cut);
            if cut.to > from {
                return Some(self.push_of(round, cut));
            }
        }
        None
    }

    fn push_of(&mut self, round: Round, cut: Cut<K, V>) -> Transmit<K, V> {
        self.release_retained();
        self.counters.pushes_out += round.to.len() as u64;
        let push = Push {
            origin: self.id,
            from: round.from,
            to: cut.to,
            epoch: self.store.epoch(),
            fills: self.fill_notes(&cut.entries),
            entries: cut.entries,
            hops: if round.relayed { 0 } else { MAX_HOPS },
            raw: Bytes::new(),
        };
        Transmit { to: round.to, message: Message::Push(push), bulk: true }
    }

    /// The bounds of the fills among these entries.
    pub(super) fn fill_notes(&self, entries: &[Entry<K, V>]) -> Vec<FillNote> {
        if self.fills.contests.len() == 0 {
            return Vec::new();
        }
        let note = |entry: &Entry<K, V>| self.fills.contests.note_of(entry.hash, entry.stamp(), entry.dot().counter);
        entries.iter().filter_map(note).collect()
    }

    /// Who gets the next push and where it starts. Those to whom the same writes are news get the same
    /// push, whatever silence each has seen of us: it starts at our last own write before these.
    ///
    /// In a large cluster only our successors get it, who pass it on; and whoever is known to lack
    /// something gets that by itself.
    fn next_round(&mut self) -> Option<Round> {
        let relayed = self.relays();
        let successors = if relayed { self.successors().to_vec() } else { Vec::new() };
        let wanted = |(id, peer): &(&ReplicaId, &Peer)| {
            self.is_pushable(id, peer) && (!relayed || peer.behind || successors.contains(id))
        };
        let wanted: Vec<_> = self.peers.iter().filter(wanted).map(|(id, peer)| (*id, peer.sent_to)).collect();
        let first = wanted.iter().map(|(_, sent)| *sent).min()?;
        let is_behind = |id: &ReplicaId| relayed && self.peers.get(id).is_some_and(|peer| peer.behind);
        if let Some((id, sent)) = wanted.iter().find(|(id, _)| is_behind(id)) {
            return Some(Round { from: *sent, to: vec![*id], relayed: false });
        }
        let from = self.own_before(first);
        let to = wanted.into_iter().filter(|(_, sent)| self.own_before(*sent) == from).map(|(id, _)| id).collect();
        Some(Round { from, to, relayed })
    }

    /// The time of our last own write up to `sent`; or a later one, if the log is not complete after
    /// that. Nothing of ours lies between it and `sent`.
    fn own_before(&mut self, sent: HlcTime) -> HlcTime {
        let complete = self.push_barrier.max(self.compacted).max(self.dropped.get(&self.id));
        let own = self.logs.get_mut(&self.id).and_then(|log| log.last_up_to(sent));
        own.unwrap_or(0).max(complete).min(sent)
    }

    fn note_round(&mut self, now: Now, round: &Round, cut: &Cut<K, V>) {
        let (moved, acknowledged) = (cut.to > round.from, !self.relays());
        for id in &round.to {
            let Some(peer) = self.peers.get_mut(id) else { continue };
            peer.needs_session = cut.blocked;
            peer.behind &= !cut.blocked && cut.to < self.last_own;
            if moved {
                peer.sent_to = cut.to;
                peer.busy = true;
                if acknowledged {
                    peer.unacked_since.get_or_insert(now.mono);
                }
            }
        }
        if round.relayed && moved {
            self.carry_along(round.from, cut.to);
        }
        if round.relayed && cut.blocked {
            self.ask_the_blocked(now, &round.to);
        }
    }

    /// Those who have what comes before a push that is passed on are taken to get it that way.
    fn carry_along(&mut self, from: HlcTime, to: HlcTime) {
        let successors = self.successors().to_vec();
        for (id, peer) in &mut self.peers {
            let follows = peer.is_live() && peer.sent_to >= from && !peer.needs_session && !peer.behind;
            if follows && !successors.contains(id) && !self.outgoing.contains_key(id) {
                peer.sent_to = peer.sent_to.max(to);
            }
        }
    }

    /// What members of a large cluster have reported is old, and a session from there would repeat
    /// minutes of everybody's writes: their answer to a digest says better what they lack.
    fn ask_the_blocked(&mut self, now: Now, blocked: &[ReplicaId]) {
        for id in blocked {
            let digest = self.digest(now, false);
            self.queue(*id, Message::Digest(digest));
        }
    }

    /// Whether a member is ready to be pushed something it is not believed to have.
    pub(super) fn is_pushable(&self, id: &ReplicaId, peer: &Peer) -> bool {
        peer.is_live()
            && !peer.busy
            && !peer.needs_session
            && !peer.held_back
            && peer.sent_to < self.last_own
            && !self.outgoing.contains_key(id)
    }

    fn cut_push(&mut self, from: HlcTime) -> Cut<K, V> {
        let mut log = self.logs.remove(&self.id).unwrap_or_default();
        let cut = self.cut_log(&mut log, from);
        self.logs.insert(self.id, log);
        cut
    }

    fn cut_log(&self, log: &mut OriginLog, from: HlcTime) -> Cut<K, V> {
        let mut cut = Cut { to: from, entries: Vec::new(), blocked: false };
        let mut entries = Vec::new();
        let mut budget = self.config.max_frame_bytes;
        // The interval may only end where every write that it leaves out has its successor inside:
        // claiming it without would be a lie if we crash before the next push.
        let mut successors = from;
        for (time, slot) in log.after(from) {
            match self.entry_at(Dot::new(self.id, time), slot) {
                Some((entry, _)) => {
                    let cost = entry.size as usize + ENTRY_OVERHEAD;
                    if cost > budget && budget < self.config.max_frame_bytes {
                        let blocked = cut.to == from;
                        return self.end_early(from, Cut { blocked, ..cut });
                    }
                    budget = budget.saturating_sub(cost);
                    entries.push(entry);
                }
                None if self.bugs.push_over_overtaken => {}
                None => match self.moved_on_by_ourselves(slot) {
                    Some(successor) => successors = successors.max(successor),
                    None => return self.end_early(from, Cut { blocked: true, ..cut }),
                },
            }
            if successors <= time {
                cut.to = time;
                cut.entries.append(&mut entries);
            }
        }
        cut.entries.append(&mut entries);
        Cut { to: self.last_own, ..cut }
    }

    /// A cut that does not reach all the way, for whatever reason: none at all where the log no longer
    /// shows what it leaves out.
    fn end_early(&self, from: HlcTime, cut: Cut<K, V>) -> Cut<K, V> {
        if from < self.compacted { Cut { to: from, entries: Vec::new(), blocked: true } } else { cut }
    }

    /// The dot time of the register this place has now, if that is our own.
    fn moved_on_by_ourselves(&self, slot: SlotRef) -> Option<HlcTime> {
        self.store.meta(slot).filter(|meta| self.origins.id(meta.dot_origin) == self.id).map(|meta| meta.dot_time)
    }

    /// A push came, from its origin or passed on.
    pub(super) fn handle_push(&mut self, now: Now, from: ReplicaId, push: Push<K, V>) {
        if push.origin == self.id {
            self.note_own_echo(now, from, &push);
            return;
        }
        if self.is_ahead(now, push.to) || self.is_ahead(now, push.epoch) {
            self.note_offender(push.origin, push.to.max(push.epoch));
            self.note_deferral(now, from, push.to.max(push.epoch));
            if !self.is_ahead(now, push.epoch) {
                let Push { entries, fills, .. } = push;
                entries.into_iter().for_each(|entry| self.hold_back(now, entry, &fills));
            }
            return;
        }
        self.adopt_epoch(now, push.epoch);
        let seen = self.vector.get(&push.origin);
        if push.from > seen && !self.bugs.apply_over_gap {
            self.note_gap(now, from, push);
            return;
        }
        if push.to <= seen {
            self.acknowledge(now, push.origin);
            self.skim(now, push);
            return;
        }
        let origin = push.origin;
        self.apply_push(now, from, push);
        self.apply_early(now, origin);
        self.acknowledge(now, origin);
    }

    /// An entry of a push that as a whole comes from the future: it waits if it does itself, and is
    /// offered again otherwise.
    fn hold_back(&mut self, now: Now, entry: Entry<K, V>, fills: &[FillNote]) {
        let bounded = bound_in(fills, entry.dot().counter).is_some();
        if !self.vector.covers(&entry.dot()) && self.is_from_the_future(now, &entry) {
            self.defer(now, entry, bounded);
        }
    }

    fn note_own_echo(&mut self, now: Now, from: ReplicaId, push: &Push<K, V>) {
        if from != self.id && push.to > self.last_own {
            self.note_twin(now, push.to);
        }
    }

    fn apply_push(&mut self, now: Now, from: ReplicaId, push: Push<K, V>) {
        self.counters.pushes_in += 1;
        self.path = if from == push.origin { LearntBy::Push } else { LearntBy::Relay };
        self.clock.observe(push.to);
        let mut deferred = false;
        let mut placed = Vec::new();
        // The entries stay in the push, because it may be passed on: its claim is only true of all.
        for entry in push.entries.iter().cloned() {
            let (dot, news) = (entry.dot(), self.is_news_to_reconcile(&entry));
            match self.merge_entry(now, entry, bound_in(&push.fills, dot.counter)) {
                Merged::Deferred => deferred = true,
                Merged::Placed(slot) => {
                    if news {
                        self.note_pushed(dot, slot);
                    }
                    placed.push(slot);
                }
                _ => {}
            }
        }
        if deferred {
            // A stamp from the future with a dot of the present: nothing is claimed past it.
            self.note_deferral(now, from, push.to);
            self.uncovered.append(&mut placed);
            if self.incoming.is_none() {
                self.adopt_orphans(now);
            }
            return;
        }
        self.claim(push.origin, push.to);
        self.early.note_merged(push.origin, push.to);
        self.note_written(&push);
        self.pass_on(from, push);
        self.enforce_tombstone_cap();
    }

    /// A push of what is claimed already. The session that claimed it left out what had lost where it came from, and this
    /// may be the only word of it: fills that began before it must hear of it.
    fn skim(&mut self, now: Now, push: Push<K, V>) {
        let origin = push.origin;
        let merged = self.early.merged.get(&origin).copied().unwrap_or(0);
        if push.to <= merged {
            return; // Once more.
        }
        for entry in push.entries.into_iter().filter(|entry| entry.dot().counter > merged) {
            let bound = bound_in(&push.fills, entry.dot().counter);
            self.merge_entry(now, entry, bound);
        }
        self.enforce_tombstone_cap(); // Of voids that took the place of fills.
        if push.from <= merged {
            self.early.note_merged(origin, push.to);
        }
    }

    /// Merges pushes that were early, now that what came before them is claimed.
    pub(super) fn apply_all_early(&mut self, now: Now) {
        let origins: BTreeSet<_> = self.early.waiting.iter().map(|(_, _, push)| push.origin).collect();
        origins.into_iter().for_each(|origin| self.apply_early(now, origin));
    }

    fn apply_early(&mut self, now: Now, origin: ReplicaId) {
        loop {
            let seen = self.vector.get(&origin);
            let next = self.early.waiting.iter().position(|(_, _, push)| push.origin == origin && push.from <= seen);
            let Some((_, from, push)) = next.and_then(|index| self.early.waiting.remove(index)) else { return };
            self.set_aside(push.entries.iter());
            if push.to > seen {
                self.counters.gaps_reordered += 1;
                self.apply_push(now, from, push);
            } else {
                self.skim(now, push);
            }
        }
    }

    fn note_gap(&mut self, now: Now, from: ReplicaId, push: Push<K, V>) {
        self.counters.gaps += 1;
        let deadline = now.mono.saturating_add(nanos(self.config.repair_delay));
        let bytes: usize = push.entries.iter().map(|entry| entry.size as usize).sum();
        if self.early.waiting.len() < MAX_EARLY && bytes <= MAX_EARLY_BYTES {
            self.early.waiting.push_back((deadline, from, push));
        } else {
            self.hear_of(now, &push);
            let digest = self.digest(now, false);
            self.queue(from, Message::Digest(digest));
        }
    }

    /// A push that is not merged: the session that brings what it missed may leave out what had lost where it comes from.
    fn hear_of(&mut self, now: Now, push: &Push<K, V>) {
        for write in push.entries.iter().filter_map(contester) {
            self.note_heard(write.0, write.1);
            self.contest_fills(now, Some(write));
        }
        self.enforce_tombstone_cap();
    }

    /// Pushes whose predecessor did not come in time: ask whoever sent them.
    pub(super) fn check_early(&mut self, now: Now) {
        let mut ask = Vec::new();
        while self.early.deadline().is_some_and(|deadline| deadline <= now.mono) {
            let Some((_, from, push)) = self.early.waiting.pop_front() else { break };
            self.hear_of(now, &push);
            self.set_aside(push.entries.iter());
            if !ask.contains(&from) {
                ask.push(from);
            }
        }
        for from in ask {
            let digest = self.digest(now, false);
            self.queue(from, Message::Digest(digest));
        }
    }

    fn acknowledge(&mut self, now: Now, origin: ReplicaId) {
        if self.relays() {
            return; // Digests and their facts tell, at a cost that does not grow with the writes.
        }
        let Some(peer) = self.peers.get_mut(&origin) else { return };
        // A lone write is acknowledged at once. In a burst, one acknowledgement stands for all pushes of its delay.
        peer.ack_due = Some(peer.ack_after.max(now.mono));
        self.flush_acks(now);
    }

    /// A member says how far it has our writes.
    pub(super) fn handle_ack(&mut self, now: Now, from: ReplicaId, Ack { to, time }: Ack) {
        if to != Some(self.id) && !self.bugs.ack_for_any_receiver {
            return; // Meant for a replica that this process had before.
        }
        if time > self.vector.get(&self.id) {
            return; // A lie: these writes do not exist.
        }
        if self.peers.get(&from).is_none_or(|peer| peer.unmet.is_some()) {
            // Only a digest makes a member: a late word of a replica that was closed must not make one that
            // nobody will ever find dead.
            return;
        }
        let id = self.id;
        let peer = self.hear(now, from);
        peer.reported.raise(id, time);
        peer.sent_to = peer.sent_to.max(time);
        peer.asked = 0;
        peer.unacked_since = (peer.sent_to > time).then_some(now.mono);
    }
}
