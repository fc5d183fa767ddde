//! The session that comes in. At most one at a time.
//!
//! Frames are merged as they arrive, in any order, and are readable at once. Nothing is claimed
//! before all of them are in: a frame leaves out what later frames overtake.

use std::collections::{BTreeMap, BTreeSet};

use super::merge::Merged;
use super::message::{Entry, Frame, Interval, Last, Message, bound_in};
use super::{CoreKey, RemovalCause, Replica};
use crate::crdt::{Cause, Dot, VersionVector};
use crate::hlc::{HlcTime, Now, Stamp, nanos};
use crate::learnt::LearntBy;
use crate::replica_id::ReplicaId;
use crate::store::{SlotRef, Snapshot};

/// Frames of one session, at most.
const MAX_FRAMES: u32 = 1 << 20;

/// A session on its way in.
#[derive(Debug)]
pub(super) struct Incoming {
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
    fn is_complete(&self) -> bool {
        self.last.as_ref().is_some_and(|last| self.received.len() as u64 == u64::from(last.frames))
    }
}

impl<K: CoreKey, V> Replica<K, V> {
    pub(super) fn handle_frame(&mut self, now: Now, from: ReplicaId, frame: Frame<K, V>) {
        if self.is_ahead(now, frame.epoch) {
            self.note_offender(from, frame.epoch);
            self.note_deferral(now, from, frame.epoch);
            return;
        }
        if frame.to != self.id || !self.admit_session(now, from, &frame) {
            self.counters.frames_ignored += 1;
            return;
        }
        self.adopt_epoch(now, frame.epoch);
        if self.is_ahead(now, frame.clock) {
            self.note_offender(from, frame.clock);
        } else {
            self.clock.observe(frame.clock);
        }
        if !self.note_frame(now, &frame) {
            self.counters.frames_ignored += 1;
            return;
        }
        self.counters.frames_in += 1;
        self.merge_frame(now, from, frame);
        if self.incoming.as_ref().is_some_and(Incoming::is_complete) {
            self.complete_session(now);
        }
        // After the claim: before it, no tombstone of this session can be dropped.
        self.enforce_tombstone_cap();
    }

    /// Whether this frame belongs to the session that is coming in, opening it if need be.
    fn admit_session(&mut self, now: Now, from: ReplicaId, frame: &Frame<K, V>) -> bool {
        let done = self.peers.get(&from).map_or(0, |peer| peer.session_done);
        if frame.session <= done {
            return false;
        }
        if let Some(incoming) = &self.incoming {
            if incoming.from != from || frame.session < incoming.session {
                return false;
            }
            if frame.session == incoming.session {
                return true;
            }
            // A later session of the same sender supersedes the one that is open.
            self.abandon_incoming(now);
        }
        if !frame.reconcile && !self.vector.dominates(&frame.base) {
            let digest = self.digest(now, false);
            self.queue(from, Message::Digest(digest));
            return false;
        }
        if self.outgoing.contains_key(&from) && self.id < from {
            return false; // Of two that send to each other the lower id goes first.
        }
        self.abort_all_outgoing();
        self.counters.sessions_in += 1;
        self.incoming = Some(Incoming {
            from,
            session: frame.session,
            received: BTreeSet::new(),
            last: None,
            reconcile: frame.reconcile,
            unclaimable: false,
            dropped: VersionVector::new(),
            unlisted: BTreeMap::new(),
            vouched: Vec::new(),
            started: now.mono,
            heard: now.mono,
        });
        true
    }

    /// Takes the frame into the books. Returns whether it is a new one.
    fn note_frame(&mut self, now: Now, frame: &Frame<K, V>) -> bool {
        let in_order = self.bugs.frames_in_order;
        let Some(incoming) = &mut self.incoming else { return false };
        if frame.index >= MAX_FRAMES || (in_order && frame.index as usize != incoming.received.len()) {
            return false;
        }
        incoming.heard = now.mono;
        if let Some(last) = &frame.last {
            incoming.last = Some(last.clone());
        }
        incoming.received.insert(frame.index)
    }

    fn merge_frame(&mut self, now: Now, from: ReplicaId, frame: Frame<K, V>) {
        let Frame { intervals, dropped, reconcile, last, .. } = frame;
        self.path = if reconcile { LearntBy::Reconcile } else { LearntBy::Digest };
        for (origin, time) in dropped.iter() {
            if self.is_ahead(now, time) {
                self.mark_unclaimable(from, time);
            } else if let Some(incoming) = &mut self.incoming {
                incoming.dropped.raise(origin, time);
            }
        }
        if self.bugs.early_floor
            && let Some(last) = &last
        {
            self.floor = self.floor.max(last.floor);
        }
        let mut spans = Vec::new();
        for interval in intervals {
            if reconcile || self.bugs.absent_is_deleted {
                self.note_unlisted(&interval);
            }
            spans.push((interval.origin, interval.to));
            self.merge_interval(now, interval);
        }
        if self.bugs.claim_per_frame {
            spans.into_iter().for_each(|(origin, to)| self.claim(origin, to));
        }
    }

    fn mark_unclaimable(&mut self, who: ReplicaId, time: HlcTime) {
        self.note_offender(who, time);
        if let Some(incoming) = &mut self.incoming {
            incoming.unclaimable = true;
        }
    }

    fn merge_interval(&mut self, now: Now, interval: Interval<K, V>) {
        let reconcile = self.incoming.as_ref().is_some_and(|incoming| incoming.reconcile);
        for entry in interval.entries {
            let listed = reconcile.then(|| entry.clone());
            let bound = bound_in(&interval.fills, entry.dot().counter);
            let merged = self.merge_entry(now, entry, bound);
            if let Some(listed) = &listed {
                self.note_vouched(listed);
            }
            match merged {
                Merged::Placed(slot) => self.uncovered.push(slot),
                Merged::Deferred => {
                    if let Some(incoming) = &mut self.incoming {
                        incoming.unclaimable = true;
                    }
                }
                Merged::Voided | Merged::Lost | Merged::Seen | Merged::Expunged => {}
            }
        }
    }

    /// Reconcile: the sender's newest register of this key has this stamp. If ours has it too, after the merge, the
    /// sender vouches for ours, whatever dots the two have: a session that broke off leaves registers under dots of the
    /// replica that adopted them.
    fn note_vouched(&mut self, listed: &Entry<K, V>) {
        let Some(held) = self.find(listed.hash, &listed.item.key) else { return };
        let stamp = self.stamp_of(&held.meta);
        if stamp == listed.stamp()
            && !self.bugs.reconcile_compares_dots
            && let Some(incoming) = &mut self.incoming
        {
            incoming.vouched.push((held.slot, stamp));
        }
    }

    /// Reconcile, per frame: our own registers of the range that are not listed will be gone, once
    /// all frames are in. Not before: with half a session, and without the floor that comes with the
    /// whole, an older value from a third replica would find the key empty.
    fn note_unlisted(&mut self, interval: &Interval<K, V>) {
        let Interval { origin, from, to, ref entries, .. } = *interval;
        let listed: BTreeSet<_> = entries.iter().map(|entry| entry.dot().counter).collect();
        let ours: Vec<_> = match self.logs.get_mut(&origin) {
            Some(log) => log.after(from).take_while(|(time, _)| *time <= to).collect(),
            None => Vec::new(),
        };
        if let Some(incoming) = &mut self.incoming {
            listed.iter().for_each(|time| {
                incoming.unlisted.remove(&(origin, *time));
            });
            incoming.unlisted.extend(
                ours.into_iter().filter(|(time, _)| !listed.contains(time)).map(|(time, slot)| ((origin, time), slot)),
            );
        }
        if self.bugs.reconcile_hides_removals || self.bugs.absent_is_deleted || self.bugs.floor_rises_with_removals {
            self.remove_unlisted(None);
        }
    }

    /// A push puts something where frames may have been before it: what the sender of the reconcile
    /// has seen and not listed was superseded or removed there.
    pub(super) fn is_news_to_reconcile(&self, entry: &Entry<K, V>) -> bool {
        let reconciling = self.incoming.as_ref().is_some_and(|incoming| incoming.reconcile);
        reconciling && self.find(entry.hash, &entry.item.key).is_none_or(|held| self.dot_of(&held.meta) != entry.dot())
    }

    pub(super) fn note_pushed(&mut self, dot: Dot, slot: SlotRef) {
        if let Some(incoming) = &mut self.incoming {
            incoming.unlisted.insert((dot.actor, dot.counter), slot);
        }
    }

    /// Removes what the reconcile did not list although its sender had seen it, but for what only an eviction can explain if
    /// we knew what was evicted. Each removal raises our dropped time, so that nobody gets a delta from us that hides it.
    fn remove_unlisted(&mut self, end: Option<(&VersionVector, &Last, bool)>) {
        let unlisted = self.incoming.as_mut().map(|incoming| std::mem::take(&mut incoming.unlisted));
        for ((origin, time), slot) in unlisted.into_iter().flatten() {
            let dot = Dot::new(origin, time);
            let Some((_, held)) = self.entry_at(dot, slot) else { continue };
            if end.is_some_and(|(seen, ..)| !seen.covers(&dot)) {
                continue;
            }
            let stamp = self.stamp_of(&held.meta);
            if end.is_some_and(|(_, last, knew)| knew && stamp > last.floor) {
                self.counters.reconcile_spared += 1;
                continue;
            }
            self.counters.reconcile_removed += 1;
            self.lossy = true;
            self.note_lost(&held, stamp.time);
            if !self.bugs.reconcile_hides_removals {
                self.note_dropped(dot);
            }
            if self.bugs.floor_rises_with_removals {
                self.floor = self.floor.max(stamp);
            }
            let evictable = held.meta.kind.ranks_live() && end.is_some_and(|(_, last, _)| stamp <= last.eviction_floor);
            if evictable && !self.bugs.removals_void {
                // Deleted there, or evicted: that is no reason to void it for others once it comes again.
                self.raise_floor_for(held.meta.kind, stamp, dot);
            }
            self.erase(&held, RemovalCause::Reconcile);
        }
    }

    /// Everything is in: the vector moves, the floor is adopted, what is left uncovered is adopted.
    fn complete_session(&mut self, now: Now) {
        let Some(incoming) = &self.incoming else { return };
        let (from, session, reconcile, unclaimable) =
            (incoming.from, incoming.session, incoming.reconcile, incoming.unclaimable);
        let Some(last) = incoming.last.clone() else { return };
        let dropped = incoming.dropped.clone();
        self.finish_session_of(from, session);
        self.path = if reconcile { LearntBy::Reconcile } else { LearntBy::Digest };
        // What is ahead of our time is not claimed. Nothing of it was in the frames, or the session would be
        // unclaimable. But what else is claimed may rest on something that the sender had of such an origin
        // and dropped: so far it is claimed all the same, or whoever is told by us is never told of that.
        let ahead: Vec<_> = last.claim.iter().filter(|(_, time)| self.is_ahead(now, *time)).collect();
        ahead.iter().for_each(|(origin, time)| self.note_offender(*origin, *time));
        let rests_on_the_future = ahead.iter().any(|(origin, _)| self.is_ahead(now, dropped.get(origin)));
        if unclaimable || rests_on_the_future || self.is_ahead(now, last.floor.max(last.eviction_floor).time) {
            self.counters.sessions_unclaimed += 1;
            self.incoming = None;
            let due = last.claim.iter().map(|(_, time)| time).filter(|time| self.is_ahead(now, *time)).min();
            self.note_deferral(now, from, due.unwrap_or(0));
            self.adopt_orphans(now);
            return;
        }
        self.counters.sessions_completed += 1;
        self.note_no_deferral(from);
        if reconcile {
            self.end_reconcile(now, &last);
        }
        self.incoming = None;
        for (origin, time) in last.claim.iter() {
            self.claim(origin, if ahead.contains(&(origin, time)) { dropped.get(&origin) } else { time });
        }
        self.take_dropped(&dropped);
        self.floor = self.floor.max(last.floor);
        self.apply_all_early(now);
        self.adopt_orphans(now);
        self.check_caught_up();
        let digest = self.digest(now, true);
        self.queue(from, Message::Digest(digest));
    }

    /// Everything is in: what the sender does not have, and may have had a reason for, goes.
    fn end_reconcile(&mut self, now: Now, last: &Last) {
        self.counters.reconciles_in += 1;
        let mut seen = last.claim.clone();
        seen.join(&last.beyond);
        let knew = self.knew_what_was_evicted(last);
        self.remove_unlisted(Some((&seen, last, knew)));
        let vouched = self.take_vouched();
        self.void_unknown_to(now, &seen, &vouched, (last, knew));
        if !knew {
            // What is claimed now includes what the sender has evicted.
            self.take_eviction_floor(last.eviction_floor, &last.evicted);
        }
    }

    /// What the sender has dropped, of what we now have seen as well. Of the rest nobody will ever be
    /// told by us, and for a retired origin whose record is gone it could never be reached.
    fn take_dropped(&mut self, dropped: &VersionVector) {
        for (origin, time) in dropped.iter() {
            if self.vector.get(&origin) >= time {
                self.dropped.raise(origin, time);
            }
        }
    }

    fn finish_session_of(&mut self, from: ReplicaId, session: u64) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.session_done = peer.session_done.max(session);
        }
    }

    fn take_vouched(&mut self) -> BTreeMap<SlotRef, Stamp> {
        self.incoming
            .as_mut()
            .map(|incoming| std::mem::take(&mut incoming.vouched))
            .unwrap_or_default()
            .into_iter()
            .collect()
    }

    /// Reconcile, at the end: what the sender has not seen and what lies at or below its floor may
    /// have been overwritten or deleted by something it collected.
    /// If we knew what the sender has evicted, nothing is in doubt that its gc floor does not void as well.
    fn void_unknown_to(
        &mut self,
        now: Now,
        seen: &VersionVector,
        vouched: &BTreeMap<SlotRef, Stamp>,
        (last, knew): (&Last, bool),
    ) {
        let (floor, doubtful) = (last.floor, last.eviction_floor);
        if self.bugs.no_final_void {
            return;
        }
        let mut suspects = Vec::new();
        for (origin, log) in &mut self.logs {
            let from = seen.get(origin);
            suspects.extend(log.after(from).map(|(time, slot)| (Dot::new(*origin, time), slot)));
        }
        for (dot, slot) in suspects {
            let Some((_, held)) = self.entry_at(dot, slot) else { continue };
            if self.below_eviction.is_in_doubt(slot) && !self.bugs.doubts_voided {
                continue; // It decides nothing, and lets nothing past that the floors would not.
            }
            // A tombstone below the floor too: standing there it would let an older write past it.
            let stamp = self.stamp_of(&held.meta);
            if vouched.get(&slot) == Some(&stamp) || (knew && floor < stamp && stamp <= doubtful) {
                self.counters.reconcile_spared += 1;
                continue;
            }
            if stamp <= doubtful {
                self.doubt_held(&held);
            } else if stamp < floor || (stamp == floor && held.meta.kind.ranks_live()) {
                self.counters.reconcile_voided += 1;
                self.void_held(now, &held, floor);
            }
        }
    }

    /// Something newer than this register may have been evicted by the sender of a reconcile. It is not voided: only what
    /// this replica claims has changed, and others may know better.
    fn doubt_held(&mut self, held: &Snapshot<K, V>) {
        if held.meta.kind.is_live() {
            self.counters.reconcile_doubted += 1;
            self.lossy = true;
            self.bury(held, Cause::Evicted, RemovalCause::Reconcile);
        }
    }

    /// Gives every register whose dot our vector still does not cover a dot of ours, so that it
    /// spreads again.
    pub(super) fn adopt_orphans(&mut self, now: Now) {
        for slot in std::mem::take(&mut self.uncovered) {
            let held = self.store.resolve(slot);
            let held = held.filter(|held| !self.vector.covers(&self.dot_of(&held.meta)));
            if let Some(held) = held.as_ref().filter(|held| self.is_miss_in_doubt(held)) {
                // Nothing is claimed of it and the eviction floor stands for it. Under a dot of ours it would go round: a
                // reconcile hides it, and its next receiver adopts it again.
                self.erase(held, RemovalCause::Size);
                continue;
            }
            if let Some(held) = held.filter(|_| !self.bugs.no_adoption) {
                self.counters.adopted += u64::from(self.spread_again(now, &held));
            }
        }
        // What a session has brought may be dropped from now on.
        self.enforce_tombstone_cap();
    }

    /// Gives a register a dot of ours. What an epoch has made absent goes instead, as if it were swept now: it
    /// is told of once, and nobody else need hear of it. Returns whether it is still here.
    pub(super) fn spread_again(&mut self, now: Now, held: &Snapshot<K, V>) -> bool {
        let spreads = held.meta.stamp_time > self.store.epoch();
        if spreads {
            self.reissue(now, held);
        } else {
            self.sweep_register(held);
        }
        spreads
    }

    /// The session that is open will not be finished.
    fn abandon_incoming(&mut self, now: Now) {
        let Some(incoming) = self.incoming.take() else { return };
        self.counters.sessions_abandoned += 1;
        self.finish_session_of(incoming.from, incoming.session);
        self.adopt_orphans(now);
    }

    pub(super) fn abandon_incoming_from(&mut self, now: Now, from: ReplicaId) {
        if self.incoming.as_ref().is_some_and(|incoming| incoming.from == from) {
            self.abandon_incoming(now);
        }
    }

    pub(super) fn incoming_deadline(&self) -> Option<u64> {
        let incoming = self.incoming.as_ref()?;
        let idle = incoming.heard.saturating_add(nanos(self.config.session_idle));
        Some(idle.min(incoming.started.saturating_add(nanos(self.config.session_deadline))))
    }

    /// Abandons a session from which nothing came for a while, and asks another source.
    pub(super) fn check_incoming(&mut self, now: Now) {
        if self.incoming_deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        let silent = self.incoming.as_ref().map(|incoming| incoming.from);
        self.abandon_incoming(now);
        let others: Vec<_> = self.live_peers().filter(|id| Some(*id) != silent).collect();
        if let Some(other) = self.random.choice(others) {
            let digest = self.digest(now, false);
            self.queue(other, Message::Digest(digest));
        }
    }
}
