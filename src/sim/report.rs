//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;

use crate::replica::Counters;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Simulated nanoseconds since the start.
    pub at: u64,
    /// Which promise, and how.
    pub what: String,
}

impl Violation {
    /// Which checker found it: the first word of [`what`](Self::what).
    #[must_use]
    pub fn checker(&self) -> &str {
        self.what.split(':').next().unwrap_or_default()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:.6} s: {}", self.at as f64 / 1e9, self.what)
    }
}

/// What a run did and reached.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Simulated nanoseconds.
    pub simulated: u64,
    /// Events: actions, deliveries and timers.
    pub events: u64,
    /// Messages handed to the network.
    pub messages: u64,
    /// Bytes handed to the network, encoded by the production encoder.
    pub bytes: u64,
    /// Registers handed to the network.
    pub entries: u64,
    /// Nanoseconds that the healed cluster needed to agree.
    pub converged_in: u64,
    /// Faults injected, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Rare branches of the protocol reached, by name, besides those that have a counter of their own.
    pub reached: BTreeMap<&'static str, u64>,
    /// States reached: the counters of all replicas that ever were.
    pub states: Counters,
    /// What went wrong, if anything.
    pub violation: Option<Violation>,
    /// What happened, one line each, if asked for.
    pub trace: Vec<String>,
    /// What went wrong is no schedule: the types or the settings cannot be.
    pub(super) unfit: bool,
}

impl Report {
    pub(super) fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    pub(super) fn reach(&mut self, name: &'static str) {
        *self.reached.entry(name).or_default() += 1;
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        self.simulated += other.simulated;
        self.events += other.events;
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.entries += other.entries;
        self.converged_in = self.converged_in.max(other.converged_in);
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        for (name, count) in &other.reached {
            *self.reached.entry(name).or_default() += count;
        }
        self.states.add(&other.states);
    }
}
