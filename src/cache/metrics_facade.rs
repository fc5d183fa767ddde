//! The statistics of [`CacheStats`](super::CacheStats) and [`Counters`](crate::Counters) for the `metrics` facade
//! (feature `metrics`). They are published about once a second, each with the label `cache`.
//!
//! | name | kind | content |
//! | --- | --- | --- |
//! | `driftless_hits_total`, `driftless_misses_total` | counter | look-ups |
//! | `driftless_fills_total{outcome}` | counter | fills: `filled`, `arrived`, `lost`, `uncached`, `refused`, `failed`, `panicked`, `timed_out`, `abandoned`, `deadlocks` |
//! | `driftless_fills_running` | gauge | running fills |
//! | `driftless_removals_total{cause}` | counter | removed values: `expired`, `explicit`, `replaced`, `size`, `invalidated`, `void`, `reconcile` |
//! | `driftless_entries`, `driftless_weight`, `driftless_tombstones` | gauge | the present contents of this node |
//! | `driftless_listener_panics_total` | counter | panics of the eviction listener |
//! | `driftless_listener_lost_total` | counter | removals that were not reported to the eviction listener |
//! | `driftless_lag_seconds{member}` | gauge | age of the oldest own write that a live member is not known to have |
//! | `driftless_lag_writes{member}` | gauge | number of own writes that a live member is not known to have |
//! | `driftless_replication_total{event}` | counter | every field of `Counters`, by name |

use metrics::{counter, gauge};

use super::shared::Shared;
use super::{CacheKey, CacheValue, stats};

/// Publishes the statistics of a cache if the last publication was at least a second ago.
pub(super) fn publish_if_due<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, mono: u64) {
    if shared.counts.claim_publication(mono) {
        publish(shared);
    }
}

fn publish<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) {
    let (stats, cache) = (stats::stats(shared), shared.name.to_string());
    counter!("driftless_hits_total", "cache" => cache.clone()).absolute(stats.hits);
    counter!("driftless_misses_total", "cache" => cache.clone()).absolute(stats.misses);
    for (outcome, count) in stats.fills.each() {
        counter!("driftless_fills_total", "cache" => cache.clone(), "outcome" => outcome).absolute(count);
    }
    for (cause, count) in stats.removals.each() {
        counter!("driftless_removals_total", "cache" => cache.clone(), "cause" => cause).absolute(count);
    }
    counter!("driftless_listener_panics_total", "cache" => cache.clone()).absolute(stats.listener_panics);
    counter!("driftless_listener_lost_total", "cache" => cache.clone()).absolute(stats.listener_lost);
    gauge!("driftless_fills_running", "cache" => cache.clone()).set(stats.fills.running as f64);
    gauge!("driftless_entries", "cache" => cache.clone()).set(stats.entries as f64);
    gauge!("driftless_weight", "cache" => cache.clone()).set(stats.weight as f64);
    gauge!("driftless_tombstones", "cache" => cache.clone()).set(stats.tombstones as f64);
    for lag in stats.lags.iter().filter(|lag| lag.live) {
        let member = lag.member.to_string();
        gauge!("driftless_lag_seconds", "cache" => cache.clone(), "member" => member.clone())
            .set(lag.behind.as_secs_f64());
        gauge!("driftless_lag_writes", "cache" => cache.clone(), "member" => member).set(lag.writes as f64);
    }
    let counters = shared.writer.look(|engine| engine.replica.view().counters().clone());
    for (event, count) in counters.each() {
        counter!("driftless_replication_total", "cache" => cache.clone(), "event" => event).absolute(count);
    }
}
