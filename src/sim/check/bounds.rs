//! Bounds: memory is bounded by configuration after every event, whatever the others send.

use crate::crdt::Kind;
use crate::sim::cluster::Cluster;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    pub(super) fn check_bounds(&self, number: usize) -> Result<(), Violation> {
        let view = self.view(number);
        let (config, buffers) = (&self.settings.config, view.buffers());
        let bounds = [
            ("weight", view.live_weight(), self.settings.max_capacity.unwrap_or(u64::MAX)),
            ("retained bytes", buffers.retained_bytes as u64, config.max_retained_bytes as u64),
            ("deferred registers", view.deferred_len() as u64, config.max_deferred as u64),
            ("deferred bytes", buffers.deferred_bytes as u64, buffers.max_deferred_bytes as u64),
            ("early pushes", buffers.early as u64, buffers.max_early as u64),
        ];
        if let Some((what, is, limit)) = bounds.into_iter().find(|(_, is, limit)| is > limit) {
            let name = self.name(number);
            return Err(self.violation(format!("O4: {name} holds {is} of {what}, and the limit is {limit}")));
        }
        self.check_tombstones(number)
    }

    /// Tombstones within the cap. Not those whose dots no vector claims yet: a session brings them before it claims them,
    /// and dropped then they would be dropped without anybody being able to tell. Their number is that of one session.
    fn check_tombstones(&self, number: usize) -> Result<(), Violation> {
        let (view, cap) = (self.view(number), self.settings.config.max_tombstones);
        if view.tombstone_len() <= cap {
            return Ok(());
        }
        let claimed = (0..self.keys.len()).filter(|&key| {
            let held = self.held(number, key).filter(|held| held.meta.kind != Kind::Live);
            held.is_some_and(|held| view.vector().covers(&view.marker_at(&held.meta).dot))
        });
        let claimed = claimed.count();
        if claimed <= cap || view.is_receiving() {
            return Ok(()); // While a session comes in, its end decides what may be dropped.
        }
        let name = self.name(number);
        Err(self.violation(format!("O4: {name} holds {claimed} tombstones that it claims, and the cap is {cap}")))
    }
}
