//! The measurement of the time from a write on one node until it is readable on all nodes.

use driftless::{Cache, InsertError};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The time after which an unseen probe counts as lost.
const LOST: Duration = Duration::from_secs(5);

/// The times from write to visible, one per probe and receiving node.
#[derive(Debug, Default)]
pub struct Latencies {
    times: Vec<Duration>,
    pub lost: u64,
}

impl Latencies {
    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// Returns the time within which `percent` percent of the probes were visible.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied()
    }
}

/// A writer of probes. It has its own cache, so that probes do not disturb the replay.
pub struct Prober<'a> {
    caches: &'a [Cache<u64, u64>],
    next: u64,
}

impl<'a> Prober<'a> {
    pub fn new(caches: &'a [Cache<u64, u64>]) -> Self {
        Self { caches, next: 0 }
    }

    /// Sends a number of probes, one after another, without other load.
    pub fn idle(&mut self, probes: usize) -> Result<Latencies, InsertError> {
        let mut latencies = Latencies::default();
        for _ in 0..probes {
            self.probe(&mut latencies, thread::yield_now)?;
            thread::sleep(Duration::from_millis(2));
        }
        Ok(latencies)
    }

    /// Sends a probe every few milliseconds until `done`. It sleeps between checks, to leave the processors to the
    /// worker threads.
    pub fn until(&mut self, done: &AtomicBool) -> Result<Latencies, InsertError> {
        let mut latencies = Latencies::default();
        while !done.load(Ordering::Relaxed) {
            self.probe(&mut latencies, || thread::sleep(Duration::from_micros(20)))?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(latencies)
    }

    /// Returns true once every node has received a write of every other node, or false after `within`.
    pub fn all_connected(&mut self, within: Duration) -> Result<bool, InsertError> {
        let start = Instant::now();
        let mut connected = 0;
        while connected < self.caches.len() && start.elapsed() < within {
            let mut latencies = Latencies::default();
            self.probe(&mut latencies, || thread::sleep(Duration::from_millis(1)))?;
            connected = if latencies.lost == 0 { connected + 1 } else { 0 };
        }
        Ok(connected == self.caches.len())
    }

    /// Sends one probe. Calls `between` after each check that finds nothing new.
    fn probe(&mut self, latencies: &mut Latencies, between: impl Fn()) -> Result<(), InsertError> {
        let writer = (self.next % self.caches.len() as u64) as usize;
        let key = self.next % 1000;
        self.next += 1;
        let start = Instant::now();
        self.caches[writer].insert(key, self.next)?;
        let mut waiting: Vec<usize> = (0..self.caches.len()).filter(|&node| node != writer).collect();
        while !waiting.is_empty() && start.elapsed() < LOST {
            let before = waiting.len();
            waiting.retain(|&node| self.caches[node].get(&key) != Some(self.next));
            let seen = before - waiting.len();
            latencies.times.extend(std::iter::repeat_n(start.elapsed(), seen));
            if seen == 0 {
                between();
            }
        }
        latencies.lost += waiting.len() as u64;
        Ok(())
    }
}
