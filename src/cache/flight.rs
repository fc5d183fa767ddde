//! One fill of one key, shared by all who wait for it (single flight).

use hashbrown::HashTable;

use super::fill_error::Failure;
use super::handover::Handover;
use super::waits;
use super::work::Work;
use crate::item::{ItemRef, Key};
use crate::replica::FillTicket;
use crate::sync::{Arc, AtomicBool, Event, Listening, OnceLock, Ordering};

/// What a fill came to.
pub(crate) type Outcome<K, V> = Result<ItemRef<K, V>, Failure>;

/// A running fill.
pub(crate) struct Flight<K, V> {
    /// Its number in this process.
    pub(crate) number: u64,
    pub(crate) hash: u64,
    pub(crate) key: Key<K>,
    /// Its stamp, from before its start.
    pub(crate) ticket: FillTicket,
    /// When it began, by monotonic time.
    pub(crate) begun: u64,
    /// Its filler, until that has begun.
    pub(crate) handover: Handover<Work<K, V>>,
    completing: AtomicBool,
    outcome: OnceLock<Outcome<K, V>>,
    /// Notified once, at its end.
    pub(crate) completed: Event,
    /// Notified when its key was written to, also by others.
    pub(crate) touched: Event,
}

impl<K, V> Flight<K, V> {
    pub(crate) fn new(hash: u64, key: Key<K>, ticket: FillTicket, begun: u64) -> Self {
        Self {
            number: waits::number(),
            hash,
            key,
            ticket,
            begun,
            handover: Handover::new(),
            completing: AtomicBool::new(false),
            outcome: OnceLock::new(),
            completed: Event::new(),
            touched: Event::new(),
        }
    }

    /// What the fill came to, if it has ended.
    pub(crate) fn ended(&self) -> Option<&Outcome<K, V>> {
        self.outcome.get()
    }

    /// Whether the caller is the one to end this fill: only the first is.
    pub(crate) fn claim_completion(&self) -> bool {
        !self.completing.swap(true, Ordering::AcqRel)
    }

    /// Ends the fill and releases its waiters. To be called once, by the caller that claimed the completion.
    pub(crate) fn complete(&self, outcome: Outcome<K, V>) {
        if self.outcome.set(outcome).is_ok() {
            self.completed.notify(usize::MAX);
        }
    }

    pub(crate) async fn outcome(&self) -> &Outcome<K, V> {
        loop {
            if let Some(outcome) = self.outcome.get() {
                return outcome;
            }
            let completed = self.completed.listen();
            if self.outcome.get().is_none() {
                completed.await;
            }
        }
    }

    /// As [`outcome`](Self::outcome), for a thread that may block.
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

    /// A fill of a key with this hash: for notices, which may be for nothing.
    pub(crate) fn with_hash(&self, hash: u64) -> Option<Arc<Flight<K, V>>> {
        self.table.find(hash, |flight| flight.hash == hash).map(Arc::clone)
    }

    pub(crate) fn find(&self, hash: u64, key: &Key<K>) -> Option<&Arc<Flight<K, V>>> {
        self.table.find(hash, |flight| flight.hash == hash && flight.key == *key)
    }

    /// Whoever comes from now on joins this one. Gives the one it takes the place of, for the caller
    /// to drop.
    pub(crate) fn put(&mut self, flight: Arc<Flight<K, V>>) -> Option<Arc<Flight<K, V>>> {
        let same = |other: &Arc<Flight<K, V>>| other.hash == flight.hash && other.key == flight.key;
        if let Some(place) = self.table.find_mut(flight.hash, same) {
            return Some(std::mem::replace(place, flight));
        }
        self.table.insert_unique(flight.hash, flight, |flight| flight.hash);
        None
    }

    /// Nobody joins this one any more.
    pub(crate) fn remove(&mut self, flight: &Arc<Flight<K, V>>) -> Option<Arc<Flight<K, V>>> {
        let entry = self.table.find_entry(flight.hash, |other| Arc::ptr_eq(other, flight)).ok()?;
        let (flight, _) = entry.remove();
        if self.table.capacity() > 64 && self.table.len() < self.table.capacity() / 8 {
            self.table.shrink_to(self.table.len() * 2, |flight| flight.hash);
        }
        Some(flight)
    }
}
