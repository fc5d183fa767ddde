//! Who passes what on in a large cluster.
//!
//! Every member computes, from the members it knows, `fanout` orders of all of them in a ring, by a hash
//! of ids that is the same everywhere, and passes fresh pushes on to its successor in each. Each ring
//! by itself reaches everybody, so without loss nobody is left out, and with it a member is missed only
//! if all its `fanout` predecessors fail it at once. Receivers picked at random cannot say that: however many
//! copies are sent, some members are picked by nobody. (Law and Siu 2003 on unions of random rings.)
//!
//! Members that know of different members for a while have different rings: then some copies come
//! twice and some not at all, and digests repair that as they repair loss.

use super::Members;
use super::retired::mix;
use crate::env::Env;
use crate::replica_id::ReplicaId;

/// Whether there are so many members that pushes go to a few, who pass them on.
pub(crate) fn relays(members: &Members, env: &Env) -> bool {
    members.len() > env.config.broadcast_up_to
}

/// The members that get pushes from us in a large cluster.
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
        // The next one up, or round to the lowest.
        let Some((_, next)) = others.min_by_key(|there| (*there < here, *there)) else { break };
        chosen.push(next);
    }
    chosen
}
