//! The metrics of a node as Prometheus text.
//!
//! Source: the text-based exposition format of Prometheus, version 0.0.4.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::report::{CacheReport, NodeReport, PeerReport};

type Of<T> = fn(&T) -> u64;

/// The name, help text and value of each metric of a cache. A name that ends in `_total` is a counter, any other a
/// gauge.
const CACHE: &[(&str, &str, Of<CacheReport>)] = &[
    ("entries", "Live values.", |cache| cache.entries),
    ("weight", "Weight of live values.", |cache| cache.weight),
    ("tombstones", "Tombstones of any cause.", |cache| cache.tombstones.total),
    ("tombstone_oldest_ms", "Age of the oldest tombstone in milliseconds.", |cache| {
        cache.tombstones.oldest_ms.unwrap_or(0)
    }),
    ("log_entries", "Entries of all logs of own writes and origins.", |cache| cache.log_entries),
    ("deferred", "Registers stamped in the future, waiting until they are due.", |cache| cache.deferred),
    ("fills_running", "Running fills.", |cache| cache.fills_running),
    ("memory_bytes", "Estimated memory in bytes.", |cache| cache.memory_estimate),
    ("hits_total", "Reads that found a value.", |cache| cache.hits),
    ("misses_total", "Reads that found no value.", |cache| cache.misses),
];

const PEER: &[(&str, &str, Of<PeerReport>)] = &[
    ("peer_live", "1 if the failure detector considers the member alive, else 0.", |peer| u64::from(peer.live)),
    ("peer_lag_ms", "Age in milliseconds of the oldest write that the member is not known to have.", |peer| {
        peer.lag_ms
    }),
    ("peer_lag_entries", "Writes that the member is not known to have.", |peer| peer.lag_entries),
    ("peer_silent_ms", "Time in milliseconds since the member's last message.", |peer| peer.silent_ms),
];

/// The text so far, and the series in it. A series is written once: later values of it are left out.
#[derive(Default)]
struct Text {
    lines: String,
    series: BTreeSet<String>,
}

/// Writes all numbers of a report.
pub(super) fn write(node: &NodeReport) -> String {
    let mut out = Text::default();
    node_metrics(&mut out, node);
    for (name, help, of) in CACHE {
        head(&mut out, name, help);
        for cache in &node.caches {
            line(&mut out, name, &[("cache", &cache.cache)], of(cache));
        }
    }
    staleness(&mut out, node);
    for (name, help, of) in PEER {
        head(&mut out, name, help);
        for cache in &node.caches {
            for peer in live_first(&cache.peers) {
                let node = peer.node.as_ref().unwrap_or(&peer.replica);
                line(&mut out, name, &[("cache", &cache.cache), ("peer", node)], of(peer));
            }
        }
    }
    by_kind(&mut out, node);
    out.lines
}

/// Returns the live members first. For a moment after a restart, a live and a dead replica may have one node name. Then
/// the series of that name must show the live one.
fn live_first(peers: &[PeerReport]) -> impl Iterator<Item = &PeerReport> {
    let live = |live: bool| peers.iter().filter(move |peer| peer.live == live);
    live(true).chain(live(false))
}

fn node_metrics(out: &mut Text, node: &NodeReport) {
    head(out, "members", "Other live members.");
    line(out, "members", &[("node", &node.node)], node.members.len() as u64);
    head(out, "driver_alive", "1 if the task that moves messages is running, else 0.");
    line(out, "driver_alive", &[], u64::from(node.driver_alive));
    head(out, "warning", "1 for each current warning.");
    let mut warn = |cache: &str, warning: &crate::report::Warning| {
        line(out, "warning", &[("name", &warning.name), ("about", &warning.about), ("cache", cache)], 1);
    };
    node.warnings.iter().for_each(|warning| warn("", warning));
    for cache in &node.caches {
        cache.warnings.iter().for_each(|warning| warn(&cache.cache, warning));
    }
    head(out, "network_total", "Faults and traffic of the network layer.");
    for (name, count) in &node.network {
        line(out, "network_total", &[("what", name)], *count);
    }
}

/// Writes the staleness bounds. A cache without a bound has no line: zero would read as perfect.
fn staleness(out: &mut Text, node: &NodeReport) {
    head(
        out,
        "staleness_ms",
        "Upper bound in milliseconds on the age of data read on this node; absent while a live member has no bound.",
    );
    for cache in &node.caches {
        if let Some(bound) = cache.staleness().bound_ms {
            line(out, "staleness_ms", &[("cache", &cache.cache)], bound);
        }
    }
}

fn by_kind(out: &mut Text, node: &NodeReport) {
    type Table =
        (&'static str, &'static str, &'static str, fn(&CacheReport) -> &std::collections::BTreeMap<String, u64>);
    let tables: [Table; 4] = [
        ("bytes_in_total", "Encoded bytes received.", "kind", |cache| &cache.bytes_in),
        ("bytes_out_total", "Encoded bytes sent.", "kind", |cache| &cache.bytes_out),
        ("fills_total", "Fills by outcome.", "outcome", |cache| &cache.fills),
        ("events_total", "Replication events by name.", "event", |cache| &cache.counters),
    ];
    for (name, help, label, table) in tables {
        head(out, name, help);
        for cache in &node.caches {
            for (what, count) in table(cache) {
                line(out, name, &[("cache", &cache.cache), (label, what)], *count);
            }
        }
    }
}

fn head(out: &mut Text, name: &str, help: &str) {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    let _ = writeln!(out.lines, "# HELP driftless_{name} {help}\n# TYPE driftless_{name} {kind}");
}

fn line(out: &mut Text, name: &str, labels: &[(&str, &str)], value: u64) {
    let mut series = format!("driftless_{name}");
    for (number, (label, text)) in labels.iter().enumerate() {
        let _ = write!(series, "{}{label}=\"{}\"", if number == 0 { '{' } else { ',' }, escaped(text));
    }
    if !labels.is_empty() {
        series.push('}');
    }
    if !out.series.contains(&series) {
        let _ = writeln!(out.lines, "{series} {value}");
        out.series.insert(series);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Warning;

    #[test]
    fn no_series_is_there_twice_and_the_live_replica_of_a_name_is_shown() {
        let peer = |replica: &str, live| PeerReport {
            replica: replica.into(),
            node: Some("b".into()),
            live,
            ..PeerReport::default()
        };
        let warning = Warning { name: "lagging-peer".into(), about: "b".into(), text: String::new() };
        let peers = vec![peer("1", false), peer("2", true), peer("3", false)];
        let cache = CacheReport {
            cache: "c".into(),
            peers,
            warnings: vec![warning.clone(), warning],
            ..CacheReport::default()
        };
        let text = write(&NodeReport { caches: vec![cache], ..NodeReport::default() });
        let series: Vec<_> =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect();
        assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len(), "{text}");
        assert!(text.contains("driftless_peer_live{cache=\"c\",peer=\"b\"} 1\n"), "{text}");
    }
}
