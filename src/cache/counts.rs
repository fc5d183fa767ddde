//! Counts of a cache that are not the replica's. Each kind has a struct of its own, and only that changes them.

use super::bytes_by_kind::BytesByKind;
use super::fill_counts::FillCounts;
use super::intake_counts::IntakeCounts;
#[cfg(feature = "metrics")]
use crate::sync::{AtomicU64, Ordering};

/// Nanoseconds between two publications of the metrics.
#[cfg(feature = "metrics")]
const EVERY: u64 = 1_000_000_000;

/// See the module.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) fills: FillCounts,
    pub(super) intake: IntakeCounts,
    pub(super) bytes: BytesByKind,
    /// The monotonic time at which metrics were last published.
    #[cfg(feature = "metrics")]
    published: AtomicU64,
}

#[cfg(feature = "metrics")]
impl Counts {
    /// Returns whether the metrics are to be published now, by the caller alone.
    pub(super) fn claim_publication(&self, mono: u64) -> bool {
        let last = self.published.load(Ordering::Relaxed);
        let is_due = mono.saturating_sub(last) >= EVERY || last == 0;
        is_due && self.published.compare_exchange(last, mono.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
