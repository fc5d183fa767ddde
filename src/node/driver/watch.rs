//! The regular look at this node's own reports, for its history. Warnings begin and end although no report is requested,
//! and metrics are published.

use std::time::Duration;

use tokio::time::Instant;

use super::Driver;
use crate::cache::TimeSource;
use crate::node::history::MOST_CACHES;
use crate::node::mesh::MeshEvent;
use crate::node::registry::{Held, Registry};
use crate::node::report::report_without_caches;
use crate::report::EventKind;

/// The time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// The most caches that one look reads of those that are sampled, and of the others. Beyond, they take turns.
const SAMPLED: usize = 16;
const OTHERS: usize = 4;

/// The state between two looks.
pub(super) struct ReportWatch {
    at: Instant,
    /// The positions of the next caches, among those that are sampled and among the others.
    next: [usize; 2],
    #[cfg(feature = "metrics")]
    published: crate::cache::Published,
}

impl ReportWatch {
    pub(super) fn new() -> Self {
        Self {
            at: Instant::now(),
            next: [0, 0],
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
    let [next_sampled, next_other] = &mut driver.watch.next;
    let (sampled, others) = (turn(sampled, next_sampled, SAMPLED), turn(others, next_other, OTHERS));
    for port in sampled {
        report.caches.extend(driver.contain(port, None, |port| Some(port.report())));
    }
    let is_open = |name: &str| ports.iter().any(|port| **port.name() == *name);
    driver.registry.history.sample(driver.registry.clock.now(), &report, is_open);
    for port in others {
        // The report is not used: making it records the warnings of the cache.
        driver.contain(port, (), |port| drop(port.report()));
    }
}

/// Returns the next `most` caches, and moves the position behind them.
fn turn<'a>(ports: &'a [Held], next: &mut usize, most: usize) -> impl Iterator<Item = &'a Held> + use<'a> {
    let (count, first) = (ports.len(), *next);
    *next = (first + most) % count.max(1);
    (0..count.min(most)).map(move |turn| &ports[(first + turn) % count])
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
