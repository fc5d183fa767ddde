//! Sessions that go out: the answer to a digest, cut frame by frame from a state that goes on
//! changing.
//!
//! The claim is our vector at the moment the last frame is cut; whatever changed meanwhile has a dot
//! beyond the cursor of its origin and so lies in one of the frames.

use std::collections::BTreeMap;

use super::message::{Frame, Interval, Last, Message};
use super::push::ENTRY_OVERHEAD;
use super::{CoreKey, Replica, Transmit};
use crate::crdt::{Cause, Dot, Kind, VersionVector};
use crate::hlc::{HlcTime, Now, nanos};
use crate::replica_id::ReplicaId;

/// Sessions that go out at one time, at most.
const MAX_OUTGOING: usize = 8;
/// After a session its receiver's digests may still be older than it.
const SETTLE: u64 = 250_000_000;

/// A session on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    session: u64,
    base: VersionVector,
    reconcile: bool,
    /// How far frames were cut, by origin.
    cursor: VersionVector,
    /// Origins that are not claimed beyond a time, because of an `Evicted` register there.
    caps: BTreeMap<ReplicaId, HlcTime>,
    /// Dots of registers in doubt, which a reconcile claims and does not list: for its receiver they were dropped.
    hidden: VersionVector,
    frames: u32,
    deadline: u64,
}

impl Outgoing {
    /// Claims nothing of an origin beyond this time.
    fn cap(&mut self, origin: ReplicaId, time: HlcTime) {
        let cap = self.caps.entry(origin).or_insert(time);
        *cap = (*cap).min(time);
    }
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Begins to send a member everything beyond what it ever reported.
    pub(super) fn begin_session(&mut self, now: Now, to: ReplicaId, base: VersionVector) {
        let blocked = self.incoming.is_some() || self.outgoing.contains_key(&to) || self.outgoing.len() >= MAX_OUTGOING;
        if blocked || !self.uncovered.is_empty() {
            return;
        }
        let newcomer = self.bugs.no_reconcile_for_newcomers && base.iter().all(|(origin, _)| origin == to);
        let reconcile = !base.dominates(&self.dropped) && !newcomer;
        let base = match (reconcile, self.bugs.partial_reconcile) {
            (true, false) => VersionVector::new(),
            (true, true) => base.iter().filter(|(origin, time)| *time >= self.dropped.get(origin)).collect(),
            (false, _) => base,
        };
        self.counters.sessions_out += 1;
        self.counters.reconciles_out += u64::from(reconcile);
        let session = self.clock.tick(now);
        let outgoing = Outgoing {
            session,
            cursor: base.clone(),
            base,
            reconcile,
            caps: BTreeMap::new(),
            hidden: VersionVector::new(),
            frames: 0,
            deadline: now.mono.saturating_add(nanos(self.config.session_deadline)),
        };
        self.outgoing.insert(to, outgoing);
    }

    /// The next frame of a session whose receiver is ready for one.
    pub(super) fn poll_frame(&mut self, now: Now) -> Option<Transmit<K, V>> {
        self.begin_needed_sessions(now);
        let ready = |id: &&ReplicaId| self.peers.get(*id).is_some_and(|peer| peer.is_live() && !peer.busy);
        let to = *self.outgoing.keys().find(ready)?;
        let mut session = self.outgoing.remove(&to)?;
        let frame = self.cut_frame(now, to, &mut session);
        let done = frame.last.clone();
        match done {
            Some(last) => self.finish_outgoing(now, to, &session, &last),
            None => {
                self.outgoing.insert(to, session);
            }
        }
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.busy = true;
        }
        self.counters.frames_out += 1;
        Some(Transmit { to: vec![to], message: Message::Frame(frame), bulk: true })
    }

    fn finish_outgoing(&mut self, now: Now, to: ReplicaId, session: &Outgoing, last: &Last) {
        self.counters.claims_capped += u64::from(!session.caps.is_empty());
        let id = self.id;
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.needs_session = false;
            peer.behind = false;
            peer.sent_to = peer.sent_to.max(last.claim.get(&id));
            peer.serve_after = now.mono.saturating_add(SETTLE);
            peer.unacked_since.get_or_insert(now.mono);
        }
        self.release_retained();
    }

    /// Members to whom a push could not be made because another replica overtook a write in it.
    fn begin_needed_sessions(&mut self, now: Now) {
        if self.incoming.is_some() || self.relays() {
            return; // In a large cluster they have been asked what they lack.
        }
        let needing = |(id, peer): &(&ReplicaId, &super::peers::Peer)| {
            peer.needs_session
                && peer.is_live()
                && !peer.held_back
                && peer.serve_after <= now.mono
                && !self.outgoing.contains_key(*id)
        };
        let needed: Vec<_> = self.peers.iter().filter(needing).map(|(id, peer)| (*id, peer.reported.clone())).collect();
        for (id, base) in needed {
            if base.is_empty() && !self.retired_agree(&id) {
                continue;
            }
            self.begin_session(now, id, base);
        }
    }

    fn retired_agree(&self, id: &ReplicaId) -> bool {
        self.peers.get(id).is_some_and(|peer| peer.latest.clock > 0)
    }

    fn cut_frame(&mut self, now: Now, to: ReplicaId, session: &mut Outgoing) -> Frame<K, V> {
        let mut budget = self.config.max_frame_bytes;
        let mut intervals = Vec::new();
        let mut complete = true;
        let mut origins: Vec<_> = self.vector.iter().map(|(origin, _)| origin).collect();
        // Our own writes last: they are the ones that are pushed as well, and what the others leave over comes to them.
        origins.sort_by_key(|origin| *origin == self.id);
        for origin in origins {
            let seen = self.vector.get(&origin);
            if session.cursor.get(&origin) >= seen {
                continue;
            }
            let (interval, finished) = self.cut_interval(now, session, origin, seen, &mut budget);
            session.cursor.raise(origin, interval.to);
            if session.reconcile || !interval.entries.is_empty() {
                intervals.push(interval);
            }
            if !finished {
                complete = false;
                break;
            }
        }
        let mut dropped = self.dropped.clone();
        dropped.join(&session.hidden);
        let index = session.frames;
        session.frames += 1;
        let last = complete.then(|| self.end_of(session));
        Frame {
            to,
            session: session.session,
            index,
            base: session.base.clone(),
            reconcile: session.reconcile,
            clock: self.clock.tick(now),
            epoch: self.store.epoch(),
            intervals,
            dropped,
            last,
        }
    }

    /// What the last frame of a session says.
    fn end_of(&self, session: &Outgoing) -> Last {
        let claim = self.claim_of(session);
        let beyond = self.vector.iter().filter(|(origin, time)| claim.get(origin) < *time).collect();
        let (floor, eviction_floor, mut evicted) = (self.floor, self.eviction_floor(), self.evicted().clone());
        // What is hidden the receiver claims unseen, like what was evicted.
        if !self.bugs.hidden_untold {
            evicted.join(&session.hidden);
        }
        Last { frames: session.frames, claim, beyond, floor, eviction_floor, evicted }
    }

    fn claim_of(&self, session: &Outgoing) -> VersionVector {
        let capped = |origin: &ReplicaId, time: HlcTime| session.caps.get(origin).map_or(time, |cap| time.min(*cap));
        self.vector.iter().map(|(origin, time)| (origin, capped(&origin, time))).collect()
    }

    fn cut_interval(
        &mut self,
        now: Now,
        session: &mut Outgoing,
        origin: ReplicaId,
        seen: HlcTime,
        budget: &mut usize,
    ) -> (Interval<K, V>, bool) {
        let from = session.cursor.get(&origin);
        let mut interval = Interval { origin, from, to: seen, entries: Vec::new(), fills: Vec::new() };
        let Some(mut log) = self.logs.remove(&origin) else { return (interval, true) };
        let delivers = origin != self.id && self.is_live_peer(&origin);
        // A write that was not delivered by then has no link to come by. By its stamp: replicas without a link between them
        // would adopt such a register from each other for ever, each time under a younger dot.
        let settled = if delivers { self.clock.judging(now).saturating_sub(self.claim_lag()) } else { HlcTime::MAX };
        let (mut finished, mut last, mut twins) = (true, from, Vec::new());
        for (time, slot) in log.after(from).take_while(|(time, _)| *time <= seen) {
            let Some((entry, held)) = self.entry_at(Dot::new(origin, time), slot) else { continue };
            if time == last {
                twins.push(held);
                continue;
            }
            let cost = entry.size as usize + ENTRY_OVERHEAD;
            if cost > *budget && *budget < self.config.max_frame_bytes {
                finished = false;
                interval.to = last;
                break;
            }
            *budget = budget.saturating_sub(cost);
            if entry.stamp().time > settled && entry.kind() == Kind::Tombstone(Cause::Evicted) {
                session.cap(origin, time - 1);
            }
            if session.reconcile && self.is_unlistable(&held) {
                session.hidden.raise(origin, time);
            } else {
                interval.entries.push(entry);
            }
            last = time;
        }
        self.logs.insert(origin, log);
        for twin in twins {
            // Two keys under one dot, which cannot be told together: its origin lies, or its id is used twice.
            self.counters.conflicts += 1;
            self.spread_again(now, &twin);
        }
        interval.fills = self.fill_notes(&interval.entries);
        (interval, finished)
    }

    pub(super) fn abort_outgoing(&mut self, to: ReplicaId) {
        if self.outgoing.remove(&to).is_some() {
            self.counters.sessions_out_aborted += 1;
        }
    }

    pub(super) fn abort_all_outgoing(&mut self) {
        self.counters.sessions_out_aborted += self.outgoing.len() as u64;
        self.outgoing.clear();
    }

    /// Breaks off sessions that have not yet listed a register which is no longer there: what it had
    /// overtaken may be in an earlier frame.
    pub(super) fn abort_sessions_hiding(&mut self, dot: Dot) {
        let before = self.outgoing.len();
        if before == 0 {
            return;
        }
        self.outgoing.retain(|_, session| session.cursor.covers(&dot));
        self.counters.sessions_out_aborted += (before - self.outgoing.len()) as u64;
    }

    pub(super) fn check_outgoing(&mut self, now: Now) {
        let before = self.outgoing.len();
        self.outgoing.retain(|_, session| session.deadline > now.mono);
        self.counters.sessions_out_aborted += (before - self.outgoing.len()) as u64;
    }
}
