//! Reports for operators: plain data with names and readable times, and warnings that say what to do. Other modules
//! collect and display the data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod clocks;
mod key;
mod lint;
mod lint_node;
mod marks;
mod past;
mod time;
#[cfg(any(feature = "metrics", feature = "inspect-http"))]
pub(crate) mod vocabulary;
mod warning;

pub use crate::arrival::Provenance;
pub use crate::histogram::Distribution;
pub use lint::lint_cache;
#[cfg(feature = "node")]
pub(crate) use lint_node::TRYING;
pub use lint_node::lint_node;
pub use marks::{Agreement, DiffPage, Difference, DifferenceKind, Explanation, Held, State};
pub use past::{
    CachePast, CacheSample, EventKind, HotKey, HotKeys, NodePast, NodeSample, PastEvent, ProcessReport, TombstoneLine,
};
pub use warning::Warning;
pub(crate) use warning::WarningLog;

pub(crate) use key::{candidates, encoding, show, show_value};
pub(crate) use marks::{Mark, Marks};
#[cfg(feature = "node")]
pub(crate) use marks::{explain_difference, explain_why};
pub(crate) use time::readable;
#[cfg(feature = "node")]
pub(crate) use time::{readable_to_hundredths, span};

/// The state of one cache on one node, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CacheReport {
    /// The cache's name.
    pub cache: String,
    /// The node that made the report.
    pub node: String,
    /// The replica of the cache on that node.
    pub replica: String,
    /// The wall clock of that node. This and every other time is written like `2026-11-25T14:39:32.123456789Z`, or
    /// `never`.
    pub wall: String,
    /// The highest time that this replica has issued or observed, minus the wall clock, in milliseconds; not below
    /// zero. It shows how far the fastest clock among the observed ones is ahead of this node's.
    pub clock_ahead_ms: i64,
    /// The wall clock minus the time it would show if it had run like the monotonic clock, in milliseconds. It is
    /// negative after the wall clock was set back, until that clock has caught up. It is positive after the wall clock
    /// was set ahead, until the next write or digest.
    pub clock_step_ms: i64,
    /// The lead over this node's clock above which a stamp is deferred, in milliseconds.
    pub max_drift_ms: u64,
    /// The number of live values. Expired values that are not yet swept count.
    pub entries: u64,
    /// The weight of the live values.
    pub weight: u64,
    /// The maximum weight that this node holds. Absent if unbounded.
    pub max_capacity: Option<u64>,
    /// The number of reads that found a value.
    pub hits: u64,
    /// The number of reads that found no value.
    pub misses: u64,
    /// The number of reads that found no value, by reason.
    #[serde(default)]
    pub misses_by_reason: BTreeMap<String, u64>,
    /// The number of values that were removed or replaced on this node, by cause.
    #[serde(default)]
    pub removals: BTreeMap<String, u64>,
    /// The times of `fill`, `acknowledgement` and `get`, and the `eviction_age`, each as a distribution.
    #[serde(default)]
    pub timings: BTreeMap<String, Distribution>,
    /// The estimated memory in bytes, extrapolated from a sample of registers.
    pub memory_estimate: u64,
    /// The version vector's entries of this replica and of its members. At most 64 members are listed.
    pub vector: Vec<Seen>,
    /// The members that have this cache open, including dead members that are not yet forgotten. At most 64 are listed.
    pub peers: Vec<PeerReport>,
    /// The silence of a live member above which something is wrong, in milliseconds. It depends on the number of members,
    /// which take turns.
    #[serde(default)]
    pub silence_limit_ms: u64,
    /// The stable watermark: no future write is stamped at or below it.
    pub stable_watermark: String,
    /// The floor: the highest stamp of a tombstone that was removed without a trace.
    pub gc_floor: String,
    /// The epoch: everything stamped at or below it was invalidated.
    pub epoch: String,
    /// The tombstones, by cause.
    pub tombstones: TombstoneReport,
    /// The number of entries in all logs, including stale entries.
    pub log_entries: u64,
    /// The number of origins that registers or the vector refer to.
    pub origins: u64,
    /// The number of registers deferred because their stamps are in the future.
    pub deferred: u64,
    /// The replicas whose clocks were found too far ahead of this node's.
    pub offenders: Vec<Offender>,
    /// True while a session is being received.
    pub receiving: bool,
    /// The number of sessions being sent.
    pub sending: u64,
    /// True if this replica has evicted or dropped values that other replicas may still hold.
    pub lossy: bool,
    /// The number of fills that run now.
    pub fills_running: u64,
    /// The number of fills, by outcome.
    pub fills: BTreeMap<String, u64>,
    /// The counts of unexpected input and of listener faults, by name.
    pub intake: BTreeMap<String, u64>,
    /// The encoded bytes received, by kind of message.
    pub bytes_in: BTreeMap<String, u64>,
    /// The encoded bytes sent, by kind of message, counted once for each receiver.
    pub bytes_out: BTreeMap<String, u64>,
    /// The number of repairs, by path.
    pub repairs: Repairs,
    /// All counters of replication, by name.
    pub counters: BTreeMap<String, u64>,
    /// The settings of other nodes, and of later openings on this node, that differ from those of this cache.
    #[serde(default)]
    pub settings_differ: Vec<SettingsDiffer>,
    /// The time since each count of `intake` last rose, in milliseconds. Counts of zero are left out.
    #[serde(default)]
    pub intake_age_ms: BTreeMap<String, u64>,
    /// The warnings about this cache.
    pub warnings: Vec<Warning>,
    /// The warnings about this cache that ended within 15 minutes, the latest first; at most 32.
    #[serde(default)]
    pub ended_warnings: Vec<Warning>,
}

/// Settings that differ from those of a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SettingsDiffer {
    /// The node that has them. Absent if the cache was opened again on this node with them.
    pub node: Option<String>,
    /// One sentence for each difference: the setting and both values.
    pub differences: Vec<String>,
}

impl SettingsDiffer {
    pub(crate) fn of(node: Option<String>, differences: Vec<String>) -> Self {
        Self { node, differences }
    }
}

/// One entry of a version vector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Seen {
    /// The origin.
    pub replica: String,
    /// The node of the origin, if known.
    pub node: Option<String>,
    /// The time up to which everything that the origin wrote was seen.
    pub time: String,
    /// The age of that time in milliseconds.
    pub age_ms: u64,
}

/// The state of one member, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PeerReport {
    /// The member.
    pub replica: String,
    /// The node of the member, if known.
    pub node: Option<String>,
    /// True if the failure detector considers the member alive.
    pub live: bool,
    /// The time since the member was found dead, in milliseconds. Absent if it is alive.
    pub dead_ms: Option<u64>,
    /// The time since the member's last message, in milliseconds.
    pub silent_ms: u64,
    /// True if the member has evicted or dropped values.
    pub lossy: bool,
    /// The member's wall clock minus this node's, in milliseconds, by its last digest. The transit time of the digest
    /// makes the member appear behind. Absent if no digest arrived lately.
    #[serde(default)]
    pub clock_skew_ms: Option<i64>,
    /// The age of this node's oldest write that the member is not known to have, in milliseconds. Zero if there is
    /// none.
    pub lag_ms: u64,
    /// The number of this node's writes that the member is not known to have: an upper bound.
    pub lag_entries: u64,
    /// The number of entries, of all origins but the member, that the member is not known to have: an upper bound. Only
    /// digests report what a member has of other replicas' writes.
    pub unconfirmed_entries: u64,
    /// The bound on this node's delay behind the member's writes, in milliseconds. Absent until this node's vector has
    /// an entry for the member.
    pub staleness_ms: Option<u64>,
    /// The vector entries that the member last reported.
    pub reported: Vec<Seen>,
}

/// Tombstones by cause, and the reasons why the oldest cannot be collected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TombstoneReport {
    /// The number of all tombstones.
    pub total: u64,
    /// The number above which the oldest tombstones are dropped by force.
    pub cap: u64,
    /// The tombstones of deletes.
    pub deleted: u64,
    /// The tombstones of values whose time to live ended.
    pub expired: u64,
    /// The tombstones of values evicted on this node to stay within its capacity.
    pub evicted: u64,
    /// The tombstones in place of writes that something already collected may have overtaken, of contested fills, and
    /// of values that can no longer be encoded.
    pub void: u64,
    /// The age of the oldest tombstone in milliseconds.
    pub oldest_ms: Option<u64>,
    /// The reasons why the oldest tombstone cannot be collected yet.
    pub blocked_by: Vec<Blocker>,
}

/// A reason why a tombstone cannot be collected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
#[non_exhaustive]
pub enum Blocker {
    /// The tombstone is younger than the grace period.
    Young,
    /// A session is being received, or this replica's vector does not cover the tombstone's dot.
    Session,
    /// This replica's low watermark is below the tombstone: a fill runs here, or the tombstone is younger than
    /// `max_drift`.
    OwnWatermark,
    /// A member is not known to have seen the tombstone.
    Unseen {
        /// The member.
        replica: String,
        /// The node of the member.
        node: Option<String>,
        /// The time since the member's last message, in milliseconds.
        silent_ms: u64,
    },
    /// A member's watermark is below the tombstone, so the member may still write below the tombstone: a fill runs
    /// there, or the member is silent.
    Watermark {
        /// The member.
        replica: String,
        /// The node of the member.
        node: Option<String>,
        /// The time since the member's last message, in milliseconds.
        silent_ms: u64,
    },
    /// A member has writes of a departed replica that this node still lacks.
    DepartedWrites {
        /// The member.
        replica: String,
        /// The node of the member.
        node: Option<String>,
        /// The time since the member's last message, in milliseconds.
        silent_ms: u64,
    },
}

/// A replica whose clock was found too far ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Offender {
    /// The replica.
    pub replica: String,
    /// The node of the replica, if known.
    pub node: Option<String>,
    /// The time that the replica claimed, minus this node's wall clock, in milliseconds.
    pub ahead_ms: i64,
}

/// The number of repairs, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Repairs {
    /// The pushes received and applied: the normal path.
    pub push: u64,
    /// The sessions received to the end, except reconciles. A digest triggers a session.
    pub digest: u64,
    /// The reconciles received to the end.
    pub reconcile: u64,
    /// The registers that reconciles removed or voided.
    pub reconcile_removed: u64,
    /// The conflicts that an audit found and repaired.
    pub audit: u64,
}

/// The state of one node, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeReport {
    /// The name of the node.
    pub node: String,
    /// The address at which it is reached by other nodes.
    pub addr: String,
    /// The incarnation: the id of this run of the process.
    pub incarnation: String,
    /// The name of the cluster.
    pub cluster: String,
    /// The process and its use of the machine.
    #[serde(default)]
    pub process: ProcessReport,
    /// True if messages are encrypted.
    pub encrypted: bool,
    /// True if the address is reachable from this machine only.
    pub loopback: bool,
    /// The live members except this node.
    pub members: Vec<MemberReport>,
    /// The configured seeds, in their order.
    #[serde(default)]
    pub seeds: Vec<SeedReport>,
    /// True if no configured seed leads to a member, and one of them is another process.
    pub seeds_unreachable: bool,
    /// True if the node was shut down.
    pub down: bool,
    /// True if the driver, the task that moves messages, is alive.
    pub driver_alive: bool,
    /// The time since the last iteration of the driver's loop, in milliseconds.
    pub driver_silent_ms: u64,
    /// The counters of the network layer, faults and traffic, by name.
    pub network: BTreeMap<String, u64>,
    /// The caches that are open on this node.
    pub caches: Vec<CacheReport>,
    /// The faults that other processes caused, at most 64.
    #[serde(default)]
    pub incidents: Vec<IncidentReport>,
    /// The warnings about the node itself.
    pub warnings: Vec<Warning>,
    /// The warnings about the node that ended within 15 minutes, the latest first; at most 32.
    #[serde(default)]
    pub ended_warnings: Vec<Warning>,
}

/// A configured seed, and the outcome of the last attempt to reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SeedReport {
    /// The seed, as it was configured.
    pub seed: String,
    /// The outcome: `trying`, `present`, `own`, `unresolved`, `silent`, `other-cluster` or `other-key`.
    pub state: String,
    /// The reason for the outcome, if it is a failure.
    pub why: String,
    /// The number of attempts that failed since the last success.
    pub attempts: u64,
    /// The time since the first of these attempts, in milliseconds.
    pub failing_ms: u64,
}

/// A fault that another process caused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IncidentReport {
    /// The kind: `other-key`, `unencrypted`, `encrypted`, `other-cluster`, `over-share`, `inbox-full`, `name-taken` or
    /// `task-died`.
    pub kind: String,
    /// The subject: a host, a member name or a task.
    pub about: String,
    /// The address or addresses that it came from.
    pub source: Option<String>,
    /// The number of occurrences.
    pub count: u64,
    /// The time since the last occurrence, in milliseconds.
    pub ago_ms: u64,
    /// True if that is so short that the cause is assumed to last.
    pub is_current: bool,
}

/// Another process of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemberReport {
    /// The name of the member.
    pub node: String,
    /// The address at which it is reached.
    pub addr: String,
    /// The incarnation: the id of that run of the process.
    pub incarnation: String,
}

/// Bounds on the age of the data that is read on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Staleness {
    /// The bound over all live members, in milliseconds. Absent while a live member has no bound.
    pub bound_ms: Option<u64>,
    /// The bounds by member.
    pub peers: Vec<PeerStaleness>,
}

/// The bound on this node's delay behind one member's writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PeerStaleness {
    /// The member.
    pub replica: String,
    /// The node of the member, if known.
    pub node: Option<String>,
    /// True if the member is live. The overall bound does not include the writes of dead members.
    pub live: bool,
    /// The bound in milliseconds: everything that the member wrote longer ago is here. Absent until this node's vector
    /// has an entry for the member.
    pub bound_ms: Option<u64>,
}

impl CacheReport {
    /// Returns bounds on the age of the data that is read on this node: for each member, and overall.
    #[must_use]
    pub fn staleness(&self) -> Staleness {
        let one = |peer: &PeerReport| PeerStaleness {
            replica: peer.replica.clone(),
            node: peer.node.clone(),
            live: peer.live,
            bound_ms: peer.staleness_ms,
        };
        let peers: Vec<_> = self.peers.iter().map(one).collect();
        let live = peers.iter().filter(|peer| peer.live);
        let bound_ms = live.map(|peer| peer.bound_ms).try_fold(0, |worst, bound| bound.map(|bound| worst.max(bound)));
        Staleness { bound_ms, peers }
    }
}

/// The result of an audit of the whole key space.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditReport {
    /// The cache.
    pub cache: String,
    /// The results by member.
    pub members: Vec<AuditedMember>,
    /// True if every member was compared to the end, and every difference has a reason.
    pub clean: bool,
}

/// The result of an audit of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditedMember {
    /// The node.
    pub node: String,
    /// The number of keys examined, counting the keys of both sides.
    pub examined: u64,
    /// The number of differences with a reason: in transit, evicted, expired.
    pub explained: u64,
    /// The number of differences without a reason that a second comparison, half a second later, has confirmed. It
    /// should be zero.
    pub unexplained: u64,
    /// The number of those differences that were passed to the protocol to compare and repair.
    #[serde(default)]
    pub handed_over: u64,
    /// The first differences.
    pub samples: Vec<Difference>,
    /// The reason why the member was not compared to the end.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_member_without_a_digest_leaves_staleness_without_a_bound() {
        let peer = PeerReport { replica: "b".into(), live: true, staleness_ms: Some(7), ..PeerReport::default() };
        let mut report = CacheReport { peers: vec![peer], ..CacheReport::default() };
        assert_eq!(report.staleness().bound_ms, Some(7));
        report.peers[0].staleness_ms = None;
        assert_eq!(report.staleness().bound_ms, None);
        report.peers[0].live = false;
        assert_eq!(report.staleness().bound_ms, Some(0), "dead members are not waited for");
    }
}
