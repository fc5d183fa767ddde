//! Locks and atomics with the interface of `src/sync.rs`, on top of shuttle's model checker.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

pub(crate) use shuttle::sync::MutexGuard;
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
pub(crate) use std::sync::Arc;

/// A lock like parking_lot's: it is never poisoned.
pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap()
    }

    pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap()
    }
}

/// A lock like parking_lot's: it is never poisoned.
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }

    pub(crate) fn try_lock(&self) -> Option<shuttle::sync::MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// Returns the number of this thread, as in the library; here the scheduler numbers the threads.
pub(crate) fn seat() -> Option<usize> {
    Some(usize::from(shuttle::thread::current().id()))
}

/// Returns an upper bound on the number of threads: the scheduler does not report their number.
pub(crate) fn seats() -> usize {
    usize::MAX
}

/// The standard `OnceLock`, with a switch to another thread possible before each use.
pub(crate) struct OnceLock<T>(std::sync::OnceLock<T>);

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self(std::sync::OnceLock::new())
    }

    pub(crate) fn get(&self) -> Option<&T> {
        shuttle::thread::yield_now();
        self.0.get()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        shuttle::thread::yield_now();
        self.0.set(value)
    }
}

#[derive(Default)]
struct Waiting {
    notified: u64,
    wakers: VecDeque<Waker>,
}

/// An event like that of event-listener, for `notify(usize::MAX)` only: it wakes all current listeners and no later
/// ones.
pub(crate) struct Event {
    waiting: shuttle::sync::Mutex<Waiting>,
    rung: shuttle::sync::Condvar,
}

impl Event {
    pub(crate) fn new() -> Self {
        Self { waiting: shuttle::sync::Mutex::new(Waiting::default()), rung: shuttle::sync::Condvar::new() }
    }

    pub(crate) fn listen(&self) -> Listener<'_> {
        Listener { event: self, before: self.waiting.lock().unwrap().notified }
    }

    pub(crate) fn notify(&self, _: usize) {
        let mut waiting = self.waiting.lock().unwrap();
        waiting.notified += 1;
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        self.rung.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A listener, registered with an event.
pub(crate) struct Listener<'a> {
    event: &'a Event,
    before: u64,
}

pub(crate) trait Listening {
    fn wait(self);
}

impl Listening for Listener<'_> {
    fn wait(self) {
        let mut waiting = self.event.waiting.lock().unwrap();
        while waiting.notified == self.before {
            waiting = self.event.rung.wait(waiting).unwrap();
        }
    }
}

impl Future for Listener<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.event.waiting.lock().unwrap();
        if waiting.notified != self.before {
            return Poll::Ready(());
        }
        waiting.wakers.push_back(context.waker().clone());
        Poll::Pending
    }
}
