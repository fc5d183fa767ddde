//! The counts of a cache that its replica does not keep: fills, malformed messages, bytes.

use serde::Serialize;

use super::fill_error::Failure;
use crate::counters::{Counter, counters};
use crate::histogram::{Histogram, LOOKUPS, WAITS};
use crate::message::Message;
#[cfg(feature = "metrics")]
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The nanoseconds between two publications of the metrics.
#[cfg(feature = "metrics")]
const EVERY: u64 = 1_000_000_000;

/// The counts of a cache that are neither its replica's nor its listener's.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) fills: FillCounters,
    pub(super) intake: IntakeCounters,
    pub(super) bytes_in: BytesByKind,
    pub(super) bytes_out: BytesByKind,
    pub(super) timings: CacheTimings,
    /// The monotonic time at which metrics were last published.
    #[cfg(feature = "metrics")]
    published: AtomicU64,
    #[cfg(feature = "metrics")]
    pub(super) last_published: Mutex<super::published::Published>,
}

/// The times that a cache measures, besides those of its replica.
pub(super) struct CacheTimings {
    /// The time of each fill, from the miss to the outcome.
    pub(super) fills: Histogram,
    /// The time of a look-up, of a few among many.
    pub(super) gets: Histogram,
}

impl Default for CacheTimings {
    fn default() -> Self {
        Self { fills: Histogram::new(WAITS), gets: Histogram::new(LOOKUPS) }
    }
}

#[cfg(feature = "metrics")]
impl Counts {
    /// Returns true if the metrics must be published now, by this caller alone.
    pub(super) fn claim_publication(&self, mono: u64) -> bool {
        let last = self.published.load(Ordering::Relaxed);
        let is_due = mono.saturating_sub(last) >= EVERY || last == 0;
        // Threads may tick at the same time; the exchange succeeds for one of them.
        is_due && self.published.compare_exchange(last, mono.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

counters! {
    /// The number of fills, by outcome.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
    pub struct FillStats of FillCounters {
        @now {
            /// Fills that run now and can be joined.
            running,
        }
        /// Fillers that returned a value.
        filled,
        /// Fills that became unnecessary while they waited for their turn, because another node's value arrived.
        arrived,
        /// Values returned to their callers and not cached, because something newer was known or the filler took longer
        /// than `fill_hold`.
        lost,
        /// Values not cached because the filler asked for that.
        uncached,
        /// Values not cached because they are too large or cannot be serialised.
        refused,
        /// Fillers that failed.
        failed,
        /// Fillers that panicked.
        panicked,
        /// Fills that took longer than `fill_timeout`.
        timed_out,
        /// Fills whose runtime ended, or that had none.
        abandoned,
        /// Calls refused because they would have waited for themselves: from within a filler, or by blocking the
        /// filler's runtime.
        deadlocks,
    }
}

impl FillCounters {
    pub(crate) fn note<T>(&self, outcome: &Result<T, Failure>) {
        match outcome {
            Ok(_) | Err(Failure::OwnKey | Failure::Cycle | Failure::WouldBlock) => {}
            Err(Failure::Failed(_)) => self.failed.one(),
            Err(Failure::Panicked(_)) => self.panicked.one(),
            Err(Failure::TimedOut(_)) => self.timed_out.one(),
            Err(Failure::Abandoned | Failure::NoRuntime) => self.abandoned.one(),
        }
    }
}

counters! {
    /// The number of messages and entries that could not be decoded or encoded.
    shared struct IntakeCounters {
        malformed,
        undecodable_values,
        undecodable_keys,
        unencodable,
    }
}

counters! {
    /// The number of failures of the eviction listener.
    shared struct ListenerCounters {
        /// Panics.
        listener_panics,
        /// Removals that the listener was not called for.
        listener_lost,
    }
}

counters! {
    /// The encoded bytes sent or received, by kind of message.
    shared struct BytesByKind {
        digest,
        push,
        ack,
        frame,
        audit,
    }
}

impl BytesByKind {
    /// Returns the count for messages of this kind.
    pub(crate) fn of<K, V>(&self, message: &Message<K, V>) -> &Counter {
        match message {
            Message::Digest(_) => &self.digest,
            Message::Push(_) => &self.push,
            Message::Ack(_) => &self.ack,
            Message::Frame(_) => &self.frame,
            Message::Audit(_) => &self.audit,
        }
    }
}
