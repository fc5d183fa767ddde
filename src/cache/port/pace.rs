//! The state by which the driver and other threads share the sending of one cache.

use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// The time of the driver's next visit to a cache, and the permission of other threads to send for it. Times are
/// monotonic.
#[derive(Debug, Default)]
pub struct Pace {
    /// The time of the driver's next visit. [`u64::MAX`] during a visit.
    due: AtomicU64,
    /// The time before which a write leaves its messages to the driver.
    rests_until: AtomicU64,
    /// True while a thread other than the driver's sends.
    sending: AtomicBool,
}

impl Pace {
    /// Records that the driver begins to visit the cache. It does so before it reads the timers of the cache: a thread
    /// that changes them afterwards finds that the next visit comes too late.
    pub fn begin_visit(&self) {
        self.due.store(u64::MAX, Ordering::SeqCst);
    }

    /// Records the time of the driver's next visit.
    pub fn end_visit(&self, next: u64) {
        self.due.store(next, Ordering::SeqCst);
    }

    /// Returns true if the driver's next visit comes too late for something that is due at this time.
    pub fn is_late_for(&self, at: u64) -> bool {
        at < self.due.load(Ordering::SeqCst)
    }

    /// Leaves the messages of writes to the driver until this time.
    pub fn rest_until(&self, at: u64) {
        self.rests_until.fetch_max(at, Ordering::Relaxed);
    }

    /// Returns true if a write leaves its messages to the driver at this time.
    pub fn rests(&self, now: u64) -> bool {
        now < self.rests_until.load(Ordering::Relaxed)
    }

    /// Makes this thread the one that sends. Returns false if another thread does.
    pub fn try_begin(&self) -> bool {
        !self.sending.swap(true, Ordering::Acquire)
    }

    /// Records that this thread no longer sends.
    pub fn end(&self) {
        self.sending.store(false, Ordering::Release);
    }
}
