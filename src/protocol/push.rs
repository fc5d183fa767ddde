//! Pushes: fresh own writes, sent eagerly as delta intervals of one origin.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::{Context, ENTRY_OVERHEAD};
use crate::arrival::Provenance;
use crate::bugs::Bugs;
use crate::crdt::Dot;
use crate::hlc::{HlcTime, nanos};
use crate::item::CoreKey;
use crate::ledger::log::OriginLog;
use crate::ledger::merge::Merged;
use crate::ledger::quarantine;
use crate::members::peer::Peer;
use crate::members::rings;
use crate::message::bound::is_of_fill;
use crate::message::{Ack, Entry, FillNote, MAX_HOPS, Message, Push, bound_in};
use crate::outbox::Transmit;
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

/// The highest number of pushes that wait for their predecessor.
const MAX_EARLY: usize = 64;
/// The highest number of bytes of keys and values in a push that waits.
const MAX_EARLY_BYTES: usize = 1 << 20;
/// The highest number of origins in `Pushes::heard`.
const MAX_ORIGINS: usize = 4_096;

/// Received pushes whose predecessor is missing, and a record of the pushes that were merged.
pub(crate) struct Pushes<K, V> {
    /// Each push that waits for its predecessor, with its deadline and its sender.
    early: VecDeque<(u64, ReplicaId, Push<K, V>)>,
    /// By origin, the last interval of which every write has arrived here or is no longer needed. Outside it, the
    /// vector may cover writes that never arrived, because they had lost at the sender of a session or push.
    heard: BTreeMap<ReplicaId, (HlcTime, HlcTime)>,
}

impl<K, V> Default for Pushes<K, V> {
    fn default() -> Self {
        Self { early: VecDeque::new(), heard: BTreeMap::new() }
    }
}

/// The start and the receivers of a push.
struct Round {
    from: HlcTime,
    to: Vec<ReplicaId>,
    /// True if the receivers relay the push.
    relayed: bool,
}

/// The part of the own log that one push covers.
struct Cut<K, V> {
    to: HlcTime,
    entries: Vec<Entry<K, V>>,
    /// True if the log cannot be pushed beyond `to`, so that a session is needed: the next write is gone or was
    /// overtaken by another replica, or the log is incomplete after the start of the push. Also true if the frame size
    /// is reached before any place where the push may end.
    blocked: bool,
}

impl<K: CoreKey, V> Pushes<K, V> {
    /// Returns the deadline of the push that has waited longest for its predecessor.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.early.front().map(|(deadline, ..)| *deadline)
    }

    /// Returns the number of pushes that wait, and the limit.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn buffers(&self) -> (usize, usize) {
        (self.early.len(), MAX_EARLY)
    }

    /// Records the push's interval after its last fill as received: every write in it is here or not needed. A push
    /// leaves out overwritten writes. If a later write has overwritten one, it is not needed: the later write beats or
    /// contests the same fills. If a fill has overwritten one, it may be needed, because a fill contests nothing.
    fn note_received(&mut self, bugs: Bugs, push: &Push<K, V>) {
        if self.heard.len() >= MAX_ORIGINS {
            self.heard.clear(); // Afterwards, repeated pushes are merged once more.
        }
        let last_fill = push.entries.iter().rev().find(|entry| is_of_fill(entry.stamp()));
        let (from, to) = (last_fill.map_or(push.from, |fill| fill.dot().counter), push.to);
        let heard = self.heard.entry(push.origin).or_default();
        if bugs.left_out_taken_for_heard || (heard.0..=heard.1).contains(&from) {
            heard.1 = to.max(heard.1);
        } else {
            *heard = (from, to);
        }
    }

    /// Handles a push, from its origin or relayed.
    pub(crate) fn handle(&mut self, cx: &mut Context<'_, K, V>, from: ReplicaId, push: Push<K, V>) {
        if push.origin == cx.env.id {
            // A relay may return an own push. A push that ends beyond the last own write reveals a duplicate id.
            if from != cx.env.id && push.to > cx.ledger.last_own() {
                cx.ledger.note_duplicate_id(cx.env, push.to);
            }
            return;
        }
        if cx.env.is_ahead(push.to) || cx.env.is_ahead(push.epoch) {
            defer_push(cx, from, push);
            return;
        }
        cx.adopt_epoch(push.epoch);
        let seen = cx.ledger.vector().get(&push.origin);
        if push.from > seen && !cx.env.bugs().apply_over_gap {
            self.note_gap(cx, from, push);
            return;
        }
        let (origin, entries) = (push.origin, push.entries.len());
        if push.to <= seen {
            acknowledge(cx, origin, entries);
            self.merge_claimed(cx, push);
            return;
        }
        self.apply(cx, from, push);
        self.apply_early(cx, origin);
        acknowledge(cx, origin, entries);
    }

    fn apply(&mut self, cx: &mut Context<'_, K, V>, from: ReplicaId, push: Push<K, V>) {
        cx.env.counters.pushes_in += 1;
        let by = if from == push.origin { Provenance::Push } else { Provenance::Relay };
        cx.env.clock.observe(push.to);
        let mut deferred = false;
        let mut placed = Vec::new();
        // Clones are merged, so that the push keeps all its entries: without them, a relay would spread a false claim.
        for entry in push.entries.iter().cloned() {
            let (dot, news) = (entry.dot(), cx.must_be_judged_by_reconcile(&entry));
            match cx.merge(by).entry(entry, bound_in(&push.fills, dot.counter)) {
                Merged::Deferred => deferred = true,
                Merged::Placed(slot) => {
                    if news {
                        cx.ledger.note_arrived(dot, slot);
                    }
                    placed.push(slot);
                }
                _ => {}
            }
        }
        if deferred {
            // An entry is stamped in the future. With its dot claimed, it would be skipped when it is offered again.
            cx.note_deferral(from, push.to);
            cx.ledger.note_uncovered(placed);
            // While a session comes in, its claim may still cover the placed registers. Those that it does not cover
            // are adopted when the session ends.
            if cx.ledger.receiving().is_none() {
                cx.ledger.adopt_orphans(cx.env);
            }
            return;
        }
        cx.claim(push.origin, push.to);
        self.note_received(cx.env.bugs(), &push);
        note_written(cx, &push);
        if push.hops < MAX_HOPS && !push.raw.is_empty() {
            cx.outbox.to_pass_on.push((from, push));
        }
    }

    /// Merges a push whose interval is already claimed. The session or later push that made the claim may have left out
    /// writes that had lost at its sender. This push may be the only message with them, and a fill that began before
    /// such a write must lose against it.
    fn merge_claimed(&mut self, cx: &mut Context<'_, K, V>, push: Push<K, V>) {
        let (after, to) = self.heard.get(&push.origin).copied().unwrap_or_default();
        if push.from >= after && push.to <= to {
            return; // A repeated push.
        }
        self.note_received(cx.env.bugs(), &push);
        for entry in push.entries {
            let bound = bound_in(&push.fills, entry.dot().counter);
            cx.merge(Provenance::Push).entry(entry, bound);
        }
    }

    /// Merges early pushes whose predecessor is claimed by now.
    pub(crate) fn apply_all_early(&mut self, cx: &mut Context<'_, K, V>) {
        let origins: BTreeSet<_> = self.early.iter().map(|(_, _, push)| push.origin).collect();
        origins.into_iter().for_each(|origin| self.apply_early(cx, origin));
    }

    fn apply_early(&mut self, cx: &mut Context<'_, K, V>, origin: ReplicaId) {
        loop {
            let seen = cx.ledger.vector().get(&origin);
            let next = self.early.iter().position(|(_, _, push)| push.origin == origin && push.from <= seen);
            let Some((_, from, push)) = next.and_then(|index| self.early.remove(index)) else { return };
            cx.ledger.registers_mut().set_aside(push.entries.iter());
            if push.to > seen {
                cx.env.counters.gaps_reordered += 1;
                self.apply(cx, from, push);
            } else {
                self.merge_claimed(cx, push);
            }
        }
    }

    fn note_gap(&mut self, cx: &mut Context<'_, K, V>, from: ReplicaId, push: Push<K, V>) {
        cx.env.counters.gaps += 1;
        let bytes: usize = push.entries.iter().map(|entry| entry.size as usize).sum();
        if self.early.len() < MAX_EARLY && bytes <= MAX_EARLY_BYTES {
            self.early.push_back((cx.env.later(nanos(cx.env.config.repair_delay)), from, push));
        } else {
            // This push is dropped. The session that replaces it may leave out writes that had lost at the session's
            // sender. So all writes of this push are recorded, to contest fills.
            cx.ledger.note_unmerged(cx.env, &push.entries);
            cx.outbox.ask(from);
        }
    }

    /// Drops early pushes whose predecessor did not come in time, and asks their senders for what is missing.
    pub(crate) fn check_early(&mut self, cx: &mut Context<'_, K, V>) {
        let mut ask = Vec::new();
        while self.deadline().is_some_and(|deadline| deadline <= cx.env.now.mono) {
            let Some((_, from, push)) = self.early.pop_front() else { break };
            cx.ledger.note_unmerged(cx.env, &push.entries);
            cx.ledger.registers_mut().set_aside(push.entries.iter());
            if !ask.contains(&from) {
                ask.push(from);
            }
        }
        ask.into_iter().for_each(|from| cx.outbox.ask(from));
    }
}

/// Defers a push that ends in the future or carries an epoch from the future. If only its end is from the future, its
/// entries from the future go to quarantine. All other entries will be offered again.
fn defer_push<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId, push: Push<K, V>) {
    let time = push.to.max(push.epoch);
    cx.note_offender(push.origin, time);
    cx.note_deferral(from, time);
    if cx.env.is_ahead(push.epoch) {
        return;
    }
    for entry in push.entries {
        let bounded = is_bounded(&push.fills, &entry);
        if !cx.ledger.vector().covers(&entry.dot()) && cx.env.is_from_the_future(&entry) {
            quarantine::defer(cx.ledger, cx.env, cx.members, entry, bounded);
        }
    }
}

fn is_bounded<K, V>(fills: &[FillNote], entry: &Entry<K, V>) -> bool {
    bound_in(fills, entry.dot().counter).is_some()
}

/// Records the last write of an origin. A later digest of that origin that denies this write reveals a duplicate id.
fn note_written<K, V>(cx: &mut Context<'_, K, V>, push: &Push<K, V>) {
    if let Some(last) = push.entries.last()
        && let Some(peer) = cx.members.get_mut(&push.origin)
    {
        peer.claims.wrote = peer.claims.wrote.max(last.dot().counter);
    }
}

/// Returns the next push, for all members that get the same one.
pub(crate) fn poll<K: CoreKey, V>(cx: &mut Context<'_, K, V>) -> Option<Transmit<K, V>> {
    while let Some(round) = next_round(cx) {
        let from = round.from;
        let cut = if from < complete_after(cx, false) {
            Cut { to: from, entries: Vec::new(), blocked: true }
        } else {
            cut_push(cx, from)
        };
        note_round(cx, &round, &cut);
        if cut.to > from {
            return Some(push_of(cx, round, cut));
        }
    }
    None
}

/// Returns the time after which the own log is complete: it lists every own write, and none was removed without a
/// trace. If `with_rewritten` is false, writes that this replica later overwrote may be missing.
fn complete_after<K: CoreKey, V>(cx: &Context<'_, K, V>, with_rewritten: bool) -> HlcTime {
    let logs = cx.ledger.logs();
    let followed = if with_rewritten { logs.followed() } else { 0 };
    logs.overtaken().max(followed).max(cx.ledger.dropped().get(&cx.env.id))
}

fn push_of<K: CoreKey, V>(cx: &mut Context<'_, K, V>, round: Round, cut: Cut<K, V>) -> Transmit<K, V> {
    cx.env.counters.pushes_out += round.to.len() as u64;
    let push = Push {
        origin: cx.env.id,
        from: round.from,
        to: cut.to,
        epoch: cx.ledger.epoch(),
        fills: cx.ledger.fill_notes(&cut.entries),
        entries: cut.entries,
        hops: if round.relayed { 0 } else { MAX_HOPS },
        raw: Bytes::new(),
    };
    Transmit { to: round.to, message: Message::Push(push), bulk: true }
}

/// Returns the start and the receivers of the next push. Members that lack the same own writes get the same push, even
/// if their `sent_to` differ: no own write lies between these times. The push starts at the last own write before those
/// that the members lack.
///
/// In a large cluster only the ring successors get it, and relay it. A member that is known to lack something gets a
/// push of its own.
fn next_round<K: CoreKey, V>(cx: &mut Context<'_, K, V>) -> Option<Round> {
    let relayed = cx.relays();
    let successors = if relayed { rings::successors(cx.members, cx.env).to_vec() } else { Vec::new() };
    let last_own = cx.ledger.last_own();
    let wanted = |(id, peer): &(&ReplicaId, &Peer)| {
        peer.is_pushable(last_own) && (!relayed || peer.delivery.behind || successors.contains(id))
    };
    let wanted: Vec<_> = cx.members.iter().filter(wanted).map(|(id, peer)| (*id, peer.delivery.sent_to)).collect();
    let first = wanted.iter().map(|(_, sent)| *sent).min()?;
    let is_behind = |id: &ReplicaId| relayed && cx.members.get(id).is_some_and(|peer| peer.delivery.behind);
    if let Some((id, sent)) = wanted.iter().find(|(id, _)| is_behind(id)) {
        return Some(Round { from: *sent, to: vec![*id], relayed: false });
    }
    let from = own_before(cx, first);
    let to = wanted.into_iter().filter(|(_, sent)| own_before(cx, *sent) == from).map(|(id, _)| id).collect();
    Some(Round { from, to, relayed })
}

/// Returns the time of the last own write up to `sent`. If the log is complete only after a later time, returns that
/// time, or `sent` if that is earlier. No own write lies between the result and `sent`.
fn own_before<K: CoreKey, V>(cx: &mut Context<'_, K, V>, sent: HlcTime) -> HlcTime {
    let complete = complete_after(cx, true);
    let own = cx.ledger.logs_mut().last_up_to(&cx.env.id, sent);
    own.unwrap_or(0).max(complete).min(sent)
}

fn note_round<K: CoreKey, V>(cx: &mut Context<'_, K, V>, round: &Round, cut: &Cut<K, V>) {
    let (moved, acknowledged) = (cut.to > round.from, !cx.relays());
    let (last_own, now) = (cx.ledger.last_own(), cx.env.now.mono);
    for id in &round.to {
        let Some(peer) = cx.members.get_mut(id) else { continue };
        let delivery = &mut peer.delivery;
        delivery.needs_session = cut.blocked;
        delivery.behind &= !cut.blocked && cut.to < last_own;
        if moved {
            delivery.sent_to = cut.to;
            delivery.busy = true;
            if acknowledged {
                delivery.unacked_since.get_or_insert(now);
            }
        }
    }
    if round.relayed && moved {
        assume_relayed(cx, round.from, cut.to);
    }
    if round.relayed && cut.blocked {
        // In a large cluster the reported vectors are old. A session that starts from a reported vector would repeat
        // all writes of some minutes, so a digest asks what the members really lack.
        round.to.iter().for_each(|id| cx.outbox.ask(*id));
    }
}

/// Assumes that relays deliver this push to every member that already has everything before it.
fn assume_relayed<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: HlcTime, to: HlcTime) {
    let successors = rings::successors(cx.members, cx.env).to_vec();
    for (id, peer) in cx.members.iter_mut() {
        let live = peer.is_live();
        let delivery = &mut peer.delivery;
        let follows = live && delivery.sent_to >= from && !delivery.needs_session && !delivery.behind;
        if follows && !successors.contains(id) && !delivery.in_session {
            delivery.sent_to = delivery.sent_to.max(to);
        }
    }
}

fn cut_push<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: HlcTime) -> Cut<K, V> {
    let id = cx.env.id;
    let mut log = cx.ledger.logs_mut().take(&id).unwrap_or_default();
    let cut = cut_log(cx, &mut log, from);
    cx.ledger.logs_mut().put(id, log);
    cut
}

fn cut_log<K: CoreKey, V>(cx: &Context<'_, K, V>, log: &mut OriginLog, from: HlcTime) -> Cut<K, V> {
    let mut cut = Cut { to: from, entries: Vec::new(), blocked: false };
    let mut entries = Vec::new();
    let most = cx.env.config.max_frame_bytes;
    let mut budget = most;
    // The push may only end where every write that it leaves out has its replacement in the push. Otherwise, if this
    // replica crashed before the next push, receivers would have claimed a write whose replacement is never sent.
    let mut successors = from;
    for (time, slot) in log.after(from) {
        match cx.ledger.registers().entry_at(Dot::new(cx.env.id, time), slot) {
            Some((entry, _)) => {
                let cost = entry.size as usize + ENTRY_OVERHEAD;
                if cost > budget && budget < most {
                    let blocked = cut.to == from;
                    return end_early(cx, from, Cut { blocked, ..cut });
                }
                budget = budget.saturating_sub(cost);
                entries.push(entry);
            }
            None if cx.env.bugs().push_over_overtaken => {}
            None => match own_replacement(cx, slot) {
                Some(successor) => successors = successors.max(successor),
                None => return end_early(cx, from, Cut { blocked: true, ..cut }),
            },
        }
        if successors <= time {
            cut.to = time;
            cut.entries.append(&mut entries);
        }
    }
    cut.entries.append(&mut entries);
    Cut { to: cx.ledger.last_own(), ..cut }
}

/// Returns `cut`, which ends before the end of the log. Returns an empty, blocked cut instead if the log may no longer
/// list every overwritten write after `from`. The replacement of an unlisted write may lie beyond the end of `cut`.
fn end_early<K: CoreKey, V>(cx: &Context<'_, K, V>, from: HlcTime, cut: Cut<K, V>) -> Cut<K, V> {
    let is_shown = from >= cx.ledger.logs().followed();
    if is_shown { cut } else { Cut { to: from, entries: Vec::new(), blocked: true } }
}

/// Returns the dot time of the register in this place, if the dot is this replica's own.
fn own_replacement<K: CoreKey, V>(cx: &Context<'_, K, V>, slot: SlotRef) -> Option<HlcTime> {
    cx.ledger.registers().dot_at(slot).filter(|dot| dot.actor == cx.env.id).map(|dot| dot.counter)
}

fn acknowledge<K: CoreKey, V>(cx: &mut Context<'_, K, V>, origin: ReplicaId, entries: usize) {
    if cx.relays() {
        return; // Digests and their facts report instead, at a cost that does not grow with the writes.
    }
    let now = cx.env.now.mono;
    let Some(peer) = cx.members.get_mut(&origin) else { return };
    peer.acks.note_push(now, entries);
    flush_acks(cx);
}

/// Queues the acknowledgements that are due.
pub(crate) fn flush_acks<K: CoreKey, V>(cx: &mut Context<'_, K, V>) {
    let now = cx.env.now.mono;
    let mut due = Vec::new();
    for (id, peer) in cx.members.iter_mut().filter(|(_, peer)| peer.acks.due.is_some_and(|at| at <= now)) {
        (peer.acks.due, peer.acks.sent) = (None, Some(now));
        due.push(*id);
    }
    for to in due {
        let time = cx.ledger.vector().get(&to);
        cx.queue(to, Message::Ack(Ack { to: Some(to), time }));
    }
}

/// Handles an acknowledgement: the time up to which a member has seen the writes of this replica.
pub(crate) fn handle_ack<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId, Ack { to, time }: Ack) {
    let id = cx.env.id;
    if to != Some(id) && !cx.env.bugs().ack_for_any_receiver {
        return; // Meant for an earlier replica of this process.
    }
    if time > cx.ledger.vector().get(&id) {
        return; // A false statement: these writes do not exist.
    }
    if cx.members.get(&from).is_none_or(|peer| !peer.is_met()) {
        // Only a digest makes a member. A late message of a closed replica would make one that is never reported down.
        return;
    }
    let (now, judging) = (cx.env.now.mono, cx.env.judging());
    if cx.hear(from).acknowledge(id, time, now) {
        cx.env.timings.acknowledged.record(judging.saturating_sub(time));
    }
}

/// Returns the time at which to ask for an acknowledgement that has been missing since `since`. The wait doubles with
/// each of the `asked` digests that have asked for it.
pub(crate) fn retry_at(env: &crate::env::Env, since: u64, asked: u32) -> u64 {
    let first = env.in_flight();
    let wait = first.saturating_mul(1 << asked.min(10)).min(nanos(env.config.digest_interval).max(first));
    since.saturating_add(wait)
}

/// Asks members by digest what is missing, if they did not acknowledge a push in time.
pub(crate) fn check_unacked<K: CoreKey, V>(cx: &mut Context<'_, K, V>) {
    let (env, now) = (&*cx.env, cx.env.now.mono);
    let is_due = |peer: &Peer| {
        let since = peer.delivery.unacked_since.filter(|_| peer.is_live());
        since.is_some_and(|since| retry_at(env, since, peer.delivery.asked) <= now)
    };
    let due: Vec<_> = cx.members.iter().filter(|(_, peer)| is_due(peer)).map(|(id, _)| *id).collect();
    let (own, relays) = (cx.env.id, cx.relays());
    for id in due {
        let Some(peer) = cx.members.get_mut(&id) else { continue };
        let has = peer.reported.get(&own);
        let delivery = &mut peer.delivery;
        if has >= delivery.sent_to {
            (delivery.unacked_since, delivery.asked) = (None, 0);
            continue;
        }
        delivery.asked = delivery.asked.saturating_add(1);
        // In a large cluster there are no acknowledgements: one digest asks now, and regular digests do so later.
        delivery.unacked_since = (!relays).then_some(now);
        cx.outbox.ask(id);
    }
}
