//! The report of a node at one moment, for people.

use std::collections::BTreeMap;

use super::mesh::{Culprit, Incident, IncidentKind, Mesh, MeshStats, Seed, SeedState};
use super::registry::{Health, Registry};
use super::usage::{Usage, usage};
use crate::cache::TimeSource;
use crate::hlc::nanos;
use crate::report::{IncidentReport, MemberReport, NodeReport, ProcessReport, SeedReport, TRYING, lint_node};
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
    let now = registry.clock.now();
    let silent = now.mono.saturating_sub(registry.health.pulse.load(Ordering::Relaxed));
    let seeds: Vec<_> = mesh.seeds().into_iter().map(seed).collect();
    let mut report = NodeReport {
        node: mesh.name().to_owned(),
        addr: mesh.advertised().to_string(),
        incarnation: registry.incarnation.to_string(),
        cluster: identity.cluster,
        process: process(registry),
        encrypted: identity.encrypted,
        loopback: mesh.local_addr().ip().is_loopback(),
        members: members(mesh),
        seeds_unreachable: lead_nowhere(&seeds),
        seeds,
        // A node that died must not look like a node that was shut down.
        down: registry.phase.down.load(Ordering::Relaxed) && !registry.phase.died.load(Ordering::Relaxed),
        driver_alive,
        driver_silent_ms: silent / 1_000_000,
        network: network(&mesh.counters(), &registry.health),
        caches: Vec::new(),
        incidents: mesh.incidents().into_iter().map(incident).collect(),
        warnings: Vec::new(),
        ended_warnings: Vec::new(),
    };
    let mut log = registry.health.warnings.lock();
    report.warnings = log.observe(now, lint_node(&report));
    report.ended_warnings = log.ended();
    report
}

fn process(registry: &Registry) -> ProcessReport {
    let (Usage { cpu_ms, rss_bytes }, now) = (usage(), registry.clock.now());
    let (at_ms, uptime_ms) = (now.wall / 1_000_000, now.mono / 1_000_000);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    ProcessReport { version, pid: std::process::id(), at_ms, uptime_ms, cpu_ms, rss_bytes }
}

/// Returns true if no seed leads to a member, and one of them is another process.
fn lead_nowhere(seeds: &[SeedReport]) -> bool {
    let fails = |seed: &SeedReport| match seed.state.as_str() {
        "present" | "own" => false,
        "trying" => seed.failing_ms > TRYING,
        _ => true,
    };
    !seeds.iter().any(|seed| seed.state == "present") && seeds.iter().any(fails)
}

fn ms(time: std::time::Duration) -> u64 {
    nanos(time) / 1_000_000
}

fn seed(Seed { name, state, attempts, failing_for }: Seed) -> SeedReport {
    let (state, why) = match state {
        SeedState::Trying => ("trying", String::new()),
        SeedState::Present => ("present", String::new()),
        SeedState::Own => ("own", String::new()),
        SeedState::Unresolved(why) => ("unresolved", why),
        SeedState::Silent(why) => ("silent", why),
        SeedState::OtherCluster => ("other-cluster", "it is in another cluster".to_owned()),
        SeedState::OtherKey(why) => ("other-key", why.to_owned()),
    };
    SeedReport { seed: name, state: state.to_owned(), why, attempts, failing_ms: ms(failing_for) }
}

fn incident(Incident { kind, culprit, count, ago, is_current }: Incident) -> IncidentReport {
    let kind = match kind {
        IncidentKind::OtherKey => "other-key",
        IncidentKind::Unencrypted => "unencrypted",
        IncidentKind::Encrypted => "encrypted",
        IncidentKind::OtherCluster => "other-cluster",
        IncidentKind::OverShare => "over-share",
        IncidentKind::InboxFull => "inbox-full",
        IncidentKind::NameTaken => "name-taken",
        IncidentKind::TaskDied => "task-died",
    };
    let (about, source) = match culprit {
        Culprit::Host(ip) => (ip.to_string(), Some(ip.to_string())),
        Culprit::Name(name, [one, two]) => (name.to_string(), Some(format!("{one} and {two}"))),
        Culprit::Task(name) => (name.to_owned(), None),
    };
    IncidentReport { kind: kind.to_owned(), about, source, count, ago_ms: ms(ago), is_current }
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
