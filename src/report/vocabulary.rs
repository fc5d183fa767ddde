//! The metrics of a node: names, units and values. The debug interface writes them as text, and the `metrics` facade
//! publishes them.

use std::collections::BTreeMap;

use super::{CacheReport, NodeReport, PeerReport, Warning};
use crate::histogram::Distribution;

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    /// A count since the start. Its name ends in `_total`.
    Counter,
    /// A value that rises and falls.
    Gauge,
    /// A distribution of times. Its name ends in `_seconds`.
    Histogram,
}

/// A metric: one name and one meaning, for any number of label values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: MetricKind,
}

/// The value of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reading {
    Count(u64),
    Value(f64),
    Times(Distribution),
}

/// One series: its labels and its present value.
pub(crate) struct Series {
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) reading: Reading,
}

/// A metric with its series.
pub(crate) struct Family {
    pub(crate) metric: Metric,
    pub(crate) series: Vec<Series>,
}

type Of<T> = fn(&T) -> Option<Reading>;
type TableOf = fn(&CacheReport) -> &BTreeMap<String, u64>;

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, help, kind: MetricKind::Counter }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, help, kind: MetricKind::Gauge }
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric { name, help, kind: MetricKind::Histogram }
}

fn number(value: u64) -> Option<Reading> {
    Some(Reading::Value(value as f64))
}

fn seconds(ms: u64) -> Option<Reading> {
    Some(Reading::Value(ms as f64 / 1e3))
}

fn count_of(counts: &BTreeMap<String, u64>, name: &str) -> Option<Reading> {
    Some(Reading::Count(counts.get(name).copied().unwrap_or(0)))
}

fn times(cache: &CacheReport, name: &str) -> Option<Reading> {
    cache.timings.get(name).cloned().map(Reading::Times)
}

/// The metrics of a cache, one series for each cache.
const CACHE: &[(Metric, Of<CacheReport>)] = &[
    (gauge("driftless_entries", "Values held on this node."), |cache| number(cache.entries)),
    (gauge("driftless_weight", "Weight of the values held on this node."), |cache| number(cache.weight)),
    (gauge("driftless_max_weight", "Weight above which this node evicts; absent if unbounded."), |cache| {
        cache.max_capacity.and_then(number)
    }),
    (gauge("driftless_memory_bytes", "Estimated memory of the cache."), |cache| number(cache.memory_estimate)),
    (gauge("driftless_tombstones", "Tombstones of any cause."), |cache| number(cache.tombstones.total)),
    (gauge("driftless_max_tombstones", "Tombstones above which the oldest are dropped by force."), |cache| {
        number(cache.tombstones.cap)
    }),
    (gauge("driftless_oldest_tombstone_age_seconds", "Age of the oldest tombstone; 0 if there is none."), |cache| {
        seconds(cache.tombstones.oldest_ms.unwrap_or(0))
    }),
    (gauge("driftless_log_entries", "Entries of the logs of all origins."), |cache| number(cache.log_entries)),
    (gauge("driftless_deferred_writes", "Received writes that are stamped in the future and wait."), |cache| {
        number(cache.deferred)
    }),
    (gauge("driftless_fills_running", "Fills that run now."), |cache| number(cache.fills_running)),
    (gauge("driftless_staleness_seconds", "Bound on the age of what is read here; absent without one."), |cache| {
        cache.staleness().bound_ms.and_then(seconds)
    }),
    (counter("driftless_hits_total", "Reads that found a value."), |cache| Some(Reading::Count(cache.hits))),
    (counter("driftless_listener_panics_total", "Panics of the eviction listener."), |cache| {
        count_of(&cache.intake, "listener_panics")
    }),
    (counter("driftless_listener_lost_total", "Removals that the eviction listener was not called for."), |cache| {
        count_of(&cache.intake, "listener_lost")
    }),
    (
        counter("driftless_drop_panics_total", "Panics in the Drop of keys and values; shared by equal types."),
        |cache| count_of(&cache.intake, "drop_panics"),
    ),
    (histogram("driftless_fill_duration_seconds", "Time of a fill, with the wait for its turn."), |cache| {
        times(cache, "fill")
    }),
    (
        histogram(
            "driftless_acknowledgement_duration_seconds",
            "Time from an own write until a member acknowledged it: the newest write of each acknowledgement.",
        ),
        |cache| times(cache, "acknowledgement"),
    ),
    (histogram("driftless_get_duration_seconds", "Time of a look-up: about one in 1,024."), |cache| {
        times(cache, "get")
    }),
    (histogram("driftless_eviction_age_seconds", "Age of values when they were evicted for lack of room."), |cache| {
        times(cache, "eviction_age")
    }),
];

/// The metrics of a cache that have one more label, and the label's name.
const TABLES: &[(Metric, &str, TableOf)] = &[
    (counter("driftless_misses_total", "Reads that found no value, by reason."), "reason", |cache| {
        &cache.misses_by_reason
    }),
    (counter("driftless_fills_total", "Fills by outcome."), "outcome", |cache| &cache.fills),
    (counter("driftless_removals_total", "Values removed or replaced here, by cause."), "cause", |cache| {
        &cache.removals
    }),
    (counter("driftless_replication_events_total", "Events of replication, by name."), "event", |cache| {
        &cache.counters
    }),
    (counter("driftless_received_bytes_total", "Encoded bytes received, by kind of message."), "kind", |cache| {
        &cache.bytes_in
    }),
    (counter("driftless_sent_bytes_total", "Encoded bytes sent, by kind of message."), "kind", |cache| {
        &cache.bytes_out
    }),
    (counter("driftless_intake_faults_total", "Messages and entries that could not be used."), "fault", |cache| {
        &cache.intake
    }),
];

/// Counts in `CacheReport::intake` that have a metric of their own.
const NO_INTAKE_FAULTS: [&str; 3] = ["listener_panics", "listener_lost", "drop_panics"];

/// The metrics of a cache and a member of it, by the name of the member's node. Such a name survives a restart.
const MEMBER: &[(Metric, Of<PeerReport>)] = &[
    (gauge("driftless_member_live", "1 if the failure detector considers the member alive, else 0."), |peer| {
        number(u64::from(peer.live))
    }),
    (
        gauge("driftless_member_lag_seconds", "Age of the oldest own write that the member is not known to have."),
        |peer| seconds(peer.lag_ms),
    ),
    (gauge("driftless_member_lag_writes", "Own writes that the member is not known to have."), |peer| {
        number(peer.lag_entries)
    }),
    (gauge("driftless_member_silence_seconds", "Time since the last message of the member."), |peer| {
        seconds(peer.silent_ms)
    }),
    (gauge("driftless_member_clock_skew_seconds", "Clock of the member minus the clock of this node."), |peer| {
        peer.clock_skew_ms.map(|ms| Reading::Value(ms as f64 / 1e3))
    }),
];

const BUILD: Metric = gauge("driftless_build_info", "1, with the version of this library and the name of this node.");
const MEMBERS: Metric = gauge("driftless_members", "Other live members of the cluster.");
const DRIVER_ALIVE: Metric = gauge("driftless_driver_alive", "1 if the task that moves messages runs, else 0.");
const DRIVER_SILENCE: Metric = gauge("driftless_driver_silence_seconds", "Time since the last turn of that task.");
const WARNING: Metric = gauge("driftless_warning", "1 for each current warning.");
const NETWORK_EVENTS: Metric = counter("driftless_network_events_total", "Events and faults of the network, by name.");
const NETWORK_IN: Metric = counter("driftless_network_received_bytes_total", "Bytes received from the network.");
const NETWORK_OUT: Metric = counter("driftless_network_sent_bytes_total", "Bytes sent to the network.");

/// The counts in `NodeReport::network` that are bytes, with their transport.
const NETWORK_BYTES: [(&str, &str, Metric); 4] = [
    ("datagram_bytes_in", "datagram", NETWORK_IN),
    ("stream_bytes_in", "stream", NETWORK_IN),
    ("datagram_bytes_out", "datagram", NETWORK_OUT),
    ("stream_bytes_out", "stream", NETWORK_OUT),
];

/// Returns all metrics of a node and its caches.
pub(crate) fn of_report(report: &NodeReport) -> Vec<Family> {
    let mut all = of_node(report);
    let caches: Vec<_> = report.caches.iter().collect();
    all.extend(of_caches(&caches));
    // One family for each name: the warnings of caches belong to the same metric as those of the node.
    let mut merged: Vec<Family> = Vec::new();
    for family in all {
        match merged.iter_mut().find(|known| known.metric.name == family.metric.name) {
            Some(known) => known.series.extend(family.series),
            None => merged.push(family),
        }
    }
    merged
}

/// Returns the metrics of a node without those of its caches.
pub(crate) fn of_node(report: &NodeReport) -> Vec<Family> {
    let one = |metric, labels, reading: Option<Reading>| Family {
        metric,
        series: reading.map(|reading| Series { labels, reading }).into_iter().collect(),
    };
    let build = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("cluster", report.cluster.clone()),
        ("node", report.node.clone()),
    ];
    let is_bytes = |name: &str| name == "bytes_in" || name == "bytes_out" || name.contains("_bytes_");
    let events = report.network.iter().filter(|(name, _)| !is_bytes(name));
    let event = |(name, count): (&String, &u64)| Series {
        labels: vec![("event", name.clone())],
        reading: Reading::Count(*count),
    };
    let mut found = vec![
        one(BUILD, build, number(1)),
        one(MEMBERS, Vec::new(), number(report.members.len() as u64)),
        one(DRIVER_ALIVE, Vec::new(), number(u64::from(report.driver_alive))),
        one(DRIVER_SILENCE, Vec::new(), seconds(report.driver_silent_ms)),
        Family { metric: WARNING, series: report.warnings.iter().map(|warning| warned("", warning)).collect() },
        Family { metric: NETWORK_EVENTS, series: events.map(event).collect() },
    ];
    for metric in [NETWORK_IN, NETWORK_OUT] {
        let ours = NETWORK_BYTES.iter().filter(|(.., of)| of.name == metric.name);
        let series = ours.filter_map(|(name, transport, _)| {
            let labels = vec![("transport", (*transport).to_owned())];
            Some(Series { labels, reading: count_of(&report.network, name)? })
        });
        found.push(Family { metric, series: series.collect() });
    }
    found
}

/// Returns the metrics of these caches, and their warnings.
pub(crate) fn of_caches(caches: &[&CacheReport]) -> Vec<Family> {
    let name = |cache: &CacheReport| ("cache", cache.cache.clone());
    let mut found = Vec::new();
    for (metric, of) in CACHE {
        let series = caches.iter().filter_map(|cache| Some(Series { labels: vec![name(cache)], reading: of(cache)? }));
        found.push(Family { metric: *metric, series: series.collect() });
    }
    for (metric, of) in MEMBER {
        let series = caches.iter().flat_map(|cache| {
            let labels = |member: &str| vec![name(cache), ("member", member.to_owned())];
            let line = move |(member, peer): (&str, &PeerReport)| Some((labels(member), of(peer)?));
            named(&cache.peers).filter_map(line).map(|(labels, reading)| Series { labels, reading })
        });
        found.push(Family { metric: *metric, series: series.collect() });
    }
    for (metric, label, table) in TABLES {
        let series = caches.iter().flat_map(|cache| {
            let counts = table(cache).iter().filter(|(what, _)| !NO_INTAKE_FAULTS.contains(&what.as_str()));
            counts.map(|(what, count)| Series {
                labels: vec![name(cache), (*label, what.clone())],
                reading: Reading::Count(*count),
            })
        });
        found.push(Family { metric: *metric, series: series.collect() });
    }
    let warnings = caches.iter().flat_map(|cache| cache.warnings.iter().map(|warning| warned(&cache.cache, warning)));
    found.push(Family { metric: WARNING, series: warnings.collect() });
    found
}

/// Returns the members whose node is known by name, the live ones first, each name once. For a moment after a restart a
/// live and a dead replica have one name. A replica id is no label: it changes with each restart.
fn named(peers: &[PeerReport]) -> impl Iterator<Item = (&str, &PeerReport)> {
    let mut by_name: BTreeMap<&str, &PeerReport> = BTreeMap::new();
    for peer in peers {
        let Some(name) = peer.node.as_deref() else { continue };
        if by_name.get(name).is_none_or(|known| peer.live && !known.live) {
            by_name.insert(name, peer);
        }
    }
    by_name.into_iter()
}

/// Returns the series of a warning. A subject that is a replica id is left out, because it changes with each restart.
fn warned(cache: &str, warning: &Warning) -> Series {
    let is_id = uuid::Uuid::try_parse(&warning.about).is_ok();
    let about = if is_id { String::new() } else { warning.about.clone() };
    let labels = vec![("name", warning.name.clone()), ("about", about), ("cache", cache.to_owned())];
    Series { labels, reading: Reading::Value(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Family> {
        of_report(&NodeReport { caches: vec![CacheReport::default()], ..NodeReport::default() })
    }

    /// Checks the conventions of Prometheus that `promtool` checks as well, which not every machine has.
    #[test]
    fn names_have_base_units_and_say_their_kind() {
        for Family { metric: Metric { name, help, kind }, .. } in all() {
            assert!(help.ends_with('.') && name.starts_with("driftless_"), "{name}: {help}");
            assert_eq!(name.ends_with("_total"), kind == MetricKind::Counter, "{name}");
            assert!(kind != MetricKind::Histogram || name.ends_with("_seconds"), "{name}");
            for unit in ["_ms", "_millis", "_kb", "_minutes", "_percent", "_duration_total"] {
                assert!(!name.contains(unit), "{name}");
            }
        }
    }

    #[test]
    fn a_member_is_labelled_by_name_once_and_the_live_replica_counts() {
        let peer = |replica: &str, node: Option<&str>, live| PeerReport {
            replica: replica.into(),
            node: node.map(str::to_owned),
            live,
            ..PeerReport::default()
        };
        let b = Some("b");
        let peers = vec![peer("1", b, false), peer("2", b, true), peer("3", b, false), peer("4", None, true)];
        let families = of_caches(&[&CacheReport { cache: "c".into(), peers, ..CacheReport::default() }]);
        let live = families.iter().find(|family| family.metric.name == "driftless_member_live").unwrap();
        let seen: Vec<_> = live.series.iter().map(|series| (series.labels[1].1.as_str(), &series.reading)).collect();
        assert_eq!(seen, [("b", &Reading::Value(1.0))]);
    }
}
