//! The results of a run.

use std::collections::BTreeMap;
use std::fmt;

use crate::replica::Counters;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Simulated nanoseconds since the start.
    pub at: u64,
    /// The promise, and the way in which it is broken.
    pub what: String,
}

impl Violation {
    /// Returns the checker that found it: the first word of [`what`](Self::what).
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

/// The faults that the simulator can inject. Each is counted when it has happened, not when it was requested.
const FAULTS: [&str; 54] = [
    "alone",
    "alone and expecting peers",
    "audit of suspects",
    "cache closed",
    "cache opened",
    "clock ahead",
    "clock back",
    "clock drifts",
    "clock far off",
    "clock frozen",
    "clock wrong from the start",
    "clocks apart",
    "crash",
    "dropped while paused",
    "duplicated",
    "evicted",
    "fill with a time to live",
    "forgotten behind a broken link",
    "forgotten by hand",
    "found dead",
    "invalidate all",
    "isolated",
    "join",
    "keys or values of another release",
    "late message",
    "leave",
    "link broken",
    "link broken to the end",
    "link cut",
    "link cut one way",
    "lost",
    "many keys",
    "many nodes",
    "network changed",
    "not open here",
    "pause",
    "queue overflowed",
    "queued for bandwidth",
    "refused",
    "restart",
    "restarted for its clock",
    "returned after it was declared dead",
    "returned before it was declared dead",
    "sent and reported as failed",
    "several caches",
    "slow link",
    "slow message",
    "split",
    "replaced its predecessor",
    "weights beyond one",
    "write beside the replica",
    "write beside the replica of a bounded cache",
    "write with a time to live",
    "writes absorbed together",
];

/// Rare branches of the protocol, by the name of their counter or of the event that shows them. A range of seeds that
/// never reaches a branch does not test it.
const BRANCHES: [&str; 45] = [
    "a broken session was adopted",
    "stills were believed",
    "a fill arrived without its bound",
    "a session raised the floor",
    "a doubt was due",
    "an overtaking void was removed at once",
    "a void was due",
    "adopted",
    "caught up",
    "claims_capped",
    "collected",
    "deferred",
    "deferred_overflow",
    "deferred_purged",
    "deferred_released",
    "evicted and owed",
    "evicted below the floor of a reconcile",
    "evicted_stable",
    "evicted_unsent",
    "evicted_unstable",
    "evictions_taken",
    "expired",
    "fills_contested",
    "fills_expired",
    "fills_lost",
    "forced_drops",
    "forgotten",
    "gaps_reordered",
    "handed over",
    "known to be replicated",
    "in_doubt",
    "missing: evicted",
    "missing: expired",
    "missing: voided",
    "pushes_relayed",
    "reconcile_doubted",
    "reconcile_removed",
    "reconcile_spared",
    "reconcile_voided",
    "reconciles_in",
    "retired_dropped",
    "retired_mismatch",
    "sessions_unclaimed",
    "swept_by_epoch",
    "voided",
];

/// The counts of a run: its activity, its faults and the states that it reached.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The simulated nanoseconds.
    pub simulated: u64,
    /// The number of events: actions, deliveries and timers.
    pub events: u64,
    /// The number of messages handed to the network.
    pub messages: u64,
    /// The number of bytes handed to the network, as encoded by the production encoder.
    pub bytes: u64,
    /// The number of registers handed to the network.
    pub entries: u64,
    /// The nanoseconds that the healed cluster needed to agree.
    pub converged_in: u64,
    /// Injected faults, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Rare branches of the protocol that were reached, by name, except those that have a counter.
    pub reached: BTreeMap<&'static str, u64>,
    /// The counters of all replicas of the run, added up.
    pub states: Counters,
    /// The violation, if there was one.
    pub violation: Option<Violation>,
    /// The events, one line each, if a trace was requested.
    pub trace: Vec<String>,
    /// True if the violation is not due to a schedule, but to unusable types or settings.
    pub(super) unfit: bool,
}

impl Report {
    pub(super) fn fault(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    /// Returns the faults that were never injected and the rare branches that were never reached. After some thousand
    /// seeds of the swarm the list must be empty.
    #[must_use]
    pub fn unreached(&self) -> Vec<&'static str> {
        let counted: BTreeMap<_, _> = self.states.each().collect();
        let happened = |name: &&'static str| {
            let count = self.faults.get(*name).or(self.reached.get(*name)).or(counted.get(*name));
            count.is_some_and(|count| *count > 0)
        };
        FAULTS.into_iter().chain(BRANCHES).filter(|name| !happened(name)).collect()
    }

    /// Returns the injected faults that are not in the list of faults.
    #[must_use]
    pub fn unlisted_faults(&self) -> Vec<&'static str> {
        self.faults.keys().copied().filter(|fault| !FAULTS.contains(fault)).collect()
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
