//! The statistics of a cache, for its application.

use serde::Serialize;

use super::counters::{FillStats, ListenerCounters};
use super::shared::Shared;
use super::{CacheKey, CacheValue};
use crate::item::panics_in_drop;
pub use crate::replica::{PeerLag, RemovalStats};

/// The statistics of one cache on one node, counted since the cache was opened. Returned by
/// [`Cache::stats`](super::Cache::stats).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheStats {
    /// Look-ups that found a value, including those of `get_with` and its variants.
    pub hits: u64,
    /// Look-ups that found no value.
    pub misses: u64,
    /// Fills, by outcome.
    pub fills: FillStats,
    /// Values that were removed or replaced on this node, by cause.
    pub removals: RemovalStats,
    /// Values held here. Includes expired values that are not yet swept, and values that do not decode here.
    pub entries: u64,
    /// Those of `entries` that have a time to live.
    pub expiring: u64,
    /// The sum of the weights of these values.
    pub weight: u64,
    /// Tombstones held here: keys that are remembered as deleted, expired, evicted or void, until every member has seen
    /// the tombstone.
    pub tombstones: u64,
    /// Panics of the eviction listener.
    pub listener_panics: u64,
    /// Removals that were not reported to the eviction listener, because it stood still while 65,536 removals waited.
    pub listener_lost: u64,
    /// Panics in the `Drop` of keys and values. They are contained: the call in which a value was dropped goes on. All
    /// caches of this process that have the same key and value types share this count.
    pub drop_panics: u64,
    /// The lag of each other member behind this node's writes.
    pub lags: Vec<PeerLag>,
}

/// Returns a copy of the statistics of a cache.
pub(super) fn stats<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> CacheStats {
    let (hits, misses) = shared.writer.reads.totals();
    let wall = shared.services.time.wall();
    let ListenerCounters { listener_panics, listener_lost } = &shared.writer.listeners.counters;
    shared.writer.adjust(|engine| {
        let fills = FillStats { running: engine.flights.len() as u64, ..shared.counts.fills.counters() };
        let view = engine.replica.view();
        CacheStats {
            hits,
            misses,
            fills,
            removals: view.removals(),
            entries: view.live_len(),
            expiring: view.expiring_len(),
            weight: view.live_weight(),
            tombstones: view.tombstone_len() as u64,
            listener_panics: listener_panics.get(),
            listener_lost: listener_lost.get(),
            drop_panics: panics_in_drop::<K, V>(),
            lags: engine.replica.lags(wall),
        }
    })
}
