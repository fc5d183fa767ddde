//! Prometheus text.
//!
//! Source: the text-based format, version 0.0.4.

use std::fmt::Write;

use crate::report::{CacheReport, NodeReport, PeerReport};

type Of<T> = fn(&T) -> u64;

/// Name, what it is, and where it is found. All are gauges or counters by their name: counters end in `_total`.
const CACHE: &[(&str, &str, Of<CacheReport>)] = &[
    ("entries", "Live values.", |cache| cache.entries),
    ("weight", "Weight of live values.", |cache| cache.weight),
    ("tombstones", "Tombstones of any cause.", |cache| cache.tombstones.total),
    ("tombstone_oldest_ms", "Age of the oldest tombstone.", |cache| cache.tombstones.oldest_ms.unwrap_or(0)),
    ("log_entries", "Entries of all logs.", |cache| cache.log_entries),
    ("deferred", "Registers from the future that wait.", |cache| cache.deferred),
    ("fills_running", "Fills that run now.", |cache| cache.fills_running),
    ("memory_bytes", "Memory, estimated.", |cache| cache.memory_estimate),
    ("hits_total", "Reads that found a value.", |cache| cache.hits),
    ("misses_total", "Reads that did not.", |cache| cache.misses),
];

const PEER: &[(&str, &str, Of<PeerReport>)] = &[
    ("peer_live", "Whether the failure detector calls a member alive.", |peer| u64::from(peer.live)),
    ("peer_lag_ms", "Age of the oldest write a member is not known to have.", |peer| peer.lag_ms),
    ("peer_lag_entries", "Writes a member is not known to have.", |peer| peer.lag_entries),
    ("peer_silent_ms", "Time since a member's last message.", |peer| peer.silent_ms),
];

/// Everything that is a number.
pub(super) fn write(node: &NodeReport) -> String {
    let mut out = String::new();
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
            for peer in &cache.peers {
                let node = peer.node.as_ref().unwrap_or(&peer.replica);
                line(&mut out, name, &[("cache", &cache.cache), ("peer", node)], of(peer));
            }
        }
    }
    by_kind(&mut out, node);
    out
}

fn node_metrics(out: &mut String, node: &NodeReport) {
    head(out, "members", "Other live members.");
    line(out, "members", &[("node", &node.node)], node.members.len() as u64);
    head(out, "driver_alive", "Whether the task that moves messages is there.");
    line(out, "driver_alive", &[], u64::from(node.driver_alive));
    head(out, "warning", "One for each warning.");
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

/// No line while there is no bound: zero would read as perfect.
fn staleness(out: &mut String, node: &NodeReport) {
    head(out, "staleness_ms", "How old what is read may be; absent while a live member was never heard.");
    for cache in &node.caches {
        if let Some(bound) = cache.staleness().bound_ms {
            line(out, "staleness_ms", &[("cache", &cache.cache)], bound);
        }
    }
}

fn by_kind(out: &mut String, node: &NodeReport) {
    type Table =
        (&'static str, &'static str, &'static str, fn(&CacheReport) -> &std::collections::BTreeMap<String, u64>);
    let tables: [Table; 4] = [
        ("bytes_in_total", "Encoded bytes received.", "kind", |cache| &cache.bytes_in),
        ("bytes_out_total", "Encoded bytes sent.", "kind", |cache| &cache.bytes_out),
        ("fills_total", "What fills came to.", "outcome", |cache| &cache.fills),
        ("events_total", "Everything the replication counts.", "event", |cache| &cache.counters),
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

fn head(out: &mut String, name: &str, help: &str) {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    let _ = writeln!(out, "# HELP driftless_{name} {help}\n# TYPE driftless_{name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let _ = write!(out, "driftless_{name}");
    for (number, (label, text)) in labels.iter().enumerate() {
        let _ = write!(out, "{}{label}=\"{}\"", if number == 0 { '{' } else { ',' }, escaped(text));
    }
    let _ = writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" });
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
