//! Expiry: a value whose time to live is over becomes an `Expired` tombstone with the same stamp and dot. Every replica
//! expires values by its own clock, without a message.

use std::collections::BTreeMap;

use super::Ledger;
use crate::env::Env;
use crate::hlc::HlcTime;
use crate::item::CoreKey;
use crate::store::SlotRef;

/// The step to which deadlines are rounded up in the index, in nanoseconds. Reads compare the exact deadline.
const STEP: u64 = 100_000_000;
/// The shortest wait for a value that is not yet due, in nanoseconds.
const LEAST_WAIT: u64 = 10_000_000;
/// The most places handled in one batch.
const BATCH: usize = 512;

/// The places of values that expire, by deadline. An entry goes stale when its value is overwritten.
#[derive(Debug, Default)]
pub(super) struct ExpiryIndex {
    steps: BTreeMap<u64, Vec<SlotRef>>,
    entries: usize,
    compact_at: usize,
}

impl ExpiryIndex {
    pub(super) fn add(&mut self, expires: HlcTime, slot: SlotRef) {
        self.steps.entry(expires.div_ceil(STEP)).or_default().push(slot);
        self.entries += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    fn due(&mut self, wall: HlcTime) -> Option<SlotRef> {
        let mut step = self.steps.first_entry().filter(|step| *step.key() <= wall / STEP)?;
        let slot = step.get_mut().pop();
        if step.get().is_empty() {
            step.remove();
        }
        self.entries -= usize::from(slot.is_some());
        slot
    }

    /// Returns the wall time until the next value is due, in nanoseconds. A positive wait is at least `LEAST_WAIT`: if
    /// the wall clock stood still just before the deadline, the timer would otherwise fire without end.
    fn next_in(&self, wall: HlcTime) -> Option<u64> {
        let wait = self.next()?.saturating_sub(wall);
        Some(if wait == 0 { 0 } else { wait.max(LEAST_WAIT) })
    }

    /// Returns the wall time at which the next value is due.
    fn next(&self) -> Option<HlcTime> {
        self.steps.first_key_value().map(|(step, _)| step.saturating_mul(STEP))
    }

    fn is_bloated(&self, live: usize) -> bool {
        self.entries > (2 * live + 1_024).max(self.compact_at)
    }

    fn compact(&mut self, keep: impl Fn(u64, SlotRef) -> bool) {
        for (step, slots) in &mut self.steps {
            slots.sort_unstable();
            slots.dedup();
            slots.retain(|slot| keep(*step, *slot));
        }
        self.steps.retain(|_, slots| !slots.is_empty());
        self.entries = self.steps.values().map(Vec::len).sum();
        self.compact_at = 2 * self.entries;
    }
}

/// Turns values that are due into tombstones, at most `BATCH` places per call. Returns true if more are due.
pub(crate) fn expire_due<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env) -> bool {
    let wall = env.now.wall;
    for _ in 0..BATCH {
        let Some(slot) = ledger.registers.expiry.due(wall) else { return false };
        let held = ledger.table().resolve(slot).filter(|held| held.meta.is_expired_by(wall));
        if let Some(held) = held.filter(|held| held.meta.kind.is_live() || held.meta.retained) {
            ledger.registers.make_expired(env, &held);
        }
    }
    ledger.registers.expiry.next().is_some_and(|next| next <= wall)
}

/// Returns the wall time until the next value is due, in nanoseconds.
pub(crate) fn next_expiry_in<K, V>(ledger: &Ledger<K, V>, wall: HlcTime) -> Option<u64> {
    ledger.registers.expiry.next_in(wall)
}

/// Drops stale entries once they are most of the index.
pub(super) fn compact<K: CoreKey, V>(ledger: &mut Ledger<K, V>) {
    let registers = &mut ledger.registers;
    if registers.expiry.is_bloated(registers.values().live as usize) {
        let table = crate::sync::Arc::clone(registers.table());
        registers.expiry.compact(|step, slot| {
            let meta = table.meta(slot);
            meta.is_some_and(|meta| meta.kind.is_live() && meta.expires.div_ceil(STEP) == step)
        });
    }
}
