//! What a node shows of itself.

use std::collections::BTreeMap;

use super::mesh::{Mesh, MeshStats};
use super::registry::Registry;
use crate::cache::TimeSource;
use crate::report::{MemberReport, NodeReport, lint_node};
use crate::sync::Ordering;

/// The node at one moment. `driver_alive`: whether the task that moves messages is there.
pub(crate) fn report(registry: &Registry, mesh: &Mesh, driver_alive: bool) -> NodeReport {
    let mut report = summary(registry, mesh, driver_alive);
    report.caches = registry.ports().iter().map(|port| port.cache_report()).collect();
    report
}

/// As [`report`], without the caches.
pub(crate) fn summary(registry: &Registry, mesh: &Mesh, driver_alive: bool) -> NodeReport {
    let facts = registry.facts();
    let silent = registry.clock.now().mono.saturating_sub(registry.seen.pulse.load(Ordering::Relaxed));
    let mut report = NodeReport {
        node: mesh.name().to_owned(),
        addr: mesh.advertised().to_string(),
        incarnation: registry.incarnation.to_string(),
        cluster: facts.cluster,
        encrypted: facts.encrypted,
        loopback: mesh.local_addr().ip().is_loopback(),
        members: members(mesh),
        seeds_unreachable: registry.seen.seeds_unreachable.load(Ordering::Relaxed),
        // What died by itself must not look like something that was meant.
        down: registry.phase.down.load(Ordering::Relaxed) && !registry.phase.died.load(Ordering::Relaxed),
        driver_alive,
        driver_silent_ms: silent / 1_000_000,
        network: network(&mesh.stats(), registry),
        caches: Vec::new(),
        warnings: Vec::new(),
    };
    report.warnings = lint_node(&report);
    report
}

fn members(mesh: &Mesh) -> Vec<MemberReport> {
    let mut members: Vec<_> = mesh
        .members()
        .into_iter()
        .map(|peer| MemberReport {
            node: peer.name.to_string(),
            addr: peer.addr.to_string(),
            incarnation: peer.incarnation.to_string(),
        })
        .collect();
    members.sort_by(|a, b| a.node.cmp(&b.node));
    members
}

fn network(stats: &MeshStats, registry: &Registry) -> BTreeMap<String, u64> {
    [
        ("bytes_in", stats.datagram_bytes_in + stats.stream_bytes_in),
        ("bytes_out", stats.datagram_bytes_out + stats.stream_bytes_out),
        ("datagrams_in", stats.datagrams_in),
        ("datagrams_out", stats.datagrams_out),
        ("streams_in", stats.streams_in),
        ("streams_out", stats.streams_out),
        ("inbox_dropped", stats.inbox_dropped),
        ("inbox_over_share", stats.inbox_over_share),
        ("crowded_connections", stats.crowded_connections),
        ("crowded_frames", stats.crowded_frames),
        ("shed_connections", stats.shed_connections),
        ("membership_dropped", stats.membership_dropped),
        ("malformed", stats.malformed_messages + stats.malformed_frames),
        ("broken_streams", stats.broken_streams),
        ("oversize_frames", stats.oversize_frames),
        ("refused_connections", stats.refused_connections),
        ("refused_plaintext", stats.refused_plaintext),
        ("undecipherable", stats.undecipherable),
        ("refused_members", stats.refused_members),
        ("foreign_label", stats.foreign_label),
        ("name_conflicts", stats.name_conflicts),
        ("rebuilds", stats.rebuilds),
        ("task_restarts", stats.task_restarts),
        ("join_attempts", stats.join_attempts),
        ("join_failures", stats.join_failures),
        ("send_failures", stats.send_failures),
        ("contained_panics", registry.seen.contained_panics.load(Ordering::Relaxed)),
        ("ignored_messages", registry.seen.ignored.load(Ordering::Relaxed)),
    ]
    .into_iter()
    .map(|(name, count)| (name.to_owned(), count))
    .collect()
}
