//! One fill of one key, shared by all callers that wait for it (single flight).

use hashbrown::HashTable;

use super::fill_error::Failure;
use super::handover::Handover;
use super::waits;
use super::work::Work;
use crate::item::{ItemRef, Key};
use crate::replica::FillTicket;
use crate::sync::{Arc, AtomicBool, Event, Listening, OnceLock, Ordering};

/// The outcome of a fill.
pub(crate) type Outcome<K, V> = Result<ItemRef<K, V>, Failure>;

/// A running fill.
pub(crate) struct Flight<K, V> {
    /// The number of the fill in this process.
    pub(crate) number: u64,
    pub(crate) hash: u64,
    /// The key, in an item without a value. The item catches a panic in the `Drop` of the key.
    pub(crate) item: ItemRef<K, V>,
    /// The stamp of the fill, taken before it started.
    pub(crate) ticket: FillTicket,
    /// The monotonic time at which the fill began.
    pub(crate) begun: u64,
    /// The filler, until a runtime has begun it.
    pub(crate) handover: Handover<Work<K, V>>,
    completing: AtomicBool,
    outcome: OnceLock<Outcome<K, V>>,
    /// Notified once, when the fill ends.
    pub(crate) completed: Event,
    /// Notified when the key is written, on this node or by replication.
    pub(crate) touched: Event,
}

impl<K, V> Flight<K, V> {
    pub(crate) fn new(hash: u64, item: ItemRef<K, V>, ticket: FillTicket, begun: u64) -> Self {
        Self {
            number: waits::number(),
            hash,
            item,
            ticket,
            begun,
            handover: Handover::new(),
            completing: AtomicBool::new(false),
            outcome: OnceLock::new(),
            completed: Event::new(),
            touched: Event::new(),
        }
    }

    /// Returns the outcome, if the fill has ended.
    pub(crate) fn ended(&self) -> Option<&Outcome<K, V>> {
        self.outcome.get()
    }

    /// Returns true for the first caller only, which must then complete the fill.
    pub(crate) fn claim_completion(&self) -> bool {
        !self.completing.swap(true, Ordering::AcqRel)
    }

    /// Sets the outcome and releases the callers that wait. Called once, by the caller that claimed the completion.
    pub(crate) fn complete(&self, outcome: Outcome<K, V>) {
        if self.outcome.set(outcome).is_ok() {
            self.completed.notify(usize::MAX);
        }
    }

    /// Waits until the fill ends, and returns its outcome.
    pub(crate) async fn outcome(&self) -> &Outcome<K, V> {
        loop {
            if let Some(outcome) = self.outcome.get() {
                return outcome;
            }
            let completed = self.completed.listen();
            // Checked again after `listen`, because the fill may have ended in between.
            if self.outcome.get().is_none() {
                completed.await;
            }
        }
    }

    /// As [`outcome`](Self::outcome), but blocks the calling thread.
    pub(crate) fn outcome_blocking(&self) -> &Outcome<K, V> {
        loop {
            if let Some(outcome) = self.outcome.get() {
                return outcome;
            }
            let completed = self.completed.listen();
            if self.outcome.get().is_none() {
                completed.wait();
            }
        }
    }
}

/// The fills that callers can still join: at most one for each key.
pub(crate) struct Flights<K, V> {
    table: HashTable<Arc<Flight<K, V>>>,
}

impl<K: Eq, V> Flights<K, V> {
    pub(crate) fn new() -> Self {
        Self { table: HashTable::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns a fill whose key has this hash. If two keys with fills have this hash, it may be the fill of either key.
    /// That is good enough for a notice. The notified fill looks for its own key, and a fill that misses the notice
    /// waits for its turn.
    pub(crate) fn with_hash(&self, hash: u64) -> Option<Arc<Flight<K, V>>> {
        self.table.find(hash, |flight| flight.hash == hash).map(Arc::clone)
    }

    pub(crate) fn find(&self, hash: u64, key: &Key<K>) -> Option<&Arc<Flight<K, V>>> {
        self.table.find(hash, |flight| flight.hash == hash && flight.item.key == *key)
    }

    /// Adds a fill for later callers to join. Returns the fill of the same key that it replaces, for the caller to
    /// drop.
    pub(crate) fn put(&mut self, flight: Arc<Flight<K, V>>) -> Option<Arc<Flight<K, V>>> {
        let same = |other: &Arc<Flight<K, V>>| other.hash == flight.hash && other.item.key == flight.item.key;
        if let Some(place) = self.table.find_mut(flight.hash, same) {
            return Some(std::mem::replace(place, flight));
        }
        self.table.insert_unique(flight.hash, flight, |flight| flight.hash);
        None
    }

    /// Removes a fill, so that no caller joins it any more. Returns it, for the caller to drop.
    pub(crate) fn remove(&mut self, flight: &Arc<Flight<K, V>>) -> Option<Arc<Flight<K, V>>> {
        // Compared by identity: a newer fill of the same key may have replaced this one.
        let entry = self.table.find_entry(flight.hash, |other| Arc::ptr_eq(other, flight)).ok()?;
        let (flight, _) = entry.remove();
        if self.table.capacity() > 64 && self.table.len() < self.table.capacity() / 8 {
            self.table.shrink_to(self.table.len() * 2, |flight| flight.hash);
        }
        Some(flight)
    }
}
