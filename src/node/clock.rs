//! The one place where clocks are read and randomness is drawn.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::cache::TimeSource;
use crate::hlc::{HlcTime, Now, nanos};

/// The clocks of this machine.
#[derive(Debug)]
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The instant of a monotonic time.
    pub(crate) fn instant(&self, mono: u64) -> Instant {
        let far = self.start + Duration::from_secs(365 * 86_400);
        self.start.checked_add(Duration::from_nanos(mono)).unwrap_or(far)
    }
}

impl TimeSource for SystemClock {
    fn now(&self) -> Now {
        Now { wall: self.wall(), mono: nanos(self.start.elapsed()) }
    }

    /// A wall clock before 1970 counts as 1970: stamps still rise, and others call us late.
    fn wall(&self) -> HlcTime {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos)
    }
}

/// A fresh id and a seed.
pub(crate) fn entropy() -> (Uuid, u64) {
    (Uuid::new_v4(), Uuid::new_v4().as_u64_pair().1)
}
