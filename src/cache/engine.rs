//! The replica with a capacity: the only place where recency meets replication.

use smallvec::SmallVec;

use super::flight::Flights;
use crate::hlc::Now;
use crate::item::Item;
use crate::recency::{ReadLog, Recency};
use crate::replica::{Change, CoreKey, Effect, Replica};
use crate::store::SlotRef;
use crate::sync::Arc;

/// What is to be done once the lock is gone: tell listeners, drop user types.
pub(crate) struct Settled<K, V> {
    pub(crate) changes: SmallVec<[Change<K, V>; 1]>,
    pub(crate) garbage: SmallVec<[Arc<Item<K, V>>; 2]>,
}

/// A replica and the order in which its values were used.
pub(crate) struct Engine<K, V> {
    pub(crate) replica: Replica<K, V>,
    capacity: Option<u64>,
    recency: Option<Recency>,
    /// Somebody listens to changes.
    pub(crate) listening: bool,
    /// The fills that run.
    pub(crate) flights: Flights<K, V>,
}

impl<K: CoreKey, V> Engine<K, V> {
    pub(crate) fn new(replica: Replica<K, V>, capacity: Option<u64>) -> Self {
        Self { replica, capacity, recency: capacity.map(|_| Recency::new()), listening: false, flights: Flights::new() }
    }

    /// Follows what changed, evicts down to capacity, and hands out what is left to do without the
    /// lock. To be called after every command and every `handle_*`.
    pub(crate) fn settle(&mut self, now: Now, reads: &ReadLog) -> Settled<K, V> {
        let mut changes = SmallVec::new();
        self.follow(now, &mut changes);
        if self.is_over_capacity() {
            self.apply_reads(reads);
            while self.is_over_capacity() && self.evict_one(now) {
                self.follow(now, &mut changes);
            }
        }
        Settled { changes, garbage: self.replica.take_garbage() }
    }

    /// Applies noted reads to the order of use.
    pub(crate) fn apply_reads(&mut self, reads: &ReadLog) {
        if let Some(recency) = &mut self.recency {
            reads.drain(|id| recency.touch(id));
        }
    }

    fn is_over_capacity(&self) -> bool {
        self.capacity.is_some_and(|capacity| self.replica.live_weight() > capacity)
    }

    fn evict_one(&mut self, now: Now) -> bool {
        let Some(slot) = self.recency.as_mut().and_then(Recency::pop) else { return false };
        self.replica.evict(now, slot);
        true
    }

    fn follow(&mut self, now: Now, changes: &mut SmallVec<[Change<K, V>; 1]>) {
        while let Some(change) = self.replica.poll_change() {
            let slot = change.slot;
            let remains = self.note_use(&change);
            if self.listening {
                changes.push(change);
            }
            if remains && self.is_too_heavy(slot) {
                // Heavier than everything we may hold: giving up others would not help.
                self.replica.evict(now, slot);
            }
        }
    }

    /// Whether there is a value now. Merging does not refresh what is here: only local use does.
    fn note_use(&mut self, change: &Change<K, V>) -> bool {
        let Some(recency) = &mut self.recency else { return false };
        match change.effect {
            Effect::Inserted => recency.insert(change.slot),
            Effect::Updated if change.local => recency.insert(change.slot),
            Effect::Updated => {}
            Effect::Removed(_) => {
                recency.remove(change.slot);
                return false;
            }
        }
        true
    }

    fn is_too_heavy(&self, slot: SlotRef) -> bool {
        let weight = self.replica.store().meta(slot).map_or(0, |meta| u64::from(meta.weight));
        self.capacity.is_some_and(|capacity| weight > capacity)
    }

    /// The live values, the most recently used first.
    pub(crate) fn by_recency(&self) -> impl Iterator<Item = SlotRef> + '_ {
        self.recency.iter().flat_map(Recency::iter)
    }
}
