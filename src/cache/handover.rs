//! A filler on its way to the runtime that begins it.

use crate::sync::{AtomicUsize, Mutex, Ordering, seat};

/// Holds a filler until a runtime begins it, and knows afterwards on which thread it runs.
pub(crate) struct Handover<W> {
    filler: Mutex<Option<W>>,
    /// One more than the seat of the only thread that drives the filler's runtime; zero if there are more, or it has not begun.
    driver: AtomicUsize,
}

impl<W> Handover<W> {
    pub(crate) fn new() -> Self {
        Self { filler: Mutex::new(None), driver: AtomicUsize::new(0) }
    }

    /// Leaves the filler for the task that begins it.
    pub(crate) fn put(&self, filler: W) {
        *self.filler.lock() = Some(filler);
    }

    /// The filler, if it has not begun. Only one caller gets it.
    pub(crate) fn take(&self) -> Option<W> {
        self.filler.lock().take()
    }

    /// Notes that no thread but this one drives the filler's runtime.
    pub(crate) fn note_driver(&self) {
        self.driver.store(seat().map_or(0, |seat| seat + 1), Ordering::Release);
    }

    /// Whether the filler makes no progress while this thread is blocked.
    pub(crate) fn is_driven_here(&self) -> bool {
        let driver = self.driver.load(Ordering::Acquire);
        driver > 0 && seat().is_some_and(|seat| seat + 1 == driver)
    }
}
