//! The door to locks and atomics, as `src/sync.rs` is, with a model checker behind it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
pub(crate) use std::sync::Arc;

/// As parking_lot's: no poisoning.
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

/// As the library's: the scheduler numbers its threads.
pub(crate) fn seat() -> Option<usize> {
    Some(usize::from(shuttle::thread::current().id()))
}

/// The scheduler does not say how many there were.
pub(crate) fn seats() -> usize {
    usize::MAX
}

/// The standard one, with a chance for others before each use.
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

/// As event-listener's, for `notify(usize::MAX)`: wakes whoever listens at that moment, and nobody later.
pub(crate) struct Event {
    waiting: shuttle::sync::Mutex<Waiting>,
    rung: shuttle::sync::Condvar,
}

impl Event {
    pub(crate) fn new() -> Self {
        Self { waiting: shuttle::sync::Mutex::new(Waiting::default()), rung: shuttle::sync::Condvar::new() }
    }

    pub(crate) fn listen(&self) -> Heard<'_> {
        Heard { event: self, before: self.waiting.lock().unwrap().notified }
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

/// Somebody who listens.
pub(crate) struct Heard<'a> {
    event: &'a Event,
    before: u64,
}

pub(crate) trait Listening {
    fn wait(self);
}

impl Listening for Heard<'_> {
    fn wait(self) {
        let mut waiting = self.event.waiting.lock().unwrap();
        while waiting.notified == self.before {
            waiting = self.event.rung.wait(waiting).unwrap();
        }
    }
}

impl Future for Heard<'_> {
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
