//! Expiry in place: a value whose time has come becomes an `Expired` tombstone with the same stamp
//! and dot. Every replica does so by its own clock; no message is needed.

use std::collections::BTreeMap;

use super::{CoreKey, RemovalCause, Replica};
use crate::crdt::Cause;
use crate::hlc::{HlcTime, Now};
use crate::store::{Meta, SlotRef, Snapshot};

/// Values are due in steps of this many nanoseconds; reads are exact all the same.
const STEP: u64 = 100_000_000;
/// The shortest wait for a value that is not yet due, nanoseconds.
const LEAST_WAIT: u64 = 10_000_000;
/// Values buried in one go.
const BATCH: usize = 512;

/// Which places hold values that expire, by time. Entries go stale when a value is overwritten.
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

    /// The wall time at which something is due.
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

/// Whether a value's time has come.
fn is_due(meta: &Meta, now: Now) -> bool {
    meta.expires != 0 && meta.expires <= now.wall
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Buries values whose time has come, a bounded number in one go. Returns whether more are due.
    pub(super) fn expire_due(&mut self, now: Now) -> bool {
        for _ in 0..BATCH {
            let Some(slot) = self.expiry.due(now.wall) else { return false };
            self.expire(now, slot);
        }
        self.expiry.next().is_some_and(|next| next <= now.wall)
    }

    fn expire(&mut self, now: Now, slot: SlotRef) {
        let Some(held) = self.store.resolve(slot) else { return };
        if is_due(&held.meta, now) && (held.meta.kind.is_live() || held.meta.retained) {
            self.bury_expired(&held);
            self.enforce_tombstone_cap();
        }
    }

    /// A value that is overwritten after its time has expired before, for those who listen: the register then, if so.
    pub(super) fn expired_before(&mut self, now: Now, held: &Snapshot<K, V>) -> Option<Snapshot<K, V>> {
        if !held.meta.kind.is_live() || !is_due(&held.meta, now) {
            return None;
        }
        let slot = self.bury_expired(held);
        self.store.resolve(slot)
    }

    fn bury_expired(&mut self, held: &Snapshot<K, V>) -> SlotRef {
        self.counters.expired += 1;
        self.bury(held, Cause::Expired, RemovalCause::Expired)
    }

    /// Wall time until the next value is due, in nanoseconds. Not next to nothing: a wall clock that
    /// stands still just before that moment would have us woken without end.
    pub(super) fn next_expiry_in(&self, now: Now) -> Option<u64> {
        let wait = self.expiry.next()?.saturating_sub(now.wall);
        Some(if wait == 0 { 0 } else { wait.max(LEAST_WAIT) })
    }

    /// Drops stale entries once they are most of the index.
    pub(super) fn compact_expiry(&mut self) {
        if self.expiry.is_bloated(self.held.live as usize) {
            let store = &self.store;
            self.expiry.compact(|step, slot| {
                let meta = store.meta(slot);
                meta.is_some_and(|meta| meta.kind.is_live() && meta.expires.div_ceil(STEP) == step)
            });
        }
    }

    /// Entries of the expiry index, stale ones included.
    #[must_use]
    pub fn expiry_len(&self) -> usize {
        self.expiry.len()
    }
}
