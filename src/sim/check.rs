//! One checker per promise.

use super::cluster::Cluster;
use super::node::RunningFill;
use super::report::Violation;
use super::workload::{Workload, hash_of};
use crate::crdt::{Cause, Kind, VersionVector};
use crate::hlc::Stamp;
use crate::replica::Counters;
use crate::store::Snapshot;

/// The whole machine checks itself after every so many events.
const VALIDATE_EVERY: u64 = 8;
/// Wall clocks of a healed cluster differ by less, in nanoseconds.
const HEALED_SKEW: u64 = 2_000_000_000;

impl<W: Workload> Cluster<W> {
    pub(super) fn keys(&self) -> impl Iterator<Item = W::Key> + '_ {
        (0..self.settings.keys).map(|n| self.workload.key(n))
    }

    fn held(&self, number: usize, key: &W::Key) -> Option<Snapshot<W::Key, W::Value>> {
        self.nodes[number].replica.store().get(hash_of(key), key)
    }

    /// What a reader on this node is given now.
    fn served(&self, number: usize, key: &W::Key) -> Option<(Stamp, Snapshot<W::Key, W::Value>)> {
        let node = &self.nodes[number];
        let held = self.held(number, key)?;
        let readable = held.meta.kind.is_live() && held.meta.stamp_time > node.replica.epoch();
        let expired = held.meta.expires != 0 && held.meta.expires <= node.now(self.at).wall;
        (readable && !expired).then(|| (node.replica.stamp_at(&held.meta), held))
    }

    /// After every event: O2, and the machine against itself.
    pub(super) fn check_node(&mut self, number: usize) -> Result<(), Violation> {
        let keys: Vec<_> = self.keys().collect();
        for key in &keys {
            self.check_key(number, key)?;
        }
        let counters = self.nodes[number].replica.counters();
        if counters.audit_conflicts > 0 {
            return Err(self.violation(format!("audit: n{number} found two live values for one key")));
        }
        if counters.audit_missing > 0 {
            return Err(self.violation(format!("audit: n{number} lacks a value without a reason")));
        }
        if self.report.events.is_multiple_of(VALIDATE_EVERY) {
            self.nodes[number]
                .replica
                .validate()
                .map_err(|what| self.violation(format!("validate: n{number}: {what}")))?;
        }
        Ok(())
    }

    /// O2: what is served never goes back behind what was applied here.
    fn check_key(&mut self, number: usize, key: &W::Key) -> Result<(), Violation> {
        let held = self.held(number, key);
        let served = self.served(number, key);
        let node = &self.nodes[number];
        let believed = node.mirror.get(key).copied();
        if let Some((stamp, held)) = &served {
            let newest = node.newest.get(key).copied();
            if newest.is_some_and(|(newest, gone)| newest > *stamp || (gone && newest == *stamp)) {
                return Err(self.violation(format!("O2: n{number} serves {key:?} of {stamp:?} after {newest:?}")));
            }
            let written = self.oracle.get(key, stamp).and_then(|record| record.value);
            let right = written.map(|n| self.workload.value(n));
            // A write is looked at before it is in the books only by its own settle.
            if right.as_ref() != held.item.value() {
                return Err(self.violation(format!(
                    "n{number} serves {key:?} = {:?} of {stamp:?}, written was {right:?}",
                    held.item.value()
                )));
            }
            if believed != Some(*stamp) {
                return Err(self.violation(format!(
                    "changes: n{number} serves {key:?} of {stamp:?}, a listener believes {believed:?}"
                )));
            }
        }
        match held {
            Some(held) => self.note_newest(number, key, &held, believed),
            None if believed.is_some() => {
                Err(self.violation(format!("changes: n{number} holds no {key:?}, a listener believes {believed:?}")))
            }
            None => Ok(()),
        }
    }

    fn note_newest(
        &mut self,
        number: usize,
        key: &W::Key,
        held: &Snapshot<W::Key, W::Value>,
        believed: Option<Stamp>,
    ) -> Result<(), Violation> {
        if !held.meta.kind.is_live() && believed.is_some() {
            return Err(self.violation(format!(
                "changes: n{number} holds no value for {key:?}, a listener believes {believed:?}"
            )));
        }
        let node = &mut self.nodes[number];
        let stamp = node.replica.stamp_at(&held.meta);
        let gone = !held.meta.kind.ranks_live();
        let newest = node.newest.entry(key.clone()).or_insert((stamp, gone));
        *newest = (*newest).max((stamp, gone));
        Ok(())
    }

    /// A fill that was stored must lose against whatever was written after it began, by any clock
    /// that is within the drift bound.
    pub(super) fn check_fill(&self, fill: &RunningFill<W::Key>, stamp: Stamp) -> Result<(), Violation> {
        let drift = self.settings.config.max_drift.as_nanos() as u64;
        let unfair = |record: &&super::oracle::Record| {
            !record.fill
                && record.at > fill.at
                && record.stamp.time > fill.above
                && record.stamp < stamp
                && record.wall.saturating_add(drift) > fill.began + (record.at - fill.at)
        };
        match self.oracle.of(&fill.key).find(unfair) {
            Some(record) => Err(self
                .violation(format!("fill: {:?} of {stamp:?} beats {record:?} which came after its start", fill.key))),
            None => Ok(()),
        }
    }

    /// O1, O3 and completeness, once everything is quiet.
    pub(super) fn check_agreement(&self) -> Result<(), Violation> {
        let up = self.running();
        let vectors: Vec<&VersionVector> = up.iter().map(|&number| self.nodes[number].replica.vector()).collect();
        let epoch = up.iter().map(|&number| self.nodes[number].replica.epoch()).max().unwrap_or_default();
        let lossless = self.is_lossless();
        for key in self.keys() {
            let known = self.oracle.winner(&key, &vectors);
            let held = up
                .iter()
                .filter_map(|&number| {
                    self.held(number, &key).map(|held| self.nodes[number].replica.stamp_at(&held.meta))
                })
                .max();
            let newest = known.map(|record| record.stamp).max(held);
            for &number in &up {
                self.check_served(number, &key, newest, epoch)?;
            }
            if lossless {
                // What a replica that is gone wrote counts once somebody holds it.
                let held = newest.and_then(|newest| self.oracle.get(&key, &newest));
                self.check_complete(&up, &key, held.or(known), epoch)?;
            }
        }
        for &number in &up {
            let replica = &self.nodes[number].replica;
            if replica.epoch() != epoch {
                return Err(self.violation(format!("O3: n{number} knows the epoch {} of {epoch}", replica.epoch())));
            }
            if replica.deferred_len() > 0 {
                return Err(self.violation(format!("liveness: n{number} still defers {}", replica.deferred_len())));
            }
        }
        Ok(())
    }

    /// O3, and with it O1: what is served is the newest that anybody knows.
    fn check_served(&self, number: usize, key: &W::Key, newest: Option<Stamp>, epoch: u64) -> Result<(), Violation> {
        let Some((stamp, _)) = self.served(number, key) else { return Ok(()) };
        let stale = newest.is_some_and(|newest| stamp < newest) || stamp.time <= epoch;
        let record = newest.and_then(|newest| self.oracle.get(key, &newest));
        let deleted = record.is_some_and(|record| record.stamp == stamp && record.value.is_none());
        if stale || deleted {
            return Err(self
                .violation(format!("O3: n{number} serves {key:?} of {stamp:?}, known is {newest:?}, epoch {epoch}")));
        }
        Ok(())
    }

    /// Complete: nothing was given up, so everybody serves the winner.
    fn check_complete(
        &self,
        up: &[usize],
        key: &W::Key,
        known: Option<&super::oracle::Record>,
        epoch: u64,
    ) -> Result<(), Violation> {
        let Some(record) = known.filter(|record| record.value.is_some() && record.stamp.time > epoch) else {
            return Ok(());
        };
        let wall = self.nodes[up[0]].now(self.at).wall;
        if record.expires != 0 && record.expires <= wall + HEALED_SKEW {
            return Ok(());
        }
        for &number in up {
            if self.served(number, key).is_none_or(|(stamp, _)| stamp != record.stamp) {
                let held = self
                    .held(number, key)
                    .map(|held| (held.meta.kind, self.nodes[number].replica.stamp_at(&held.meta)));
                return Err(
                    self.violation(format!("complete: n{number} holds {held:?} for {key:?}, written was {record:?}"))
                );
            }
        }
        Ok(())
    }

    /// Whether no replica gave anything up that it was not told to. A void is an excuse only where
    /// somebody came late, and may have written before the others knew of it.
    fn is_lossless(&self) -> bool {
        let came_late = self.nodes.len() > usize::from(self.settings.replicas);
        let lost = |counters: &Counters| {
            let voided = counters.voided + counters.reconcile_voided + counters.reconcile_removed;
            counters.evicted_stable
                + counters.evicted_unstable
                + counters.evicted_unsent
                + counters.forced_drops
                + counters.forgotten
                + counters.retired_dropped
                + if came_late { voided } else { 0 }
        };
        self.nodes.iter().all(|node| lost(node.replica.counters()) == 0)
    }

    /// O4: everything that was kept for a reason is gone with the reason.
    pub(super) fn check_baseline(&self) -> Result<(), Violation> {
        let up = self.running();
        for &number in &up {
            let replica = &self.nodes[number].replica;
            let live = replica.live_len() as usize;
            let facts = [
                ("tombstones", replica.tombstone_len(), 0),
                ("members", replica.peer_len(), up.len() - 1),
                ("fills", replica.fills_running(), 0),
                ("deferred", replica.deferred_len(), 0),
                ("log entries", replica.log_len(), 2 * live + 65 * self.nodes.len()),
                ("expiry entries", replica.expiry_len(), 3 * live + 1_024),
            ];
            if replica.peer_len() < up.len() - 1 {
                return Err(self.violation({
                    let known: Vec<_> = replica.peers().map(|peer| self.number_of(&peer.id)).collect();
                    format!("O4: n{number} knows {known:?} of {up:?}, {:?}", self.nodes[number].views)
                }));
            }
            for (what, count, limit) in facts {
                if count > limit {
                    let sample = self.tombstones_of(number);
                    return Err(self.violation(format!("O4: n{number} has {count} {what}, at most {limit}; {sample}")));
                }
            }
        }
        Ok(())
    }

    fn tombstones_of(&self, number: usize) -> String {
        let replica = &self.nodes[number].replica;
        let stones: Vec<_> = self
            .keys()
            .filter_map(|key| self.held(number, &key).map(|held| (key, held)))
            .filter(|(_, held)| matches!(held.meta.kind, Kind::Tombstone(_)))
            .take(3)
            .map(|(key, held)| (key, replica.marker_at(&held.meta)))
            .collect();
        let evicted = stones.iter().any(|(_, marker)| marker.kind == Kind::Tombstone(Cause::Evicted));
        let peers: Vec<_> =
            replica.peers().map(|peer| (self.number_of(&peer.id), peer.live, peer.watermark, peer.reported)).collect();
        format!("{stones:?} evicted {evicted} vector {:?} peers {peers:?}", replica.vector())
    }
}
