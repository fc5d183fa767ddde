//! The metrics for the `metrics` facade (feature `metrics`), published about once a second to the recorder of the
//! process. Names, labels and units are those of `/metrics` of the debug interface (feature `inspect-http`). The page
//! [operations](crate::docs::operations#names-of-metrics) lists them.
//!
//! Two things differ, because the facade has no other form for them:
//!
//! - A time in a histogram is published as the limit of its bucket: with the same buckets in the exporter, the counts
//!   are the same. No recorder is called while a lock is held or a value is read.
//! - A series that no longer exists, such as a warning that has ended, is published as 0 once. A bound that no longer
//!   exists is published as `NaN`.
//!
//! The metrics of the process (`process_...`) are not published here: an application has its own exporter for them.

use super::shared::Shared;
use super::{CacheKey, CacheValue, report};
use crate::report::vocabulary::of_caches;

/// Publishes the metrics of a cache if the last publication was at least a second ago.
pub(super) fn publish_if_due<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, mono: u64) {
    if shared.counts.claim_publication(mono) {
        let families = of_caches(&[&report::report(shared)]);
        // Only this call has it: a call of the recorder is user code, which must run outside of locks.
        let mut published = std::mem::take(&mut *shared.counts.last_published.lock());
        published.publish(&families);
        *shared.counts.last_published.lock() = published;
    }
}
