//! The end of the records of retired origins.

use super::Ledger;
use crate::env::Env;
use crate::hlc::HlcTime;
use crate::item::CoreKey;
use crate::members::{Members, retired};
use crate::replica_id::ReplicaId;

/// Drops the records of retired origins above the cap, the oldest first. Registers that they still have get a new dot
/// of this replica. Registers missing here were removed below one of the floors, or by a reconcile.
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

/// Returns an own time that stands for the dropped time of `origin` after its record was dropped, or zero if nothing of
/// the origin was dropped. Returns `None` if the record must stay.
///
/// A member that has not seen all registers of an origin that were removed without a trace must get a reconcile, even
/// after the record was dropped. An own time replaces the record if every present member has seen it and no forgotten
/// member has. While there is no such time, the record stays. If there are more than twice as many records as the cap
/// (`crowded`), a fresh own time is returned, so that every member gets a reconcile.
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
    // No member has seen a fresh time yet, so each of them will get a reconcile.
    (crowded || members.is_empty()).then(|| {
        let own = env.tick();
        ledger.vector.raise(env.id, own);
        own
    })
}
