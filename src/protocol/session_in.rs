//! The incoming session, at most one at a time.
//!
//! Frames are merged as they arrive, in any order, and are readable at once. Nothing is claimed before all frames
//! have arrived: a frame omits a write if a register in a later frame has replaced it.

use std::collections::{BTreeMap, BTreeSet};

use super::Context;
use crate::arrival::Provenance;
use crate::crdt::{Dot, VersionVector};
use crate::env::Env;
use crate::hlc::{HlcTime, Stamp, nanos};
use crate::item::CoreKey;
use crate::ledger::Receiving;
use crate::ledger::merge::Merged;
use crate::ledger::reconciled::{self, Verdict};
use crate::members::skew;
use crate::message::{Entry, Frame, Interval, Last, bound_in};
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

/// The highest number of frames in one session.
const MAX_FRAMES: u32 = 1 << 20;

/// An incoming session.
#[derive(Debug)]
struct Incoming {
    from: ReplicaId,
    session: u64,
    received: BTreeSet<u32>,
    last: Option<Last>,
    reconcile: bool,
    /// True if an entry of the session was deferred, or a time of its dropped vector is from the future. Then nothing
    /// is claimed.
    unclaimable: bool,
    /// The dropped vector of the sender. This replica adopts it only when it claims the session. If it were adopted
    /// earlier, this replica's own dropped vector could name dots that this replica has not claimed. If the sender then
    /// departed before the end of the session, perhaps no replica could ever claim those dots. A member gets a
    /// reconcile whenever its reported vector does not cover the dropped vector of this replica. No member's vector
    /// could ever cover these dots, so reconciles would be sent without end.
    dropped: VersionVector,
    /// Held registers, by dot, that no frame of a reconcile has listed so far. Either the dot lies in an interval that
    /// was received, or a push has placed the register during the session.
    unlisted: BTreeMap<(ReplicaId, HlcTime), SlotRef>,
    /// Stamps that a reconcile has listed and that are held here for the same key, in order of arrival. The sender
    /// vouches for these registers, whatever dots they have here.
    vouched: Vec<(SlotRef, Stamp)>,
    opened_at: u64,
    last_frame_at: u64,
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
            opened_at: env.now.mono,
            last_frame_at: env.now.mono,
        }
    }

    fn is_complete(&self) -> bool {
        self.last.as_ref().is_some_and(|last| self.received.len() as u64 == u64::from(last.frames))
    }

    fn provenance(&self) -> Provenance {
        if self.reconcile { Provenance::Reconcile } else { Provenance::Digest }
    }

    fn take_unlisted(&mut self) -> impl Iterator<Item = (Dot, SlotRef)> + use<> {
        let unlisted = std::mem::take(&mut self.unlisted);
        unlisted.into_iter().map(|((origin, time), slot)| (Dot::new(origin, time), slot))
    }
}

/// The result of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// True if the frame opened a session. The caller then aborts all outgoing sessions.
    pub(crate) opened: bool,
    /// True if the frame was the last one missing, and the session was claimed.
    pub(crate) claimed: bool,
}

/// The incoming session, if there is one.
#[derive(Debug, Default)]
pub(crate) struct SessionIn(Option<Incoming>);

impl SessionIn {
    /// Handles a frame.
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
        if !self.accept_frame(cx.env, &frame) {
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

    /// Adds the registers that pushes have placed since the previous frame to `unlisted`. A later frame that lists one
    /// removes it again.
    fn absorb_arrived<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) {
        let arrived = cx.ledger.take_arrived();
        if let Some(incoming) = &mut self.0 {
            incoming.unlisted.extend(arrived.into_iter().map(|(dot, slot)| ((dot.actor, dot.counter), slot)));
        }
    }

    /// Returns true if the frame belongs to the incoming session. Opens that session if necessary.
    fn admit<K: CoreKey, V>(
        &mut self,
        cx: &mut Context<'_, K, V>,
        from: ReplicaId,
        frame: &Frame<K, V>,
        outcome: &mut Outcome,
    ) -> bool {
        let done = cx.members.get(&from).map_or(0, |peer| peer.session_done);
        if frame.session <= done {
            return false; // A late frame of a session that was completed or abandoned.
        }
        if let Some(incoming) = &self.0 {
            if incoming.from != from || frame.session < incoming.session {
                return false;
            }
            if frame.session == incoming.session {
                return true;
            }
            // A later session of the same sender supersedes the open one.
            self.abandon(cx);
        }
        // A delta that starts beyond this replica's vector would claim writes that this replica lacks. Its sender is
        // asked for a session that starts at the present vector.
        if !frame.reconcile && !cx.ledger.vector().dominates(&frame.base) {
            cx.outbox.ask(from);
            return false;
        }
        if cx.members.get(&from).is_some_and(|peer| peer.delivery.in_session) && cx.env.id < from {
            return false; // If two replicas send to each other, the session of the lower id goes first.
        }
        outcome.opened = true;
        cx.env.counters.sessions_in += 1;
        self.0 = Some(Incoming::new(cx.env, from, frame));
        cx.ledger.set_receiving(Some(if frame.reconcile { Receiving::Reconcile } else { Receiving::Delta }));
        true
    }

    /// Records the frame. Returns false if its index is too high or was received before.
    fn accept_frame<K, V>(&mut self, env: &Env, frame: &Frame<K, V>) -> bool {
        let in_order = env.bugs().frames_in_order;
        let Some(incoming) = &mut self.0 else { return false };
        if frame.index >= MAX_FRAMES || (in_order && frame.index as usize != incoming.received.len()) {
            return false;
        }
        incoming.last_frame_at = env.now.mono;
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
                update_unlisted(cx, incoming, &interval);
            }
            spans.push((interval.origin, interval.to));
            merge_interval(cx, incoming, interval);
        }
        if cx.env.bugs().claim_per_frame {
            spans.into_iter().for_each(|(origin, to)| cx.claim(origin, to));
        }
    }

    /// Ends a session of which all frames have arrived: raises the vector and adopts the floor. Returns true if the
    /// session was claimed.
    fn complete<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) -> bool {
        let Some(mut incoming) = self.0.take() else { return false };
        let Some(last) = incoming.last.take() else { return false };
        let (from, dropped) = (incoming.from, std::mem::take(&mut incoming.dropped));
        note_done(cx, &incoming);
        // A claimed time that is ahead of this clock is replaced by the sender's dropped time of that origin. Claiming
        // up to the dropped time is allowed: every entry was merged, since a deferred entry makes the session
        // unclaimable. Claiming nothing of that origin would be wrong. The sender may have dropped a register of that
        // origin which had replaced a write of another origin, and the session claims that write. `take_dropped`
        // records a dropped time only up to the claim. Without the record, later deltas of this replica would claim the
        // replaced write and hide that the register was removed. A dropped time that is itself ahead makes the session
        // unclaimable.
        let ahead: Vec<_> = last.claim.iter().filter(|(_, time)| cx.env.is_ahead(*time)).collect();
        ahead.iter().for_each(|(origin, time)| cx.note_offender(*origin, *time));
        let dropped_is_ahead = ahead.iter().any(|(origin, _)| cx.env.is_ahead(dropped.get(origin)));
        let floor = last.floor.max(last.eviction_floor);
        if incoming.unclaimable || dropped_is_ahead || cx.env.is_ahead(floor.time) {
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

    /// Abandons the open session, which will not be finished.
    fn abandon<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) {
        let Some(incoming) = self.0.take() else { return };
        cx.ledger.set_receiving(None);
        cx.env.counters.sessions_abandoned += 1;
        note_done(cx, &incoming);
        // Registers that arrived are orphans now. They get dots of this replica, because perhaps no claim will ever
        // cover the dots that they have.
        cx.ledger.adopt_orphans(cx.env);
    }

    /// Abandons the open session if it comes from this member, which is unreachable.
    pub(crate) fn abandon_from<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>, from: ReplicaId) {
        if self.0.as_ref().is_some_and(|incoming| incoming.from == from) {
            self.abandon(cx);
        }
    }

    /// Returns the monotonic time at which the open session is abandoned: when no frame has come for `session_idle`, or
    /// when it has been open for `session_deadline`.
    pub(crate) fn deadline(&self, env: &Env) -> Option<u64> {
        let incoming = self.0.as_ref()?;
        let idle = incoming.last_frame_at.saturating_add(nanos(env.config.session_idle));
        Some(idle.min(incoming.opened_at.saturating_add(nanos(env.config.session_deadline))))
    }

    /// Abandons a session that has been silent, or open, for too long, and asks another member.
    pub(crate) fn handle_timeout<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) {
        if self.deadline(cx.env).is_none_or(|at| at > cx.env.now.mono) {
            return;
        }
        let sender = self.0.as_ref().map(|incoming| incoming.from);
        self.abandon(cx);
        let others: Vec<_> = cx.members.live().filter(|id| Some(*id) != sender).collect();
        if let Some(other) = cx.env.random.choice(others) {
            cx.outbox.ask(other);
        }
    }
}

fn merge_interval<K: CoreKey, V>(cx: &mut Context<'_, K, V>, incoming: &mut Incoming, interval: Interval<K, V>) {
    for entry in interval.entries {
        let listed = incoming.reconcile.then(|| entry.clone());
        let bound = bound_in(&interval.fills, entry.dot().counter);
        let merged = cx.merge(incoming.provenance()).entry(entry, bound);
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

/// Records that the sender of a reconcile vouches for a held register, if it lists the same stamp for the same key.
/// Called after the merge. Dots are not compared, because the two replicas may hold the same write under different
/// dots. For instance, a replica gives new dots to the registers of a session that broke off.
fn note_vouched<K: CoreKey, V>(cx: &Context<'_, K, V>, incoming: &mut Incoming, listed: &Entry<K, V>) {
    let Some(held) = cx.ledger.find(listed.hash, &listed.item.key) else { return };
    let stamp = cx.ledger.registers().stamp_of(&held.meta);
    if stamp == listed.stamp() && !cx.env.bugs().reconcile_compares_dots {
        incoming.vouched.push((held.slot, stamp));
    }
}

/// Records the held registers that an interval of a reconcile does not list. They are judged once all frames have
/// arrived, and not earlier. Until then this replica may lack the registers that replaced them, and has not adopted the
/// sender's floor. If a held register were removed earlier, an older value from a third replica could take its place.
fn update_unlisted<K: CoreKey, V>(cx: &mut Context<'_, K, V>, incoming: &mut Incoming, interval: &Interval<K, V>) {
    let Interval { origin, from, to, ref entries, .. } = *interval;
    let listed: BTreeSet<_> = entries.iter().map(|entry| entry.dot().counter).collect();
    listed.iter().for_each(|time| {
        incoming.unlisted.remove(&(origin, *time));
    });
    if let Some(log) = cx.ledger.logs_mut().get_mut(&origin) {
        let held = log.after(from).take_while(|(time, _)| *time <= to).filter(|(time, _)| !listed.contains(time));
        incoming.unlisted.extend(held.map(|(time, slot)| ((origin, time), slot)));
    }
    let bugs = cx.env.bugs();
    if bugs.reconcile_hides_removals || bugs.absent_is_deleted || bugs.floor_rises_with_removals {
        reconciled::remove_unlisted(cx.ledger, cx.env, incoming.take_unlisted(), None);
    }
}

/// Ends a reconcile, in three steps:
///
/// - Removes registers that the sender has seen and did not list. If this replica has seen all dots that the sender has
///   evicted, it spares registers stamped above the sender's gc floor. The sender can only have evicted these: a
///   tombstone that it collected lies at or below that floor.
/// - Judges registers that the sender has not seen. If the sender may have removed a newer register of the key without
///   a trace, a register at or below the sender's eviction floor is put in doubt, and one above it is voided.
/// - Takes over the sender's evictions, unless this replica has seen all of them.
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
