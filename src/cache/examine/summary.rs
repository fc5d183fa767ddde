//! The report of a cache: all that it shows but its registers.

use std::collections::BTreeMap;

use super::scribe::{Scribe, signed_ms};
use crate::cache::shared::Shared;
use crate::cache::{CacheKey, CacheValue};
use crate::hlc::Now;
use crate::item::Item;
use crate::replica::ReplicaConfig;
use crate::replica::look::Look;
use crate::report::{CacheReport, Repairs, lint_cache, readable};
use crate::store::{Position, Snapshot};

/// Registers from which memory is estimated.
const SAMPLE: usize = 256;

/// Returns all that a cache shows but its registers.
pub(in crate::cache) fn report<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> CacheReport {
    let now = shared.around.time.now();
    let (look, fills_running, config) = look(shared, now);
    let scribe = Scribe::of(shared, now, look.clock.judging);
    let (hits, misses) = shared.writer.reads.totals();
    let mut report = CacheReport {
        cache: shared.name.to_string(),
        node: shared.around.host.node_name(),
        replica: shared.around.id().to_string(),
        wall: readable(now.wall),
        clock_ahead_ms: signed_ms(look.clock.last, now.wall).max(0),
        clock_step_ms: look.clock.disagreement / 1_000_000,
        max_drift_ms: u64::try_from(config.max_drift.as_millis()).unwrap_or(u64::MAX),
        entries: look.held.live,
        weight: look.held.weight,
        max_capacity: shared.settings.max_capacity,
        hits,
        misses,
        memory_estimate: estimate_memory(shared, &look),
        vector: look.vector.iter().map(|seen| scribe.seen(seen)).collect(),
        peers: look.peers.iter().map(|peer| scribe.peer(&look, peer)).collect(),
        stable_watermark: readable(look.watermark),
        gc_floor: readable(look.floor.time),
        epoch: readable(look.epoch),
        tombstones: scribe.tombstones(&look, config.max_tombstones),
        log_entries: look.held.log_len as u64,
        origins: look.held.origins as u64,
        deferred: look.held.deferred as u64,
        offenders: look.offenders.iter().map(|offender| scribe.offender(offender)).collect(),
        receiving: look.receiving,
        sending: look.sending as u64,
        lossy: look.lossy,
        fills_running,
        fills: named(shared.counts.fills.snapshot().outcomes()),
        intake: intake(shared),
        bytes_in: shared.counts.bytes.received(),
        bytes_out: shared.counts.bytes.sent(),
        repairs: repairs(&look),
        counters: look.counters.each().map(|(name, count)| (name.to_owned(), count)).collect(),
        warnings: Vec::new(),
    };
    report.warnings = lint_cache(&report);
    report
}

/// Takes the machine at this moment, how many fills are under way, and the settings.
fn look<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, now: Now) -> (Look, u64, ReplicaConfig) {
    shared.writer.look(|engine| {
        let view = engine.replica.view();
        (Look::take(view, now), engine.flights.len() as u64, view.config().clone())
    })
}

/// Estimates the memory that registers and log take. Hashes spread keys evenly over the shards: the first page is a fair sample.
fn estimate_memory<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, look: &Look) -> u64 {
    let (registers, log_len) = (look.held.live + look.held.tombstones as u64, look.held.log_len as u64);
    let (sample, _) = shared.reader.store().page(Position::default(), SAMPLE);
    let bytes: u64 = sample.iter().map(|found| u64::from(found.meta.size)).sum();
    let mean = bytes / (sample.len() as u64).max(1);
    let fixed = (size_of::<Snapshot<K, V>>() + size_of::<Item<K, V>>() + 32) as u64;
    registers * (mean + fixed) + log_len * 16
}

fn intake<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> BTreeMap<String, u64> {
    let listeners = &shared.writer.listeners;
    let others = [
        ("unreadable", shared.samples.refused()),
        ("listener_panics", listeners.panics()),
        ("listener_lost", listeners.lost()),
    ];
    named(shared.counts.intake.each().into_iter().chain(others))
}

fn named(counts: impl IntoIterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn repairs(look: &Look) -> Repairs {
    let counters = &look.counters;
    Repairs {
        push: counters.pushes_in,
        digest: counters.sessions_completed.saturating_sub(counters.reconciles_in),
        reconcile: counters.reconciles_in,
        reconcile_removed: counters.reconcile_removed + counters.reconcile_voided,
        audit: counters.audit_conflicts,
    }
}
