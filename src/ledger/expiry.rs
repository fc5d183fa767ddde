//! Expiry: a value whose time to live is over becomes an `Expired` tombstone with the same stamp and dot. Every replica
//! expires values by its own clock, without a message.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::Ledger;
use crate::env::Env;
use crate::hlc::HlcTime;
use crate::item::CoreKey;
use crate::store::SlotRef;

/// The step to which deadlines are rounded up for the timer, in nanoseconds. Reads and evictions compare the exact
/// deadline.
const STEP: u64 = 100_000_000;
/// The shortest wait for a value that is not yet due, in nanoseconds.
const LEAST_WAIT: u64 = 10_000_000;
/// The most places handled in one batch.
const BATCH: usize = 512;

/// A place, and the deadline of its value in nanoseconds after the start of its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    after: u32,
    slot: SlotRef,
}

/// Returns the step of a deadline, and the nanoseconds from the start of the step to the deadline: 1 to `STEP`.
fn step_of(expires: HlcTime) -> (u64, u32) {
    let step = expires.div_ceil(STEP).max(1);
    (step, (expires - (step - 1) * STEP) as u32)
}

/// The places of values that expire, by deadline. An entry goes stale when its value is overwritten.
#[derive(Debug, Default)]
pub(super) struct ExpiryIndex {
    steps: BTreeMap<u64, BinaryHeap<Reverse<Due>>>,
    entries: usize,
    compact_at: usize,
}

impl ExpiryIndex {
    pub(super) fn add(&mut self, expires: HlcTime, slot: SlotRef) {
        let (step, after) = step_of(expires);
        self.steps.entry(step).or_default().push(Reverse(Due { after, slot }));
        self.entries += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Takes out the place of the first deadline, if its whole step has passed.
    fn due(&mut self, wall: HlcTime) -> Option<SlotRef> {
        self.pop_if(|step, _| step <= wall / STEP)
    }

    /// Takes out the place of the first deadline, if that deadline has passed.
    fn overdue(&mut self, wall: HlcTime) -> Option<SlotRef> {
        self.pop_if(|step, after| (step - 1) * STEP + u64::from(after) <= wall)
    }

    fn pop_if(&mut self, is_wanted: impl FnOnce(u64, u32) -> bool) -> Option<SlotRef> {
        let mut step = self.steps.first_entry()?;
        let Reverse(first) = *step.get().peek()?;
        if !is_wanted(*step.key(), first.after) {
            return None;
        }
        step.get_mut().pop();
        if step.get().is_empty() {
            step.remove();
        }
        self.entries -= 1;
        Some(first.slot)
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

    fn compact(&mut self, keep: impl Fn((u64, u32), SlotRef) -> bool) {
        for (step, heap) in &mut self.steps {
            let mut slots = std::mem::take(heap).into_vec();
            slots.sort_unstable();
            slots.dedup();
            slots.retain(|Reverse(due)| keep((*step, due.after), due.slot));
            slots.shrink_to_fit();
            *heap = slots.into();
        }
        self.steps.retain(|_, slots| !slots.is_empty());
        self.entries = self.steps.values().map(BinaryHeap::len).sum();
        self.compact_at = 2 * self.entries;
    }
}

/// Turns values that are due into tombstones, at most `BATCH` places per call.
pub(crate) fn expire_due<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env) {
    let wall = env.now.wall;
    for _ in 0..BATCH {
        let Some(slot) = ledger.registers.expiry.due(wall) else { return };
        expire(ledger, env, slot);
    }
}

/// Handles the first deadline of the index if the wall time has reached it, without waiting for the end of its step.
/// Returns true if a deadline was handled, even if its value had been overwritten.
pub(crate) fn expire_first<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env) -> bool {
    let Some(slot) = ledger.registers.expiry.overdue(env.now.wall) else { return false };
    expire(ledger, env, slot);
    true
}

fn expire<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, slot: SlotRef) {
    let held = ledger.table().resolve(slot).filter(|held| held.meta.is_expired_by(env.now.wall));
    if let Some(held) = held.filter(|held| held.meta.kind.is_live() || held.meta.retained) {
        ledger.registers.make_expired(env, &held);
    }
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
            meta.is_some_and(|meta| meta.kind.is_live() && step_of(meta.expires) == step)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SlotId;

    fn slot(id: u64) -> SlotRef {
        SlotRef { id: SlotId(id as u32), generation: 0 }
    }

    /// The oracle is a sorted list. The timer (`due`) takes a deadline only once its whole step has passed. An eviction
    /// (`overdue`) takes it as soon as it has passed. Both take the earliest deadline first.
    #[test]
    fn deadlines_come_out_in_order_and_not_before_their_time() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut index, mut all) = (ExpiryIndex::default(), Vec::new());
        for number in 0..2_000 {
            let expires = random.u64(1..20 * STEP).div_ceil(STEP / 64) * (STEP / 64);
            index.add(expires, slot(number));
            all.push((expires, slot(number)));
        }
        all.sort_unstable();
        let mut all = std::collections::VecDeque::from(all);
        for wall in (0..=21 * STEP).step_by(STEP as usize / 7) {
            let exact = random.bool();
            while let Some(found) = if exact { index.overdue(wall) } else { index.due(wall) } {
                assert_eq!(all.pop_front().map(|(_, slot)| slot), Some(found));
            }
            let until = if exact { wall } else { wall / STEP * STEP };
            assert!(all.front().is_none_or(|(expires, _)| *expires > until), "at {wall}");
            assert_eq!(index.len(), all.len());
        }
        assert_eq!((index.len(), index.next()), (0, None));
    }
}
