//! One checker per promise. The first word of a violation says which.

use super::cluster::Cluster;
use super::opening::RunningFill;
use super::oracle::Record;
use super::report::Violation;
use super::trace::brief;
use super::types::{SimKey, SimValue};
use crate::crdt::{Cause, Kind, VersionVector};
use crate::hlc::Stamp;
use crate::replica::Counters;
use crate::store::Snapshot;

/// A replica checks itself after every so many events.
const VALIDATE_EVERY: u64 = 8;
/// Wall clocks of a healed cluster differ by less, in nanoseconds.
const HEALED_SKEW: u64 = 2_000_000_000;

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    pub(super) fn held(&self, number: usize, key: usize) -> Option<Snapshot<K, V>> {
        let (hash, key) = &self.keys[key];
        self.replica(number).store().get(*hash, key)
    }

    fn oracle(&self, number: usize) -> &super::oracle::Oracle<K, V> {
        &self.oracles[usize::from(self.openings[number].cache)]
    }

    fn key_name(&self, key: usize) -> String {
        brief(&self.keys[key].1)
    }

    /// What a reader is given now.
    pub(super) fn served(&self, number: usize, key: usize) -> Option<(Stamp, Snapshot<K, V>)> {
        let held = self.held(number, key)?;
        self.is_served(number, &held).then(|| (self.replica(number).stamp_at(&held.meta), held))
    }

    fn is_served(&self, number: usize, held: &Snapshot<K, V>) -> bool {
        let readable = held.meta.kind.is_live() && held.meta.stamp_time > self.replica(number).epoch();
        readable && (held.meta.expires == 0 || held.meta.expires > self.now_at(number).wall)
    }

    /// After every event: O2, the bounds, and the machine against itself.
    pub(super) fn check_replica(&mut self, number: usize) -> Result<(), Violation> {
        let opening = &mut self.openings[number];
        opening.seen.join(opening.engine.replica.vector());
        (0..self.keys.len()).try_for_each(|key| self.check_key(number, key))?;
        let name = self.name(number);
        let counters = self.replica(number).counters();
        if counters.audit_conflicts > 0 {
            return Err(self.violation(format!("audit: {name} found two live values for one key")));
        }
        if counters.audit_missing > 0 {
            return Err(self.violation(format!("audit: {name} lacks a value without a reason")));
        }
        let weight = self.replica(number).live_weight();
        if self.settings.max_capacity.is_some_and(|capacity| weight > capacity) {
            return Err(self.violation(format!("O4: {name} holds a weight of {weight}, beyond its capacity")));
        }
        if self.report.events.is_multiple_of(VALIDATE_EVERY) {
            let valid = self.openings[number].engine.replica.validate();
            valid.map_err(|what| self.violation(format!("validate: {name}: {what}")))?;
        }
        Ok(())
    }

    /// O2: what is served never goes back behind what was applied here.
    fn check_key(&mut self, number: usize, key: usize) -> Result<(), Violation> {
        let Some(held) = self.held(number, key) else {
            return match self.openings[number].mirror[key] {
                None => Ok(()),
                believed => Err(self.misled(number, key, "holds nothing", believed)),
            };
        };
        if self.is_served(number, &held) {
            let stamp = self.replica(number).stamp_at(&held.meta);
            let opening = &self.openings[number];
            let newest = opening.newest[key];
            if newest
                .is_some_and(|(newest, gone)| newest > stamp || (gone && newest == stamp && !self.buried_early(&held)))
            {
                let (name, key) = (self.name(number), self.key_name(key));
                return Err(self.violation(format!("O2: {name} serves {key} of {stamp:?} after {newest:?}")));
            }
            self.check_claim(number, key, stamp)?;
            self.check_value(number, key, stamp, &held)?;
            if opening.mirror[key] != Some(stamp) {
                return Err(self.misled(number, key, &format!("serves {stamp:?}"), opening.mirror[key]));
            }
        }
        self.note_newest(number, key, &held)
    }

    /// A clock that was ahead and is put right has taken a value for expired that then is not: it may be told of it
    /// again. The stamp is the same, so nothing older is served.
    fn buried_early(&self, held: &Snapshot<K, V>) -> bool {
        held.meta.expires != 0 && self.report.faults.contains_key("clock ahead")
    }

    /// Nothing is served that is older than a write which this replica claims to have seen, also one that it
    /// never held because something newer was said to be there.
    fn check_claim(&self, number: usize, key: usize, stamp: Stamp) -> Result<(), Violation> {
        match self.oracle(number).winner(key, &[&self.openings[number].seen]) {
            Some(record) if record.stamp > stamp => {
                let (name, key, claimed) = (self.name(number), self.key_name(key), record.dot);
                Err(self.violation(format!("claim: {name} serves {key} of {stamp:?} and claims {claimed:?}")))
            }
            _ => Ok(()),
        }
    }

    /// What is served under a stamp is what was written under it.
    fn check_value(&self, number: usize, key: usize, stamp: Stamp, held: &Snapshot<K, V>) -> Result<(), Violation> {
        let written = self.oracle(number).get(key, &stamp).and_then(|record| record.item.as_ref());
        let same = |written: &crate::item::ItemRef<K, V>| {
            crate::item::ItemRef::ptr_eq(written, &held.item) || crate::item::Item::value(written) == held.item.value()
        };
        if written.is_some_and(same) {
            return Ok(());
        }
        let (name, key, served) = (self.name(number), self.key_name(key), brief(&held.item.value()));
        let written = brief(&written.map(|written| written.value()));
        Err(self.violation(format!("value: {name} serves {key} = {served} of {stamp:?}, written was {written}")))
    }

    fn misled(&self, number: usize, key: usize, what: &str, believed: Option<Stamp>) -> Violation {
        let (name, key) = (self.name(number), self.key_name(key));
        self.violation(format!("changes: {name} {what} for {key}, a listener believes {believed:?}"))
    }

    fn note_newest(&mut self, number: usize, key: usize, held: &Snapshot<K, V>) -> Result<(), Violation> {
        let believed = self.openings[number].mirror[key];
        if !held.meta.kind.is_live() && believed.is_some() {
            return Err(self.misled(number, key, "holds no value", believed));
        }
        let seen = (self.replica(number).stamp_at(&held.meta), !held.meta.kind.ranks_live());
        let newest = &mut self.openings[number].newest[key];
        *newest = (*newest).max(Some(seen));
        Ok(())
    }

    /// A fill that was stored must lose against whatever was written after it began, by any clock
    /// that is within the drift bound.
    pub(super) fn check_fill(&self, number: usize, fill: &RunningFill, stamp: Stamp) -> Result<(), Violation> {
        let drift = self.settings.config.max_drift.as_nanos() as u64;
        let unfair = |record: &&Record<K, V>| {
            !record.fill
                && record.at > fill.at
                && record.stamp.time > fill.above
                && record.stamp < stamp
                && record.wall.saturating_add(drift) > fill.began + (record.at - fill.at)
        };
        match self.oracle(number).of(fill.key).find(unfair) {
            Some(record) => Err(self.violation(format!(
                "fill: {} of {stamp:?} beats {:?}, which came after its start",
                self.key_name(fill.key),
                record.stamp
            ))),
            None => Ok(()),
        }
    }

    /// O1, O3 and completeness, once everything is quiet.
    pub(super) fn check_agreement(&self) -> Result<(), Violation> {
        (0..self.settings.caches).try_for_each(|cache| self.check_cache(cache))
    }

    fn check_cache(&self, cache: u8) -> Result<(), Violation> {
        let open = self.replicas_of(cache);
        let vectors: Vec<&VersionVector> = open.iter().map(|&number| &self.openings[number].seen).collect();
        let epoch = open.iter().map(|&number| self.replica(number).epoch()).max().unwrap_or_default();
        let lossless = self.is_lossless(cache);
        let oracle = &self.oracles[usize::from(cache)];
        for key in 0..self.keys.len() {
            let known = oracle.winner(key, &vectors);
            let stamp = |&number: &usize| self.held(number, key).map(|held| self.replica(number).stamp_at(&held.meta));
            // What was held and collected counts as well: it may have come under another dot than its own.
            let was = open.iter().filter_map(|&number| self.openings[number].newest[key]).map(|(stamp, _)| stamp).max();
            let newest = known.map(|record| record.stamp).max(open.iter().filter_map(stamp).max()).max(was);
            for &number in &open {
                self.check_served(number, key, newest, epoch)?;
            }
            if lossless {
                // What a replica that is gone wrote counts once somebody holds it.
                let held = newest.and_then(|newest| oracle.get(key, &newest));
                self.check_complete(&open, key, held.or(known), epoch)?;
            }
        }
        for &number in &open {
            let (replica, name) = (self.replica(number), self.name(number));
            if replica.epoch() != epoch {
                return Err(self.violation(format!("O3: {name} knows the epoch {} of {epoch}", replica.epoch())));
            }
            if replica.deferred_len() > 0 {
                return Err(self.violation(format!("liveness: {name} still defers {}", replica.deferred_len())));
            }
        }
        Ok(())
    }

    /// O3, and with it O1: what is served is the newest that anybody knows.
    fn check_served(&self, number: usize, key: usize, newest: Option<Stamp>, epoch: u64) -> Result<(), Violation> {
        let Some((stamp, _)) = self.served(number, key) else { return Ok(()) };
        let stale = newest.is_some_and(|newest| stamp < newest) || stamp.time <= epoch;
        let record = newest.and_then(|newest| self.oracle(number).get(key, &newest));
        let deleted = record.is_some_and(|record| record.stamp == stamp && record.item.is_none());
        if stale || deleted {
            let (name, key) = (self.name(number), self.key_name(key));
            return Err(
                self.violation(format!("O3: {name} serves {key} of {stamp:?}, known is {newest:?}, epoch {epoch}"))
            );
        }
        Ok(())
    }

    /// Complete: nothing was given up, so everybody serves the winner.
    fn check_complete(
        &self,
        open: &[usize],
        key: usize,
        known: Option<&Record<K, V>>,
        epoch: u64,
    ) -> Result<(), Violation> {
        let Some(record) = known.filter(|record| record.item.is_some() && record.stamp.time > epoch) else {
            return Ok(());
        };
        let Some(wall) = open.first().map(|&number| self.now_at(number).wall) else { return Ok(()) };
        if record.expires != 0 && record.expires <= wall + HEALED_SKEW {
            return Ok(());
        }
        for &number in open {
            if self.served(number, key).is_none_or(|(stamp, _)| stamp != record.stamp) {
                let held = self.held(number, key);
                let held = held.map(|held| (held.meta.kind, self.replica(number).stamp_at(&held.meta)));
                let (name, key, stamp) = (self.name(number), self.key_name(key), record.stamp);
                return Err(self.violation(format!("complete: {name} holds {held:?} for {key}, written was {stamp:?}")));
            }
        }
        Ok(())
    }

    /// Whether no replica of a cache gave anything up that it was not told to. A void is an excuse only
    /// where somebody came late or was forgotten, and may have written what the others did not know of; to
    /// be forgotten alone is none.
    fn is_lossless(&self, cache: u8) -> bool {
        let ever = || self.openings.iter().filter(|opening| opening.cache == cache);
        let forgot = ever().any(|opening| opening.engine.replica.counters().forgotten > 0);
        // Without a grace a delete may be collected before anybody has met the one whose write it was.
        let unmet = self.settings.config.gc_grace < self.settings.suspect_after;
        let may_void = forgot || unmet || ever().count() > usize::from(self.settings.replicas);
        let lost = |counters: &Counters| {
            let voided = counters.voided + counters.reconcile_voided + counters.reconcile_removed;
            counters.evicted_stable
                + counters.evicted_unstable
                + counters.evicted_unsent
                + counters.forced_drops
                + counters.retired_dropped
                + counters.fills_contested
                + counters.in_doubt
                + counters.reconcile_doubted
                + if may_void { voided } else { 0 }
        };
        ever().all(|opening| lost(opening.engine.replica.counters()) == 0)
    }

    /// O4: everything that was kept for a reason is gone with the reason.
    pub(super) fn check_baseline(&self) -> Result<(), Violation> {
        (0..self.settings.caches).try_for_each(|cache| self.check_cache_baseline(cache))
    }

    fn check_cache_baseline(&self, cache: u8) -> Result<(), Violation> {
        let open = self.replicas_of(cache);
        let ever = self.openings.iter().filter(|opening| opening.cache == cache).count();
        for &number in &open {
            let (replica, name) = (self.replica(number), self.name(number));
            let live = replica.live_len() as usize;
            let facts = [
                ("tombstones", replica.tombstone_len(), 0),
                ("members", replica.peer_len(), open.len() - 1),
                ("fills", replica.fills_running(), 0),
                ("deferred", replica.deferred_len(), 0),
                ("log entries", replica.log_len(), 2 * live + 65 * ever),
                ("expiry entries", replica.expiry_len(), 3 * live + 1_024),
            ];
            if replica.peer_len() < open.len() - 1 {
                let known: Vec<_> = replica.peers().map(|peer| peer.id).collect();
                return Err(self.violation(format!("O4: {name} knows {known:?} of {open:?}")));
            }
            for (what, count, limit) in facts {
                if count > limit {
                    let sample = self.tombstones_of(number);
                    return Err(self.violation(format!("O4: {name} has {count} {what}, at most {limit}; {sample}")));
                }
            }
        }
        Ok(())
    }

    fn tombstones_of(&self, number: usize) -> String {
        let replica = self.replica(number);
        let stones: Vec<_> = (0..self.keys.len())
            .filter_map(|key| self.held(number, key).map(|held| (key, held)))
            .filter(|(_, held)| matches!(held.meta.kind, Kind::Tombstone(_)))
            .take(3)
            .map(|(key, held)| (key, replica.marker_at(&held.meta)))
            .collect();
        let evicted = stones.iter().any(|(_, marker)| marker.kind == Kind::Tombstone(Cause::Evicted));
        let peers: Vec<_> = replica.peers().map(|peer| (peer.id, peer.live, peer.watermark, peer.reported)).collect();
        format!("{stones:?} evicted {evicted} vector {:?} peers {peers:?}", replica.vector())
    }
}
