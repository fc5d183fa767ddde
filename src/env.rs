//! The environment of a replica's calls: its id, settings, clock, random numbers and counters.

use crate::arrival::{Arrival, Provenance};
use crate::bugs::{Bugs, PutBack};
use crate::config::ReplicaConfig;
use crate::counters::Counters;
use crate::histogram::{AGES, Histogram, WAITS};
use crate::hlc::{Clock, GRAIN, HlcTime, Now, nanos};
use crate::message::Entry;
use crate::replica_id::ReplicaId;

/// The times that a replica measures.
#[derive(Debug)]
pub(crate) struct ReplicaTimings {
    /// The time from an own write to its acknowledgement by a member: the newest write of each acknowledgement.
    pub(crate) acknowledged: Histogram,
    /// The age of each value that was evicted to stay within capacity.
    pub(crate) evicted: Histogram,
}

impl Default for ReplicaTimings {
    fn default() -> Self {
        Self { acknowledged: Histogram::new(WAITS), evicted: Histogram::new(AGES) }
    }
}

/// The environment of a replica's calls. It lasts as long as the replica; only `now` belongs to one call.
#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) id: ReplicaId,
    pub(crate) config: ReplicaConfig,
    put_back: PutBack,
    pub(crate) clock: Clock,
    pub(crate) random: fastrand::Rng,
    pub(crate) counters: Counters,
    pub(crate) timings: ReplicaTimings,
    /// Monotonic time at which the replica was opened, in nanoseconds.
    pub(crate) opened: u64,
    /// The time of the current call. [`Replica`](crate::replica::Replica) sets it first in each call.
    pub(crate) now: Now,
}

impl Env {
    pub(crate) fn new(id: ReplicaId, config: ReplicaConfig, random: fastrand::Rng, now: Now) -> Self {
        let (clock, counters, timings) = (Clock::new(now), Counters::default(), ReplicaTimings::default());
        Self { id, config, put_back: PutBack::default(), clock, random, counters, timings, opened: now.mono, now }
    }

    /// Returns the known mistakes that are put back. There are none outside of tests that test the checkers.
    pub(crate) fn bugs(&self) -> Bugs {
        self.put_back.bugs()
    }

    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn set_bugs(&mut self, bugs: Bugs) {
        self.put_back.set(bugs);
    }

    /// Returns `max_drift` in nanoseconds, rounded up to ticks of the clock. A watermark and the stamp of a fill both lie
    /// this much below a tick, and a fill must lie above every earlier watermark.
    pub(crate) fn max_drift(&self) -> u64 {
        nanos(self.config.max_drift).checked_next_multiple_of(GRAIN).unwrap_or(u64::MAX)
    }

    /// Issues the next time of this replica's clock.
    pub(crate) fn tick(&mut self) -> HlcTime {
        self.clock.tick(self.now)
    }

    /// Returns the time by which timestamps of other replicas are judged.
    pub(crate) fn judging(&self) -> HlcTime {
        self.clock.judging(self.now)
    }

    /// Returns true if a time lies more than `max_drift` ahead of this replica's clocks.
    pub(crate) fn is_ahead(&self, time: HlcTime) -> bool {
        !self.bugs().no_deferral && self.clock.is_ahead(self.now, time, self.config.max_drift)
    }

    /// Returns true if the stamp or the dot of an entry lies more than `max_drift` ahead: the entry is deferred.
    pub(crate) fn is_from_the_future<K, V>(&self, entry: &Entry<K, V>) -> bool {
        self.is_ahead(entry.stamp().time.max(entry.dot().counter))
    }

    /// Returns the time and path of a register that arrives now by the path `by`.
    pub(crate) fn arrival(&self, by: Provenance) -> Arrival {
        Arrival::new(self.now.mono.saturating_sub(self.opened), by)
    }

    /// Returns the monotonic time that is `by` nanoseconds later than now.
    pub(crate) fn later(&self, by: u64) -> u64 {
        self.now.mono.saturating_add(by)
    }

    /// Returns the age in nanoseconds below which writes are assumed to be in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        nanos(self.config.repair_delay).saturating_mul(4)
    }

    /// Returns `mean`, plus or minus a random amount of up to a quarter.
    pub(crate) fn jittered(&mut self, mean: u64) -> u64 {
        (mean - mean / 4).saturating_add(self.random.u64(0..=mean / 2))
    }
}
