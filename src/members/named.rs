//! Members that others name and that have not spoken to us: a newcomer holds back collection for them as well.
//!
//! A member that is unreachable and not yet forgotten may hold writes that no one else has. Everyone who met it keeps
//! tombstones until it has seen them. A newcomer never hears it, and would collect: its floor would rise past those writes,
//! and void them on all replicas once they come. So each digest names the sender's members, and the receiver keeps those
//! it does not know as *unmet* peers. An unmet peer counts for stability only. It becomes a member when its own digest
//! comes, and goes when `forget_after` is over, or when no replica that met it names it any more.

use std::collections::BTreeSet;

use super::Members;
use super::peer::{Namers, Peer, Unmet};
use crate::env::Env;
use crate::hlc::nanos;
use crate::message::Named;
use crate::replica_id::ReplicaId;

/// Unmet peers kept at most: a liar could name ids without end.
const MAX_UNMET: usize = 1_024;
/// Nanoseconds in the unit of [`Named::dead_for`].
const MILLI: u64 = 1_000_000;

/// The members as a digest names them, but for the one that it goes `to`.
pub(crate) fn names(members: &Members, env: &Env, to: Option<ReplicaId>) -> Vec<Named> {
    if env.bugs().unreachable_unnamed {
        return Vec::new();
    }
    let named = |(id, peer): (&ReplicaId, &Peer)| Named {
        member: *id,
        // At least one: zero is alive.
        dead_for: peer.dead_since.map_or(0, |since| (env.now.mono.saturating_sub(since) / MILLI).max(1)),
        met: peer.is_met(),
    };
    // Hearsay of hearsay is not passed on: two newcomers would keep a member alive for each other.
    let is_known = |unmet: &Unmet| unmet.namers.values().any(|met| *met);
    let others = members.iter().filter(|(id, _)| Some(**id) != to);
    others.filter(|(_, peer)| peer.unmet.as_ref().is_none_or(is_known)).map(named).collect()
}

/// Takes in whom a member names. Returns the unmet members that are to be forgotten, because nobody that met them names them
/// any more. Only its newest digest retracts a name: a late one may be from before its sender met the member.
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
            // A replica that met it knows best for how long it has been unreachable.
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

/// Unmet peers that only this member, which is forgotten, had named: they go with all else that it alone knew.
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

/// How many peers others name that have not spoken to us.
pub(crate) fn count(members: &Members) -> usize {
    members.iter().filter(|(_, peer)| !peer.is_met()).count()
}
