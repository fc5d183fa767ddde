//! The report on a cache at one moment, for operators: names instead of ids, ages instead of times.
//!
//! The replica's lock is taken to read numbers only. Text is made without it.

use std::collections::BTreeMap;

use super::shared::Shared;
use super::{CacheKey, CacheValue, explain};
use crate::crdt::Cause;
use crate::histogram::Distribution;
use crate::hlc::{HlcTime, Now, nanos};
use crate::item::{Item, panics_in_drop};
use crate::ledger::tombstones::of_cause;
use crate::replica::report::{CollectionBlock, HeldReport, OldTombstone, ReportedPeer};
use crate::replica::{RemovalStats, ReplicaConfig, ReplicaReport};
use crate::replica_id::ReplicaId;
use crate::report::{
    Blocker, CacheReport, Offender, PeerReport, Repairs, Seen, TombstoneLine, TombstoneReport, lint_cache, readable,
    show,
};
use crate::store::{Position, Snapshot};

/// The number of registers from which memory is estimated.
const SAMPLE: usize = 256;

/// Returns a report on everything in a cache but its registers.
pub(super) fn report<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> CacheReport {
    let now = shared.services.time.now();
    let (replica, fills_running, config, removals) = copy(shared, now);
    let reporter = reporter(shared, now, replica.judging);
    let mut report = CacheReport {
        wall: readable(now.wall),
        clock_ahead_ms: signed_ms(replica.clock, now.wall).max(0),
        clock_step_ms: replica.disagreement / 1_000_000,
        max_drift_ms: u64::try_from(config.max_drift.as_millis()).unwrap_or(u64::MAX),
        entries: replica.held.live,
        weight: replica.held.weight,
        removals: by_name(removals.each()),
        timings: timings(shared, &replica),
        memory_estimate: estimate_memory(shared, &replica.held),
        vector: replica.vector.iter().map(|seen| reporter.seen(seen)).collect(),
        peers: replica.peers.iter().map(|peer| reporter.peer(&replica, peer)).collect(),
        silence_limit_ms: silence_limit(&config, replica.met),
        stable_watermark: readable(replica.watermark),
        gc_floor: readable(replica.floor.time),
        epoch: readable(replica.epoch),
        tombstones: reporter.tombstones(&replica, config.max_tombstones),
        log_entries: replica.held.log_len as u64,
        origins: replica.held.origins as u64,
        deferred: replica.held.deferred as u64,
        offenders: replica.offenders.iter().map(|offender| reporter.offender(offender)).collect(),
        receiving: replica.receiving,
        sending: replica.sending as u64,
        lossy: replica.lossy,
        fills_running,
        repairs: repairs(&replica),
        counters: by_name(replica.counters.each()),
        ..of_cache(shared)
    };
    let mut log = shared.warnings.lock();
    report.intake_age_ms = log.ages(now, &report.intake);
    report.warnings = log.observe(now, lint_cache(&report));
    report.ended_warnings = log.ended();
    report
}

/// Returns the oldest tombstones, and the reasons why each cannot be collected yet.
pub(super) fn oldest_tombstones<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, limit: usize) -> Vec<TombstoneLine> {
    let now = shared.services.time.now();
    let (replica, oldest) = shared
        .writer
        .look(|engine| (engine.replica.report(now), OldTombstone::oldest(engine.replica.view(), now, limit)));
    let reporter = reporter(shared, now, replica.judging);
    let line = |old: &OldTombstone| {
        let found = [shared.reader.store().resolve(old.slot)];
        let marks = explain::marks(shared, &found, false);
        let mark = marks.marks.first()?.as_ref()?;
        Some(TombstoneLine {
            key: show(&mark.key),
            state: marks.state(Some(mark)),
            stamp: readable(mark.stamp.time),
            age_ms: ms(replica.judging.saturating_sub(old.since)),
            blocked_by: old.blocked_by.iter().map(|block| reporter.blocker(&replica, *block)).collect(),
        })
    };
    oldest.iter().filter_map(line).collect()
}

/// Returns the part of a report that does not come from the replica.
fn of_cache<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> CacheReport {
    let (hits, misses) = shared.writer.reads.totals();
    CacheReport {
        cache: shared.name.to_string(),
        node: shared.services.node_name.to_string(),
        replica: shared.services.id().to_string(),
        max_capacity: shared.settings.max_capacity,
        hits,
        misses,
        misses_by_reason: by_name(shared.writer.reads.misses()),
        fills: by_name(shared.counts.fills.counters().each()),
        intake: intake_counters(shared),
        bytes_in: by_name(shared.counts.bytes_in.each()),
        bytes_out: by_name(shared.counts.bytes_out.each()),
        settings_differ: shared.differing.all(),
        ..CacheReport::default()
    }
}

/// Returns the longest silence of a member that works, in milliseconds. It sends a digest to one member at a time, and to
/// each of them once in a round of random order.
fn silence_limit(config: &ReplicaConfig, members: usize) -> u64 {
    ms(nanos(config.digest_interval)).saturating_mul(2 * members as u64 + 1)
}

/// Copies the state of the replica, the number of running fills, the settings, and the removals by cause.
fn copy<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    now: Now,
) -> (ReplicaReport, u64, ReplicaConfig, RemovalStats) {
    shared.writer.look(|engine| {
        let view = engine.replica.view();
        (engine.replica.report(now), engine.flights.len() as u64, view.config().clone(), view.removals())
    })
}

/// Returns the distributions of times, by name.
fn timings<K, V>(shared: &Shared<K, V>, replica: &ReplicaReport) -> BTreeMap<String, Distribution> {
    let [acknowledged, evicted] = replica.timings.clone();
    let of_cache = &shared.counts.timings;
    let named = [
        ("fill", of_cache.fills.read()),
        ("get", of_cache.gets.read()),
        ("acknowledgement", acknowledged),
        ("eviction_age", evicted),
    ];
    named.map(|(name, times)| (name.to_owned(), times)).into()
}

/// The names of replicas, and the clocks from which ages are computed.
struct Reporter {
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

impl Reporter {
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
            CollectionBlock::DepartedWrites(id) => {
                Blocker::DepartedWrites { replica: id.to_string(), node: self.name(&id), silent_ms: silent(id) }
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

fn reporter<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, now: Now, judging: HlcTime) -> Reporter {
    let mut names = shared.services.host.names(&shared.name);
    names.insert(shared.services.id(), shared.services.node_name.to_string());
    Reporter { names, now, judging }
}

/// Returns the counts of unexpected input, by name.
fn intake_counters<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> BTreeMap<String, u64> {
    let others = [("unreadable", shared.samples.refused()), ("drop_panics", panics_in_drop::<K, V>())];
    by_name(shared.counts.intake.each().chain(shared.writer.listeners.counters.each()).chain(others))
}

/// Estimates the bytes of memory. The first page is a fair sample, because hashes spread keys evenly over the shards.
fn estimate_memory<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, held: &HeldReport) -> u64 {
    let (sample, _) = shared.reader.store().page(Position::default(), SAMPLE);
    let bytes: u64 = sample.iter().map(|found| u64::from(found.meta.size)).sum();
    let mean = bytes / (sample.len() as u64).max(1);
    let fixed = (size_of::<Snapshot<K, V>>() + size_of::<Item<K, V>>() + 32) as u64;
    (held.live + held.tombstones as u64) * (mean + fixed) + held.log_len as u64 * 16
}
