//! The numbers of a cache for its application.

use serde::Serialize;

use super::counters::{FillStats, ListenerCounters};
use super::shared::Shared;
use super::{CacheKey, CacheValue};
pub use crate::replica::{PeerLag, RemovalStats};

/// Numbers of one cache on one node, since it was opened. From [`Cache::stats`](super::Cache::stats).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheStats {
    /// Look-ups that found a value; also of `get_with` and its like.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Fills by their end.
    pub fills: FillStats,
    /// Values that are no longer here, by cause.
    pub removals: RemovalStats,
    /// Values here, including expired ones that are not yet swept, and ones that do not decode here.
    pub entries: u64,
    /// The sum of their weights.
    pub weight: u64,
    /// Keys remembered as deleted, expired or evicted until every member has seen it.
    pub tombstones: u64,
    /// Panics of the eviction listener.
    pub listener_panics: u64,
    /// Removals that the eviction listener was not told of, because it stood still while very many waited.
    pub listener_lost: u64,
    /// The lag of each other member behind this node's writes.
    pub lags: Vec<PeerLag>,
}

/// Copies the numbers of a cache.
pub(super) fn stats<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> CacheStats {
    let (hits, misses) = shared.writer.reads.totals();
    let wall = shared.around.time.wall();
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
            weight: view.live_weight(),
            tombstones: view.tombstone_len() as u64,
            listener_panics: listener_panics.get(),
            listener_lost: listener_lost.get(),
            lags: engine.replica.lags(wall),
        }
    })
}
