//! The end of a fill: its value is stored, then its callers are released.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::fill_error::Failure;
use super::filled::Filled;
use super::flight::{Flight, Outcome};
use super::insert_error::InsertError;
use super::shared::Shared;
use super::work::Brought;
use super::{CacheKey, CacheValue, prepare, tick};
use crate::garbage::drop_quietly;
use crate::hlc::Now;
use crate::item::{Body, Item, ItemRef, Key};
use crate::replica::Write;
use crate::sync::Arc;

/// Ends a fill, if it has not ended: stores its value, then releases every caller that waits for it.
pub(super) fn complete<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    flight: &Arc<Flight<K, V>>,
    result: Result<Brought<K, V>, Failure>,
) {
    if !flight.claim_completion() {
        return drop_quietly([result]);
    }
    // Storing runs user code. If it panics, the callers must still get an outcome.
    let stored = catch_unwind(AssertUnwindSafe(|| store(shared, flight, result)));
    let outcome = stored.unwrap_or_else(|payload| {
        abort(shared, flight);
        Err(Failure::panicked(payload))
    });
    shared.counts.fills.note(&outcome);
    shared.counts.timings.fills.record(shared.services.time.now().mono.saturating_sub(flight.begun));
    flight.complete(outcome);
}

fn store<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    flight: &Arc<Flight<K, V>>,
    result: Result<Brought<K, V>, Failure>,
) -> Outcome<K, V> {
    let filled = match result {
        Ok(Brought::Filled(filled)) => filled,
        Ok(Brought::Arrived(item)) => {
            abort(shared, flight);
            shared.counts.fills.arrived.one();
            return Ok(item);
        }
        Err(failure) => {
            abort(shared, flight);
            return Err(failure);
        }
    };
    let now = shared.services.time.now();
    let (item, write) = write_of(shared, now, (flight.hash, &flight.item.key), filled);
    match write {
        Ok(Some(write)) => finish(shared, now, flight, write),
        Ok(None) => abort(shared, flight),
        Err(error) => {
            abort(shared, flight);
            if let Some(count) = shared.counts.fills.refused.one_to_log() {
                tracing::warn!(cache = %shared.name, count, %error, "a filled value was returned and not cached");
            }
        }
    }
    Ok(item)
}

/// The item of a filled value, and the write that stores it: none if the filler asked for that, or the reason why it is
/// refused.
type ItemAndWrite<K, V> = (ItemRef<K, V>, Result<Option<Write<K, V>>, InsertError>);

/// Prepares the end of a fill. Runs user code, so it must not be called under a lock.
pub(super) fn write_of<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    now: Now,
    (hash, key): (u64, &Key<K>),
    filled: Filled<V>,
) -> ItemAndWrite<K, V> {
    shared.counts.fills.filled.one();
    let item = ItemRef::new(Item { key: key.clone(), body: Body::Known(filled.value) });
    let Some(lifetime) = filled.keep else {
        shared.counts.fills.uncached.one();
        return (item, Ok(None));
    };
    let write = prepare::item_of(shared, now, hash, &item, lifetime).map(Some);
    (item, write)
}

fn finish<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, now: Now, flight: &Arc<Flight<K, V>>, write: Write<K, V>) {
    let kept = ItemRef::clone(&write.item);
    let _joinable = shared.writer.change(now, |engine| {
        let stored = engine.replica.finish_fill(now, &flight.ticket, write);
        if stored.is_none() {
            shared.counts.fills.lost.one();
        }
        engine.flights.remove(flight)
    });
    drop(kept); // Not under the lock, if this is the last reference.
    tick::after_write(shared);
}

fn abort<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, flight: &Arc<Flight<K, V>>) {
    let _joinable = shared.writer.change(shared.services.time.now(), |engine| {
        engine.replica.abort_fill(&flight.ticket);
        engine.flights.remove(flight)
    });
}
