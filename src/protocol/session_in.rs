//! The session that comes in. At most one at a time.
//!
//! Frames are merged as they arrive, in any order, and are readable at once. Nothing is claimed
//! before all of them are in: a frame leaves out what later frames overtake.

use std::collections::{BTreeMap, BTreeSet};

use super::Context;
use crate::crdt::{Dot, VersionVector};
use crate::env::Env;
use crate::hlc::{HlcTime, Stamp, nanos};
use crate::item::CoreKey;
use crate::learnt::LearntBy;
use crate::ledger::Receiving;
use crate::ledger::merge::Merged;
use crate::ledger::reconciled::{self, Verdict};
use crate::members::skew;
use crate::message::{Entry, Frame, Interval, Last, bound_in};
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

/// Frames of one session, at most.
const MAX_FRAMES: u32 = 1 << 20;

/// A session on its way in.
#[derive(Debug)]
struct Incoming {
    from: ReplicaId,
    session: u64,
    received: BTreeSet<u32>,
    last: Option<Last>,
    reconcile: bool,
    /// Something in it was deferred: nothing is claimed.
    unclaimable: bool,
    /// What its sender has dropped. It becomes ours with the claim: before that it would speak of dots
    /// that nobody may ever be able to cover, and everybody would reconcile with everybody for ever.
    dropped: VersionVector,
    /// Registers of ours that a reconcile has not listed where it should have, by dot.
    unlisted: BTreeMap<(ReplicaId, HlcTime), SlotRef>,
    /// Stamps that a reconcile has listed for registers that are here under the same stamp, in order of arrival. The
    /// sender vouches for these, under whatever dot they are held here.
    vouched: Vec<(SlotRef, Stamp)>,
    started: u64,
    heard: u64,
}

impl Incoming {
    fn new<K, V>(env: &Env, from: ReplicaId, frame: &Frame<K, V>) -> Self {
        Self {
            from,
            session: frame.session,
            received: BTreeSet::new(),
            last: None,
            reconcile: frame.reconcile,
            unclaimable: false,
            dropped: VersionVector::new(),
            unlisted: BTreeMap::new(),
            vouched: Vec::new(),
            started: env.now.mono,
            heard: env.now.mono,
        }
    }

    fn is_complete(&self) -> bool {
        self.last.as_ref().is_some_and(|last| self.received.len() as u64 == u64::from(last.frames))
    }

    fn by(&self) -> LearntBy {
        if self.reconcile { LearntBy::Reconcile } else { LearntBy::Digest }
    }

    fn take_unlisted(&mut self) -> impl Iterator<Item = (Dot, SlotRef)> + use<> {
        let unlisted = std::mem::take(&mut self.unlisted);
        unlisted.into_iter().map(|((origin, time), slot)| (Dot::new(origin, time), slot))
    }
}

/// What came of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// A session was opened: what goes out is broken off.
    pub(crate) opened: bool,
    /// Its last frame came, and everything was claimed.
    pub(crate) claimed: bool,
}

/// The session that comes in, if one does.
#[derive(Debug, Default)]
pub(crate) struct SessionIn(Option<Incoming>);

impl SessionIn {
    /// A frame came.
    pub(crate) fn handle<K: CoreKey, V>(
        &mut self,
        cx: &mut Context<'_, K, V>,
        from: ReplicaId,
        frame: Frame<K, V>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        self.absorb_arrived(cx);
        if cx.env.is_ahead(frame.epoch) {
            cx.note_offender(from, frame.epoch);
            cx.note_deferral(from, frame.epoch);
            return outcome;
        }
        if frame.to != cx.env.id || !self.admit(cx, from, &frame, &mut outcome) {
            cx.env.counters.frames_ignored += 1;
            return outcome;
        }
        cx.adopt_epoch(frame.epoch);
        if cx.env.is_ahead(frame.clock) {
            cx.note_offender(from, frame.clock);
        } else {
            cx.env.clock.observe(frame.clock);
        }
        if !self.note_frame(cx.env, &frame) {
            cx.env.counters.frames_ignored += 1;
            return outcome;
        }
        cx.env.counters.frames_in += 1;
        self.merge_frame(cx, from, frame);
        if self.0.as_ref().is_some_and(Incoming::is_complete) {
            outcome.claimed = self.complete(cx);
        }
        outcome
    }

    /// What pushes have put in place since the last frame counts as not listed, until a frame lists it.
    fn absorb_arrived<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) {
        let arrived = cx.ledger.take_arrived();
        if let Some(incoming) = &mut self.0 {
            incoming.unlisted.extend(arrived.into_iter().map(|(dot, slot)| ((dot.actor, dot.counter), slot)));
        }
    }

    /// Whether this frame belongs to the session that is coming in, opening it if need be.
    fn admit<K: CoreKey, V>(
        &mut self,
        cx: &mut Context<'_, K, V>,
        from: ReplicaId,
        frame: &Frame<K, V>,
        outcome: &mut Outcome,
    ) -> bool {
        let done = cx.members.get(&from).map_or(0, |peer| peer.session_done);
        if frame.session <= done {
            return false;
        }
        if let Some(incoming) = &self.0 {
            if incoming.from != from || frame.session < incoming.session {
                return false;
            }
            if frame.session == incoming.session {
                return true;
            }
            // A later session of the same sender supersedes the one that is open.
            self.abandon(cx);
        }
        if !frame.reconcile && !cx.ledger.vector().dominates(&frame.base) {
            cx.outbox.ask(from);
            return false;
        }
        if cx.members.get(&from).is_some_and(|peer| peer.delivery.in_session) && cx.env.id < from {
            return false; // Of two that send to each other the lower id goes first.
        }
        outcome.opened = true;
        cx.env.counters.sessions_in += 1;
        self.0 = Some(Incoming::new(cx.env, from, frame));
        cx.ledger.set_receiving(Some(if frame.reconcile { Receiving::Reconcile } else { Receiving::Delta }));
        true
    }

    /// Takes the frame into the books. Returns whether it is a new one.
    fn note_frame<K, V>(&mut self, env: &Env, frame: &Frame<K, V>) -> bool {
        let in_order = env.bugs().frames_in_order;
        let Some(incoming) = &mut self.0 else { return false };
        if frame.index >= MAX_FRAMES || (in_order && frame.index as usize != incoming.received.len()) {
            return false;
        }
        incoming.heard = env.now.mono;
        if let Some(last) = &frame.last {
            incoming.last = Some(last.clone());
        }
        incoming.received.insert(frame.index)
    }

    fn merge_frame<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>, from: ReplicaId, frame: Frame<K, V>) {
        let Frame { intervals, dropped, last, .. } = frame;
        let Some(incoming) = &mut self.0 else { return };
        for (origin, time) in dropped.iter() {
            if cx.env.is_ahead(time) {
                cx.note_offender(from, time);
                incoming.unclaimable = true;
            } else {
                incoming.dropped.raise(origin, time);
            }
        }
        if cx.env.bugs().early_floor
            && let Some(last) = &last
        {
            reconciled::take_floor(cx.ledger, last.floor);
        }
        let mut spans = Vec::new();
        for interval in intervals {
            if incoming.reconcile || cx.env.bugs().absent_is_deleted {
                note_unlisted(cx, incoming, &interval);
            }
            spans.push((interval.origin, interval.to));
            merge_interval(cx, incoming, interval);
        }
        if cx.env.bugs().claim_per_frame {
            spans.into_iter().for_each(|(origin, to)| cx.claim(origin, to));
        }
    }

    /// Everything is in: the vector moves and the floor is adopted. Returns whether it was claimed.
    fn complete<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) -> bool {
        let Some(mut incoming) = self.0.take() else { return false };
        let Some(last) = incoming.last.take() else { return false };
        let (from, dropped) = (incoming.from, std::mem::take(&mut incoming.dropped));
        note_done(cx, &incoming);
        // What is ahead of our time is not claimed. Nothing of it was in the frames, or the session would be
        // unclaimable. But what else is claimed may rest on something that the sender had of such an origin
        // and dropped: so far it is claimed all the same, or whoever is told by us is never told of that.
        let ahead: Vec<_> = last.claim.iter().filter(|(_, time)| cx.env.is_ahead(*time)).collect();
        ahead.iter().for_each(|(origin, time)| cx.note_offender(*origin, *time));
        let rests_on_the_future = ahead.iter().any(|(origin, _)| cx.env.is_ahead(dropped.get(origin)));
        let floor = last.floor.max(last.eviction_floor);
        if incoming.unclaimable || rests_on_the_future || cx.env.is_ahead(floor.time) {
            cx.env.counters.sessions_unclaimed += 1;
            cx.ledger.set_receiving(None);
            let due = last.claim.iter().map(|(_, time)| time).filter(|time| cx.env.is_ahead(*time)).min();
            cx.note_deferral(from, due.unwrap_or(0));
            cx.ledger.adopt_orphans(cx.env);
            return false;
        }
        cx.env.counters.sessions_completed += 1;
        skew::note_no_deferral(cx.members, &from);
        if incoming.reconcile {
            end_reconcile(cx, &mut incoming, &last);
        }
        cx.ledger.set_receiving(None);
        for (origin, time) in last.claim.iter() {
            cx.claim(origin, if ahead.contains(&(origin, time)) { dropped.get(&origin) } else { time });
        }
        reconciled::take_dropped(cx.ledger, cx.env, &dropped, last.floor);
        true
    }

    /// The session that is open will not be finished.
    fn abandon<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) {
        let Some(incoming) = self.0.take() else { return };
        cx.ledger.set_receiving(None);
        cx.env.counters.sessions_abandoned += 1;
        note_done(cx, &incoming);
        cx.ledger.adopt_orphans(cx.env);
    }

    /// A member is gone.
    pub(crate) fn abandon_from<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>, from: ReplicaId) {
        if self.0.as_ref().is_some_and(|incoming| incoming.from == from) {
            self.abandon(cx);
        }
    }

    /// When the session that is open has waited long enough, by monotonic time.
    pub(crate) fn deadline(&self, env: &Env) -> Option<u64> {
        let incoming = self.0.as_ref()?;
        let idle = incoming.heard.saturating_add(nanos(env.config.session_idle));
        Some(idle.min(incoming.started.saturating_add(nanos(env.config.session_deadline))))
    }

    /// Abandons a session from which nothing came for a while, and asks another source.
    pub(crate) fn handle_timeout<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) {
        if self.deadline(cx.env).is_none_or(|at| at > cx.env.now.mono) {
            return;
        }
        let silent = self.0.as_ref().map(|incoming| incoming.from);
        self.abandon(cx);
        let others: Vec<_> = cx.members.live().filter(|id| Some(*id) != silent).collect();
        if let Some(other) = cx.env.random.choice(others) {
            cx.outbox.ask(other);
        }
    }
}

fn merge_interval<K: CoreKey, V>(cx: &mut Context<'_, K, V>, incoming: &mut Incoming, interval: Interval<K, V>) {
    for entry in interval.entries {
        let listed = incoming.reconcile.then(|| entry.clone());
        let bound = bound_in(&interval.fills, entry.dot().counter);
        let merged = cx.merge(incoming.by()).entry(entry, bound);
        if let Some(listed) = &listed {
            note_vouched(cx, incoming, listed);
        }
        match merged {
            Merged::Placed(slot) => cx.ledger.note_uncovered([slot]),
            Merged::Deferred => incoming.unclaimable = true,
            Merged::Voided | Merged::Lost | Merged::Seen | Merged::Expunged => {}
        }
    }
}

/// Reconcile: the sender's newest register of this key has this stamp. If ours has it too, after the merge, the
/// sender vouches for ours, whatever dots the two have: a session that broke off leaves registers under dots of the
/// replica that adopted them.
fn note_vouched<K: CoreKey, V>(cx: &Context<'_, K, V>, incoming: &mut Incoming, listed: &Entry<K, V>) {
    let Some(held) = cx.ledger.find(listed.hash, &listed.item.key) else { return };
    let stamp = cx.ledger.registers().stamp_of(&held.meta);
    if stamp == listed.stamp() && !cx.env.bugs().reconcile_compares_dots {
        incoming.vouched.push((held.slot, stamp));
    }
}

/// Reconcile, per frame: our own registers of the range that are not listed will be gone, once
/// all frames are in. Not before: with half a session, and without the floor that comes with the
/// whole, an older value from a third replica would find the key empty.
fn note_unlisted<K: CoreKey, V>(cx: &mut Context<'_, K, V>, incoming: &mut Incoming, interval: &Interval<K, V>) {
    let Interval { origin, from, to, ref entries, .. } = *interval;
    let listed: BTreeSet<_> = entries.iter().map(|entry| entry.dot().counter).collect();
    listed.iter().for_each(|time| {
        incoming.unlisted.remove(&(origin, *time));
    });
    if let Some(log) = cx.ledger.logs_mut().get_mut(&origin) {
        let ours = log.after(from).take_while(|(time, _)| *time <= to).filter(|(time, _)| !listed.contains(time));
        incoming.unlisted.extend(ours.map(|(time, slot)| ((origin, time), slot)));
    }
    let bugs = cx.env.bugs();
    if bugs.reconcile_hides_removals || bugs.absent_is_deleted || bugs.floor_rises_with_removals {
        reconciled::remove_unlisted(cx.ledger, cx.env, incoming.take_unlisted(), None);
    }
}

/// Everything is in: what the sender does not have, and may have had a reason for, goes.
fn end_reconcile<K: CoreKey, V>(cx: &mut Context<'_, K, V>, incoming: &mut Incoming, last: &Last) {
    cx.env.counters.reconciles_in += 1;
    let verdict = Verdict::new(cx.ledger, cx.env, last);
    reconciled::remove_unlisted(cx.ledger, cx.env, incoming.take_unlisted(), Some(&verdict));
    let vouched = std::mem::take(&mut incoming.vouched).into_iter().collect();
    reconciled::void_unknown(cx.ledger, cx.env, &verdict, &vouched);
    reconciled::take_evictions(cx.ledger, cx.env, &verdict);
}

fn note_done<K: CoreKey, V>(cx: &mut Context<'_, K, V>, incoming: &Incoming) {
    if let Some(peer) = cx.members.get_mut(&incoming.from) {
        peer.session_done = peer.session_done.max(incoming.session);
    }
}
