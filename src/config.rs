//! The settings of the replication protocol.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of one replica. All replicas of one cache should have the same settings. In human-readable formats, times
/// are strings such as `"500ms"` or `"15m"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReplicaConfig {
    /// The most that a stamp may be ahead of this replica's clock before it is deferred. A writer's clock may also be
    /// behind this replica's clock by this much, and its write still wins over a fill of this replica that began
    /// earlier. Default 1 s. Range 1 ms to 1 h. A larger value tolerates worse clocks; a smaller one frees tombstones
    /// sooner.
    #[serde(with = "crate::durations")]
    pub max_drift: Duration,
    /// Mean time between two digests, varied at random by up to a quarter. Default 1 s. Range 1 ms to 1 min. A smaller
    /// value repairs loss sooner; a larger one causes less idle traffic.
    #[serde(with = "crate::durations")]
    pub digest_interval: Duration,
    /// The age below which tombstones are never collected, so that news of members has time to spread. Default 10 s.
    /// Range 0 to 1 h, and at most `forget_after`. A longer time is safer while members join; a shorter one frees
    /// tombstones sooner.
    #[serde(with = "crate::durations")]
    pub gc_grace: Duration,
    /// The time for which a dead member holds back collection. Default 15 min. Range 1 ms to 30 d. A longer time keeps
    /// more tombstones for unreachable members. A member that returns later loses values that it alone held, if
    /// tombstones that may concern them were collected meanwhile.
    #[serde(with = "crate::durations")]
    pub forget_after: Duration,
    /// The number of tombstones above which the oldest are dropped by force (counted). Default 1,000,000. At least 1. A
    /// larger number takes memory, about 150 bytes and the key each. With a smaller one, members that lag need a
    /// reconcile and may lose values that only they held. They never serve a stale value.
    pub max_tombstones: usize,
    /// Bytes of keys and values in one frame or push. Default 256 KiB. Range 1 KiB to 8 MiB. A larger value needs fewer
    /// messages; a smaller one occupies the network and locks for shorter. An entry larger than this travels alone.
    pub max_frame_bytes: usize,
    /// The most registers from the future that wait until they are due. Default 4,096. At least 1. A register that does
    /// not fit is offered again later. A larger number takes more memory when a member's clock is wrong.
    pub max_deferred: usize,
    /// Bytes of evicted own writes that are kept until all live members have reported them. Default 64 MiB. Any number.
    /// With a smaller value, a burst beyond capacity is lost on other replicas too (counted); a larger one takes
    /// memory.
    pub max_retained_bytes: usize,
    /// The most retired origins that are remembered, 24 bytes each. Default 4,096. At least 1. A larger number
    /// distinguishes old messages from new ones for longer; a smaller one keeps full vectors small.
    pub max_retired: usize,
    /// The time for which a gap must last before a digest repairs it. Writes younger than four times this are assumed
    /// to be in flight. Default 10 ms. Range 1 ms to 10 s. Set it to about the round-trip time between the nodes: a
    /// smaller value repairs loss sooner, a larger one sends less data twice.
    #[serde(with = "crate::durations")]
    pub repair_delay: Duration,
    /// The time without a frame after which a session is abandoned. Default 3 s. Range 1 ms to 10 min. A longer time
    /// tolerates slower links; a shorter one turns to another source sooner.
    #[serde(with = "crate::durations")]
    pub session_idle: Duration,
    /// The time after which a session is abandoned, even if frames still arrive. Default 2 min. At least
    /// `session_idle`. Must be enough for the whole state over the slowest link.
    #[serde(with = "crate::durations")]
    pub session_deadline: Duration,
    /// The longest time for which a running fill holds back collection on all replicas. Default 30 s. At most 1 h. A
    /// fill that takes longer is returned and not cached. New callers no longer join it, and callers that joined it run
    /// their own. A longer time keeps tombstones of the whole cluster for as long as the slowest fill takes; a shorter
    /// one caches fewer slow fills.
    #[serde(with = "crate::durations")]
    pub fill_hold: Duration,
    /// The highest number of peers to which a push is sent directly, counting dead members that are not yet forgotten.
    /// With more of them, a push goes to `fanout` members, which relay it. Default 16. Any number. A larger number is
    /// faster; a smaller one spreads the work of large clusters.
    pub broadcast_up_to: usize,
    /// The number of members to which a push is sent or relayed in a large cluster: one successor in each of this many
    /// rings of all members. Default 4. At least 1. Each node receives every write this many times, and misses it only
    /// if all copies are lost. With 2 or less, a cluster of a thousand may need more hops than the 16 allowed.
    pub fanout: usize,
    /// Mean time between two audits of a slice with a random member. Default 10 s; zero turns audits off. A shorter
    /// time finds faults sooner, and each audit costs the traffic of a slice.
    #[serde(with = "crate::durations")]
    pub audit_interval: Duration,
    /// Registers in one audit slice. Default 32. Range 1 to 4,096. Each takes about 60 bytes.
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

/// A setting out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} is {value}, and must be {must_be}")]
pub struct ConfigError {
    setting: &'static str,
    value: String,
    must_be: &'static str,
}

impl ReplicaConfig {
    /// Returns every setting by name, as text.
    pub(crate) fn each(&self) -> [(&'static str, String); 17] {
        let time = |time: Duration| format!("{time:?}");
        [
            ("max_drift", time(self.max_drift)),
            ("digest_interval", time(self.digest_interval)),
            ("gc_grace", time(self.gc_grace)),
            ("forget_after", time(self.forget_after)),
            ("max_tombstones", self.max_tombstones.to_string()),
            ("max_frame_bytes", self.max_frame_bytes.to_string()),
            ("max_deferred", self.max_deferred.to_string()),
            ("max_retained_bytes", self.max_retained_bytes.to_string()),
            ("max_retired", self.max_retired.to_string()),
            ("repair_delay", time(self.repair_delay)),
            ("session_idle", time(self.session_idle)),
            ("session_deadline", time(self.session_deadline)),
            ("fill_hold", time(self.fill_hold)),
            ("broadcast_up_to", self.broadcast_up_to.to_string()),
            ("fanout", self.fanout.to_string()),
            ("audit_interval", time(self.audit_interval)),
            ("audit_slice", self.audit_slice.to_string()),
        ]
    }

    /// Checks the range of every setting.
    ///
    /// # Errors
    /// Names the first setting out of range, and the range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let within = |value: Duration, low: Duration, high: Duration| value >= low && value <= high;
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let rules: [(bool, &'static str, &dyn std::fmt::Debug, &'static str); 15] = [
            (within(self.max_drift, ms(1), s(3_600)), "max_drift", &self.max_drift, "between 1 ms and 1 h"),
            (
                within(self.digest_interval, ms(1), s(60)),
                "digest_interval",
                &self.digest_interval,
                "between 1 ms and 1 min",
            ),
            (self.gc_grace <= s(3_600), "gc_grace", &self.gc_grace, "at most 1 h"),
            (
                within(self.forget_after, ms(1), s(30 * 86_400)),
                "forget_after",
                &self.forget_after,
                "between 1 ms and 30 days",
            ),
            (self.forget_after >= self.gc_grace, "forget_after", &self.forget_after, "at least gc_grace"),
            (self.max_tombstones >= 1, "max_tombstones", &self.max_tombstones, "at least 1"),
            (
                (1_024..=8 << 20).contains(&self.max_frame_bytes),
                "max_frame_bytes",
                &self.max_frame_bytes,
                "between 1 KiB and 8 MiB",
            ),
            (self.max_deferred >= 1, "max_deferred", &self.max_deferred, "at least 1"),
            (self.max_retired >= 1, "max_retired", &self.max_retired, "at least 1"),
            (within(self.repair_delay, ms(1), s(10)), "repair_delay", &self.repair_delay, "between 1 ms and 10 s"),
            (within(self.session_idle, ms(1), s(600)), "session_idle", &self.session_idle, "between 1 ms and 10 min"),
            (
                self.session_deadline >= self.session_idle,
                "session_deadline",
                &self.session_deadline,
                "at least session_idle",
            ),
            (self.fill_hold <= s(3_600), "fill_hold", &self.fill_hold, "at most 1 h"),
            (self.fanout >= 1, "fanout", &self.fanout, "at least 1"),
            ((1..=4_096).contains(&self.audit_slice), "audit_slice", &self.audit_slice, "between 1 and 4,096"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, setting, value, must_be)) => Err(ConfigError { setting, value: format!("{value:?}"), must_be }),
            None => Ok(()),
        }
    }
}
