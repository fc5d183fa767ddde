//! The decision of a caller that missed a key: it joins a fill of that key, or leads one.

use super::fill_error::Failure;
use super::fill_wait::join_bound;
use super::flight::Flight;
use super::shared::Shared;
use super::waits::{self, Deadlock, Waiting};
use super::{CacheKey, CacheValue};
use crate::hlc::nanos;
use crate::item::ItemRef;
use crate::sync::Arc;

/// The next step of a caller that missed a key.
pub(super) enum Next<K, V> {
    /// The value has arrived meanwhile.
    Found(ItemRef<K, V>),
    /// The fill that another caller leads already.
    Join(Arc<Flight<K, V>>),
    /// A new fill, for which this caller runs its filler.
    Lead(Arc<Flight<K, V>>),
}

/// Returns the value if it has arrived meanwhile. Otherwise joins the fill of the key, or begins a fill that the caller
/// has to run. `item` holds the key.
pub(super) fn join_or_lead<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, item: &ItemRef<K, V>) -> Next<K, V> {
    let now = shared.services.time.now();
    let (key, hash) = (&item.key, shared.reader.hash_of(&item.key));
    let mut replaced = None; // Dropped after the lock is released.
    shared.writer.change(now, |engine| {
        let found = engine.replica.view().find_key(hash, key).filter(|found| shared.reader.is_readable(found));
        if let Some(found) = found {
            return Next::Found(found.item);
        }
        // A fill that has lost to a newer register or an invalidation since its start is not joined: this caller may
        // know of that change, and must not get a value from before it. A fill that is too old to be stored is not
        // joined either.
        if let Some(flight) = engine.flights.find(hash, key)
            && now.mono.saturating_sub(flight.begun) < nanos(join_bound(&shared.settings))
            && !engine.replica.view().is_fill_overtaken(&flight.ticket, hash, key)
        {
            return Next::Join(Arc::clone(flight));
        }
        let ticket = engine.replica.begin_fill(now, hash, key);
        let flight = Arc::new(Flight::new(hash, ItemRef::clone(item), ticket, now.mono));
        replaced = engine.flights.put(Arc::clone(&flight));
        Next::Lead(flight)
    })
}

/// Begins a fill for which no filler runs.
#[cfg(test)]
pub(super) fn lead_for_test<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, key: &K) -> Option<Arc<Flight<K, V>>> {
    match join_or_lead(shared, &crate::item::of_key(key.clone())) {
        Next::Lead(flight) => Some(flight),
        Next::Found(_) | Next::Join(_) => None,
    }
}

/// Records that the caller waits for a fill. Fails if the caller runs inside a filler that would then wait for itself,
/// directly or through other fills.
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
