//! The one door to locks and atomics, so that they can be exchanged for a model checker's.

#[cfg(feature = "node")]
pub(crate) use std::sync::atomic::AtomicI64;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, OnceLock, Weak};

pub(crate) use parking_lot::{Mutex, RwLock};

pub(crate) use event_listener::{Event, Listener as Listening};

/// Seats that threads have left, and how many there are.
static SEATS: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

struct Seat(usize);

impl Seat {
    fn take() -> Self {
        let mut seats = SEATS.lock();
        let (left, all) = &mut *seats;
        Self(left.pop().unwrap_or_else(|| {
            *all += 1;
            *all - 1
        }))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        SEATS.lock().0.push(self.0);
    }
}

std::thread_local! {
    static SEAT: Seat = Seat::take();
}

/// A small number that no other thread has while this one runs; none while the thread ends.
#[inline]
pub(crate) fn seat() -> Option<usize> {
    SEAT.try_with(|seat| seat.0).ok()
}
