//! The clocks of one simulated process: a wall clock that may be wrong, and a monotonic clock that is right.

use crate::hlc::Now;

/// The start of simulated wall time: 2024-01-01, in nanoseconds.
pub(super) const EPOCH: u64 = 1_704_067_200_000_000_000;

/// A wall clock with an offset and a drift. It can be frozen.
#[derive(Clone, Debug)]
pub(super) struct SimClock {
    offset: i64,
    drift_ppm: i64,
    /// The simulated time from which the drift accumulates.
    since: u64,
    frozen: Option<u64>,
}

impl SimClock {
    pub(super) fn new(offset: i64, drift_ppm: i64, now: u64) -> Self {
        Self { offset, drift_ppm, since: now, frozen: None }
    }

    /// Returns the readings of both clocks at simulated time `at`.
    pub(super) fn now(&self, at: u64) -> Now {
        Now { wall: self.frozen.unwrap_or_else(|| self.wall(at)), mono: at }
    }

    fn wall(&self, at: u64) -> u64 {
        let drifted = (at.saturating_sub(self.since) as i64).saturating_mul(self.drift_ppm) / 1_000_000;
        (EPOCH + at).saturating_add_signed(self.offset.saturating_add(drifted))
    }

    /// Steps the wall clock by this many nanoseconds.
    pub(super) fn step(&mut self, by: i64) {
        self.offset = self.offset.saturating_add(by);
    }

    /// Freezes the wall clock, or lets it jump to the time that it would show without the freeze. Returns true if this
    /// changes its state.
    pub(super) fn freeze(&mut self, at: u64, on: bool) -> bool {
        let changes = self.frozen.is_some() != on;
        self.frozen = on.then(|| self.wall(at));
        changes
    }

    /// Sets the wall clock right, except for a small offset.
    pub(super) fn repair(&mut self, offset: i64) {
        *self = Self { offset, drift_ppm: 0, since: 0, frozen: None };
    }
}
