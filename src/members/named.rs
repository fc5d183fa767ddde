//! Members that other members name, and that have sent nothing to this replica. A newcomer holds back collection for
//! them too.
//!
//! A member that is unreachable and not yet forgotten may hold writes that no other replica has. Every replica that met
//! the member keeps each tombstone until the member has seen it. A newcomer receives no message from the member, and
//! would collect. The newcomer's floor would rise past those writes, and void them on all replicas once they arrive. So
//! each digest names the sender's members. The receiver keeps those it does not know as *unmet* peers. An unmet peer
//! counts for stability only. It becomes a member when its own digest arrives. It is dropped after `forget_after`, or
//! when no replica that met it names it any more.

use std::collections::BTreeSet;

use super::Members;
use super::peer::{Namers, Peer, Unmet};
use crate::env::Env;
use crate::hlc::nanos;
use crate::message::Named;
use crate::replica_id::ReplicaId;

/// The highest number of unmet peers, because a dishonest member could name ids without end.
const MAX_UNMET: usize = 1_024;
/// The nanoseconds in the unit of [`Named::dead_for`].
const MILLI: u64 = 1_000_000;

/// Returns the members that a digest names, except the digest's receiver `to`.
pub(crate) fn names(members: &Members, env: &Env, to: Option<ReplicaId>) -> Vec<Named> {
    if env.bugs().unreachable_unnamed {
        return Vec::new();
    }
    let named = |(id, peer): (&ReplicaId, &Peer)| Named {
        member: *id,
        // At least one, because zero means alive.
        dead_for: peer.dead_since.map_or(0, |since| (env.now.mono.saturating_sub(since) / MILLI).max(1)),
        met: peer.is_met(),
    };
    // A name is passed on only if some namer has met the member. Otherwise two newcomers would keep it alive for each
    // other.
    let is_known = |unmet: &Unmet| unmet.namers.values().any(|met| *met);
    let others = members.iter().filter(|(id, _)| Some(**id) != to);
    others.filter(|(_, peer)| peer.unmet.as_ref().is_none_or(is_known)).map(named).collect()
}

/// Records the members that a member names. Returns the unmet members to forget, because no replica that met them names
/// them any more. Only the newest digest of a member retracts a name: a late one may be from before its sender met the
/// named member.
pub(crate) fn take(members: &mut Members, env: &Env, from: ReplicaId, named: &[Named], newest: bool) -> Vec<ReplicaId> {
    for Named { member, dead_for, met } in named {
        let is_reached = *met && *dead_for == 0 && !env.bugs().reached_stay_forgotten;
        let is_known = members.former.was_ours(member) || members.absent.forgotten.hides(member, is_reached);
        let dead_for = dead_for.saturating_mul(MILLI);
        if *member != env.id && !is_known && dead_for < nanos(env.config.forget_after) {
            note(members, env, (from, *met), *member, dead_for);
        }
    }
    if !newest && !env.bugs().late_words_unname {
        return Vec::new();
    }
    let still: BTreeSet<_> = named.iter().map(|named| named.member).collect();
    unnamed(members, from, |id| !still.contains(id))
}

fn note(members: &mut Members, env: &Env, (from, met): (ReplicaId, bool), member: ReplicaId, dead_for: u64) {
    let since = env.now.mono.saturating_sub(dead_for);
    if let Some(peer) = members.peers.get_mut(&member) {
        let Some(unmet) = &mut peer.unmet else { return };
        unmet.namers.insert(from, met);
        unmet.named_alive = dead_for == 0;
        if met {
            // A replica that met it knows best since when it has been unreachable. Of several such times the latest
            // counts.
            peer.dead_since = peer.dead_since.max(Some(since));
        }
        return;
    }
    if count(members) < MAX_UNMET {
        let unmet = Unmet { namers: Namers::from([(from, met)]), named_alive: dead_for == 0 };
        let kept_after = members.contests_pruned;
        members.peers.insert(member, Peer::unmet(env.now, since, unmet, kept_after));
    }
}

/// Returns the unmet peers that only this member had named. They are forgotten with it.
pub(crate) fn named_only_by(members: &mut Members, from: ReplicaId) -> Vec<ReplicaId> {
    unnamed(members, from, |_| true)
}

fn unnamed(members: &mut Members, from: ReplicaId, is_unnamed: impl Fn(&ReplicaId) -> bool) -> Vec<ReplicaId> {
    let mut gone = Vec::new();
    for (id, peer) in &mut members.peers {
        let Some(unmet) = peer.unmet.as_mut().filter(|_| is_unnamed(id)) else { continue };
        let removed = unmet.namers.remove(&from);
        let others_met = unmet.namers.values().any(|met| *met);
        if removed.is_some() && (unmet.namers.is_empty() || (removed == Some(true) && !others_met)) {
            gone.push(*id);
        }
    }
    gone
}

/// Returns the number of unmet peers.
pub(crate) fn count(members: &Members) -> usize {
    members.iter().filter(|(_, peer)| !peer.is_met()).count()
}
