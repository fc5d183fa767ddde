//! The epoch of `invalidate_all`: one replicated time per cache, joined by maximum.
//!
//! A register stamped at or below the epoch counts as absent as soon as the epoch is known, and is swept in the
//! background. One that arrives later is skipped. The sweep raises neither the floor nor the dropped vector. A receiver
//! that claims a swept dot from a message gets the epoch in the same message, and treats the register as absent too.

use super::changes::RemovalCause;
use super::{Ledger, fill};
use crate::env::Env;
use crate::hlc::HlcTime;
use crate::item::CoreKey;
use crate::store::{Position, Snapshot};

/// The most registers checked in one page of the sweep.
const BATCH: usize = 512;

/// Invalidates every write stamped up to now, on all replicas, including writes that have not arrived yet.
pub(crate) fn invalidate_all<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env) -> HlcTime {
    let epoch = ledger.issue_dot(env).counter;
    adopt(ledger, env, epoch);
    epoch
}

/// Adopts an epoch. The caller has checked that it does not come from the future.
pub(crate) fn adopt<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, epoch: HlcTime) {
    let held = ledger.epoch();
    if epoch == held {
        return;
    }
    ledger.registers.contests.note_epoch(epoch, held);
    // A smaller epoch contests fills too. A fill that began before the smaller epoch was issued may be stamped above
    // the greater one, and must still lose.
    if epoch > held {
        env.counters.epochs += 1;
        env.clock.observe(epoch);
        ledger.registers.raise_epoch(epoch, env.now.wall);
        ledger.sweep = Some(Position::default());
    }
    fill::contest_by_epoch(ledger, env, epoch);
}

/// Returns true if registers wait to be swept.
pub(crate) fn is_sweeping<K, V>(ledger: &Ledger<K, V>) -> bool {
    ledger.sweep.is_some()
}

/// Sweeps a page of registers. Returns true if there are more.
pub(crate) fn sweep_page<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env) -> bool {
    let Some(from) = ledger.sweep else { return false };
    let (page, next) = ledger.table().page(from, BATCH);
    let epoch = ledger.epoch();
    for held in page.into_iter().filter(|held| held.meta.stamp_time <= epoch) {
        sweep_register(ledger, env, &held);
    }
    ledger.sweep = next;
    if next.is_none() {
        ledger.registers.note_swept();
    }
    next.is_some()
}

/// Removes a register that the epoch made absent.
pub(super) fn sweep_register<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, held: &Snapshot<K, V>) {
    env.counters.swept_by_epoch += 1;
    ledger.registers.note_lost(held, ledger.epoch());
    ledger.registers.erase(held.slot, &held.meta, RemovalCause::Invalidated);
}
