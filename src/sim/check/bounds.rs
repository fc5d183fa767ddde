//! The memory bounds: after every event the memory is within the configured limits, whatever peers send.

use crate::crdt::Kind;
use crate::sim::cluster::Cluster;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// Checks that a replica holds no more than its settings allow.
pub(super) fn check<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    let view = cluster.view(number);
    let (config, buffers) = (&cluster.settings.config, view.buffers());
    let bounds = [
        ("weight", view.live_weight(), cluster.settings.max_capacity.unwrap_or(u64::MAX)),
        ("retained bytes", buffers.retained_bytes as u64, config.max_retained_bytes as u64),
        ("deferred registers", view.deferred_len() as u64, config.max_deferred as u64),
        ("deferred bytes", buffers.deferred_bytes as u64, buffers.max_deferred_bytes as u64),
        ("early pushes", buffers.early as u64, buffers.max_early as u64),
    ];
    if let Some((what, is, limit)) = bounds.into_iter().find(|(_, is, limit)| is > limit) {
        let name = cluster.name(number);
        return Err(cluster.violation(format!("O4: {name} holds {is} of {what}, above the limit of {limit}")));
    }
    check_tombstones(cluster, number)
}

/// Checks that the tombstones are within the cap. Tombstones whose dots the vector does not claim yet do not count. A
/// session brings them before it claims them. If the replica dropped them earlier, no replica could know of the loss.
/// One session bounds their number.
fn check_tombstones<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    let (view, cap) = (cluster.view(number), cluster.settings.config.max_tombstones);
    if view.tombstone_len() <= cap {
        return Ok(());
    }
    let claimed = (0..cluster.keys.len()).filter(|&key| {
        let held = cluster.held(number, key).filter(|held| held.meta.kind != Kind::Live);
        held.is_some_and(|held| view.vector().covers(&view.marker_at(&held.meta).dot))
    });
    let claimed = claimed.count();
    if claimed <= cap || view.is_receiving() {
        return Ok(()); // While a session comes in, its end decides which tombstones may be dropped.
    }
    let name = cluster.name(number);
    Err(cluster.violation(format!("O4: {name} holds {claimed} claimed tombstones, above the cap of {cap}")))
}
