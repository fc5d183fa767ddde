//! The answer *not open* to a digest of a cache that is not open here, and such an answer of another node.

use uuid::Uuid;

use super::Driver;
use crate::cache::TimeSource;
use crate::cache::port::NodeEvent;
use crate::membership::NotOpen;
use crate::node::signal::Signal;
use crate::replica_id::ReplicaId;
use crate::wire::Envelope;

/// Answers a digest of a cache that is not open here. `last` is the greatest replica that was opened on this node.
pub(super) async fn send(driver: &Driver, asked: &Envelope<'_>, last: ReplicaId) {
    let answer = NotOpen { asked: asked.from, last };
    let signal = Signal::NotOpen { node: driver.registry.incarnation, answer, cache: asked.cache };
    if let Some(peer) = driver.shortcut.members(|it| it.place_of(asked.node).cloned()) {
        let _ = driver.mesh.send_datagram(&peer, signal.write()).await;
    }
}

/// Records that a cache is not open on another node.
pub(super) fn take(driver: &mut Driver, (node, answer): (Uuid, NotOpen), cache: &str) {
    let (port, now) = (driver.registry.port(cache), driver.registry.clock.now());
    // The answer may be the last that the cache expected: callers of `wait_replicated` wait for it.
    port.iter().for_each(|port| driver.agenda.want(port.name()));
    let ours = port.as_ref().map(|port| port.id());
    if let Some(replica) = driver.shortcut.members(|it| it.not_open(node, cache, (answer, ours), now.mono))
        && let Some(port) = port
    {
        port.forget_settings(node);
        driver.act(&port, (), |port| port.handle_event(NodeEvent::MemberLeft(replica)));
    }
}
