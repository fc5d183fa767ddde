//! The clocks of one simulated replica: wall time that lies, monotonic time that does not.

use crate::hlc::Now;

/// Where simulated wall time starts: 2024-01-01, in nanoseconds.
pub(super) const EPOCH: u64 = 1_704_067_200_000_000_000;

/// A wall clock with an offset, a drift, and now and then a freeze.
#[derive(Clone, Debug)]
pub(super) struct SimClock {
    offset: i64,
    drift_ppm: i64,
    /// The drift counts from here on.
    since: u64,
    frozen: Option<u64>,
}

impl SimClock {
    pub(super) fn new(offset: i64, drift_ppm: i64, now: u64) -> Self {
        Self { offset, drift_ppm, since: now, frozen: None }
    }

    /// What both clocks say at simulated time `at`.
    pub(super) fn now(&self, at: u64) -> Now {
        Now { wall: self.frozen.unwrap_or_else(|| self.wall(at)), mono: at }
    }

    fn wall(&self, at: u64) -> u64 {
        let drifted = (at.saturating_sub(self.since) as i64).saturating_mul(self.drift_ppm) / 1_000_000;
        (EPOCH + at).saturating_add_signed(self.offset.saturating_add(drifted))
    }

    /// Steps the wall clock.
    pub(super) fn step(&mut self, by: i64) {
        self.offset = self.offset.saturating_add(by);
    }

    /// Stops the wall clock, or lets it jump back to what it should say.
    /// Returns whether it stood or went before.
    pub(super) fn freeze(&mut self, at: u64, on: bool) -> bool {
        let changes = self.frozen.is_some() != on;
        self.frozen = on.then(|| self.wall(at));
        changes
    }

    /// Sets the wall clock right, but for a small offset.
    pub(super) fn repair(&mut self, offset: i64) {
        *self = Self { offset, drift_ppm: 0, since: 0, frozen: None };
    }
}
