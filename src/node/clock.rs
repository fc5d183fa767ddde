//! The only place that reads the wall clock, and that draws ids and random seeds of replicas. The driver, `ready` and
//! the mesh also read the monotonic clock (`Instant`), for timers, deadlines and ages. The mesh draws its own jitter.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::cache::TimeSource;
use crate::hlc::{HlcTime, Now, nanos};
use crate::sync::{Arc, AtomicI64, AtomicU64, Ordering};

/// The clocks of this machine.
#[derive(Debug)]
pub(crate) struct SystemClock {
    start: Instant,
    /// Wall time less monotonic time, when the wall clock was last read.
    ahead: AtomicU64,
    /// The monotonic time at which the wall clock was last read.
    looked_up: AtomicU64,
    /// The error of the wall time, in nanoseconds. For drills, which step clocks.
    offset: Option<Arc<AtomicI64>>,
}

/// Nanoseconds after which the wall clock is read again, and a step of it is noticed. Every write needs both times.
/// Until then the wall time is computed from the monotonic clock, so that a write reads one clock only.
const LOOK_AGAIN: u64 = 1_000_000;

impl SystemClock {
    pub(crate) fn new(offset: Option<Arc<AtomicI64>>) -> Self {
        let (ahead, looked_up) = (AtomicU64::new(0), AtomicU64::new(0));
        let clock = Self { start: Instant::now(), ahead, looked_up, offset };
        clock.look_up(0);
        clock
    }

    /// Reads the wall clock and records it for the next calls of `now`.
    fn look_up(&self, mono: u64) -> HlcTime {
        let wall = self.wall();
        self.ahead.store(wall.wrapping_sub(mono), Ordering::Relaxed);
        self.looked_up.store(mono, Ordering::Release);
        wall
    }

    /// Returns the instant of a monotonic time.
    pub(crate) fn instant(&self, mono: u64) -> Instant {
        let far = self.start + Duration::from_secs(365 * 86_400);
        self.start.checked_add(Duration::from_nanos(mono)).unwrap_or(far)
    }
}

impl TimeSource for SystemClock {
    fn now(&self) -> Now {
        let mono = nanos(self.start.elapsed());
        let due = mono.saturating_sub(self.looked_up.load(Ordering::Acquire)) >= LOOK_AGAIN;
        let wall = if due { self.look_up(mono) } else { mono.wrapping_add(self.ahead.load(Ordering::Relaxed)) };
        Now { wall, mono }
    }

    /// Returns the wall time. A wall clock before 1970 counts as 1970: stamps still rise, and other replicas report
    /// this clock as late.
    fn wall(&self) -> HlcTime {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos);
        self.offset.as_ref().map_or(wall, |offset| wall.saturating_add_signed(offset.load(Ordering::Relaxed)))
    }
}

/// Draws a fresh id and a seed.
pub(crate) fn entropy() -> (Uuid, u64) {
    (Uuid::new_v4(), Uuid::new_v4().as_u64_pair().1)
}
