//! What a cache did and how it stands.

use std::time::Duration;

use serde::Serialize;

use super::fill_counts::FillStats;
use super::shared::Shared;
use super::{CacheKey, CacheValue};
use crate::replica::{Lag, RemovalStats};
use crate::replica_id::ReplicaId;

/// Numbers of one cache on one node, since it was opened. From [`Cache::stats`](super::Cache::stats).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheStats {
    /// Look-ups that found a value; also of `get_with` and its like.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// What fills came to.
    pub fills: FillStats,
    /// Values that are no longer here, by cause.
    pub removals: RemovalStats,
    /// Values here, including expired ones that are not yet swept, and ones that do not decode here.
    pub entries: u64,
    /// The sum of their weights.
    pub weight: u64,
    /// Keys remembered as deleted, expired or evicted until everybody has heard of it.
    pub tombstones: u64,
    /// Panics of the eviction listener.
    pub listener_panics: u64,
    /// Removals that the eviction listener was not told of, because it stood still while very many waited.
    pub listener_lost: u64,
    /// How far other members are behind this node's writes.
    pub lags: Vec<PeerLag>,
}

/// How far a member is behind this node's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PeerLag {
    /// The member.
    pub member: ReplicaId,
    /// Whether the failure detector calls it alive.
    pub live: bool,
    /// The age of the oldest own write that it is not known to have; zero if there is none.
    pub behind: Duration,
    /// How many own writes it is not known to have. Writes that were overwritten since may be counted
    /// for a while.
    pub writes: u64,
}

/// Takes the numbers of a cache at one moment.
pub(super) fn of<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> CacheStats {
    let (hits, misses) = shared.writer.reads.totals();
    let wall = shared.around.time.wall();
    let lag = |lag: Lag| PeerLag {
        member: lag.member,
        live: lag.live,
        behind: Duration::from_nanos(lag.oldest.map_or(0, |oldest| wall.saturating_sub(oldest))),
        writes: lag.writes as u64,
    };
    shared.writer.adjust(|engine| {
        let fills = FillStats { running: engine.flights.len() as u64, ..shared.counts.fills.snapshot() };
        let view = engine.replica.view();
        CacheStats {
            hits,
            misses,
            fills,
            removals: view.removals(),
            entries: view.live_len(),
            weight: view.live_weight(),
            tombstones: view.tombstone_len() as u64,
            listener_panics: shared.writer.listeners.panics(),
            listener_lost: shared.writer.listeners.lost(),
            lags: engine.replica.lags().into_iter().map(lag).collect(),
        }
    })
}
