//! The regular look at this node's own reports, for its history. Warnings begin and end although no report is requested,
//! and metrics are published.

use std::time::Duration;

use tokio::time::Instant;

use super::Driver;
use crate::cache::TimeSource;
use crate::node::history::MOST_CACHES;
use crate::node::mesh::MeshEvent;
use crate::node::registry::Registry;
use crate::node::report::report_without_caches;
use crate::report::EventKind;

/// The time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// The most caches that one look reads of those that are not sampled. They take turns.
const CACHES: usize = 4;

/// The state between two looks.
pub(super) struct ReportWatch {
    at: Instant,
    /// The position of the next cache, among all that are open.
    next: usize,
    #[cfg(feature = "metrics")]
    published: crate::cache::Published,
}

impl ReportWatch {
    pub(super) fn new() -> Self {
        Self {
            at: Instant::now(),
            next: 0,
            #[cfg(feature = "metrics")]
            published: Default::default(),
        }
    }
}

/// Reads the reports if the last look was at least a second ago.
pub(super) fn look(driver: &mut Driver, now: Instant) {
    if driver.watch.at > now {
        return;
    }
    driver.watch.at = now + EVERY;
    let mut report = report_without_caches(&driver.registry, &driver.mesh, true);
    #[cfg(feature = "metrics")]
    driver.watch.published.publish(&crate::report::vocabulary::of_node(&report));
    let ports = driver.registry.ports();
    let (sampled, others) = ports.split_at(ports.len().min(MOST_CACHES));
    for port in sampled {
        report.caches.extend(driver.contain(port, None, |port| Some(port.report())));
    }
    driver.registry.history.sample(driver.registry.clock.now(), &report);
    let (count, first) = (others.len(), driver.watch.next);
    for turn in 0..count.min(CACHES) {
        let port = &others[(first + turn) % count];
        // The report is not used: making it records the warnings of the cache.
        driver.contain(port, (), |port| drop(port.report()));
    }
    driver.watch.next = (first + CACHES) % count.max(1);
}

/// Records an event of the mesh, for operators.
pub(super) fn note_event(registry: &Registry, node: &str, event: &MeshEvent) {
    match event {
        MeshEvent::Message { .. } => {}
        MeshEvent::Up(peer) => registry.note(EventKind::MemberUp, &peer.name, format!("live at {}", peer.addr)),
        MeshEvent::Down { peer, left: true } => {
            registry.note(EventKind::MemberLeft, &peer.name, format!("said goodbye, at {}", peer.addr));
        }
        MeshEvent::Down { peer, left: false } => {
            let text = format!("does not answer at {}: found dead by the failure detector", peer.addr);
            registry.note(EventKind::MemberDown, &peer.name, text);
        }
        // Later reports of the same outage have more attempts.
        MeshEvent::SeedsUnreachable { attempts: 2.. } => {}
        MeshEvent::SeedsUnreachable { .. } => {
            registry.note(EventKind::SeedsUnreachable, node, "no configured seed answers");
        }
        MeshEvent::SeedsReachable => registry.note(EventKind::SeedsReachable, node, "a seed answers again"),
        MeshEvent::Rebuilt { reason } => registry.note(EventKind::MembershipRebuilt, node, *reason),
        MeshEvent::NameConflict { name, addrs } => {
            registry.note(EventKind::NameConflict, name, format!("used by live processes at {addrs:?}"));
        }
    }
}
