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

/// Every fault that the simulator can inject. Each is counted when it has happened, not when it was asked for.
const FAULTS: [&str; 51] = [
    "alone",
    "alone and waiting for others",
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
    "found down",
    "invalidate all",
    "isolated",
    "join",
    "keys or values of another release",
    "late words",
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
    "returned after it was called dead",
    "returned before it was missed",
    "sent and called failed",
    "several caches",
    "slow link",
    "slow message",
    "split",
    "took another's place",
    "weights beyond one",
    "write with a time to live",
];

/// Rare branches of the protocol, by the name of their counter or of the event that shows them. A band of seeds that
/// never reaches one of them says nothing about it.
const BRANCHES: [&str; 44] = [
    "a broken session was adopted",
    "a fill came without its bound",
    "a floor came with a session",
    "a doubt was due",
    "a void that overtook left at once",
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

    /// Faults that were never injected and rare branches that were never reached. After some thousand seeds of the swarm
    /// there must be none.
    #[must_use]
    pub fn unreached(&self) -> Vec<&'static str> {
        let counted: BTreeMap<_, _> = self.states.each().collect();
        let happened = |name: &&'static str| {
            let count = self.faults.get(*name).or(self.reached.get(*name)).or(counted.get(*name));
            count.is_some_and(|count| *count > 0)
        };
        FAULTS.into_iter().chain(BRANCHES).filter(|name| !happened(name)).collect()
    }

    /// Faults that were injected and are in no list of those that must be.
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
