//! Stills: statements of a replica to one member that its last digest to that member still holds. A still takes the
//! place of a digest while a cache is idle.
//!
//! A node sends the stills of all its caches to a process in one message: the module `stills` at the top makes and reads
//! it. Here is what one replica states, believes and leaves out.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Context;
use crate::env::Env;
use crate::hlc::{GRAIN, HlcTime, nanos};
use crate::item::CoreKey;
use crate::ledger::{epoch, fill};
use crate::members::peer::{Peer, SentDigest};
use crate::members::{Members, retired, skew};
use crate::message::{Digest, Still};
use crate::replica_id::ReplicaId;

/// The most processes to which a node sends stills in one digest interval. Further ones take turns.
pub(crate) const RECEIVERS_PER_INTERVAL: usize = 16;

/// Returns the time by wall clock up to which stills of this moment speak, as a time of a replica's clock.
pub(crate) fn time_of(wall: HlcTime) -> HlcTime {
    wall - wall % GRAIN
}

/// Returns the clock of the last digest to each of these members, if it still holds at present. Raises the own vector
/// entry to the time of the still: this replica wrote nothing in between.
pub(crate) fn state<K: CoreKey, V>(cx: &mut Context<'_, K, V>, to: &[ReplicaId]) -> Vec<Option<HlcTime>> {
    let time = time_of(cx.env.now.wall);
    let content = content(cx).filter(|_| is_free(cx, time));
    let bugs = cx.env.bugs();
    let holds = |peer: &Peer| {
        let sent = peer.stills.sent.filter(|sent| sent.clock < time)?;
        (Some(sent.content) == content || bugs.still_after_write).then_some(sent.clock)
    };
    let stated: Vec<_> = to.iter().map(|to| cx.members.get(to).filter(|peer| peer.is_live()).and_then(holds)).collect();
    if stated.iter().any(Option::is_some) && !bugs.still_leaves_clock {
        // The next write is stamped above the time of the still.
        cx.env.clock.observe(time);
        cx.ledger.raise(cx.env.id, time);
    }
    cx.env.counters.stills_out += stated.iter().flatten().count() as u64;
    stated
}

/// Returns true if this replica has made no statement about itself that lies above this time, and no write.
fn is_free<K: CoreKey, V>(cx: &Context<'_, K, V>, time: HlcTime) -> bool {
    cx.ledger.vector().get(&cx.env.id) <= time || cx.env.bugs().still_after_write
}

/// Records the content of a digest that leaves for a member now.
pub(super) fn note_sent<K: CoreKey, V>(cx: &mut Context<'_, K, V>, to: ReplicaId, digest: &Digest) {
    let is_plain = digest.renew.is_none() && digest.deferring == 0;
    let content = content(cx).filter(|_| is_plain);
    if let Some(peer) = cx.members.get_mut(&to) {
        peer.stills.sent = content.map(|content| SentDigest { clock: digest.clock, content });
        peer.stills.accepted_at = None;
    }
}

/// Returns the clock of a member's last digest, if a still may take the place of the next one: another digest with the
/// same content would have no effect here but that of the still.
pub(crate) fn repeatable<K: CoreKey, V>(cx: &Context<'_, K, V>, from: &ReplicaId) -> Option<HlcTime> {
    let heard = cx.members.get(from)?.stills.heard?;
    let is_former = cx.members.former().was_ours(from);
    (!is_former && content(cx).is_some() && has_same(cx, from)).then_some(heard.clock)
}

/// Applies a still of a member. Returns false if it has no effect, because the member must send a digest.
pub(crate) fn handle<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId, still: Still) -> bool {
    let Still { since, wall } = still;
    let clock = time_of(wall);
    let repeats = repeatable(cx, &from) == Some(since) || cx.env.bugs().still_over_lost_digest;
    let Some(heard) = cx.members.get(&from).and_then(|peer| peer.stills.heard).filter(|_| repeats) else {
        return false;
    };
    // A member whose clock is far behind is judged by its digests.
    if clock <= since || cx.env.is_ahead(clock) || clock.saturating_add(cx.env.max_drift()) < cx.env.judging() {
        return false;
    }
    cx.env.counters.stills_in += 1;
    let now = cx.env.now;
    let peer = cx.hear(from);
    if clock > peer.claims.clock {
        peer.claims.clock = clock;
        skew::note_wall(peer, now, wall);
    }
    peer.reported.raise(from, clock);
    cx.env.clock.observe(clock);
    cx.claim(from, clock);
    let seen = cx.ledger.vector().get(&from);
    cx.members.note_watermark(from, clock, clock.saturating_sub(heard.lag), seen);
    true
}

/// Records that a member has accepted a still: it holds the digest with this clock.
pub(crate) fn note_accepted(members: &mut Members, env: &Env, by: &ReplicaId, since: HlcTime) {
    if let Some(peer) = members.get_mut(by)
        && peer.stills.sent.is_some_and(|sent| sent.clock == since)
    {
        peer.stills.accepted_at = Some(env.now.mono);
    }
}

/// Returns true if stills take the place of the digest that is due to a member now: the member has accepted one lately,
/// and the digest would say the same as the last one.
pub(super) fn stand_in<K: CoreKey, V>(cx: &Context<'_, K, V>, to: &ReplicaId) -> bool {
    let Some(peer) = cx.members.get(to).filter(|peer| has_accepted(cx.members, cx.env, peer)) else { return false };
    peer.stills.sent.is_some_and(|sent| content(cx) == Some(sent.content))
}

/// Returns true if a live member has accepted a still lately.
fn has_accepted(members: &Members, env: &Env, peer: &Peer) -> bool {
    // Two and a half times the interval at which a member gets stills, so that one may be lost.
    let turns = members.len().div_ceil(RECEIVERS_PER_INTERVAL).max(1) as u64;
    let patience = nanos(env.config.digest_interval).saturating_mul(5 * turns) / 2;
    let accepted_at = peer.stills.accepted_at.filter(|_| peer.is_live());
    accepted_at.is_some_and(|at| env.now.mono.saturating_sub(at) <= patience)
}

/// Returns the monotonic time of a timer that is not urgent. While all members accept stills, the time is moved to one
/// that all caches of a node have in common, a quarter of a digest interval later at most. So the node wakes up a few
/// times in an interval for all its idle caches together.
pub(crate) fn in_company(members: &Members, env: &Env, at: u64) -> u64 {
    let step = (nanos(env.config.digest_interval) / 4).max(1);
    let rests = !members.is_empty() && members.iter().all(|(_, peer)| has_accepted(members, env, peer));
    if rests { at.checked_next_multiple_of(step).unwrap_or(at) } else { at }
}

/// Returns a hash of all that a digest to any member states, except times that rise in silence. Returns `None` unless
/// this replica is *at rest*: it has everything that its members have reported, nothing waits to be sent, merged or
/// removed, and each member is live, met and heard directly.
fn content<K: CoreKey, V>(cx: &Context<'_, K, V>) -> Option<u64> {
    let (env, ledger, members) = (&*cx.env, &*cx.ledger, &*cx.members);
    let is_at_rest = env.clock.offset() == 0
        && ledger.is_at_rest()
        && fill::running(ledger) == 0
        && !epoch::is_sweeping(ledger)
        && members.caught_up().is_some()
        && members.former().unbelieved_id().is_none()
        && members.greeted().next().is_none();
    if !is_at_rest {
        return None;
    }
    // Two rounds of digests: a member that was not heard for so long may have no link to this replica.
    let recently = nanos(env.config.digest_interval).saturating_mul(2 * members.len() as u64 + 1);
    let mut hash = DefaultHasher::new();
    (ledger.last_own().max(ledger.dropped().get(&env.id)), ledger.epoch(), ledger.is_lossy()).hash(&mut hash);
    for (id, peer) in members.iter() {
        if !is_settled(env, peer, ledger.vector().get(id)) || env.now.mono.saturating_sub(peer.last_heard) > recently {
            return None;
        }
        (id, peer.claims.quiet_since).hash(&mut hash);
    }
    let retired = retired::unlisted(members, env, ledger.vector());
    (retired.count, retired.hash).hash(&mut hash);
    Some(hash.finish())
}

/// Returns true if nothing is open between this replica and a member, and this replica has seen all writes of which the
/// member has reported. `seen` is this replica's vector entry for the member.
fn is_settled(env: &Env, peer: &Peer, seen: HlcTime) -> bool {
    let (claims, delivery, clocks) = (&peer.claims, &peer.delivery, &peer.clocks);
    peer.is_live()
        && peer.is_met()
        && claims.wrote <= claims.quiet_since
        && (claims.quiet_since <= seen || env.bugs().still_while_behind)
        && !claims.has_duplicate_id
        && (peer.suspected.is_none() || env.bugs().still_while_behind)
        && !(delivery.in_session || delivery.needs_session || delivery.behind || delivery.unacked_since.is_some())
        && !(clocks.was_asked_to_wait || clocks.held_back || clocks.deferred_until > env.now.mono)
}

/// Returns true if this replica and a member have seen the same writes, by the member's reports.
fn has_same<K: CoreKey, V>(cx: &Context<'_, K, V>, with: &ReplicaId) -> bool {
    let (id, ours) = (cx.env.id, cx.ledger.vector());
    let Some(peer) = cx.members.get(with) else { return false };
    let theirs = &peer.reported;
    let own = cx.ledger.last_own().max(cx.ledger.dropped().get(&id));
    let lag = cx.max_origin_lag();
    // A member's entry rises while it is silent, so only its last write counts, and a lag that a digest would repair.
    let of_member = |origin: &ReplicaId, ours: HlcTime, theirs: HlcTime| {
        let wrote = cx.members.get(origin).map(|peer| peer.claims.quiet_since);
        wrote.map(|wrote| theirs >= wrote && theirs <= ours.saturating_add(lag))
    };
    let agrees = |origin: ReplicaId, ours: HlcTime, theirs: HlcTime| {
        origin == *with || origin == id || of_member(&origin, ours, theirs).unwrap_or(ours == theirs)
    };
    theirs.get(&id) >= own
        && ours.zip(theirs).all(|(origin, ours, theirs)| agrees(origin, ours, theirs))
        && theirs.zip(ours).all(|(origin, theirs, ours)| agrees(origin, ours, theirs))
}
