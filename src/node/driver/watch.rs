//! The regular look at this node's own reports: warnings begin and end although no report is requested, and metrics are published.

use std::time::Duration;

use tokio::time::Instant;

use super::Driver;
use crate::node::report::report_without_caches;

/// The time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// The most caches that one look reads. If more are open, they take turns.
const CACHES: usize = 4;

/// The state between two looks.
pub(super) struct Watch {
    at: Instant,
    /// The position of the next cache, among all that are open.
    next: usize,
    #[cfg(feature = "metrics")]
    published: crate::cache::metrics_facade::Published,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            at: Instant::now(),
            next: 0,
            #[cfg(feature = "metrics")]
            published: Default::default(),
        }
    }
}

/// Reads the reports if the last look was at least a second ago.
pub(super) fn look(driver: &mut Driver, now: Instant) {
    if driver.watch.at > now {
        return;
    }
    driver.watch.at = now + EVERY;
    let report = report_without_caches(&driver.registry, &driver.mesh, true);
    #[cfg(feature = "metrics")]
    driver.watch.published.publish(&crate::report::vocabulary::of_node(&report));
    drop(report);
    let ports = driver.registry.ports();
    let (count, first) = (ports.len(), driver.watch.next);
    for turn in 0..count.min(CACHES) {
        let port = &ports[(first + turn) % count];
        // The report is not used: making it records the warnings of the cache.
        driver.contain(port, (), |port| drop(port.report()));
    }
    driver.watch.next = (first + CACHES) % count.max(1);
}
