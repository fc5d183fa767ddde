//! The end of origins that nobody expects to hear of again.

use super::Ledger;
use crate::env::Env;
use crate::hlc::HlcTime;
use crate::item::CoreKey;
use crate::members::{Members, retired};
use crate::replica_id::ReplicaId;

/// Drops retired origins beyond the cap, the oldest first. What remains of their registers is
/// given a dot of ours. Whatever is missing here of them left below one of the floors, or with a reconcile.
pub(crate) fn cap<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, members: &Members) {
    let is_retired = |(origin, _): &(ReplicaId, HlcTime)| !retired::is_listed(members, env, origin);
    let mut retired: Vec<_> = ledger.vector.iter().filter(is_retired).collect();
    let most = env.config.max_retired;
    if retired.len() <= most || ledger.receiving.is_some() {
        return;
    }
    retired.sort_by_key(|(origin, time)| (*time, *origin));
    let excess = retired.len() - most;
    for (origin, _) in retired.into_iter().take(excess) {
        if let Some(own) = stand_in_for(ledger, env, members, origin, excess > most) {
            ledger.forget_origin(env, origin, own);
            env.counters.retired_dropped += 1;
        }
    }
}

/// Whoever has not seen what we dropped of an origin must get a reconcile, also when its record is gone. A
/// time of our own says so instead, which only those must have seen who need none: the members that
/// are here, and nobody who was forgotten. While there is no such time the record is kept; once there are
/// twice as many as there should be, everybody gets a reconcile.
fn stand_in_for<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    members: &Members,
    origin: ReplicaId,
    crowded: bool,
) -> Option<HlcTime> {
    let dropped = ledger.dropped.get(&origin);
    if dropped == 0 {
        return Some(0);
    }
    let seen = members.own_seen_by_all(&env.id);
    let everybody_knows = members.iter().all(|(_, peer)| peer.reported.get(&origin) >= dropped);
    if everybody_knows && seen > members.forgot_at() && !members.is_empty() {
        return Some(seen.min(ledger.vector.get(&env.id)));
    }
    (crowded || members.is_empty()).then(|| {
        let own = env.tick();
        ledger.vector.raise(env.id, own);
        own
    })
}
