//! The only source of locks and atomics in the crate, so that those of a model checker can replace them.

#[cfg(feature = "node")]
pub(crate) use std::sync::atomic::AtomicI64;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, OnceLock, Weak};

pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};

pub(crate) use event_listener::{Event, Listener as Listening};

/// The seats whose threads have ended.
static LEFT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
/// The number of seats that were ever issued.
static SEATS: AtomicUsize = AtomicUsize::new(0);

/// A small number that one thread has while it runs. A later thread may have the number after that.
struct Seat(usize);

impl Seat {
    fn take() -> Self {
        Self(LEFT.lock().pop().unwrap_or_else(|| SEATS.fetch_add(1, Ordering::AcqRel)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        LEFT.lock().push(self.0);
    }
}

std::thread_local! {
    static SEAT: Seat = Seat::take();
}

/// Returns the seat of this thread, a small number that no other thread has while this one runs. Returns `None` while
/// the thread ends.
#[inline]
pub(crate) fn seat() -> Option<usize> {
    SEAT.try_with(|seat| seat.0).ok()
}

/// Returns a bound: every [`seat`] that was ever taken is below it.
pub(crate) fn seats() -> usize {
    SEATS.load(Ordering::Acquire)
}

/// Blocks this thread until `future` completes. The future must not need a runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
