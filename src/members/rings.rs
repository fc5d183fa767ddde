//! The rings along which pushes travel in a large cluster.
//!
//! Every member computes `fanout` ring orders of all the members it knows, by a hash of ids that is the same
//! everywhere. It relays fresh pushes to its successor in each ring. Each single ring reaches all members. So without
//! loss every member gets each push, and with loss a member misses a push only if all its `fanout` predecessors fail to
//! deliver it. Receivers picked at random cannot guarantee that: with any number of copies, some members are picked by
//! no sender. (Law and Siu 2003 on unions of random rings.)
//!
//! Members that know different members for a while compute different rings. Some copies then arrive twice and some not
//! at all. Digests repair that in the same way as loss.

use super::Members;
use super::retired::mix;
use crate::env::Env;
use crate::replica_id::ReplicaId;

/// Returns true if the cluster is so large that pushes go to a few members, which relay them.
pub(crate) fn relays(members: &Members, env: &Env) -> bool {
    members.len() > env.config.broadcast_up_to
}

/// Returns the members that get this replica's pushes in a large cluster.
pub(crate) fn successors<'a>(members: &'a mut Members, env: &Env) -> &'a [ReplicaId] {
    if members.successors.is_none() {
        members.successors = Some(successors_of_now(members, env));
    }
    members.successors.as_deref().unwrap_or_default()
}

fn successors_of_now(members: &Members, env: &Env) -> Vec<ReplicaId> {
    let fanout = env.config.fanout;
    let mut chosen = Vec::with_capacity(fanout.min(members.len()));
    while chosen.len() < fanout {
        let ring = chosen.len() as u64;
        let here = (mix(env.id, ring), env.id);
        let others = members.live().filter(|id| !chosen.contains(id)).map(|id| (mix(id, ring), id));
        // The next higher position in the ring, or else the lowest.
        let Some((_, next)) = others.min_by_key(|there| (*there < here, *there)) else { break };
        chosen.push(next);
    }
    chosen
}
