//! The caches that have something for the driver: the one way from a write to the driver's next turn.

use crate::sync::{Arc, AtomicBool, Mutex, Ordering};

/// One opening of a cache, with the flag that it waits for a visit.
pub(crate) struct Caller {
    name: Arc<str>,
    waits: AtomicBool,
}

/// The list of caches that wait for a visit of the driver.
pub(crate) struct Woken {
    waiting: Mutex<Vec<Arc<Caller>>>,
    notify: Box<dyn Fn() + Send + Sync>,
}

impl Caller {
    /// Returns true if the cache waits for a visit, in which the driver will see everything that the caller did before.
    ///
    /// The caller has released the lock under which it wrote. The driver takes that lock after it has cleared the flag. So
    /// if the driver was there before the caller, the caller finds the flag cleared.
    pub(crate) fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }
}

impl Woken {
    /// Creates an empty list. `notify` wakes the driver; it must not block.
    pub(crate) fn new(notify: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { waiting: Mutex::new(Vec::new()), notify }
    }

    /// Returns a caller for a cache that has just been opened.
    pub(crate) fn caller(name: &str) -> Arc<Caller> {
        Arc::new(Caller { name: Arc::from(name), waits: AtomicBool::new(false) })
    }

    /// Asks the driver to visit a cache. Everything that the caller did before will be seen in that visit.
    pub(crate) fn call(&self, caller: &Arc<Caller>) {
        // A cache that waits already will be visited after this write: `take` clears the flag first.
        if !caller.waits.swap(true, Ordering::AcqRel) {
            self.waiting.lock().push(Arc::clone(caller));
            (self.notify)();
        }
    }

    /// Takes the names of the caches that wait. The driver must visit them afterwards.
    pub(crate) fn take(&self) -> Vec<Arc<str>> {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let names = waiting.into_iter().map(|caller| {
            caller.waits.swap(false, Ordering::AcqRel);
            Arc::clone(&caller.name)
        });
        names.collect()
    }
}
