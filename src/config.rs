//! The knobs of the replication protocol.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of one replica. All replicas of one cache should have the same. Times in human-readable
/// formats are strings such as `"500ms"` or `"15m"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReplicaConfig {
    /// How far ahead of our clock a stamp may be before it is deferred, and how much slower than ours
    /// a writer's clock may be without a fill of ours overwriting it. Default 1 s. Range 1 ms to 1 h.
    /// Larger tolerates worse clocks; smaller frees tombstones sooner.
    #[serde(with = "crate::durations")]
    pub max_drift: Duration,
    /// Mean time between two digests, jittered by a quarter. Default 1 s. Range 1 ms to 1 min.
    /// Smaller repairs loss sooner; larger is less idle traffic.
    #[serde(with = "crate::durations")]
    pub digest_interval: Duration,
    /// Tombstones younger than this are never collected, so that news of members has spread.
    /// Default 10 s. Range 0 to 1 h, and at most `forget_after`. Longer is safer while members come;
    /// shorter frees tombstones sooner.
    #[serde(with = "crate::durations")]
    pub gc_grace: Duration,
    /// How long a dead member holds back collection. Default 15 min. Range 1 ms to 30 d. Longer
    /// keeps more tombstones for the absent; a member that returns later loses what it alone held of keys that were collected meanwhile.
    #[serde(with = "crate::durations")]
    pub forget_after: Duration,
    /// Tombstones held before the oldest are dropped by force (counted). Default 1,000,000. From
    /// 1 on. More takes memory (about 150 bytes and the key each); fewer makes laggards reconcile and the entry
    /// is lost rather than stale.
    pub max_tombstones: usize,
    /// Bytes of keys and values in one frame or push. Default 256 KiB. Range 1 KiB to 8 MiB. Larger needs
    /// fewer messages; smaller occupies the network and locks for shorter. A larger entry travels alone.
    pub max_frame_bytes: usize,
    /// Registers from the future that wait for their time. Default 4,096. At least 1. What does not
    /// fit is offered again later; more takes memory when somebody's clock is wrong.
    pub max_deferred: usize,
    /// Bytes of evicted own writes kept until all live members have reported them. Default 64 MiB.
    /// Any number. With less, a burst beyond capacity is lost for others too (counted); more takes memory.
    pub max_retained_bytes: usize,
    /// Retired origins remembered, 24 bytes each. Default 4,096. At least 1. More tells old messages from
    /// new ones for longer; fewer keeps full vectors small.
    pub max_retired: usize,
    /// A gap must last this long before it is repaired by a digest, and writes younger than four times
    /// this are taken to be on their way. Default 10 ms. Range 1 ms to 10 s. Set it to about the round
    /// trip time between the nodes: smaller repairs loss sooner, larger sends less twice.
    #[serde(with = "crate::durations")]
    pub repair_delay: Duration,
    /// A session without a frame for this long is abandoned. Default 3 s. Range 1 ms to 10 min.
    /// Longer bears slower links; shorter turns to another source sooner.
    #[serde(with = "crate::durations")]
    pub session_idle: Duration,
    /// A session never lasts longer than this. Default 2 min. At least `session_idle`. Must be enough for
    /// the whole state over the slowest link.
    #[serde(with = "crate::durations")]
    pub session_deadline: Duration,
    /// How long a running fill holds back collection everywhere. Default 30 s. At most 1 h. A fill that takes
    /// longer is returned and not cached; it is not joined any more, and callers that joined it run their own. Longer keeps tombstones of the whole cluster for as long as the
    /// slowest fill; shorter caches fewer slow fills.
    #[serde(with = "crate::durations")]
    pub fill_hold: Duration,
    /// With more other members than this, dead and not yet forgotten ones counted, a push goes to `fanout` of them, who pass it on.
    /// Default 16. Any number. More is faster; fewer spreads the work of large clusters.
    pub broadcast_up_to: usize,
    /// How many members a push is sent to, or passed on to, in a large cluster: a successor in each of so
    /// many rings of all members. Default 4. At least 1. Each node gets every write so many times; it misses one
    /// only if all of them are lost. With 2 or less a cluster of a thousand may need more hops than there are.
    pub fanout: usize,
    /// Mean time between two audits of a slice against a random member. Default 10 s; zero is off.
    /// More often finds faults sooner and costs a slice of traffic each time.
    #[serde(with = "crate::durations")]
    pub audit_interval: Duration,
    /// Registers in one audit slice. Default 32. Range 1 to 4,096. About 60 bytes each.
    pub audit_slice: usize,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self {
            max_drift: Duration::from_secs(1),
            digest_interval: Duration::from_secs(1),
            gc_grace: Duration::from_secs(10),
            forget_after: Duration::from_secs(15 * 60),
            max_tombstones: 1_000_000,
            max_frame_bytes: 256 * 1024,
            max_deferred: 4_096,
            max_retained_bytes: 64 << 20,
            max_retired: 4_096,
            repair_delay: Duration::from_millis(10),
            session_idle: Duration::from_secs(3),
            session_deadline: Duration::from_secs(120),
            fill_hold: Duration::from_secs(30),
            broadcast_up_to: 16,
            fanout: 4,
            audit_interval: Duration::from_secs(10),
            audit_slice: 32,
        }
    }
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{knob} must be {must_be}")]
pub struct ConfigError {
    knob: &'static str,
    must_be: &'static str,
}

impl ReplicaConfig {
    /// Checks every knob's range.
    ///
    /// # Errors
    /// Names the first knob out of range, and the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let within = |value: Duration, low: Duration, high: Duration| value >= low && value <= high;
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let rules = [
            (within(self.max_drift, ms(1), s(3_600)), "max_drift", "between 1 ms and 1 h"),
            (within(self.digest_interval, ms(1), s(60)), "digest_interval", "between 1 ms and 1 min"),
            (self.gc_grace <= s(3_600), "gc_grace", "at most 1 h"),
            (within(self.forget_after, ms(1), s(30 * 86_400)), "forget_after", "between 1 ms and 30 days"),
            (self.forget_after >= self.gc_grace, "forget_after", "at least gc_grace"),
            (self.max_tombstones >= 1, "max_tombstones", "at least 1"),
            ((1_024..=8 << 20).contains(&self.max_frame_bytes), "max_frame_bytes", "between 1 KiB and 8 MiB"),
            (self.max_deferred >= 1, "max_deferred", "at least 1"),
            (self.max_retired >= 1, "max_retired", "at least 1"),
            (within(self.repair_delay, ms(1), s(10)), "repair_delay", "between 1 ms and 10 s"),
            (within(self.session_idle, ms(1), s(600)), "session_idle", "between 1 ms and 10 min"),
            (self.session_deadline >= self.session_idle, "session_deadline", "at least session_idle"),
            (self.fill_hold <= s(3_600), "fill_hold", "at most 1 h"),
            (self.fanout >= 1, "fanout", "at least 1"),
            ((1..=4_096).contains(&self.audit_slice), "audit_slice", "between 1 and 4,096"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, knob, must_be)) => Err(ConfigError { knob, must_be }),
            None => Ok(()),
        }
    }
}
