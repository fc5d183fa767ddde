//! The release of deferred entries that are due.

use super::Ledger;
use super::merge::{Merge, Merged};
use crate::arrival::Provenance;
use crate::env::Env;
use crate::item::CoreKey;
use crate::members::Members;

/// Merges deferred entries that are no longer from the future. No claim covers them yet, so each is an orphan and is
/// adopted.
pub(crate) fn release<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, members: &Members) {
    if ledger.receiving.is_some() {
        return;
    }
    while let Some(due) = ledger.quarantine.first_due() {
        if env.clock.is_ahead(env.now, due, env.config.max_drift) {
            return;
        }
        let Some(entry) = ledger.quarantine.take_first() else { return };
        ledger.registers.set_aside(std::iter::once(&entry));
        env.counters.deferred_released += 1;
        let mut merge = Merge { ledger: &mut *ledger, env: &mut *env, members, by: Provenance::Waited };
        if let Merged::Placed(slot) = merge.entry(entry, None) {
            ledger.uncovered.push(slot);
        }
        ledger.adopt_orphans(env);
    }
}
