//! The past of a node as it is shown to operators: samples of its counters, and its events.

use serde::{Deserialize, Serialize};

use super::CacheReport;

/// The samples and events that one node has kept of its last 15 minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodePast {
    /// The name of the node.
    pub node: String,
    /// The wall clock of that node, in milliseconds since 1970.
    pub at_ms: u64,
    /// The samples, the oldest first: one a second for the last three minutes, one in ten seconds before that.
    pub samples: Vec<NodeSample>,
    /// The events, the oldest first.
    pub events: Vec<PastEvent>,
}

/// The samples that one node has kept of one cache in its last 15 minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CachePast {
    /// The cache's name.
    pub cache: String,
    /// The name of the node.
    pub node: String,
    /// The wall clock of that node, in milliseconds since 1970.
    pub at_ms: u64,
    /// False if the node keeps no samples of this cache, because it has too many caches open.
    pub sampled: bool,
    /// The samples, the oldest first: one a second for the last three minutes, one in ten seconds before that.
    pub samples: Vec<CacheSample>,
}

/// The counters of a node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeSample {
    /// The wall clock of the node, in milliseconds since 1970.
    pub at_ms: u64,
    /// The processor time that the process has used, in milliseconds. Absent where the system does not report it.
    pub cpu_ms: Option<u64>,
    /// The resident memory of the process in bytes. Absent where the system does not report it.
    pub rss_bytes: Option<u64>,
    /// Bytes received since the start.
    pub bytes_in: u64,
    /// Bytes sent since the start.
    pub bytes_out: u64,
    /// Other live members.
    pub members: u64,
    /// Current warnings, those of caches included.
    pub warnings: u64,
}

/// The counters of a cache at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CacheSample {
    /// The wall clock of the node, in milliseconds since 1970.
    pub at_ms: u64,
    /// Reads that found a value, since the cache was opened.
    pub hits: u64,
    /// Reads that found no value, since the cache was opened.
    pub misses: u64,
    /// Own writes and deletes, since the cache was opened.
    pub writes: u64,
    /// Entries of other nodes that changed a register here, since the cache was opened.
    pub merged: u64,
    /// Values evicted to stay within the capacity, since the cache was opened.
    pub evicted: u64,
    /// Values whose time to live ended, since the cache was opened.
    pub expired: u64,
    /// Fills started, since the cache was opened.
    pub fills: u64,
    /// Fills that failed, panicked or took too long, since the cache was opened.
    pub fills_failed: u64,
    /// Fills that run at this moment.
    pub fills_running: u64,
    /// Live values.
    pub entries: u64,
    /// The weight of the live values.
    pub weight: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// The greatest lag of a live member behind this node's writes, in milliseconds.
    pub lag_ms: u64,
    /// The bound on the age of the data that is read on this node, in milliseconds. Absent while there is none.
    pub staleness_ms: Option<u64>,
}

impl CacheSample {
    /// Returns the counters of a report under this wall time.
    pub(crate) fn of(report: &CacheReport, at_ms: u64) -> Self {
        let count = |table: &std::collections::BTreeMap<String, u64>, name: &str| table.get(name).copied().unwrap_or(0);
        let failed = ["failed", "panicked", "timed_out", "abandoned"].map(|name| count(&report.fills, name));
        let live = report.peers.iter().filter(|peer| peer.live);
        Self {
            at_ms,
            hits: report.hits,
            misses: report.misses,
            writes: count(&report.counters, "writes"),
            merged: count(&report.counters, "merged"),
            evicted: count(&report.removals, "size"),
            expired: count(&report.removals, "expired"),
            fills: count(&report.counters, "fills"),
            fills_failed: failed.iter().sum(),
            fills_running: report.fills_running,
            entries: report.entries,
            weight: report.weight,
            tombstones: report.tombstones.total,
            lag_ms: live.map(|peer| peer.lag_ms).max().unwrap_or(0),
            staleness_ms: report.staleness().bound_ms,
        }
    }
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EventKind {
    /// The node was started.
    NodeStarted,
    /// The process of this node stood still: it was paused, or its machine was.
    NodeStalled,
    /// A member became live.
    MemberUp,
    /// A member became live under the name of a process that was known before.
    MemberRestarted,
    /// The failure detector found a member dead.
    MemberDown,
    /// A member said goodbye.
    MemberLeft,
    /// A member was dead for so long, or was declared gone, that it holds back nothing any more.
    MemberForgotten,
    /// No configured seed answers.
    SeedsUnreachable,
    /// A seed answers again.
    SeedsReachable,
    /// The network layer built its membership anew.
    MembershipRebuilt,
    /// Two live processes use one member name.
    NameConflict,
    /// A cache was opened.
    CacheOpened,
    /// A cache was closed.
    CacheClosed,
    /// A whole state of another node was received and compared.
    Reconcile,
    /// Everything stamped up to some time was invalidated.
    InvalidateAll,
    /// Tombstones were dropped before every member had seen them, because there were too many.
    ForcedDrops,
    /// The replica took a new id, because another process uses its id.
    NewId,
    /// An audit found two values of one stamp.
    AuditConflict,
    /// A warning began.
    WarningBegan,
    /// A warning ended.
    WarningEnded,
    /// A kind that a newer release has added.
    #[serde(other)]
    Other,
}

/// Something that happened on a node, as that node saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PastEvent {
    /// The number of the event on its node: it rises by one.
    pub number: u64,
    /// The wall clock of the node when it happened, in milliseconds since 1970.
    pub at_ms: u64,
    /// The kind of the event.
    pub kind: EventKind,
    /// The subject: a member, a cache, or the subject of a warning.
    pub about: String,
    /// The name of the warning that began or ended.
    pub warning: Option<String>,
    /// The cache, if the event concerns one.
    pub cache: Option<String>,
    /// The event in words.
    pub text: String,
}

impl PastEvent {
    /// Creates an event that is not yet recorded: without number and time.
    pub(crate) fn new(kind: EventKind, about: impl Into<String>, text: impl Into<String>) -> Self {
        Self { number: 0, at_ms: 0, kind, about: about.into(), warning: None, cache: None, text: text.into() }
    }

    /// Returns the event with its cache.
    pub(crate) fn in_cache(self, cache: &str) -> Self {
        Self { cache: Some(cache.to_owned()), ..self }
    }
}

/// The keys of one cache that were read most on one node lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HotKeys {
    /// The cache's name.
    pub cache: String,
    /// The name of the node.
    pub node: String,
    /// False if reads are not noted: the cache has no `max_capacity`, or evicts by `Sieve`.
    pub noted: bool,
    /// The number of reads in the sample. Older reads count less: all counts are halved every ten seconds.
    pub sampled: u64,
    /// The keys, those with the most reads first.
    pub keys: Vec<HotKey>,
}

/// A key and its share of the sampled reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HotKey {
    /// The key.
    pub key: String,
    /// The number of sampled reads of this key: an upper bound.
    pub reads: u64,
    /// The most by which `reads` may be too high.
    pub error: u64,
}

/// One of the oldest tombstones of a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TombstoneLine {
    /// The key.
    pub key: String,
    /// The state of the key: the cause of the tombstone.
    pub state: super::State,
    /// The time of its stamp.
    pub stamp: String,
    /// The age of that time in milliseconds.
    pub age_ms: u64,
    /// The reasons why it cannot be collected yet.
    pub blocked_by: Vec<super::Blocker>,
}

/// The use of the machine by one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessReport {
    /// The version of this library.
    pub version: String,
    /// The number of the process on its machine.
    pub pid: u32,
    /// The wall clock of the node, in milliseconds since 1970.
    pub at_ms: u64,
    /// The time since the node was started, in milliseconds.
    pub uptime_ms: u64,
    /// The processor time that the process has used, in milliseconds. Absent where the system does not report it.
    pub cpu_ms: Option<u64>,
    /// The resident memory of the process in bytes. Absent where the system does not report it.
    pub rss_bytes: Option<u64>,
}
