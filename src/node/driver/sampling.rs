//! The samples of the node's counters, and its events, for `History`.

use std::ops::Deref;

use super::Driver;
use crate::cache::TimeSource;
use crate::node::history::MOST_CACHES;
use crate::node::mesh::MeshEvent;
use crate::node::registry::Registry;
use crate::node::report::report_without_caches;
use crate::report::EventKind;

/// Takes a sample if one is due. Returns the monotonic time of the next.
pub(super) fn sample_if_due(driver: &Driver, mono: u64) -> u64 {
    let history = &driver.registry.history;
    if history.due() <= mono {
        let mut report = report_without_caches(&driver.registry, &driver.mesh, true);
        for port in driver.registry.ports().iter().map(Deref::deref).take(MOST_CACHES) {
            report.caches.extend(driver.contain(port, None, |port| Some(port.report())));
        }
        history.sample(driver.registry.clock.now(), &report);
    }
    history.due()
}

/// Records an event of the mesh.
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
