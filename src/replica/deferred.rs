//! Registers from the future wait in a bounded quarantine until their time comes.

use std::collections::BTreeMap;

use super::merge::Merged;
use super::message::Entry;
use super::{CoreKey, Replica};
use crate::hlc::{HlcTime, Now, nanos};
use crate::replica_id::ReplicaId;

/// Offenders named at most.
const MAX_OFFENDERS: usize = 64;

pub(super) struct Quarantine<K, V> {
    waiting: BTreeMap<(HlcTime, u64), Entry<K, V>>,
    next: u64,
    /// Of keys and values that wait.
    bytes: usize,
}

/// Bytes of keys and values that wait, at most.
const MAX_BYTES: usize = 64 << 20;

impl<K, V> Default for Quarantine<K, V> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), next: 0, bytes: 0 }
    }
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Whether a time is too far ahead of what our clocks call now.
    pub(super) fn is_ahead(&self, now: Now, time: HlcTime) -> bool {
        !self.bugs.no_deferral && self.clock.is_ahead(now, time, self.config.max_drift)
    }

    pub(super) fn is_from_the_future(&self, now: Now, entry: &Entry<K, V>) -> bool {
        self.is_ahead(now, entry.stamp().time.max(entry.dot().counter))
    }

    /// Notes who was ahead.
    pub(super) fn note_offender(&mut self, who: ReplicaId, time: HlcTime) {
        self.counters.deferred += 1;
        if self.offenders.len() < MAX_OFFENDERS || self.offenders.contains_key(&who) {
            self.offenders.insert(who, time);
        }
    }

    pub(super) fn defer(&mut self, _now: Now, entry: Entry<K, V>) {
        self.note_offender(entry.dot().actor, entry.stamp().time.max(entry.dot().counter));
        let bytes = self.deferred.bytes.saturating_add(entry.size as usize);
        if self.deferred.waiting.len() >= self.config.max_deferred || bytes > MAX_BYTES {
            self.counters.deferred_overflow += 1;
            return;
        }
        self.deferred.bytes = bytes;
        let due = entry.stamp().time.max(entry.dot().counter);
        self.deferred.waiting.insert((due, self.deferred.next), entry);
        self.deferred.next += 1;
    }

    /// Merges what is no longer from the future. Nothing has claimed it yet, so it is an orphan
    /// until a claim comes or it is adopted.
    pub(super) fn release_deferred(&mut self, now: Now) {
        if self.incoming.is_some() {
            return;
        }
        while let Some(first) = self.deferred.waiting.first_entry() {
            if self.clock.is_ahead(now, first.key().0, self.config.max_drift) {
                return;
            }
            let entry = first.remove();
            self.deferred.bytes = self.deferred.bytes.saturating_sub(entry.size as usize);
            self.counters.deferred_released += 1;
            if let Merged::Placed(slot) = self.merge_entry(now, entry) {
                self.uncovered.push(slot);
            }
            self.adopt_orphans(now);
        }
    }

    /// Nanoseconds until the next register's time comes.
    pub(super) fn next_deferred_in(&self, now: Now) -> Option<u64> {
        if self.incoming.is_some() {
            return None; // Released when the session has ended.
        }
        let (due, _) = *self.deferred.waiting.first_key_value()?.0;
        let judged = self.clock.judging(now).saturating_add(nanos(self.config.max_drift));
        Some(due.saturating_sub(judged))
    }

    /// Registers that wait for their time.
    #[must_use]
    pub fn deferred_len(&self) -> usize {
        self.deferred.waiting.len()
    }
}
