//! The report of a node at one moment, for people.

use std::collections::BTreeMap;

use super::mesh::{Mesh, MeshStats};
use super::registry::{Health, Registry};
use super::usage::{Usage, usage};
use crate::cache::TimeSource;
use crate::report::{MemberReport, NodeReport, ProcessReport, lint_node};
use crate::sync::Ordering;

/// Reports a node and its caches; `driver_alive` is true if the task that moves messages is running.
pub(crate) fn report(registry: &Registry, mesh: &Mesh, driver_alive: bool) -> NodeReport {
    let mut report = report_without_caches(registry, mesh, driver_alive);
    report.caches = registry.ports().iter().map(|port| port.report()).collect();
    report
}

/// Drops the version vectors from a report.
pub(crate) fn brief(mut report: NodeReport) -> NodeReport {
    for cache in &mut report.caches {
        cache.vector.clear();
        cache.peers.iter_mut().for_each(|peer| peer.reported.clear());
    }
    report
}

/// Reports a node, without its caches.
pub(crate) fn report_without_caches(registry: &Registry, mesh: &Mesh, driver_alive: bool) -> NodeReport {
    let identity = registry.identity();
    let silent = registry.clock.now().mono.saturating_sub(registry.health.pulse.load(Ordering::Relaxed));
    let mut report = NodeReport {
        node: mesh.name().to_owned(),
        addr: mesh.advertised().to_string(),
        incarnation: registry.incarnation.to_string(),
        cluster: identity.cluster,
        process: process(registry),
        encrypted: identity.encrypted,
        loopback: mesh.local_addr().ip().is_loopback(),
        members: members(mesh),
        seeds_unreachable: registry.health.seeds_unreachable.load(Ordering::Relaxed),
        // A node that died must not look like a node that was shut down.
        down: registry.phase.down.load(Ordering::Relaxed) && !registry.phase.died.load(Ordering::Relaxed),
        driver_alive,
        driver_silent_ms: silent / 1_000_000,
        network: network(&mesh.counters(), &registry.health),
        caches: Vec::new(),
        warnings: Vec::new(),
    };
    report.warnings = lint_node(&report);
    report
}

fn process(registry: &Registry) -> ProcessReport {
    let (Usage { cpu_ms, rss_bytes }, now) = (usage(), registry.clock.now());
    let (at_ms, uptime_ms) = (now.wall / 1_000_000, now.mono / 1_000_000);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    ProcessReport { version, pid: std::process::id(), at_ms, uptime_ms, cpu_ms, rss_bytes }
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

/// Returns every count of the network layer by name, and the sums that operators need.
fn network(mesh: &MeshStats, health: &Health) -> BTreeMap<String, u64> {
    let sums = [
        ("bytes_in", mesh.datagram_bytes_in + mesh.stream_bytes_in),
        ("bytes_out", mesh.datagram_bytes_out + mesh.stream_bytes_out),
        ("malformed", mesh.malformed_messages + mesh.malformed_frames),
        ("contained_panics", health.contained_panics.get()),
        ("ignored_messages", health.ignored.get()),
    ];
    mesh.each().chain(sums).map(|(name, count)| (name.to_owned(), count)).collect()
}
