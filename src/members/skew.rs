//! Wrong clocks: the differences between members' clocks, and the waits of senders while their entries are deferred.
//!
//! A replica that has merged nothing yet has no reason to trust its own clock more than the clocks of all members. If
//! most of the members it knows agree with each other and are ahead of it, it takes their time. If only one member has
//! sent a digest, it waits one second for a digest of another member before it takes the time of the first. Every other
//! replica keeps its time and defers entries that are ahead. Its digests then ask the sender to wait.

use super::Members;
use super::peer::{Peer, WallClock};
use crate::env::Env;
use crate::hlc::{HlcTime, Now, nanos};
use crate::message::Digest;
use crate::replica_id::ReplicaId;

/// The longest time for which a sender is asked to wait, in nanoseconds. It is limited because the clock of the replica
/// that defers may be corrected before the entries are due.
const LONGEST: u64 = 60_000_000_000;
/// The shortest wait, in nanoseconds. A newcomer also waits this long for a second member before it takes the time of a
/// single one. Its members hold back their data for up to twice as long, or for three digest intervals if that is
/// longer.
const SHORTEST: u64 = 1_000_000_000;

/// The number of digest intervals, for each member and this replica, after which the clock in a member's last digest no
/// longer counts. A member with a working link sends a digest within that time, except once in millions of cases.
const ROUNDS: u64 = 16;

/// The difference of a member's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// The member.
    pub member: ReplicaId,
    /// Its wall clock minus this replica's, by its last digest, in nanoseconds. The transmission time of that digest
    /// makes the result too low.
    pub nanos: i64,
}

/// Returns the skew of each live member's wall clock, by its last digest. Leaves out a member that has sent no digest
/// recently, because its clock may have been corrected since.
pub(crate) fn skews<'a>(members: &'a Members, env: &'a Env, now: Now) -> impl Iterator<Item = Skew> + 'a {
    let known =
        move |(id, peer): (&ReplicaId, &Peer)| Some(Skew { member: *id, nanos: wall_skew(members, env, now, peer)? });
    members.iter().filter(|(_, peer)| peer.is_live()).filter_map(known)
}

/// Returns the nanoseconds by which a member's wall clock is ahead of this replica's, if its last digest is recent.
pub(crate) fn wall_skew(members: &Members, env: &Env, now: Now, peer: &Peer) -> Option<i64> {
    let rounds = ROUNDS.saturating_mul(members.len() as u64 + 1);
    let lately = nanos(env.config.digest_interval).saturating_mul(rounds);
    let clock = peer.clocks.wall.filter(|clock| now.mono.saturating_sub(clock.at) <= lately)?;
    Some(signed_difference(clock.reads(now), now.wall))
}

/// Notes the clock in a member's digest, and its request to wait. Returns the member to ask for its full state, if this
/// replica has just taken the time of its members. `has_merged` is true if this replica holds a write of another
/// replica.
pub(crate) fn note_clocks(
    members: &mut Members,
    env: &mut Env,
    from: ReplicaId,
    digest: &Digest,
    has_merged: bool,
) -> Option<ReplicaId> {
    let (now, longest) = (env.now, nanos(env.config.digest_interval).max(LONGEST));
    let peer = members.get_mut(&from)?;
    note_wall(peer, now, digest.wall);
    if digest.deferring > 0 {
        let until = now.mono.saturating_add(digest.deferring.min(longest));
        peer.delivery.serve_after = peer.delivery.serve_after.max(until);
        peer.clocks.was_asked_to_wait = true;
        // Retries are counted from the end of the wait.
        peer.delivery.unacked_since = peer.delivery.unacked_since.map(|_| until);
    } else if std::mem::take(&mut peer.clocks.was_asked_to_wait) {
        // The member defers nothing more, so its wait ends early.
        peer.delivery.serve_after = peer.delivery.serve_after.min(now.mono);
    }
    hold_back_newcomer(members, env, from, digest);
    // The offset is positive while this replica runs by the time of its members.
    if env.clock.offset() > 0 {
        end_taken_time(members, env);
    } else if !env.bugs().deferral_storm && !has_merged {
        return take_time_of_members(members, env, from);
    }
    None
}

/// Notes the time of a member's wall clock, if the member states it.
pub(crate) fn note_wall(peer: &mut Peer, now: Now, wall: HlcTime) {
    if wall > 0 {
        peer.clocks.wall = Some(WallClock { said: wall, at: now.mono });
    }
}

/// Holds back all data for a newcomer that would defer it: one that is empty and whose clock is behind. Lasts three
/// digest intervals, or two seconds if that is longer.
fn hold_back_newcomer(members: &mut Members, env: &Env, from: ReplicaId, digest: &Digest) {
    let behind = digest.clock.saturating_add(env.max_drift()) < env.judging();
    let empty = digest.vector.iter().all(|(origin, _)| origin == from);
    let Some(peer) = members.get_mut(&from) else { return };
    let new = env.now.mono.saturating_sub(peer.known_since) < patience_with_clocks(env);
    peer.clocks.held_back = behind && empty && new && !env.bugs().deferral_storm;
}

fn patience_with_clocks(env: &Env) -> u64 {
    nanos(env.config.digest_interval).saturating_mul(3).max(2 * SHORTEST)
}

/// Sends data again to newcomers that were held back long enough. Such a newcomer may never take the time of its
/// members, because their clocks disagree.
pub(super) fn release_held_back(members: &mut Members, env: &Env) {
    let patience = patience_with_clocks(env);
    for (_, peer) in members.iter_mut() {
        peer.clocks.held_back &= env.now.mono.saturating_sub(peer.known_since) < patience;
    }
}

/// Returns the skews of the wall clocks of live members, in ascending order.
fn wall_skews(members: &Members, env: &Env) -> Vec<i64> {
    let mut known: Vec<_> = skews(members, env, env.now).map(|skew| skew.nanos).collect();
    known.sort_unstable();
    known
}

/// Ends the taken time once most members' wall clocks are no longer ahead of this replica's: their clocks or its own
/// were corrected.
fn end_taken_time(members: &Members, env: &mut Env) {
    let known = wall_skews(members, env);
    if known.get(known.len() / 2).is_some_and(|median| *median <= signed_drift(env)) {
        env.clock.set_offset(env.now, 0);
    }
}

fn signed_drift(env: &Env) -> i64 {
    i64::try_from(env.max_drift()).unwrap_or(i64::MAX)
}

/// Notes that an entry from a member is from the future and due at `time`.
pub(crate) fn note_deferral(members: &mut Members, env: &Env, from: ReplicaId, time: HlcTime) {
    let judged = env.judging().saturating_add(env.max_drift());
    let least = nanos(env.config.digest_interval).max(SHORTEST);
    let Some(peer) = members.get_mut(&from) else { return };
    if peer.clocks.deferred_until > env.now.mono {
        return; // The earliest wait counts.
    }
    // Each consecutive wait is twice as long, because a clock may be wrong for hours.
    let wait = least.saturating_mul(1 << peer.clocks.deferrals.min(16)).max(time.saturating_sub(judged));
    peer.clocks.deferrals = peer.clocks.deferrals.saturating_add(1);
    peer.clocks.deferred_until = env.later(wait.min(LONGEST));
}

/// Notes that a message of a member was claimed: nothing in it was from the future.
pub(crate) fn note_no_deferral(members: &mut Members, from: &ReplicaId) {
    if let Some(peer) = members.get_mut(from) {
        (peer.clocks.deferrals, peer.clocks.deferred_until) = (0, 0);
    }
}

/// Returns true if entries from this member are deferred, so that it is not asked for more.
pub(crate) fn defers(members: &Members, env: &Env, from: &ReplicaId) -> bool {
    members.get(from).is_some_and(|peer| peer.clocks.deferred_until > env.now.mono) && !env.bugs().deferral_storm
}

/// Returns the nanoseconds for which the receiver of a digest that leaves now must wait.
pub(crate) fn requested_wait(members: &Members, env: &Env, to: &ReplicaId) -> Option<u64> {
    let peer = members.get(to).filter(|_| defers(members, env, to))?;
    Some(peer.clocks.deferred_until - env.now.mono)
}

/// Takes the time of the members if two conditions hold. This replica has merged nothing yet, and most members it knows
/// are ahead of it and agree with each other. Returns the member to ask for its state.
fn take_time_of_members(members: &mut Members, env: &mut Env, from: ReplicaId) -> Option<ReplicaId> {
    let drift = signed_drift(env);
    if members.caught_up.is_some() {
        return None;
    }
    let known = wall_skews(members, env);
    let is_unheard = |peer: &Peer| peer.unmet.as_ref().is_some_and(|unmet| unmet.named_alive);
    let unheard = members.iter().filter(|(_, peer)| is_unheard(peer)).count();
    let (least, most) = (*known.first()?, *known.last()?);
    // Members that are alive and not met yet may disagree, so the known clocks must be those of a majority.
    if least <= drift || most - least > drift || known.len() <= unheard {
        return None;
    }
    // The first member to send a digest may be the one with the wrong clock. A hybrid clock that has run ahead does
    // not go back.
    let live = members.iter().filter(|(_, peer)| peer.is_live());
    let first = live.map(|(id, peer)| (peer.known_since, *id)).min();
    let waited = first.is_some_and(|(met, _)| env.now.mono.saturating_sub(met) >= SHORTEST);
    if known.len() < 2 && !waited && !env.bugs().time_of_the_first {
        return None;
    }
    env.counters.time_taken += 1;
    tracing::warn!(
        replica = %env.id, behind_ms = least / 1_000_000,
        "the clock of this node is behind the cluster's clocks; this cache uses its members' time: set the clock (NTP)"
    );
    env.clock.set_offset(env.now, least.unsigned_abs());
    let live: Vec<_> = members.live().collect();
    live.iter().for_each(|member| note_no_deferral(members, member));
    // One source is enough, since each would send everything. The source is the member that was met first, as usual
    // when the clocks are right.
    Some(first.map_or(from, |(_, id)| id))
}

fn signed_difference(a: HlcTime, b: HlcTime) -> i64 {
    let difference = i128::from(a) - i128::from(b);
    i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
}
