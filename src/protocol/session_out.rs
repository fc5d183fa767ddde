//! Outgoing sessions. A session goes to a member in two cases: it lacks registers that pushes will not deliver, or a
//! push to it could not be made. A session is cut frame by frame while the state goes on changing.
//!
//! The claim is this replica's vector at the moment when the last frame is cut. A register that changed meanwhile has a
//! dot beyond the cursor of its origin, and so lies in a later frame.

use std::collections::BTreeMap;

use super::{Context, ENTRY_OVERHEAD};
use crate::crdt::{Cause, Dot, Kind, VersionVector};
use crate::env::Env;
use crate::hlc::{HlcTime, nanos};
use crate::item::CoreKey;
use crate::members::Members;
use crate::members::peer::Peer;
use crate::message::{Frame, Interval, Last, Message};
use crate::outbox::Transmit;
use crate::replica_id::ReplicaId;

/// The highest number of outgoing sessions at one time.
const MAX_OUTGOING: usize = 8;
/// The time after a session in which its receiver is not served, in nanoseconds. Digests that arrive in this time may
/// have been sent before the receiver merged the session.
const PAUSE_AFTER_SESSION: u64 = 250_000_000;
/// The highest number of log entries of one live origin that a member may lack without a check for progress. If it
/// lacks more, it may be receiving them from the origin: `Lack::is_progressing` checks that.
const MAX_UNCHECKED_LACK: usize = 64;

/// An outgoing session.
#[derive(Debug)]
struct Outgoing {
    session: u64,
    base: VersionVector,
    reconcile: bool,
    /// By origin, the time up to which frames were cut.
    cursor: VersionVector,
    /// By origin, the highest time that the session may claim. The next register is `Evicted` here, and its origin may
    /// still deliver the value.
    caps: BTreeMap<ReplicaId, HlcTime>,
    /// By origin, the highest dot of a register in doubt that a reconcile claims and does not list. The receiver treats
    /// dots up to it as dropped and as evicted.
    hidden: VersionVector,
    frames: u32,
    deadline: u64,
}

impl Outgoing {
    /// Limits the claim of an origin to this time.
    fn cap(&mut self, origin: ReplicaId, time: HlcTime) {
        let cap = self.caps.entry(origin).or_insert(time);
        *cap = (*cap).min(time);
    }

    fn claim(&self, vector: &VersionVector) -> VersionVector {
        let capped = |origin: &ReplicaId, time: HlcTime| self.caps.get(origin).map_or(time, |cap| time.min(*cap));
        vector.iter().map(|(origin, time)| (origin, capped(&origin, time))).collect()
    }
}

/// The outgoing sessions, by receiver. The [`Delivery`](crate::members::peer::Delivery) of a receiver also records that
/// it has one.
#[derive(Debug, Default)]
pub(crate) struct SessionsOut(BTreeMap<ReplicaId, Outgoing>);

impl SessionsOut {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if a frame may be cut.
    pub(crate) fn is_ready(&self, members: &Members) -> bool {
        self.0.keys().any(|id| members.get(id).is_some_and(Peer::is_ready))
    }

    /// Serves a member the writes that it lacks and that are not on their way: by a push from what it reported, or by a
    /// session. `basis`, if given, takes the place of the highest vector that the member reported.
    pub(crate) fn serve<K: CoreKey, V>(
        &mut self,
        cx: &mut Context<'_, K, V>,
        to: ReplicaId,
        basis: Option<VersionVector>,
    ) {
        let Some(peer) = cx.members.get(&to) else { return };
        let waits = peer.delivery.serve_after > cx.env.now.mono || peer.clocks.held_back;
        if cx.ledger.receiving().is_some() || peer.delivery.in_session || waits {
            return;
        }
        let reported = basis.unwrap_or_else(|| peer.reported.clone());
        // A delta could leave the member with values whose deletion no longer exists anywhere. It needs a reconcile.
        if !reported.dominates(cx.ledger.dropped()) {
            if !has_better_source(cx, &to) {
                self.begin(cx, to, reported);
            }
            return;
        }
        forget_progress(cx, &to);
        let (mut lacks_ours, mut lacks_others) = (false, false);
        let behind = cx.ledger.vector().zip(&reported).filter(|(origin, seen, theirs)| *origin != to && theirs < seen);
        for (origin, seen, theirs) in behind.collect::<Vec<_>>() {
            let lack = Lack { of: to, origin, theirs, seen };
            let lacks = lack.is_stuck(cx) && !lack.is_progressing(cx);
            lacks_ours |= lacks && origin == cx.env.id;
            lacks_others |= lacks && origin != cx.env.id;
        }
        lacks_others &= !has_better_source(cx, &to);
        if lacks_others || (lacks_ours && !rewind(cx, to, reported.get(&cx.env.id))) {
            self.begin(cx, to, reported);
        }
    }

    /// Begins a session with everything beyond `base`. If `base` does not cover all that was dropped here, the session
    /// is a reconcile, with everything that this replica holds. Does nothing if no session can begin now.
    fn begin<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>, to: ReplicaId, base: VersionVector) {
        let busy = self.0.contains_key(&to) || self.0.len() >= MAX_OUTGOING;
        // The vector does not cover the dot of an uncovered register, so the session would not list it. The session
        // would still claim a write that this register has overtaken, and the receiver would keep an older value.
        if busy || cx.ledger.receiving().is_some() || cx.ledger.has_uncovered() {
            return;
        }
        let dropped = cx.ledger.dropped();
        let newcomer = cx.env.bugs().no_reconcile_for_newcomers && base.iter().all(|(origin, _)| origin == to);
        let reconcile = !base.dominates(dropped) && !newcomer;
        let base = match (reconcile, cx.env.bugs().partial_reconcile) {
            (true, false) => VersionVector::new(),
            (true, true) => base.iter().filter(|(origin, time)| *time >= dropped.get(origin)).collect(),
            (false, _) => base,
        };
        cx.env.counters.sessions_out += 1;
        cx.env.counters.reconciles_out += u64::from(reconcile);
        let outgoing = Outgoing {
            session: cx.env.tick(),
            cursor: base.clone(),
            base,
            reconcile,
            caps: BTreeMap::new(),
            hidden: VersionVector::new(),
            frames: 0,
            deadline: cx.env.later(nanos(cx.env.config.session_deadline)),
        };
        self.0.insert(to, outgoing);
        mark(cx.members, &to, true);
    }

    /// Returns the next frame of a session whose receiver is ready for one.
    pub(crate) fn poll<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) -> Option<Transmit<K, V>> {
        self.begin_needed(cx);
        let ready = |id: &&ReplicaId| cx.members.get(id).is_some_and(Peer::is_ready);
        let to = *self.0.keys().find(ready)?;
        let mut session = self.0.remove(&to)?;
        let frame = cut_frame(cx, to, &mut session);
        match &frame.last {
            Some(last) => finish(cx, to, &session, last),
            None => {
                self.0.insert(to, session);
            }
        }
        if let Some(peer) = cx.members.get_mut(&to) {
            peer.delivery.busy = true;
        }
        cx.env.counters.frames_out += 1;
        Some(Transmit { to: vec![to], message: Message::Frame(frame), bulk: true })
    }

    /// Begins sessions to members to which a push was blocked, for instance by a write that another replica overtook.
    fn begin_needed<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) {
        if cx.ledger.receiving().is_some() || cx.relays() {
            return; // In a large cluster, a digest has already asked them what they lack.
        }
        let now = cx.env.now.mono;
        let needing = |peer: &Peer| {
            let delivery = &peer.delivery;
            let free = delivery.serve_after <= now && !delivery.in_session;
            delivery.needs_session && peer.is_live() && !peer.clocks.held_back && free
        };
        let needed = cx.members.iter().filter(|(_, peer)| needing(peer));
        // An empty vector may mean that the member has not reported yet. It is served once it has.
        let needed = needed.filter(|(_, peer)| !peer.reported.is_empty() || peer.stability.latest.clock > 0);
        let needed: Vec<_> = needed.map(|(id, peer)| (*id, peer.reported.clone())).collect();
        needed.into_iter().for_each(|(id, base)| self.begin(cx, id, base));
    }

    /// Aborts the session to a member.
    pub(crate) fn abort(&mut self, members: &mut Members, env: &mut Env, to: ReplicaId) {
        env.counters.sessions_out_aborted += u64::from(self.0.remove(&to).is_some());
        mark(members, &to, false);
    }

    pub(crate) fn abort_all(&mut self, members: &mut Members, env: &mut Env) {
        self.retain(members, env, |_| false);
    }

    /// Aborts each session that has not yet listed all of these removed registers. An earlier frame may have carried a
    /// register that a removed one had overtaken. The claim would hide the removal, and the receiver would keep that
    /// register.
    #[inline]
    pub(crate) fn abort_hiding(&mut self, members: &mut Members, env: &mut Env, hidden: &[Dot]) {
        if !self.0.is_empty() {
            self.retain(members, env, |session| hidden.iter().all(|dot| session.cursor.covers(dot)));
        }
    }

    /// Aborts sessions that have reached their deadline.
    pub(crate) fn handle_timeout(&mut self, members: &mut Members, env: &mut Env) {
        let now = env.now.mono;
        self.retain(members, env, |session| session.deadline > now);
    }

    fn retain(&mut self, members: &mut Members, env: &mut Env, keep: impl Fn(&Outgoing) -> bool) {
        self.0.retain(|to, session| {
            let kept = keep(session);
            if !kept {
                env.counters.sessions_out_aborted += 1;
                mark(members, to, false);
            }
            kept
        });
    }
}

fn mark(members: &mut Members, to: &ReplicaId, in_session: bool) {
    if let Some(peer) = members.get_mut(to) {
        peer.delivery.in_session = in_session;
    }
}

fn finish<K: CoreKey, V>(cx: &mut Context<'_, K, V>, to: ReplicaId, session: &Outgoing, last: &Last) {
    cx.env.counters.claims_capped += u64::from(!session.caps.is_empty());
    let (own, serve_after, now) = (last.claim.get(&cx.env.id), cx.env.later(PAUSE_AFTER_SESSION), cx.env.now.mono);
    if let Some(peer) = cx.members.get_mut(&to) {
        let delivery = &mut peer.delivery;
        (delivery.needs_session, delivery.behind, delivery.in_session) = (false, false, false);
        delivery.sent_to = delivery.sent_to.max(own);
        delivery.serve_after = serve_after;
        // Only a digest acknowledges a session: if none reports it in time, this replica asks.
        delivery.unacked_since.get_or_insert(now);
    }
}

fn cut_frame<K: CoreKey, V>(cx: &mut Context<'_, K, V>, to: ReplicaId, session: &mut Outgoing) -> Frame<K, V> {
    let mut budget = cx.env.config.max_frame_bytes;
    let mut intervals = Vec::new();
    let mut complete = true;
    let mut origins: Vec<_> = cx.ledger.vector().iter().map(|(origin, _)| origin).collect();
    // Own writes last: they are pushed as well, and cutting another origin may give a register an own dot.
    origins.sort_by_key(|origin| *origin == cx.env.id);
    for origin in origins {
        let seen = cx.ledger.vector().get(&origin);
        if session.cursor.get(&origin) >= seen {
            continue;
        }
        let (interval, finished) = cut_interval(cx, session, (origin, seen), &mut budget);
        session.cursor.raise(origin, interval.to);
        // In a reconcile, an empty interval tells the receiver which registers are gone.
        if session.reconcile || !interval.entries.is_empty() {
            intervals.push(interval);
        }
        if !finished {
            complete = false;
            break;
        }
    }
    let mut dropped = cx.ledger.dropped().clone();
    dropped.join(&session.hidden);
    let index = session.frames;
    session.frames += 1;
    let last = complete.then(|| end_of(cx, session));
    Frame {
        to,
        session: session.session,
        index,
        base: session.base.clone(),
        reconcile: session.reconcile,
        clock: cx.env.tick(),
        epoch: cx.ledger.epoch(),
        intervals,
        dropped,
        last,
    }
}

/// Returns the part of a session that only its last frame carries.
fn end_of<K: CoreKey, V>(cx: &Context<'_, K, V>, session: &Outgoing) -> Last {
    let (vector, mut evicted) = (cx.ledger.vector(), cx.ledger.evicted().clone());
    let claim = session.claim(vector);
    let beyond = vector.iter().filter(|(origin, time)| claim.get(origin) < *time).collect();
    let (floor, eviction_floor) = (cx.ledger.floor(), cx.ledger.eviction_floor());
    // The receiver claims hidden dots without receiving their registers, like evicted dots. So they count as evicted: a
    // receiver that has not seen them takes over the eviction floor.
    if !cx.env.bugs().hidden_untold {
        evicted.join(&session.hidden);
    }
    Last { frames: session.frames, claim, beyond, floor, eviction_floor, evicted }
}

fn cut_interval<K: CoreKey, V>(
    cx: &mut Context<'_, K, V>,
    session: &mut Outgoing,
    (origin, seen): (ReplicaId, HlcTime),
    budget: &mut usize,
) -> (Interval<K, V>, bool) {
    let from = session.cursor.get(&origin);
    let mut interval = Interval { origin, from, to: seen, entries: Vec::new(), fills: Vec::new() };
    let Some(mut log) = cx.ledger.logs_mut().take(&origin) else { return (interval, true) };
    let delivers = origin != cx.env.id && cx.members.is_live(&origin);
    // An origin that has not delivered a write within this lag has no link to the receiver. The age is that of the
    // stamp, not of the dot, because each adoption gives a register a newer dot. By the age of the dot, replicas
    // without a link would adopt an `Evicted` register from each other for ever.
    let settled = if delivers { cx.env.judging().saturating_sub(cx.max_origin_lag()) } else { HlcTime::MAX };
    let (mut finished, mut last, mut duplicates) = (true, from, Vec::new());
    for (time, slot) in log.after(from).take_while(|(time, _)| *time <= seen) {
        let Some((entry, held)) = cx.ledger.registers().entry_at(Dot::new(origin, time), slot) else { continue };
        if time == last {
            duplicates.push(held);
            continue;
        }
        let cost = entry.size as usize + ENTRY_OVERHEAD;
        if cost > *budget && *budget < cx.env.config.max_frame_bytes {
            finished = false;
            interval.to = last;
            break;
        }
        *budget = budget.saturating_sub(cost);
        // The origin may still deliver the value. A claim past this dot would make the receiver skip it.
        if entry.stamp().time > settled && entry.kind() == Kind::Tombstone(Cause::Evicted) {
            session.cap(origin, time - 1);
        }
        if session.reconcile && cx.ledger.is_in_doubt(&held) {
            session.hidden.raise(origin, time);
        } else {
            interval.entries.push(entry);
        }
        last = time;
    }
    cx.ledger.logs_mut().put(origin, log);
    for duplicate in duplicates {
        // Two keys under one dot cannot be encoded in one interval. The origin is faulty, or its id has a duplicate.
        cx.env.counters.conflicts += 1;
        cx.ledger.spread_again(cx.env, &duplicate);
    }
    interval.fills = cx.ledger.fill_notes(&interval.entries);
    (interval, finished)
}

/// The times up to which a member and this replica have seen one origin.
struct Lack {
    of: ReplicaId,
    origin: ReplicaId,
    theirs: HlcTime,
    seen: HlcTime,
}

impl Lack {
    /// Returns true if the origin itself delivers its writes to the member.
    fn origin_delivers<K, V>(&self, cx: &Context<'_, K, V>) -> bool {
        self.origin == cx.env.id || cx.members.is_live(&self.origin)
    }

    /// Returns true if the member has nothing of the origin, or lags by more than writes on their way can explain.
    fn is_far_behind<K: CoreKey, V>(&self, cx: &Context<'_, K, V>) -> bool {
        self.theirs == 0 || self.seen.saturating_sub(self.theirs) > cx.max_origin_lag()
    }

    /// Returns true if the member lacks something that is not on its way.
    fn is_stuck<K: CoreKey, V>(&self, cx: &mut Context<'_, K, V>) -> bool {
        let settled = cx.env.judging().saturating_sub(cx.env.in_flight());
        if !self.origin_delivers(cx) {
            return true;
        }
        if self.origin == cx.env.id {
            return lacks_own(cx, self.of, self.theirs, settled);
        }
        self.is_far_behind(cx) || first_after(cx, self.origin, self.theirs).is_some_and(|time| time <= settled)
    }

    /// Returns true if the member lacks much of a live origin and is receiving it from that origin: the member's report
    /// has risen lately. Such a member may only be slow to take a burst of writes. A second copy would not help it.
    fn is_progressing<K: CoreKey, V>(&self, cx: &mut Context<'_, K, V>) -> bool {
        let much =
            cx.ledger.logs().get(&self.origin).is_some_and(|log| log.count_after(self.theirs).0 > MAX_UNCHECKED_LACK);
        if !self.origin_delivers(cx) || self.is_far_behind(cx) || !much || cx.relays() {
            return false;
        }
        let (now, patience) = (cx.env.now.mono, cx.env.in_flight());
        let Some(peer) = cx.members.get_mut(&self.of) else { return false };
        match peer.delivery.progress.get(&self.origin) {
            Some((reached, since)) if *reached >= self.theirs => now.saturating_sub(*since) < patience,
            _ => {
                peer.delivery.progress.insert(self.origin, (self.theirs, now));
                true
            }
        }
    }
}

/// Drops the progress record of each origin of which the member has seen as much as this replica. A later lack is
/// measured afresh.
fn forget_progress<K: CoreKey, V>(cx: &mut Context<'_, K, V>, of: &ReplicaId) {
    let Some(peer) = cx.members.get_mut(of) else { return };
    let (reported, vector) = (&peer.reported, cx.ledger.vector());
    peer.delivery.progress.retain(|origin, _| reported.get(origin) < vector.get(origin));
}

/// Returns true if a member lacks own writes that are not on their way. Own writes that were overtaken since count too.
/// No register is left to send for them, but the member's vector passes them only if a push or session claims them.
fn lacks_own<K: CoreKey, V>(cx: &mut Context<'_, K, V>, to: ReplicaId, theirs: HlcTime, settled: HlcTime) -> bool {
    let last_own = cx.ledger.last_own();
    if theirs >= last_own {
        return false;
    }
    let unanswered = cx.members.get(&to).is_some_and(|peer| peer.delivery.asked > 0);
    let own = cx.env.id;
    let first = cx.ledger.logs_mut().get_mut(&own).and_then(|log| log.after(theirs).next());
    let overtaken = cx.ledger.logs().overtaken();
    let compacted = overtaken > theirs && overtaken <= settled;
    theirs == 0 || unanswered || compacted || last_own <= settled || first.is_some_and(|(time, _)| time <= settled)
}

/// Returns the first dot time of an origin after `from` whose register is held here.
fn first_after<K: CoreKey, V>(cx: &mut Context<'_, K, V>, origin: ReplicaId, from: HlcTime) -> Option<HlcTime> {
    cx.ledger.logs_mut().get_mut(&origin)?.sort();
    let holds = |(time, slot): &(HlcTime, _)| cx.ledger.registers().dot_at(*slot) == Some(Dot::new(origin, *time));
    cx.ledger.logs().get(&origin)?.sorted_after(from).find(holds).map(|(time, _)| time)
}

/// Goes back: the next push to the member starts at what it reports. Returns false if no push can start there.
fn rewind<K: CoreKey, V>(cx: &mut Context<'_, K, V>, to: ReplicaId, reported: HlcTime) -> bool {
    if reported < cx.ledger.logs().overtaken() || reported < cx.ledger.dropped().get(&cx.env.id) {
        return false;
    }
    let settled = cx.env.later(cx.env.in_flight());
    let Some(peer) = cx.members.get_mut(&to) else { return false };
    let delivery = &mut peer.delivery;
    if delivery.needs_session {
        return false;
    }
    (delivery.sent_to, delivery.behind, delivery.serve_after) = (reported, true, settled);
    true
}

/// Returns true if another live member should serve a newcomer: this replica is lossy, and that member is not lossy and
/// has seen all that was dropped here. After three digest intervals this replica serves the newcomer all the same,
/// since the newcomer may never ask that member.
fn has_better_source<K: CoreKey, V>(cx: &Context<'_, K, V>, to: &ReplicaId) -> bool {
    let patience = nanos(cx.env.config.digest_interval).saturating_mul(3);
    let new = cx.members.get(to).is_some_and(|peer| cx.env.now.mono.saturating_sub(peer.known_since) < patience);
    let complete = |peer: &Peer| peer.is_live() && !peer.lossy && peer.reported.dominates(cx.ledger.dropped());
    cx.ledger.is_lossy() && new && cx.members.iter().any(|(id, peer)| id != to && complete(peer))
}
