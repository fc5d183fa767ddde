//! The stills of all open caches: sent to every live process once in each digest interval, and taken from them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Driver;
use crate::cache::TimeSource;
use crate::cache::port::RECEIVERS_PER_INTERVAL;
use crate::hlc::Now;
use crate::message::Still;
use crate::node::mesh::MAX_DATAGRAM;
use crate::node::registry::Held;
use crate::node::signal::{SIGNAL_HEAD, Signal};
use crate::replica_id::ReplicaId;
use crate::stills::{SharedCache, StillExchange, StillMessage};

/// The time to the next stills while no cache is open.
const IDLE: Duration = Duration::from_secs(1);

/// The stills of this node, and the instant of the next ones.
pub(super) struct StillTurns {
    at: Instant,
    exchange: StillExchange,
}

impl StillTurns {
    pub(super) fn new() -> Self {
        Self { at: Instant::now(), exchange: StillExchange::default() }
    }

    /// Returns the instant of the next stills.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Forgets a process that is not live any more.
    pub(super) fn forget(&mut self, process: Uuid) {
        self.exchange.forget(process);
    }
}

/// Sends stills if the last ones are a digest interval old.
pub(super) async fn send_if_due(driver: &mut Driver, now: Instant) {
    if driver.stills.at > now {
        return;
    }
    let ports = driver.registry.ports();
    // The shortest interval counts: a cache with a longer one only gets stills more often than it needs.
    driver.stills.at = now + ports.iter().map(|port| port.digest_interval()).min().unwrap_or(IDLE);
    let live = driver.shortcut.members(|it| it.live_ids());
    let receivers = driver.stills.exchange.receivers(&live, RECEIVERS_PER_INTERVAL);
    let now = driver.registry.clock.now();
    let shared = stated(driver, &ports, &receivers, now);
    for (process, shared) in receivers.into_iter().zip(shared) {
        let bodies = driver.stills.exchange.messages(process, now.wall, &shared, MAX_DATAGRAM - SIGNAL_HEAD);
        let Some(peer) = driver.shortcut.members(|it| it.place_of(process).cloned()) else { continue };
        for body in bodies {
            let signal = Signal::Stills { node: driver.registry.incarnation, body: &body };
            let _ = driver.mesh.send_datagram(&peer, signal.write()).await;
        }
    }
}

/// Returns, for each receiver, the caches that are open here and there, with the stills of this moment.
fn stated(driver: &Driver, ports: &[Held], receivers: &[Uuid], now: Now) -> Vec<Vec<SharedCache>> {
    let mut shared = vec![Vec::new(); receivers.len()];
    for port in ports {
        let open = |process: &Uuid| driver.shortcut.members(|it| it.open_on(*process, port.name()));
        let open: Vec<_> = receivers.iter().map(open).collect();
        let replicas: Vec<_> = open.iter().flatten().copied().collect();
        let from = port.id();
        let stills = driver.contain(port, Vec::new(), |port| port.state_stills(now, &replicas));
        // A new id since the call above is of no harm: the receiver knows no digest of that replica.
        let mut stills = stills.into_iter().chain(std::iter::repeat(None));
        for (to, shared) in open.iter().zip(&mut shared) {
            let Some(to) = *to else { continue };
            let since = stills.next().flatten();
            shared.push(SharedCache { cache: Arc::clone(port.name()), from, to, since });
        }
    }
    shared
}

/// Takes the stills of a process, and its answers to stills of this node.
pub(super) fn take(driver: &mut Driver, node: Uuid, body: &[u8]) {
    let Some(message) = StillMessage::read(body).filter(|_| driver.shortcut.members(|it| it.is_live(node))) else {
        return driver.ignore();
    };
    for still in driver.stills.exchange.accepted(node, &message) {
        if let Some(port) = driver.registry.port(&still.cache) {
            driver.contain(&port, (), |port| port.note_still_accepted(still.to, still.since));
        }
    }
    let ports = driver.registry.ports();
    let shared: Vec<_> = ports.iter().filter_map(|port| heard(driver, port, node)).collect();
    let mut believed = Vec::new();
    for (bucket, caches) in message.agreeing(&shared) {
        let mut all = true;
        for SharedCache { cache, from, since, .. } in caches {
            let still = since.map(|since| Still { since, wall: message.wall });
            let port = driver.registry.port(cache);
            let handled = port.zip(still).is_some_and(|(port, still)| believes(driver, &port, *from, still));
            all &= handled;
        }
        if all {
            believed.push(bucket);
        }
    }
    driver.stills.exchange.note_believed(node, &message, &believed);
}

/// Returns a cache that a process has open as well, with the digest of its replica that stills may repeat here.
fn heard(driver: &Driver, port: &Held, node: Uuid) -> Option<SharedCache> {
    let from = driver.shortcut.members(|it| it.open_on(node, port.name()))?;
    let to = port.id();
    let since = driver.contain(port, None, |port| port.repeatable(from));
    Some(SharedCache { cache: Arc::clone(port.name()), from, to, since })
}

fn believes(driver: &Driver, port: &Held, from: ReplicaId, still: Still) -> bool {
    driver.contain(port, false, |port| port.handle_still(from, still))
}
