//! What a person may look at: plain data, with names and readable times, and warnings that say what
//! to do. Knows nothing of how it is collected or shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod clocks;
mod key;
mod lint;
mod marks;
mod time;
mod warning;

pub use crate::learnt::LearntBy;
pub use lint::{lint_cache, lint_node};
pub use marks::{Agreement, DiffPage, Difference, DifferenceKind, Explanation, Held, State};
pub use warning::Warning;

pub(crate) use key::{candidates, encoding, show, show_value};
pub(crate) use marks::{Mark, Marks};
#[cfg(feature = "node")]
pub(crate) use marks::{explain_difference, explain_why};
pub(crate) use time::readable;
#[cfg(feature = "node")]
pub(crate) use time::{readable_to_hundredths, span};

/// One cache on one node, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CacheReport {
    /// The cache's name.
    pub cache: String,
    /// The node that says so.
    pub node: String,
    /// This opening of it.
    pub replica: String,
    /// The wall clock there: like every time here, as `2026-11-25T14:39:32.123456789Z`, or `never`.
    pub wall: String,
    /// The highest time issued or observed, less the wall clock, in milliseconds; not
    /// below zero. By how much the clocks that were heard of are ahead of this one.
    pub clock_ahead_ms: i64,
    /// How far the wall clock is from where it would have got by itself, in milliseconds: set back it is below zero until it
    /// has caught up, set ahead above zero until the next write or digest.
    pub clock_step_ms: i64,
    /// How far ahead a stamp may be before it is deferred, in milliseconds.
    pub max_drift_ms: u64,
    /// Live values.
    pub entries: u64,
    /// Their weight.
    pub weight: u64,
    /// The weight this node holds at most; absent is unbounded.
    pub max_capacity: Option<u64>,
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Bytes of memory, estimated from a sample of registers.
    pub memory_estimate: u64,
    /// What has been seen of each origin that is a member.
    pub vector: Vec<Seen>,
    /// The members that have this cache open, dead but not yet forgotten ones included.
    pub peers: Vec<PeerReport>,
    /// No write still to come is stamped at or below this.
    pub stable_watermark: String,
    /// The highest stamp that was removed without a trace.
    pub gc_floor: String,
    /// Everything stamped at or below this was invalidated.
    pub epoch: String,
    /// Tombstones, by cause.
    pub tombstones: TombstoneReport,
    /// Entries of all logs, stale ones included.
    pub log_entries: u64,
    /// Origins that registers or the vector refer to.
    pub origins: u64,
    /// Registers from the future that wait for their time.
    pub deferred: u64,
    /// Who was ahead of our clock.
    pub offenders: Vec<Offender>,
    /// Whether a session is coming in.
    pub receiving: bool,
    /// Sessions going out.
    pub sending: u64,
    /// Whether values were given up here that others may still hold.
    pub lossy: bool,
    /// Fills that run now.
    pub fills_running: u64,
    /// What fills came to.
    pub fills: BTreeMap<String, u64>,
    /// What came in that was not as expected.
    pub intake: BTreeMap<String, u64>,
    /// Encoded bytes received, by kind of message.
    pub bytes_in: BTreeMap<String, u64>,
    /// Encoded bytes sent, by kind of message, once per receiver.
    pub bytes_out: BTreeMap<String, u64>,
    /// What each way of repair has done.
    pub repairs: Repairs,
    /// Everything the replication counts.
    pub counters: BTreeMap<String, u64>,
    /// What should be looked at.
    pub warnings: Vec<Warning>,
}

/// What has been seen of one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Seen {
    /// The origin.
    pub replica: String,
    /// The node it lives on, if known.
    pub node: Option<String>,
    /// Everything it wrote up to here is known.
    pub time: String,
    /// How long ago that is, in milliseconds.
    pub age_ms: u64,
}

/// What is known of one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PeerReport {
    /// The member.
    pub replica: String,
    /// The node it lives on, if known.
    pub node: Option<String>,
    /// Whether the failure detector calls it alive.
    pub live: bool,
    /// How long it has been dead, in milliseconds.
    pub dead_ms: Option<u64>,
    /// Time since its last message, in milliseconds.
    pub silent_ms: u64,
    /// Whether it has given up values.
    pub lossy: bool,
    /// Its wall clock less this node's by its last digest, in milliseconds; the time on the way counts as behind. Unknown if none came lately.
    #[serde(default)]
    pub clock_skew_ms: Option<i64>,
    /// Age of the oldest of our writes it is not known to have, in milliseconds; zero if it has all.
    pub lag_ms: u64,
    /// Our writes that it is not known to have, at most.
    pub lag_entries: u64,
    /// Entries of any origin that it is not known to have, at most: others' are only known by digest.
    pub unconfirmed_entries: u64,
    /// How far we may be behind its writes, in milliseconds; nothing as long as it has said nothing of them.
    pub staleness_ms: Option<u64>,
    /// What it said it has seen.
    pub reported: Vec<Seen>,
}

/// Tombstones by cause, and what keeps the oldest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TombstoneReport {
    /// All of them.
    pub total: u64,
    /// Above this the oldest are dropped by force.
    pub cap: u64,
    /// Removed by somebody.
    pub deleted: u64,
    /// Their time to live ended.
    pub expired: u64,
    /// Given up here to stay within capacity.
    pub evicted: u64,
    /// Writes that came too late to be trusted.
    pub void: u64,
    /// The age of the oldest, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// Why the oldest cannot be collected yet.
    pub blocked_by: Vec<Blocker>,
}

/// Something that holds back the collection of tombstones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
#[non_exhaustive]
pub enum Blocker {
    /// Younger than the grace period.
    Young,
    /// A session is coming in.
    Session,
    /// Our own low watermark is below it: a fill runs here, or its time has only just come.
    OwnWatermark,
    /// A member is not known to have seen it.
    Unseen {
        /// The member.
        replica: String,
        /// Its node.
        node: Option<String>,
        /// How long it has been silent, in milliseconds.
        silent_ms: u64,
    },
    /// A member may still write below it: a fill runs there, or it is silent.
    Watermark {
        /// The member.
        replica: String,
        /// Its node.
        node: Option<String>,
        /// How long it has been silent, in milliseconds.
        silent_ms: u64,
    },
    /// A member has writes, which this node still lacks, of a replica that has left.
    Owing {
        /// The member.
        replica: String,
        /// Its node.
        node: Option<String>,
        /// How long it has been silent, in milliseconds.
        silent_ms: u64,
    },
}

/// A replica whose clock was found too far ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Offender {
    /// The replica.
    pub replica: String,
    /// Its node, if known.
    pub node: Option<String>,
    /// The time it claimed, less our wall clock, in milliseconds.
    pub ahead_ms: i64,
}

/// Repairs by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Repairs {
    /// Pushes received and applied: the normal way.
    pub push: u64,
    /// Sessions received to the end, asked for by a digest.
    pub digest: u64,
    /// Reconciles received to the end.
    pub reconcile: u64,
    /// Registers that reconciles removed or voided.
    pub reconcile_removed: u64,
    /// Conflicts that an audit found and repaired.
    pub audit: u64,
}

/// One node, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeReport {
    /// The member's name.
    pub node: String,
    /// Where it gossips.
    pub addr: String,
    /// Which process this is.
    pub incarnation: String,
    /// The cluster.
    pub cluster: String,
    /// Whether messages are encrypted.
    pub encrypted: bool,
    /// Whether its address is reachable from this machine only.
    pub loopback: bool,
    /// The other live members.
    pub members: Vec<MemberReport>,
    /// Whether no configured seed can be reached.
    pub seeds_unreachable: bool,
    /// Whether the node was shut down.
    pub down: bool,
    /// Whether the task that moves messages is there.
    pub driver_alive: bool,
    /// Time since it last went round, in milliseconds.
    pub driver_silent_ms: u64,
    /// Faults and traffic of the network layer.
    pub network: BTreeMap<String, u64>,
    /// The caches open here.
    pub caches: Vec<CacheReport>,
    /// Warnings of the node itself.
    pub warnings: Vec<Warning>,
}

/// Another process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemberReport {
    /// Its name.
    pub node: String,
    /// Where it is reached.
    pub addr: String,
    /// Which process it is.
    pub incarnation: String,
}

/// How old what is read here may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Staleness {
    /// The bound over all live members, in milliseconds; absent while nothing a live member wrote is known yet.
    pub bound_ms: Option<u64>,
    /// By member.
    pub peers: Vec<PeerStaleness>,
}

/// How far behind one member's writes we may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PeerStaleness {
    /// The member.
    pub replica: String,
    /// Its node, if known.
    pub node: Option<String>,
    /// Whether it is live; the writes of dead ones are not bounded.
    pub live: bool,
    /// Everything it wrote longer ago than this is here, in milliseconds; nothing as long as it was never heard.
    pub bound_ms: Option<u64>,
}

impl CacheReport {
    /// How old what is read here may be, by member and overall.
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

/// What an audit of the whole key space found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditReport {
    /// The cache.
    pub cache: String,
    /// One for each member that was compared.
    pub members: Vec<AuditedMember>,
    /// Whether no difference is without a reason, and every member was compared to the end.
    pub clean: bool,
}

/// What an audit found on one member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditedMember {
    /// The node.
    pub node: String,
    /// Keys looked at, those of both sides counted.
    pub examined: u64,
    /// Differences with a reason: on their way, evicted, expired.
    pub explained: u64,
    /// Differences without a reason, seen twice. Must be none.
    pub unexplained: u64,
    /// Of these, how many the protocol was told to compare and mend.
    #[serde(default)]
    pub handed_over: u64,
    /// The first of them.
    pub samples: Vec<Difference>,
    /// Why it was not compared to the end.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_member_that_was_never_heard_leaves_staleness_without_a_bound() {
        let peer = PeerReport { replica: "b".into(), live: true, staleness_ms: Some(7), ..PeerReport::default() };
        let mut report = CacheReport { peers: vec![peer], ..CacheReport::default() };
        assert_eq!(report.staleness().bound_ms, Some(7));
        report.peers[0].staleness_ms = None;
        assert_eq!(report.staleness().bound_ms, None);
        report.peers[0].live = false;
        assert_eq!(report.staleness().bound_ms, Some(0), "dead members are not waited for");
    }
}
