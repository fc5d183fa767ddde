//! Registers from the future wait in a bounded quarantine until their time comes.

use std::collections::BTreeMap;

use super::merge::Merged;
use super::message::Entry;
use super::{CoreKey, Replica};
use crate::hlc::{HlcTime, Now, nanos};
use crate::replica_id::ReplicaId;

/// Offenders named at most.
const MAX_OFFENDERS: usize = 64;

/// When a register is due, and its dot.
type Place = (HlcTime, ReplicaId, HlcTime);

pub(super) struct Quarantine<K, V> {
    /// By the time they are due and the dot: what is offered again and again waits once.
    waiting: BTreeMap<Place, Entry<K, V>>,
    /// Of keys and values that wait.
    bytes: usize,
    /// Whose clock was found too far ahead, and the time they claimed.
    pub(super) offenders: BTreeMap<ReplicaId, HlcTime>,
}

/// Bytes of keys and values that wait, at most.
const MAX_BYTES: usize = 64 << 20;

impl<K, V> Default for Quarantine<K, V> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), bytes: 0, offenders: BTreeMap::new() }
    }
}

#[cfg(any(test, feature = "sim"))]
impl<K, V> Quarantine<K, V> {
    /// Bytes that wait, and how many may.
    pub(super) fn burden(&self) -> (usize, usize) {
        (self.bytes, MAX_BYTES)
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
        let offenders = &mut self.deferred.offenders;
        if offenders.len() < MAX_OFFENDERS || offenders.contains_key(&who) {
            offenders.insert(who, time);
        }
    }

    /// Puts an entry in quarantine, unless it would lose what came with it.
    pub(super) fn defer(&mut self, _now: Now, entry: Entry<K, V>, bounded: bool) {
        self.note_offender(entry.dot().actor, entry.stamp().time.max(entry.dot().counter));
        if bounded || (!self.peers.contains_key(&entry.dot().actor) && !self.bugs.quarantine_keeps_departed) {
            // A departed origin never delivers what overtook this entry. A member that holds it offers it again.
            self.counters.deferred_overflow += 1;
            return;
        }
        let due = entry.stamp().time.max(entry.dot().counter);
        let place = (due, entry.dot().actor, entry.dot().counter);
        if let Some(waits) = self.deferred.waiting.get(&place) {
            // The same event; another marker only if it lost its body somewhere.
            if waits.marker == entry.marker || waits.kind().is_live() {
                return;
            }
            self.take_deferred(place);
        }
        let bytes = self.deferred.bytes.saturating_add(entry.size as usize);
        if self.deferred.waiting.len() >= self.config.max_deferred || bytes > MAX_BYTES {
            self.counters.deferred_overflow += 1;
            return;
        }
        self.deferred.bytes = bytes;
        self.deferred.waiting.insert(place, entry);
    }

    /// Drops what waits of a member that was forgotten. No replica has merged it, and writes and deletes made since by
    /// right clocks are stamped below it: merged when its time comes, it would undo them.
    pub(super) fn purge_deferred(&mut self, origin: ReplicaId) {
        self.deferred.offenders.remove(&origin);
        if self.bugs.quarantine_keeps_departed {
            return;
        }
        let of_origin = |place: &&Place| place.1 == origin;
        let gone: Vec<_> = self.deferred.waiting.keys().filter(of_origin).copied().collect();
        for place in gone {
            self.counters.deferred_purged += u64::from(self.take_deferred(place).is_some());
        }
    }

    fn take_deferred(&mut self, place: Place) -> Option<Entry<K, V>> {
        let entry = self.deferred.waiting.remove(&place)?;
        self.deferred.bytes = self.deferred.bytes.saturating_sub(entry.size as usize);
        self.set_aside(std::iter::once(&entry));
        Some(entry)
    }

    /// Merges what is no longer from the future. Nothing has claimed it yet, so it is an orphan
    /// until a claim comes or it is adopted.
    pub(super) fn release_deferred(&mut self, now: Now) {
        if self.incoming.is_some() {
            return;
        }
        while let Some((place, _)) = self.deferred.waiting.first_key_value() {
            if self.clock.is_ahead(now, place.0, self.config.max_drift) {
                return;
            }
            let Some(entry) = self.take_deferred(*place) else { return };
            self.counters.deferred_released += 1;
            self.path = crate::learnt::LearntBy::Waited;
            if let Merged::Placed(slot) = self.merge_entry(now, entry, None) {
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
        let (due, ..) = *self.deferred.waiting.first_key_value()?.0;
        let judged = self.clock.judging(now).saturating_add(nanos(self.config.max_drift));
        Some(due.saturating_sub(judged))
    }

    /// Registers that wait for their time.
    #[must_use]
    pub fn deferred_len(&self) -> usize {
        self.deferred.waiting.len()
    }
}
