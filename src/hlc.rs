//! The hybrid logical clock (Kulkarni et al. 2014).
//!
//! Times are nanoseconds since the UNIX epoch in 64 bits, valid until the year 2554. The low bits also serve as the
//! logical counter: two events in one clock tick are [`GRAIN`] nanoseconds apart. So a clock that stands still drifts
//! by that much per event, and no counter can overflow. The times in between are for fills. For instance, a fill that
//! replaces a recent register is stamped just above that register, and below any later write of the same clock.
//!
//! Nothing here reads a clock: the core takes [`Now`] as an argument everywhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A hybrid logical time: nanoseconds since the UNIX epoch.
pub type HlcTime = u64;

/// The least distance between events of one clock, in nanoseconds. Every time that a clock issues is a multiple of it.
pub const GRAIN: u64 = 16;

/// The readings of the driver's clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall time: nanoseconds since the UNIX epoch. May step back and forth.
    pub wall: HlcTime,
    /// Monotonic time: nanoseconds since an arbitrary start. Never goes back.
    pub mono: u64,
}

/// Returns `duration` in nanoseconds, at most [`u64::MAX`].
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock of one replica. It issues strictly increasing times and judges those of other replicas.
///
/// ```
/// use driftless::hlc::{Clock, Now};
/// let mut clock = Clock::new(Now { wall: 1_000, mono: 0 });
/// let first = clock.tick(Now { wall: 1_000, mono: 0 });
/// let second = clock.tick(Now { wall: 400, mono: 1 }); // the wall clock went back
/// assert!(second > first);
/// ```
#[derive(Clone, Debug)]
pub struct Clock {
    /// The highest time issued or observed so far.
    last: HlcTime,
    /// The last reading of the wall clock that was not a step back, and the monotonic time of that reading.
    carried_wall: HlcTime,
    carried_mono: u64,
    /// Added to the wall clock: the time taken over from other members, in nanoseconds.
    offset: u64,
}

/// Returns the next time that a clock issues: not before the wall time `wall`, and later than `last`.
#[inline]
pub(crate) fn next_time(wall: HlcTime, last: HlcTime) -> HlcTime {
    wall.max(last.saturating_add(1)).checked_next_multiple_of(GRAIN).unwrap_or(HlcTime::MAX)
}

/// The most by which wall and monotonic clock may disagree before a step is assumed, in nanoseconds.
const SLEW: u64 = 100_000_000;

impl Clock {
    /// Creates a clock that starts at `now`.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self { last: 0, carried_wall: now.wall, carried_mono: now.mono, offset: 0 }
    }

    /// Issues the next time of this replica: later than every time issued or observed before.
    ///
    /// Source: Kulkarni et al. 2014, with the logical counter in the low bits.
    pub fn tick(&mut self, now: Now) -> HlcTime {
        self.carry(now);
        self.last = next_time(now.wall.saturating_add(self.offset), self.last);
        self.last
    }

    /// Notes a time of another replica. The next [`tick`](Self::tick) is later.
    ///
    /// The caller has checked it with [`is_ahead`](Self::is_ahead).
    pub fn observe(&mut self, time: HlcTime) {
        self.last = self.last.max(time);
    }

    /// Returns the highest time issued or observed so far.
    #[must_use]
    pub fn last(&self) -> HlcTime {
        self.last
    }

    /// Returns true if `time` lies more than `max_drift` ahead of the [judging](Self::judging) time.
    #[must_use]
    pub fn is_ahead(&self, now: Now, time: HlcTime, max_drift: Duration) -> bool {
        time > self.judging(now).saturating_add(nanos(max_drift))
    }

    /// Returns the time by which timestamps of other replicas are judged. It is the wall time, or the wall time carried
    /// forward by the monotonic clock if that is later. So a step back of this replica's own clock does not make it
    /// reject all other replicas.
    #[must_use]
    pub fn judging(&self, now: Now) -> HlcTime {
        now.wall.max(self.carried(now)).saturating_add(self.offset_at(now))
    }

    /// Makes this clock run this much ahead of the wall clock from now on. A later step forward of the wall clock is
    /// taken as its correction, and is subtracted.
    pub fn set_offset(&mut self, now: Now, nanos: u64) {
        self.carry(now);
        self.offset = nanos;
    }

    /// Returns the nanoseconds that are added to the wall clock.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the nanoseconds by which the wall clock has stepped relative to the monotonic one. Positive means that
    /// the wall clock is ahead.
    #[must_use]
    pub fn disagreement(&self, now: Now) -> i64 {
        let diff = i128::from(now.wall) - i128::from(self.carried(now));
        i64::try_from(diff).unwrap_or(if diff < 0 { i64::MIN } else { i64::MAX })
    }

    /// Returns the remaining offset. A step forward of the wall clock is subtracted at once, even before
    /// [`carry`](Self::carry) has followed it.
    fn offset_at(&self, now: Now) -> u64 {
        let step = now.wall.saturating_sub(self.carried(now));
        if step > SLEW { self.offset.saturating_sub(step) } else { self.offset }
    }

    /// Returns the wall time that the monotonic clock predicts from the last reading that was not a step back.
    fn carried(&self, now: Now) -> HlcTime {
        self.carried_wall.saturating_add(now.mono.saturating_sub(self.carried_mono))
    }

    /// Follows the wall clock while it advances or is slewed. Keeps the carried time if the wall clock was set back.
    fn carry(&mut self, now: Now) {
        self.offset = self.offset_at(now);
        if now.wall.saturating_add(SLEW) >= self.carried(now) {
            self.carried_wall = now.wall;
            self.carried_mono = now.mono;
        }
    }
}

/// The time and the replica of a write: the total order of last-writer-wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Hybrid logical time of the write.
    pub time: HlcTime,
    /// The replica that wrote. It decides between equal times.
    pub replica: crate::replica_id::ReplicaId,
}

impl Stamp {
    /// A stamp below every stamp that a write can carry.
    pub const ZERO: Self = Self { time: 0, replica: crate::replica_id::ReplicaId::MIN };

    /// Creates a stamp.
    #[must_use]
    pub const fn new(time: HlcTime, replica: crate::replica_id::ReplicaId) -> Self {
        Self { time, replica }
    }

    /// Returns the highest stamp of one instant.
    #[must_use]
    pub const fn end_of(time: HlcTime) -> Self {
        Self { time, replica: crate::replica_id::ReplicaId::MAX }
    }
}

/// Formats seconds since 1970 and the writer: `1764081234.000000321@0d9f2c1a-...`.
impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:09}@{}", self.time / 1_000_000_000, self.time % 1_000_000_000, self.replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: u64, mono: u64) -> Now {
        Now { wall, mono }
    }

    #[test]
    fn a_stamp_reads_as_seconds_and_writer() {
        let stamp = Stamp::new(1_764_081_234_000_000_321, crate::replica_id::ReplicaId::MIN);
        assert_eq!(stamp.to_string(), format!("1764081234.000000321@{}", crate::replica_id::ReplicaId::MIN));
    }

    /// Scenario 9: the wall clock goes back one hour. Times still rise, and times of other replicas are not rejected.
    #[test]
    fn times_rise_when_the_wall_clock_goes_back() {
        let hour = 3_600_000_000_000;
        let mut clock = Clock::new(at(2 * hour, 0));
        let before = clock.tick(at(2 * hour, 0));
        let after = clock.tick(at(hour, 1));
        assert!(after > before);
        assert!(
            !clock.is_ahead(at(hour, 1), 2 * hour, Duration::from_secs(1)),
            "a step of the own clock must not refuse stamps of other nodes"
        );
    }

    /// Scenario 13: a clock that stands still through two million writes issues distinct times.
    #[test]
    fn a_frozen_clock_issues_distinct_times_and_drifts_a_grain_each() {
        let mut clock = Clock::new(at(1_000, 0));
        let mut last = 0;
        for _ in 0..2_000_000 {
            let next = clock.tick(at(1_000, 0));
            assert!(next > last);
            last = next;
        }
        assert_eq!(last, 1_008 + GRAIN * 1_999_999);
    }

    #[test]
    fn a_wall_clock_before_1970_is_zero_and_still_ticks() {
        // Scenario 15: the driver maps an unreadable or early clock to zero.
        let mut clock = Clock::new(at(0, 0));
        assert_eq!(clock.tick(at(0, 0)), GRAIN);
    }

    /// Taken time: a step forward of the wall clock counts as its correction, and ends the offset.
    #[test]
    fn time_that_was_taken_over_ends_when_the_wall_clock_is_put_right() {
        let second = 1_000_000_000;
        let mut clock = Clock::new(at(10 * second, 0));
        clock.set_offset(at(10 * second, 0), 5 * second);
        assert_eq!(clock.tick(at(10 * second, 0)), 15 * second);
        assert!(!clock.is_ahead(at(10 * second, 0), 15 * second, Duration::ZERO));
        clock.tick(at(16 * second, second));
        assert_eq!((clock.offset(), clock.judging(at(17 * second, 2 * second))), (0, 17 * second));
    }

    /// Taken time: a correction counts for judging at once, before the next time is issued.
    #[test]
    fn others_are_judged_by_a_wall_clock_from_the_moment_it_is_put_right() {
        let second = 1_000_000_000;
        let mut clock = Clock::new(at(10 * second, 0));
        clock.set_offset(at(10 * second, 0), 5 * second);
        assert_eq!(clock.judging(at(16 * second, second)), 16 * second, "not 21: no time was issued since");
        assert!(clock.is_ahead(at(16 * second, second), 18 * second, Duration::from_secs(1)));
    }

    #[test]
    fn far_future_is_ahead_near_future_is_not() {
        let clock = Clock::new(at(1_000, 0));
        assert!(clock.is_ahead(at(1_000, 0), u64::MAX, Duration::from_secs(1)));
        assert!(!clock.is_ahead(at(1_000, 0), 900_000_000, Duration::from_secs(1)));
    }
}
