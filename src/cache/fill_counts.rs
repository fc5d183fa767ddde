//! Counts of what fills came to.

use serde::Serialize;

use super::fill_error::Failure;
use crate::sync::{AtomicU64, Ordering};

/// Counts of fills by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FillStats {
    /// Fills that run now and can be joined.
    pub running: u64,
    /// Fillers that brought a value.
    pub filled: u64,
    /// Fills that another node's value made unnecessary while they waited for their turn.
    pub arrived: u64,
    /// Values returned to their callers and not cached, because something newer was known or the filler took longer than
    /// `fill_hold`.
    pub lost: u64,
    /// Values not cached because the filler said so.
    pub uncached: u64,
    /// Values not cached because they are too large or cannot be serialised.
    pub refused: u64,
    /// Fillers that failed.
    pub failed: u64,
    /// Fillers that panicked.
    pub panicked: u64,
    /// Fills that took longer than `fill_timeout`.
    pub timed_out: u64,
    /// Fills whose runtime ended, or that had none.
    pub abandoned: u64,
    /// Calls refused because they would have waited for themselves: from within a filler, or by blocking the filler's runtime.
    pub deadlocks: u64,
}

impl FillStats {
    /// Returns its counts by name.
    pub(super) fn outcomes(&self) -> [(&'static str, u64); 10] {
        [
            ("filled", self.filled),
            ("arrived", self.arrived),
            ("lost", self.lost),
            ("uncached", self.uncached),
            ("refused", self.refused),
            ("failed", self.failed),
            ("panicked", self.panicked),
            ("timed_out", self.timed_out),
            ("abandoned", self.abandoned),
            ("deadlocks", self.deadlocks),
        ]
    }
}

/// The counts behind [`FillStats`], as threads add to them.
#[derive(Debug, Default)]
pub(super) struct FillCounts {
    filled: AtomicU64,
    arrived: AtomicU64,
    lost: AtomicU64,
    uncached: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    timed_out: AtomicU64,
    abandoned: AtomicU64,
    deadlocks: AtomicU64,
}

fn add_one(count: &AtomicU64) -> u64 {
    count.fetch_add(1, Ordering::Relaxed)
}

impl FillCounts {
    /// Counts a filler that brought a value.
    pub(super) fn note_filled(&self) {
        add_one(&self.filled);
    }

    /// Counts a value that another node brought meanwhile.
    pub(super) fn note_arrived(&self) {
        add_one(&self.arrived);
    }

    /// Counts a value that is not cached because something newer was known.
    pub(super) fn note_lost(&self) {
        add_one(&self.lost);
    }

    /// Counts a value that is not cached because the filler said so.
    pub(super) fn note_uncached(&self) {
        add_one(&self.uncached);
    }

    /// Counts a value that is too large or cannot be serialised. Returns the count if it is to be logged: after one, and after
    /// each doubling.
    pub(super) fn note_refused(&self) -> Option<u64> {
        let before = add_one(&self.refused);
        (before.is_power_of_two() || before == 0).then_some(before + 1)
    }

    /// Counts a call that would have waited for itself.
    pub(super) fn note_deadlock(&self) {
        add_one(&self.deadlocks);
    }

    /// Counts a fill that ended without a value.
    pub(super) fn note_failure(&self, failure: &Failure) {
        match failure {
            Failure::OwnKey | Failure::Cycle | Failure::WouldBlock => 0,
            Failure::Failed { .. } => add_one(&self.failed),
            Failure::Panicked(_) => add_one(&self.panicked),
            Failure::TimedOut(_) => add_one(&self.timed_out),
            Failure::Abandoned | Failure::NoRuntime => add_one(&self.abandoned),
        };
    }

    /// Returns the counts as numbers; those of fills that run are the caller's to add.
    pub(super) fn snapshot(&self) -> FillStats {
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
