//! What fills came to, counted.

use super::FillStats;
use super::fill_error::Failure;
use crate::sync::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct FillCounts {
    /// Fillers that brought a value.
    pub(crate) filled: AtomicU64,
    /// Values that another node brought meanwhile.
    pub(crate) arrived: AtomicU64,
    /// Values not cached because something newer was known.
    pub(crate) lost: AtomicU64,
    /// Values not cached because the filler said so.
    pub(crate) uncached: AtomicU64,
    /// Values not cached because they are too large or cannot be serialised.
    pub(crate) refused: AtomicU64,
    /// Fillers that failed.
    pub(crate) failed: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) timed_out: AtomicU64,
    pub(crate) abandoned: AtomicU64,
    /// Calls that would have waited for themselves.
    pub(crate) deadlocks: AtomicU64,
}

impl FillCounts {
    pub(crate) fn note<T>(&self, outcome: &Result<T, Failure>) {
        let count = match outcome {
            Ok(_) | Err(Failure::OwnKey | Failure::Cycle | Failure::WouldBlock) => return,
            Err(Failure::Failed { .. }) => &self.failed,
            Err(Failure::Panicked(_)) => &self.panicked,
            Err(Failure::TimedOut(_)) => &self.timed_out,
            Err(Failure::Abandoned | Failure::NoRuntime) => &self.abandoned,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// As numbers.
    pub(crate) fn snapshot(&self) -> FillStats {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        FillStats {
            running: 0,
            filled: get(&self.filled),
            arrived: get(&self.arrived),
            lost: get(&self.lost),
            uncached: get(&self.uncached),
            refused: get(&self.refused),
            failed: get(&self.failed),
            panicked: get(&self.panicked),
            timed_out: get(&self.timed_out),
            abandoned: get(&self.abandoned),
            deadlocks: get(&self.deadlocks),
        }
    }
}
