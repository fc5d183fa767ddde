//! The exchange of settings between nodes, so that both report settings that differ.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::Driver;
use crate::cache::port::Port;
use crate::node::mesh::{MAX_DATAGRAM, Peer};
use crate::node::signal::Signal;

/// Returns the message with the settings of a cache, or `None` if no datagram can carry it.
fn message(driver: &Driver, port: &Arc<dyn Port>, is_answer: bool) -> Option<Bytes> {
    let text = port.common_settings();
    let node = driver.registry.incarnation;
    let bytes = Signal::Settings { node, is_answer, cache: port.name(), text: &text }.write();
    (bytes.len() <= MAX_DATAGRAM).then_some(bytes)
}

/// Sends the settings of a cache to a process that is greeted. A lost datagram is sent again with the next greeting.
pub(super) async fn send(driver: &Driver, peer: &Peer, port: &Arc<dyn Port>, is_answer: bool) {
    if let Some(bytes) = message(driver, port, is_answer) {
        let _ = driver.mesh.send_datagram(peer, bytes).await;
    }
}

/// Compares the settings of another node with those of this one, and answers with the latter. Ignores processes that are
/// no live members, and caches that are not open here.
pub(super) async fn take(driver: &Driver, (node, is_answer): (Uuid, bool), cache: &str, text: &str) {
    let Some(peer) = driver.shortcut.members(|it| it.place_of(node).cloned()) else { return };
    let Some(port) = driver.registry.port(cache) else { return };
    let differences = port.compare_settings((node, &peer.name), text);
    if !differences.is_empty() {
        tracing::warn!(
            cache, member = %peer.name, ?differences,
            "a member has other settings for this cache: give all nodes the same"
        );
    }
    if !is_answer {
        send(driver, &peer, &port, true).await;
    }
}
