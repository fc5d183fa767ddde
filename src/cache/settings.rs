//! All settings of a cache in one place, for use in code and in configuration files.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::differing::Setting;
use super::open_error::{LARGEST, Limits, OpenError};
use crate::recency::Eviction;
use crate::replica::ReplicaConfig;

/// The range of `cluster_single_flight`: the wait for one node.
const SHORTEST_TURN: Duration = Duration::from_millis(1);
const LONGEST_TURN: Duration = Duration::from_secs(60);

/// The settings of a cache. They can be part of a configuration file, through `serde`, or of code:
/// [`CacheBuilder::settings`](super::CacheBuilder::settings).
///
/// Times in human-readable formats are strings such as `"500ms"`, `"30s"`, `"15m"`, `"2h"` or `"7d"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CacheSettings {
    /// The most weight that this node holds. Each entry weighs 1, unless there is a weigher. Beyond that, values are
    /// evicted in the order of `eviction`, on this node only. Default: none, unbounded. Any number is valid; 0 holds
    /// nothing. A larger capacity hits more often; a smaller one takes less memory.
    pub max_capacity: Option<u64>,
    /// The order of eviction: `"lru"`, `"segmented_lru"` or `"sieve"`. Default `lru`. The segmented order and the sieve
    /// hit more often if few keys are used again and again. The segmented order costs more when a value is used for the
    /// second time; the sieve costs least.
    pub eviction: Eviction,
    /// The time to live of values that are written without a time of their own. Default: none, for ever. Must be more
    /// than zero; more than a hundred years counts as a hundred. A shorter time bounds how long a value outlives a
    /// change of its source that was not reported to the cache. A longer time fills less often.
    #[serde(with = "crate::durations::option")]
    pub time_to_live: Option<Duration>,
    /// The part by which a time to live that the cache sets is shortened at most: each write draws its part. Default 0.
    /// Range 0 to 0.9. A larger part spreads the expiry of values that were written together, and with it the load of
    /// their source.
    pub ttl_jitter: f64,
    /// The most bytes of an encoded key. Default 4 KiB. Range 1 B to 64 KiB. Should be the same on every node: the
    /// limit applies to entries that are written there.
    pub max_key_bytes: usize,
    /// The most bytes of an encoded value. Default 1 MiB. Range 1 B to 14 MiB. Should be the same on every node, as
    /// above. Larger values occupy the network longer at a time.
    pub max_value_bytes: usize,
    /// The time that a fill may take before every caller that waits for it gets an error. Default: none, for ever. Must
    /// be more than zero, and at most `replication.fill_hold`. A shorter limit bounds the effect of a source that
    /// hangs. A limit that is too short abandons fills that would have succeeded.
    #[serde(with = "crate::durations::option")]
    pub fill_timeout: Option<Duration>,
    /// The wait for one node in a fill of the whole cluster. The second node in turn waits this long for the value of
    /// the first before it runs its own filler. The third waits twice as long, and all later nodes three times as long.
    /// Default: none; each node fills its own misses. Range 1 ms to 1 min, and less than a third of `fill_timeout`. If
    /// the time is longer than a fill takes, the source is asked least often. But a node that misses alone waits in
    /// vain, for up to three times this long.
    #[serde(with = "crate::durations::option")]
    pub cluster_single_flight: Option<Duration>,
    /// The number of events that a subscriber of the change stream may be behind before it loses the oldest. Default
    /// 1,024. Range 1 to 1,048,576. Each event holds a key and up to two values until every subscriber has read it.
    pub change_buffer: usize,
    /// The settings of the replication protocol.
    pub replication: ReplicaConfig,
}

/// The settings of an open cache that applications read most.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// The most weight that this node holds; `None` is unbounded.
    pub max_capacity: Option<u64>,
    /// The order in which values beyond that weight are evicted.
    pub eviction: Eviction,
    /// The time to live of values that are written without a time of their own; `None` is for ever.
    pub time_to_live: Option<Duration>,
    /// The largest sizes of an entry.
    pub limits: Limits,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            max_capacity: None,
            eviction: Eviction::default(),
            time_to_live: None,
            ttl_jitter: 0.0,
            max_key_bytes: 4 << 10,
            max_value_bytes: 1 << 20,
            fill_timeout: None,
            cluster_single_flight: None,
            change_buffer: 1_024,
            replication: ReplicaConfig::default(),
        }
    }
}

impl CacheSettings {
    /// Checks the range of every setting, and the settings that depend on each other.
    ///
    /// # Errors
    /// Names the first setting that is not valid, and the reason.
    pub fn validate(&self) -> Result<(), OpenError> {
        self.replication.validate()?;
        if !(1..=LARGEST.max_key_bytes).contains(&self.max_key_bytes) {
            return Err(OpenError::Limit {
                setting: "max_key_bytes",
                value: self.max_key_bytes,
                limit: LARGEST.max_key_bytes,
            });
        }
        if !(1..=LARGEST.max_value_bytes).contains(&self.max_value_bytes) {
            return Err(OpenError::Limit {
                setting: "max_value_bytes",
                value: self.max_value_bytes,
                limit: LARGEST.max_value_bytes,
            });
        }
        if self.time_to_live.is_some_and(|ttl| ttl.is_zero()) {
            return Err(OpenError::ZeroTimeToLive);
        }
        match self.impossible() {
            Some((setting, value, why)) => Err(OpenError::Setting { setting, value, why }),
            None => Ok(()),
        }
    }

    /// Returns every setting by name, as text.
    pub(super) fn each(&self) -> Vec<Setting> {
        let of_this_node = [
            ("max_capacity", option(self.max_capacity)),
            ("eviction", format!("{:?}", self.eviction)),
            ("ttl_jitter", self.ttl_jitter.to_string()),
            ("fill_timeout", option(self.fill_timeout)),
            ("cluster_single_flight", option(self.cluster_single_flight)),
            ("change_buffer", self.change_buffer.to_string()),
        ];
        of_this_node.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(self.common()).collect()
    }

    /// Returns the settings that should be the same on all nodes by name, as text.
    pub(super) fn common(&self) -> Vec<Setting> {
        let of_all_nodes = [
            ("max_key_bytes", self.max_key_bytes.to_string()),
            ("max_value_bytes", self.max_value_bytes.to_string()),
            ("time_to_live", option(self.time_to_live)),
        ];
        let replication = self.replication.each().map(|(name, value)| (format!("replication.{name}"), value));
        of_all_nodes.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(replication).collect()
    }

    /// Returns the settings that applications read most.
    pub(super) fn policy(&self) -> Policy {
        let Self { max_capacity, eviction, time_to_live, max_key_bytes, max_value_bytes, .. } = *self;
        Policy { max_capacity, eviction, time_to_live, limits: Limits { max_key_bytes, max_value_bytes } }
    }

    /// Returns the patience for the calls through one handle, brought into the range that [`validate`](Self::validate)
    /// allows for `cluster_single_flight`. A quarter of `fill_timeout` leaves the last node in turn, which waits three
    /// times as long, a quarter for its filler.
    pub(super) fn bounded_patience(&self, patience: Duration) -> Duration {
        let quarter = self.fill_timeout.map_or(LONGEST_TURN, |limit| limit / 4);
        patience.min(quarter).clamp(SHORTEST_TURN, LONGEST_TURN)
    }

    fn impossible(&self) -> Option<(&'static str, String, &'static str)> {
        let (timeout, patience) =
            (self.fill_timeout.unwrap_or_default(), self.cluster_single_flight.unwrap_or_default());
        let turn = SHORTEST_TURN..=LONGEST_TURN;
        let rules: [(bool, &'static str, &dyn std::fmt::Debug, &'static str); 6] = [
            (
                self.fill_timeout.is_none_or(|limit| !limit.is_zero()),
                "fill_timeout",
                &timeout,
                "must be more than zero: leave it out for no time limit",
            ),
            (
                self.fill_timeout.is_none_or(|limit| limit <= self.replication.fill_hold),
                "fill_timeout",
                &timeout,
                "must be at most replication.fill_hold: a fill that takes longer is not cached. Raise both, or lower \
                 this one",
            ),
            (
                self.cluster_single_flight.is_none_or(|patience| turn.contains(&patience)),
                "cluster_single_flight",
                &patience,
                "must be between 1 ms and 1 min",
            ),
            (
                self.cluster_single_flight
                    .zip(self.fill_timeout)
                    .is_none_or(|(patience, limit)| patience.saturating_mul(3) < limit),
                "cluster_single_flight",
                &patience,
                "must be less than a third of fill_timeout: the last node in turn waits three times as long, and \
                 would time out before it starts",
            ),
            ((0.0..=0.9).contains(&self.ttl_jitter), "ttl_jitter", &self.ttl_jitter, "must be between 0 and 0.9"),
            (
                (1..=1 << 20).contains(&self.change_buffer),
                "change_buffer",
                &self.change_buffer,
                "must be between 1 and 1,048,576",
            ),
        ];
        let broken = rules.into_iter().find(|(holds, ..)| !holds);
        broken.map(|(_, setting, value, why)| (setting, format!("{value:?}"), why))
    }
}

fn option(value: Option<impl std::fmt::Debug>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A setting that is missing here would be ignored in silence when a cache is opened again.
    #[test]
    fn every_setting_is_compared() {
        let settings = CacheSettings::default();
        let mut names: Vec<_> = settings.each().into_iter().map(|(name, _)| name).collect();
        let all = serde_json::to_value(&settings).unwrap();
        let replication = all["replication"].as_object().unwrap().keys().map(|name| format!("replication.{name}"));
        let cache = all.as_object().unwrap().keys().filter(|name| *name != "replication").cloned();
        let mut expected: Vec<_> = cache.chain(replication).collect();
        names.sort();
        expected.sort();
        assert_eq!(names, expected);
    }

    #[test]
    fn the_defaults_are_valid_and_invalid_settings_have_a_reason() {
        assert_eq!(CacheSettings::default().validate(), Ok(()));
        let ms = Duration::from_millis;
        type Change = fn(&mut CacheSettings, fn(u64) -> Duration);
        let cases: [(Change, &str); 7] = [
            (|it, ms| it.fill_timeout = Some(ms(0)), "more than zero"),
            (|it, ms| it.fill_timeout = Some(ms(31_000)), "fill_hold"),
            (|it, ms| it.cluster_single_flight = Some(ms(0)), "1 ms"),
            (
                |it, ms| {
                    it.cluster_single_flight = Some(ms(100));
                    it.fill_timeout = Some(ms(300));
                },
                "a third",
            ),
            (|it, _| it.ttl_jitter = 0.91, "between 0 and 0.9"),
            (|it, _| it.ttl_jitter = f64::NAN, "between 0 and 0.9"),
            (|it, _| it.change_buffer = 0, "between 1"),
        ];
        for (change, reason) in cases {
            let mut settings = CacheSettings::default();
            change(&mut settings, ms);
            let error = settings.validate().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
