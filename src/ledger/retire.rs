//! The end of the records of retired origins.

use super::Ledger;
use crate::env::Env;
use crate::hlc::HlcTime;
use crate::item::CoreKey;
use crate::members::{Members, retired};
use crate::replica_id::ReplicaId;

/// Drops the records of retired origins above the cap, the oldest first. Registers that are still held of such an
/// origin get a new dot of this replica. Registers of the origin that are missing here need no record: they were
/// removed below one of the floors, or by a reconcile whose sender's floors were taken over.
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
        if let Some(own) = replacement_time(ledger, env, members, origin, excess > most) {
            ledger.forget_origin(env, origin, own);
            env.counters.retired_dropped += 1;
        }
    }
}

/// Returns the time of this replica that takes the place of the dropped time of `origin` once the record of `origin` is
/// dropped. Returns zero if the dropped vector has no entry for `origin`, and `None` if the record must stay.
///
/// Some registers of the origin may have been removed without a trace. A member that has not seen all of these must get
/// a reconcile, even after the record is dropped. An own time of this replica can replace the record on three
/// conditions: every member has reported the origin's dropped time; every member has seen the own time; no forgotten
/// member has seen it. While there is no such time, the record stays. If there are more than twice as many records as
/// the cap (`crowded`), or no members, a fresh own time is returned, so that every member gets a reconcile.
fn replacement_time<K: CoreKey, V>(
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
    let all_reported_dropped = members.iter().all(|(_, peer)| peer.reported.get(&origin) >= dropped);
    if all_reported_dropped && seen > members.own_time_at_last_forget() && !members.is_empty() {
        return Some(seen.min(ledger.vector.get(&env.id)));
    }
    // No member has seen a fresh time yet, so each of them will get a reconcile.
    (crowded || members.is_empty()).then(|| {
        let own = env.tick();
        ledger.vector.raise(env.id, own);
        own
    })
}
