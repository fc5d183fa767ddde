//! Collection of tombstones by causal stability (Baquero et al. 2017). `replica/due.rs` says how often it runs.
//!
//! A tombstone that is not collected ends in one of these ways:
//!
//! | end | code |
//! | --- | --- |
//! | dropped by force, because there are more than the cap | `Ledger::drop_oldest`, at the end of a call |
//! | not listed by a reconcile whose sender had seen it | `reconciled::remove_unlisted` |
//! | swept, because the epoch covers it | `epoch::sweep_register` |
//! | its key can no longer be encoded | `local::void_unencodable` |
//! | the replica takes a new id | `Ledger::erase_everything` |
//! | replaced by a newer register of its key, or by a void | `local`, `fill`, `merge`, `reconciled` |
//!
//! Every removal goes through `Registers::erase`, every replacement through `Registers::replace`. Collection, the cap
//! and `void_unencodable` remove through `Ledger::drop_register`, which also raises the floor and the dropped vector.

use super::changes::RemovalCause;
use super::registers::Registers;
use super::{Ledger, expiry, fill};
use crate::crdt::Cause;
use crate::env::Env;
use crate::hlc::{HlcTime, Now, nanos};
use crate::item::CoreKey;
use crate::members::{Members, StableCut};
use crate::replica_id::ReplicaId;
use crate::store::Snapshot;

/// The most tombstones checked in one batch.
const BATCH: usize = 4_096;

/// Returns the part of the history that is stable by all reports received so far.
pub(crate) fn stable_cut<K: CoreKey, V>(ledger: &Ledger<K, V>, env: &Env, members: &Members, now: Now) -> StableCut {
    let own = watermark_at(ledger, env, env.clock.last().max(now.wall));
    let older_than = env.clock.judging(now).saturating_sub(nanos(env.config.gc_grace));
    // While a member is owing, nothing is stable. The switch `unreachable_unnamed` disables this rule too. Otherwise
    // the rule would partly hide that mistake, by delaying collection when digests name no unreachable members.
    if !env.bugs().gone_unwaited && !env.bugs().unreachable_unnamed && owing(ledger, env, members, now).next().is_some()
    {
        // No watermark covers writes of a departed replica. A floor above them would void them on all replicas.
        return StableCut::default();
    }
    members.stable_cut(ledger.vector(), own, older_than)
}

/// Returns the members from which writes of a departed replica are still expected.
pub(crate) fn owing<'a, K: CoreKey, V>(
    ledger: &'a Ledger<K, V>,
    env: &Env,
    members: &'a Members,
    now: Now,
) -> impl Iterator<Item = &'a ReplicaId> {
    // A member that sends no more messages cannot retract its report. After its last message it counts as owing for
    // `forget_after`, like a dead member, or for `silence_limit` if that is longer.
    let heard_within = nanos(env.config.forget_after).max(members.silence_limit(env));
    members.owing(ledger.vector(), ledger.retired_up_to, now.mono.saturating_sub(heard_within))
}

/// Returns this replica's low watermark when its clock reads `clock`. Every write that it issues later is stamped above
/// the watermark.
pub(crate) fn watermark_at<K, V>(ledger: &Ledger<K, V>, env: &Env, clock: HlcTime) -> HlcTime {
    let lag = clock.saturating_sub(env.max_drift());
    fill::lowest(ledger).map_or(lag, |fill| lag.min(fill.saturating_sub(1)))
}

/// Collects stable tombstones, at most one batch. Returns true if there may be more.
pub(crate) fn collect<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, members: &mut Members) -> bool {
    let cut = stable_cut(ledger, env, members, env.now);
    let before = env.counters.collected;
    // A floor that rises now could void entries of the incoming session that are still on their way.
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
                    // No member has seen it. A replica that is met later may bring a fill that began before this
                    // delete.
                    ledger.registers.note_lost(&held, held.meta.stamp_time);
                }
                ledger.drop_register(env, held.slot, &held.meta, RemovalCause::Explicit);
            }
        }
    }
    let memberless_at = members.is_empty().then(|| env.judging());
    let pruned = ledger.registers.prune_contests(env, &cut, memberless_at);
    members.set_cut(cut, pruned);
    expiry::compact(ledger);
    let (table, tombstones) = (crate::sync::Arc::clone(ledger.table()), ledger.tombstones().len());
    let is_kept = |time, slot| table.meta(slot).is_some_and(|meta| meta.retained && meta.dot_time == time);
    ledger.registers.retained.compact(tombstones, is_kept);
    env.counters.collected - before >= BATCH as u64 / 2
}

fn is_collectable<K: CoreKey, V>(ledger: &Ledger<K, V>, env: &Env, cut: &StableCut, held: &Snapshot<K, V>) -> bool {
    let (stamp, dot) = (ledger.registers.stamp_of(&held.meta), ledger.registers.dot_of(&held.meta));
    // A retained body is still to be sent, and only the register keeps it.
    if held.meta.retained || !ledger.vector.covers(&dot) {
        return false;
    }
    if env.bugs().collect_by_age { cut.is_old(dot) } else { cut.covers(stamp, dot) }
}

/// Drops the bodies of evicted own writes that every live member has reported.
#[inline]
pub(crate) fn release_retained<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &Env, members: &Members) {
    if !ledger.registers.retained.is_empty() {
        release_up_to(&mut ledger.registers, members.held_by_all_live(env));
    }
}

fn release_up_to<K: CoreKey, V>(registers: &mut Registers<K, V>, up_to: HlcTime) {
    while let Some((time, slot)) = registers.retained.next_up_to(up_to) {
        let held = registers.table().resolve(slot);
        if let Some(held) = held.filter(|held| held.meta.retained && held.meta.dot_time == time) {
            registers.make_tombstone(&held, Cause::Evicted, RemovalCause::Size);
        }
    }
}

/// Compacts the logs that are mostly stale.
pub(crate) fn compact_logs<K: CoreKey, V>(ledger: &mut Ledger<K, V>) {
    ledger.registers.compact_bloated_logs();
}

/// Removes the logs of origins of which no register is held.
pub(crate) fn forget_empty_logs<K, V>(ledger: &mut Ledger<K, V>) {
    ledger.registers.logs.forget_empty();
}
