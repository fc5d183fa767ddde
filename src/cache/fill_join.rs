//! The decision of a caller that missed: it joins a fill of its key, or leads one.

use super::fill_error::Failure;
use super::fill_wait::join_bound;
use super::flight::Flight;
use super::shared::Shared;
use super::waits::{self, Deadlock, Waiting};
use super::{CacheKey, CacheValue};
use crate::hlc::nanos;
use crate::item::{ItemRef, Key};
use crate::sync::Arc;

/// The way on for a caller that missed.
pub(super) enum Next<K, V> {
    /// The value has come meanwhile.
    Found(ItemRef<K, V>),
    /// Another caller's filler runs already.
    Join(Arc<Flight<K, V>>),
    /// The caller's filler is the one that runs.
    Lead(Arc<Flight<K, V>>),
}

/// Joins the fill of a key, or begins one that the caller has to run.
pub(super) fn join_or_lead<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, key: &K) -> Next<K, V> {
    let now = shared.around.time.now();
    let hash = shared.reader.hash(key);
    // User types are cloned before and dropped after the lock is held.
    let mut key = Some(Key::Known(key.clone()));
    let mut replaced = None;
    shared.writer.change(now, |engine| {
        let Some(known) = key.take() else { unreachable!("taken once") };
        let found = engine.replica.view().find_key(hash, &known).filter(|found| shared.reader.is_readable(found));
        if let Some(found) = found {
            key = Some(known);
            return Next::Found(found.item);
        }
        if let Some(flight) = engine.flights.find(hash, &known)
            && now.mono.saturating_sub(flight.begun) < nanos(join_bound(&shared.settings))
            && !engine.replica.view().is_fill_overtaken(&flight.ticket, hash, &known)
        {
            key = Some(known);
            return Next::Join(Arc::clone(flight));
        }
        let ticket = engine.replica.begin_fill(now, hash, &known);
        let flight = Arc::new(Flight::new(hash, known, ticket, now.mono));
        replaced = engine.flights.put(Arc::clone(&flight));
        Next::Lead(flight)
    })
}

/// Begins a fill that nothing runs.
#[cfg(test)]
pub(super) fn lead_for_test<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, key: &K) -> Option<Arc<Flight<K, V>>> {
    match join_or_lead(shared, key) {
        Next::Lead(flight) => Some(flight),
        Next::Found(_) | Next::Join(_) => None,
    }
}

/// Notes that the caller waits for a fill. Refuses a filler that would wait for itself.
pub(super) fn wait_for<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    flight: &Flight<K, V>,
) -> Result<Waiting, Failure> {
    waits::wait_for(flight.number).map_err(|deadlock| {
        shared.counts.fills.deadlocks.one();
        match deadlock {
            Deadlock::OwnKey => Failure::OwnKey,
            Deadlock::Cycle => Failure::Cycle,
        }
    })
}
