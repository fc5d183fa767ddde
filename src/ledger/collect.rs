//! When tombstones end: causal stability (Baquero et al. 2017). `replica/due.rs` says how often it is looked at; a tombstone is removed by
//! `Ledger::drop_register`, and by force, at the cap, by `Ledger::enforce_cap` at the end of a call.

use super::changes::RemovalCause;
use super::{Ledger, expiry, fill};
use crate::env::Env;
use crate::hlc::{HlcTime, Now, nanos};
use crate::item::CoreKey;
use crate::members::{Members, StableCut};
use crate::replica_id::ReplicaId;
use crate::store::Snapshot;

/// Tombstones looked at in one go.
const BATCH: usize = 4_096;
/// What is stable by all that is known now.
pub(crate) fn stable_cut<K: CoreKey, V>(ledger: &Ledger<K, V>, env: &Env, members: &Members, now: Now) -> StableCut {
    let own = watermark_at(ledger, env, env.clock.last().max(now.wall));
    let older_than = env.clock.judging(now).saturating_sub(nanos(env.config.gc_grace));
    // The switch `unreachable_unnamed` turns this rule off as well: it covers in part for the names that are missing then.
    if !env.bugs().gone_unwaited && !env.bugs().unreachable_unnamed && owing(ledger, env, members, now).next().is_some()
    {
        return StableCut::default();
    }
    members.stable_cut(ledger.vector(), own, older_than)
}

/// The members from which writes of a replica that left are still to come.
pub(crate) fn owing<'a, K: CoreKey, V>(
    ledger: &'a Ledger<K, V>,
    env: &Env,
    members: &'a Members,
    now: Now,
) -> impl Iterator<Item = &'a ReplicaId> {
    // One that is not heard any more cannot take back what it said, and is waited for as long as one that is dead.
    let patience = nanos(env.config.forget_after).max(members.few_rounds(env));
    members.owing(ledger.vector(), ledger.retired_up_to, now.mono.saturating_sub(patience))
}

/// Our low watermark at a clock of ours: every write we have not yet issued by then will carry a
/// stamp above it.
pub(crate) fn watermark_at<K, V>(ledger: &Ledger<K, V>, env: &Env, clock: HlcTime) -> HlcTime {
    let lag = clock.saturating_sub(env.max_drift());
    fill::lowest(ledger).map_or(lag, |fill| lag.min(fill.saturating_sub(1)))
}

/// Collects tombstones that are stable. Returns whether there may be more.
pub(crate) fn collect<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, members: &mut Members) -> bool {
    let cut = stable_cut(ledger, env, members, env.now);
    let before = env.counters.collected;
    if ledger.receiving.is_none() {
        let due: Vec<_> = ledger.registers.tombstones.iter().take(BATCH).collect();
        for (stamp_time, slot) in due {
            if stamp_time > cut.watermark && !env.bugs().collect_by_age {
                break;
            }
            let Some(held) = ledger.table().resolve(slot) else { continue };
            if is_collectable(ledger, env, &cut, &held) {
                env.counters.collected += 1;
                if members.is_empty() && !env.bugs().collected_alone_forgotten {
                    // No member has seen it, so a replica that is met later may bring a fill that began before this delete.
                    ledger.registers.note_lost(&held, held.meta.stamp_time);
                }
                ledger.drop_register(env, &held, RemovalCause::Explicit);
            }
        }
    }
    let alone_at = members.is_empty().then(|| env.judging());
    let pruned = ledger.registers.prune_contests(env, &cut, alone_at);
    members.set_cut(cut, pruned);
    expiry::compact(ledger);
    let (table, tombstones) = (crate::sync::Arc::clone(ledger.table()), ledger.tombstones().len());
    let is_kept = |time, slot| table.meta(slot).is_some_and(|meta| meta.retained && meta.dot_time == time);
    ledger.registers.retained.compact(tombstones, is_kept);
    env.counters.collected - before >= BATCH as u64 / 2
}

fn is_collectable<K: CoreKey, V>(ledger: &Ledger<K, V>, env: &Env, cut: &StableCut, held: &Snapshot<K, V>) -> bool {
    let (stamp, dot) = (ledger.registers.stamp_of(&held.meta), ledger.registers.dot_of(&held.meta));
    if held.meta.retained || !ledger.vector.covers(&dot) {
        return false;
    }
    if env.bugs().collect_by_age { cut.is_old(dot) } else { cut.covers(stamp, dot) }
}

/// Drops the bodies of evicted own writes that every live member has reported.
#[inline]
pub(crate) fn release_retained<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &Env, members: &Members) {
    if !ledger.registers.retained.is_empty() {
        ledger.registers.release_retained(members.held_by_all_live(env));
    }
}

/// Drops the stale entries of logs that consist mostly of them.
pub(crate) fn compact_logs<K: CoreKey, V>(ledger: &mut Ledger<K, V>) {
    ledger.registers.compact_bloated_logs();
}

/// Forgets the logs of origins of which nothing is held.
pub(crate) fn forget_empty_logs<K, V>(ledger: &mut Ledger<K, V>) {
    ledger.registers.logs.forget_empty();
}
