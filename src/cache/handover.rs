//! The filler of a fill, from its caller to the runtime that begins it.

use crate::sync::{AtomicUsize, Mutex, Ordering, seat};

/// A slot that holds a filler until a runtime begins the filler. Afterwards it records the thread that drives that
/// runtime, if there is only one.
pub(crate) struct Handover<W> {
    filler: Mutex<Option<W>>,
    /// The [`seat`] (a small number of the thread), plus one, of the only thread that drives the filler's runtime. Zero
    /// if several threads drive that runtime, or if the filler has not begun.
    driver: AtomicUsize,
}

impl<W> Handover<W> {
    pub(crate) fn new() -> Self {
        Self { filler: Mutex::new(None), driver: AtomicUsize::new(0) }
    }

    /// Stores the filler for the task that begins it.
    pub(crate) fn put(&self, filler: W) {
        *self.filler.lock() = Some(filler);
    }

    /// Takes the filler, if it has not begun. Only one caller gets it.
    pub(crate) fn take(&self) -> Option<W> {
        self.filler.lock().take()
    }

    /// Records that no thread but this one drives the filler's runtime.
    pub(crate) fn note_driver(&self) {
        self.driver.store(seat().map_or(0, |seat| seat + 1), Ordering::Release);
    }

    /// Returns true if the filler makes no progress while this thread is blocked.
    pub(crate) fn is_driven_here(&self) -> bool {
        let driver = self.driver.load(Ordering::Acquire);
        driver > 0 && seat().is_some_and(|seat| seat + 1 == driver)
    }
}
