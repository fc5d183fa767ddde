//! What a cache shows of itself to its node, whatever its types: reports, registers without values.
//!
//! The replica's lock is taken for numbers only. Keys are encoded and text is made without it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Cache, CacheKey, CacheValue, Shared};
use crate::crdt::Cause;
use crate::hlc::{HlcTime, Now};
use crate::item::{Body, Item, Key};
use crate::ledger::tombstones::of_cause;
use crate::replica::ReplicaReport;
use crate::replica::report::{CollectionBlock, ReportedPeer};
use crate::replica_id::ReplicaId;
use crate::report::{
    self, Blocker, CacheReport, Mark, Marks, Offender, PeerReport, Repairs, Seen, TombstoneReport, lint_cache, readable,
};
use crate::store::{Position, Snapshot};
use crate::sync::Ordering;
use crate::wire;

/// Registers looked up under one hold of the lock.
const PER_HOLD: usize = 32;
/// Registers from which memory is estimated.
const SAMPLE: usize = 256;

/// An open cache, as those see it who look inside.
pub trait Examine {
    /// Everything but the registers.
    fn cache_report(&self) -> CacheReport;
    /// The encoding of the key that a text stands for.
    fn key_of(&self, text: &str) -> Option<Vec<u8>>;
    /// What is held for keys. Hashes of values only if asked for: they cost what values cost.
    fn marks(&self, keys: &[Vec<u8>], hash: bool) -> Marks;
    /// A page of what is held, and where to go on.
    fn marks_page(&self, cursor: u64, limit: usize) -> (Marks, Option<u64>);
    /// Has the protocol compare these keys with a member's. Returns how many it will.
    fn audit_keys(&self, with: ReplicaId, keys: &[Vec<u8>]) -> usize;
    /// The value of a key as text. Does not count as a use.
    fn value_text(&self, key: &[u8]) -> Option<String>;
    /// Keys, the most recently used first; nothing without a capacity.
    fn recent_keys(&self, limit: usize) -> Vec<String>;
    /// The replicas that are not known to have seen an event, the nodes they live on, and for how many
    /// milliseconds each has been silent.
    fn who_lacks(&self, origin: ReplicaId, dot: HlcTime) -> Vec<(ReplicaId, String, u64)>;
    /// The node a replica of this cache lives on.
    fn node_of(&self, replica: &ReplicaId) -> Option<String>;
}

impl<K: CacheKey, V: CacheValue> Cache<K, V> {
    /// This cache at one moment: clocks, members and their lag, tombstones, repairs, warnings. Holds
    /// the replica's lock for microseconds, and never for longer with more keys.
    #[must_use]
    pub fn inspect(&self) -> CacheReport {
        self.shared.cache_report()
    }
}

/// Names for replicas, and the clocks to judge by.
struct Scribe {
    names: BTreeMap<ReplicaId, String>,
    now: Now,
    judging: HlcTime,
}

fn ms(nanos: u64) -> u64 {
    nanos / 1_000_000
}

fn signed_ms(of: u64, less: u64) -> i64 {
    i64::try_from((i128::from(of) - i128::from(less)) / 1_000_000).unwrap_or(i64::MAX)
}

impl Scribe {
    fn name(&self, id: &ReplicaId) -> Option<String> {
        self.names.get(id).cloned()
    }

    fn seen(&self, (id, time): &(ReplicaId, HlcTime)) -> Seen {
        let age_ms = ms(self.judging.saturating_sub(*time));
        Seen { replica: id.to_string(), node: self.name(id), time: readable(*time), age_ms }
    }

    fn peer(&self, replica: &ReplicaReport, peer: &ReportedPeer) -> PeerReport {
        let ReportedPeer { view, lag, unconfirmed, wall_skew } = peer;
        let seen = replica.vector.iter().find(|(id, time)| *id == view.id && *time > 0);
        let reported = replica.vector.iter().map(|(id, _)| (*id, view.reported.get(id)));
        PeerReport {
            replica: view.id.to_string(),
            node: self.name(&view.id),
            live: view.live,
            dead_ms: view.dead_since.map(|since| ms(self.now.mono.saturating_sub(since))),
            silent_ms: ms(self.now.mono.saturating_sub(view.last_heard)),
            lossy: view.lossy,
            clock_skew_ms: wall_skew.map(|skew| skew / 1_000_000),
            lag_ms: u64::try_from(lag.behind.as_millis()).unwrap_or(u64::MAX),
            lag_entries: lag.writes,
            unconfirmed_entries: *unconfirmed as u64,
            staleness_ms: seen.map(|(_, time)| ms(self.judging.saturating_sub(*time))),
            reported: reported.map(|seen| self.seen(&seen)).collect(),
        }
    }

    fn blocker(&self, replica: &ReplicaReport, block: CollectionBlock) -> Blocker {
        let silent = |id: ReplicaId| {
            let heard = replica.peers.iter().find(|peer| peer.view.id == id).map_or(0, |peer| peer.view.last_heard);
            ms(self.now.mono.saturating_sub(heard))
        };
        match block {
            CollectionBlock::Young => Blocker::Young,
            CollectionBlock::Session => Blocker::Session,
            CollectionBlock::OwnWatermark => Blocker::OwnWatermark,
            CollectionBlock::Unseen(id) => {
                Blocker::Unseen { replica: id.to_string(), node: self.name(&id), silent_ms: silent(id) }
            }
            CollectionBlock::Watermark(id) => {
                Blocker::Watermark { replica: id.to_string(), node: self.name(&id), silent_ms: silent(id) }
            }
        }
    }

    fn tombstones(&self, replica: &ReplicaReport, cap: usize) -> TombstoneReport {
        let count = |cause| of_cause(&replica.held.by_cause, cause);
        let oldest = replica.held.oldest.as_ref();
        TombstoneReport {
            total: replica.held.tombstones as u64,
            cap: cap as u64,
            deleted: count(Cause::Deleted),
            expired: count(Cause::Expired),
            evicted: count(Cause::Evicted),
            void: count(Cause::Void),
            oldest_ms: oldest.map(|oldest| ms(self.judging.saturating_sub(oldest.since))),
            blocked_by: oldest.map_or_else(Vec::new, |oldest| {
                oldest.blocked_by.iter().map(|block| self.blocker(replica, *block)).collect()
            }),
        }
    }

    fn offender(&self, (id, claimed): &(ReplicaId, HlcTime)) -> Offender {
        Offender { replica: id.to_string(), node: self.name(id), ahead_ms: signed_ms(*claimed, self.now.wall) }
    }
}

fn repairs(replica: &ReplicaReport) -> Repairs {
    let counters = &replica.counters;
    Repairs {
        push: counters.pushes_in,
        digest: counters.sessions_completed.saturating_sub(counters.reconciles_in),
        reconcile: counters.reconciles_in,
        reconcile_removed: counters.reconcile_removed + counters.reconcile_voided,
        audit: counters.audit_conflicts,
    }
}

fn by_name(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).collect()
}

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    fn scribe(&self, now: Now, judging: HlcTime) -> Scribe {
        let mut names = self.around.host.names(&self.name);
        names.insert(self.id(), self.around.host.node_name());
        Scribe { names, now, judging }
    }

    /// Returns what was not as expected, by name.
    fn intake_counts(&self) -> BTreeMap<String, u64> {
        let others = [
            ("unreadable", self.samples.refused.load(Ordering::Relaxed)),
            ("listener_panics", self.listeners.panics()),
            ("listener_lost", self.listeners.lost()),
        ];
        by_name(self.counts.intake.each().chain(others))
    }

    /// Hashes spread keys evenly over the shards: the first page is a fair sample.
    fn estimate_memory(&self, registers: u64, log_len: u64) -> u64 {
        let (sample, _) = self.store.page(Position::default(), SAMPLE);
        let bytes: u64 = sample.iter().map(|found| u64::from(found.meta.size)).sum();
        let mean = bytes / (sample.len() as u64).max(1);
        let fixed = (size_of::<Snapshot<K, V>>() + size_of::<Item<K, V>>() + 32) as u64;
        registers * (mean + fixed) + log_len * 16
    }

    fn encoded_key(item: &Item<K, V>) -> Option<Vec<u8>> {
        match &item.key {
            Key::Known(key) => wire::encode_key(key).ok(),
            Key::Opaque(bytes) => Some(bytes.to_vec()),
        }
    }

    fn find_encoded(&self, key: &[u8]) -> Option<Snapshot<K, V>> {
        let key = match wire::decode_key::<K>(key) {
            Ok(known) => Key::Known(known),
            Err(_) => Key::Opaque(Box::new(key.to_vec().into())),
        };
        self.store.find_by(wire::Intake::<K, V>::hash(self, &key), |other| *other == key)
    }

    fn encoded_value(item: &Item<K, V>) -> Option<Vec<u8>> {
        match &item.body {
            Body::Absent => None,
            Body::Opaque(bytes) => Some(bytes.to_vec()),
            Body::Known(value) => {
                let mut bytes = Vec::new();
                ciborium::into_writer(value, &mut bytes).ok()?;
                Some(bytes)
            }
        }
    }

    fn mark(&self, found: &Snapshot<K, V>, marker: crate::crdt::Marker, opened: HlcTime, hash: bool) -> Option<Mark> {
        let key = Self::encoded_key(&found.item)?;
        let hash = if hash { Self::encoded_value(&found.item).map(|bytes| wire::value_hash(&bytes)) } else { None };
        Some(Mark {
            key,
            kind: marker.kind.code(),
            stamp: marker.stamp,
            origin: marker.dot.actor,
            dot: marker.dot.counter,
            expires: found.meta.expires,
            size: found.meta.size,
            hash,
            learnt_at: opened.saturating_add(found.meta.learnt.since_start()),
            learnt_by: Some(found.meta.learnt.path),
        })
    }

    /// Marks of registers found a moment ago. User types are encoded without the lock.
    fn mark_all(&self, found: &[Option<Snapshot<K, V>>], hash: bool) -> Marks {
        let mut marks = self.standing_now();
        let opened = self.opened_by_todays_clock();
        for part in found.chunks(PER_HOLD) {
            let markers: Vec<_> = {
                let engine = self.engine.lock();
                let one = |found: &Option<Snapshot<K, V>>| engine.replica.view().marker_of_snapshot(found.as_ref()?);
                part.iter().map(one).collect()
            };
            for (found, marker) in part.iter().zip(markers) {
                let mark = found.as_ref().zip(marker).and_then(|(found, marker)| {
                    catch_unwind(AssertUnwindSafe(|| self.mark(found, marker, opened, hash))).ok().flatten()
                });
                marks.marks.push(mark);
            }
        }
        marks
    }

    /// When this replica started, as the wall clock would have told it had it always gone as it goes now.
    fn opened_by_todays_clock(&self) -> HlcTime {
        let now = self.around.time.now();
        let age = now.mono.saturating_sub(self.engine.lock().replica.view().opened());
        now.wall.saturating_sub(age)
    }

    fn standing_now(&self) -> Marks {
        let wall = self.around.time.wall();
        let engine = self.engine.lock();
        let replica = &engine.replica;
        Marks {
            replica: Some(self.id()),
            wall,
            lossy: replica.view().is_lossy(),
            floor: replica.view().floor().time,
            epoch: replica.view().epoch(),
            vector: replica.view().vector().iter().collect(),
            marks: Vec::new(),
        }
    }
}

impl<K: CacheKey, V: CacheValue> Examine for Shared<K, V> {
    fn cache_report(&self) -> CacheReport {
        let now = self.around.time.now();
        let (replica, fills_running, config) = {
            let engine = self.engine.lock();
            (engine.replica.report(now), engine.flights.len() as u64, engine.replica.view().config().clone())
        };
        let scribe = self.scribe(now, replica.judging);
        let (hits, misses) = self.reads.totals();
        let mut report = CacheReport {
            cache: self.name.to_string(),
            node: self.around.host.node_name(),
            replica: self.id().to_string(),
            wall: readable(now.wall),
            clock_ahead_ms: signed_ms(replica.clock, now.wall).max(0),
            clock_step_ms: replica.disagreement / 1_000_000,
            max_drift_ms: u64::try_from(config.max_drift.as_millis()).unwrap_or(u64::MAX),
            entries: replica.held.live,
            weight: replica.held.weight,
            max_capacity: self.settings.max_capacity,
            hits,
            misses,
            memory_estimate: self
                .estimate_memory(replica.held.live + replica.held.tombstones as u64, replica.held.log_len as u64),
            vector: replica.vector.iter().map(|seen| scribe.seen(seen)).collect(),
            peers: replica.peers.iter().map(|peer| scribe.peer(&replica, peer)).collect(),
            stable_watermark: readable(replica.watermark),
            gc_floor: readable(replica.floor.time),
            epoch: readable(replica.epoch),
            tombstones: scribe.tombstones(&replica, config.max_tombstones),
            log_entries: replica.held.log_len as u64,
            origins: replica.held.origins as u64,
            deferred: replica.held.deferred as u64,
            offenders: replica.offenders.iter().map(|offender| scribe.offender(offender)).collect(),
            receiving: replica.receiving,
            sending: replica.sending as u64,
            lossy: replica.lossy,
            fills_running,
            fills: by_name(self.counts.fills.counters().each()),
            intake: self.intake_counts(),
            bytes_in: by_name(self.counts.bytes_in.each()),
            bytes_out: by_name(self.counts.bytes_out.each()),
            repairs: repairs(&replica),
            counters: by_name(replica.counters.each()),
            warnings: Vec::new(),
        };
        report.warnings = lint_cache(&report);
        report
    }

    fn key_of(&self, text: &str) -> Option<Vec<u8>> {
        let typed = |bytes: Vec<u8>| match wire::decode_key::<K>(&bytes) {
            Ok(key) => wire::encode_key(&key).ok(),
            Err(_) => None,
        };
        let candidates = report::candidates(text);
        let known = catch_unwind(AssertUnwindSafe(|| candidates.iter().cloned().find_map(typed))).ok().flatten();
        // A key that does not decode here may still be held, as it came.
        known.or_else(|| report::encoding(text))
    }

    fn marks(&self, keys: &[Vec<u8>], hash: bool) -> Marks {
        let find = |key: &Vec<u8>| catch_unwind(AssertUnwindSafe(|| self.find_encoded(key))).ok().flatten();
        self.mark_all(&keys.iter().map(find).collect::<Vec<_>>(), hash)
    }

    fn marks_page(&self, cursor: u64, limit: usize) -> (Marks, Option<u64>) {
        let (page, next) = self.store.page(Position::from_cursor(cursor), limit);
        let found: Vec<_> = page.into_iter().map(Some).collect();
        (self.mark_all(&found, false), next.map(Position::to_cursor))
    }

    fn audit_keys(&self, with: ReplicaId, keys: &[Vec<u8>]) -> usize {
        let find = |key: &Vec<u8>| catch_unwind(AssertUnwindSafe(|| self.find_encoded(key))).ok().flatten();
        let slots: Vec<_> = keys.iter().filter_map(find).map(|found| found.slot).collect();
        let sent = self.engine.lock().replica.audit_registers(with, &slots);
        self.wake_driver();
        sent
    }

    fn value_text(&self, key: &[u8]) -> Option<String> {
        let show = || {
            let found = self.find_encoded(key).filter(|found| self.is_visible(found))?;
            Some(report::show_value(&Self::encoded_value(&found.item)?))
        };
        catch_unwind(AssertUnwindSafe(show)).ok().flatten()
    }

    fn recent_keys(&self, limit: usize) -> Vec<String> {
        let slots: Vec<_> = self.engine.lock().by_recency().take(limit).collect();
        let found = slots.into_iter().filter_map(|slot| self.store.resolve(slot));
        let text = |found: Snapshot<K, V>| {
            let bytes = catch_unwind(AssertUnwindSafe(|| Self::encoded_key(&found.item))).ok().flatten()?;
            Some(report::show(&bytes))
        };
        found.filter_map(text).collect()
    }

    fn who_lacks(&self, origin: ReplicaId, dot: HlcTime) -> Vec<(ReplicaId, String, u64)> {
        let mono = self.around.time.now().mono;
        let lacking = self.engine.lock().replica.view().who_lacks(crate::crdt::Dot::new(origin, dot));
        let names = self.around.host.names(&self.name);
        let called = |id: ReplicaId| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
        lacking.into_iter().map(|(id, heard)| (id, called(id), ms(mono.saturating_sub(heard)))).collect()
    }

    fn node_of(&self, replica: &ReplicaId) -> Option<String> {
        if *replica == self.id() {
            Some(self.around.host.node_name())
        } else {
            self.around.host.names(&self.name).remove(replica)
        }
    }
}
