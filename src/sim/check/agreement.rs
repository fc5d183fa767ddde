//! The checks at the end of a run, once everything is quiet: O1, O3, completeness by record, and back to baseline (O4).

use super::fills;
use crate::crdt::{Cause, Kind, VersionVector};
use crate::hlc::Stamp;
use crate::sim::cluster::Cluster;
use crate::sim::oracle::{Fate, Record};
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// The upper limit of the difference between wall clocks of a healed cluster, in nanoseconds.
const HEALED_SKEW: u64 = 2_000_000_000;

/// Checks O1, O3 and completeness, once everything is quiet.
pub(in crate::sim) fn check<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>) -> Result<(), Violation> {
    (0..cluster.settings.caches).try_for_each(|cache| check_cache(cluster, cache))
}

fn check_cache<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, cache: u8) -> Result<(), Violation> {
    let open = cluster.replicas_of(cache);
    let vectors: Vec<&VersionVector> = open.iter().map(|&number| &cluster.openings[number].seen).collect();
    let epoch = open.iter().map(|&number| cluster.view(number).epoch()).max().unwrap_or_default();
    let oracle = &cluster.oracles[usize::from(cache)];
    for key in 0..cluster.keys.len() {
        let known = oracle.winner(key, &vectors);
        let stamp = |&number: &usize| cluster.held(number, key).map(|held| cluster.view(number).stamp_at(&held.meta));
        // A register that was held and then collected counts as well: it may have arrived under a dot that is not its
        // first.
        let was = open.iter().filter_map(|&number| was_known(cluster, number, key)).max();
        let newest = known.map(|record| record.stamp).max(open.iter().filter_map(stamp).max()).max(was);
        for &number in &open {
            check_served(cluster, number, key, newest, epoch)?;
            if let Some((stamp, _)) = cluster.served(number, key) {
                fills::check_served(cluster, number, key, &open, stamp)?;
            }
        }
        // A write of a replica that is gone counts as soon as a present replica holds it.
        let held = newest.and_then(|newest| oracle.get(key, &newest));
        check_complete(cluster, &open, key, held.or(known), epoch)?;
    }
    for &number in &open {
        let (view, name) = (cluster.view(number), cluster.name(number));
        if view.epoch() != epoch {
            return Err(
                cluster.violation(format!("O3: {name} has the epoch {}, and the newest is {epoch}", view.epoch()))
            );
        }
    }
    // Registers deferred from an unreachable member wait until that member is forgotten. `check_baseline` checks them.
    Ok(())
}

/// Returns the newest stamp that a replica has ever held for a key.
fn was_known<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize, key: usize) -> Option<Stamp> {
    cluster.openings[number].newest[key].map(|(newest, _)| newest)
}

/// Checks O3, and with it O1: a replica serves only the newest write that any replica knows.
fn check_served<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    newest: Option<Stamp>,
    epoch: u64,
) -> Result<(), Violation> {
    let Some((stamp, _)) = cluster.served(number, key) else { return Ok(()) };
    let stale = newest.is_some_and(|newest| stamp < newest) || stamp.time <= epoch;
    let record = newest.and_then(|newest| cluster.oracle(number).get(key, &newest));
    let deleted = record.is_some_and(|record| record.stamp == stamp && record.item.is_none());
    if stale || deleted {
        let (name, key) = (cluster.name(number), cluster.key_name(key));
        return Err(cluster
            .violation(format!("O3: {name} serves {key} of {stamp:?}, and the newest is {newest:?}; epoch {epoch}")));
    }
    Ok(())
}

/// Counts the fates that explain the misses of a completed run.
pub(in crate::sim) fn count_misses<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) {
    let mut reached = Vec::new();
    for opening in cluster.openings.iter().filter(|opening| opening.is_open) {
        for key in 0..cluster.keys.len() {
            let Some(record) = cluster.oracles[usize::from(opening.cache)].winner(key, &[&opening.seen]) else {
                continue;
            };
            if record.item.is_none() || opening.mirror[key].is_some() {
                continue;
            }
            let Fate { evicted, expired, voided, .. } = &record.fate;
            let told = [
                (!evicted.is_empty(), "missing: evicted"),
                (*expired, "missing: expired"),
                (*voided, "missing: voided"),
            ];
            reached.extend(told.into_iter().filter(|(so, _)| *so).map(|(_, name)| name));
        }
    }
    for opening in &cluster.openings {
        let oracle = &cluster.oracles[usize::from(opening.cache)];
        let records = (0..cluster.keys.len()).flat_map(|key| oracle.of(key));
        let owed =
            records.filter(|record| record.fate.evicted.iter().eq([&record.author]) && !record.received_by.is_empty());
        reached.extend(owed.take(1).map(|_| "evicted and owed"));
    }
    reached.into_iter().for_each(|name| cluster.report.reach(name));
}

/// Checks completeness: every replica serves the winner, or the winner's own record has a fate that explains the miss.
fn check_complete<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    open: &[usize],
    key: usize,
    known: Option<&Record<K, V>>,
    epoch: u64,
) -> Result<(), Violation> {
    let Some(record) = known.filter(|record| record.item.is_some() && record.stamp.time > epoch) else {
        return Ok(());
    };
    let Some(wall) = open.first().map(|&number| cluster.now_at(number).wall) else { return Ok(()) };
    // The clocks of a healed cluster still differ: a value that is about to expire may have expired on some replicas
    // only.
    if record.expires != 0 && record.expires <= wall + HEALED_SKEW {
        return Ok(());
    }
    for &number in open {
        let served = cluster.served(number, key).is_some_and(|(stamp, _)| stamp == record.stamp);
        if served || (record.fate.explains_a_miss() && !is_owed(cluster, number, record)) {
            continue;
        }
        if was_overtaken(cluster, number, key, record) {
            continue;
        }
        let held = cluster.held(number, key);
        let held = held.map(|held| (held.meta.kind, cluster.view(number).stamp_at(&held.meta)));
        let (name, key, stamp, fate) = (cluster.name(number), cluster.key_name(key), record.stamp, &record.fate);
        return Err(cluster.violation(format!(
            "complete: {name} holds {held:?} for {key}, but {stamp:?} was written; fate {fate:?}"
        )));
    }
    Ok(())
}

/// Returns true if something newer replaced the record and is gone for a reason of its own, so that no present replica
/// claims it. There are two cases. Either a replica has dropped the record of the newer write's origin since
/// (`max_retired`). Or a replica had the newer write in quarantine and, in one event, released it, gave it a dot of its
/// own and dropped it by force. The remaining replicas learn of that through reconciles.
fn was_overtaken<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    record: &Record<K, V>,
) -> bool {
    let cache = cluster.openings[number].cache;
    let replicas = || cluster.openings.iter().filter(|other| other.cache == cache);
    let dropped = replicas().any(|other| other.engine.replica.view().counters().retired_dropped > 0);
    let released = |number: &usize| {
        let counted = cluster.view(*number).counters();
        counted.deferred_released > 0 && counted.forced_drops > 0
    };
    let newer = cluster.oracle(number).of(key).take_while(|newer| newer.stamp > record.stamp);
    let mut gone = newer.filter(|newer| newer.item.is_none() || newer.fate.explains_a_miss());
    gone.any(|newer| {
        let claimed = || replicas().any(|other| newer.is_claimed_by(&other.seen));
        (dropped && claimed()) || newer.received_by.keys().any(released)
    })
}

/// Returns true if the author still owes the record to this replica, so that the eviction excuses no miss here. Only
/// the author has evicted the record. An author keeps the body of an own write until every live member has it, and this
/// replica was a live member before the write. An expired or voided record is not owed. Each of three further facts
/// frees the author:
///
/// - The body was counted as lost (`evicted_unsent`): too many bodies waited, or it was dropped by force.
/// - Another replica has adopted the write. By its dot the write then belongs to the adopter, and the author evicts it
///   like any other value.
/// - A replica held the write in doubt or has given it up. Each replica that took over that state claims the write and
///   lacks it.
fn is_owed<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize, record: &Record<K, V>) -> bool {
    let (author, fate) = (&cluster.openings[record.author], &record.fate);
    let only_author = fate.evicted.iter().eq([&record.author]) && number != record.author;
    let lost = fate.expired
        || fate.voided
        || !record.adopted_as.is_empty()
        || !fate.doubted.is_empty()
        || !fate.given_up.is_empty()
        || author.engine.replica.view().counters().evicted_unsent > 0;
    let since = author.history.membership.live.get(&cluster.openings[number].id);
    only_author && !lost && author.is_open && since.is_some_and(|since| *since < record.at)
}

/// Checks O4: everything that was kept for a reason is gone with the reason.
pub(in crate::sim) fn check_baseline<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>) -> Result<(), Violation> {
    (0..cluster.settings.caches).try_for_each(|cache| check_cache_baseline(cluster, cache))
}

fn check_cache_baseline<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, cache: u8) -> Result<(), Violation> {
    let open = cluster.replicas_of(cache);
    let ever = cluster.openings.iter().filter(|opening| opening.cache == cache).count();
    for &number in &open {
        let (view, name) = (cluster.view(number), cluster.name(number));
        let live = view.live_len() as usize;
        // A last replica that was given seeds expects peers: they may exist and be cut off, so nothing is stable.
        let waits = open.len() == 1 && cluster.expects_peers(cluster.openings[number].process, cache);
        let kept = if waits { view.tombstone_len() } else { 0 };
        // Logs and the expiry queue are compacted only when most entries are stale, so their limits allow for stale
        // entries. There may be a log for each replica that ever existed.
        let facts = [
            ("tombstones", view.tombstone_len(), kept),
            ("members", view.peer_len(), open.len() - 1),
            ("fills", view.fills_running(), 0),
            ("deferred", view.deferred_len(), 0),
            ("log entries", view.log_len(), 2 * (live + kept) + 65 * ever),
            ("expiry entries", view.expiry_len(), 3 * live + 1_024),
        ];
        // A peer becomes a member only by its own digest. Over a link that never worked no digest arrives. Its writes
        // come through a third replica.
        let strangers = open.iter().filter(|&&other| other != number && cluster.never_meet(number, other)).count();
        if view.peer_len() + strangers < open.len() - 1 {
            let known: Vec<_> = view.peers().map(|peer| peer.id).collect();
            return Err(cluster.violation(format!("O4: {name} knows {known:?} of {open:?}")));
        }
        for (what, count, limit) in facts {
            if count > limit {
                let sample = tombstones_of(cluster, number);
                return Err(
                    cluster.violation(format!("O4: {name} has {count} {what}, above the limit of {limit}; {sample}"))
                );
            }
        }
    }
    Ok(())
}

/// Describes a few tombstones of a replica and its beliefs about its peers.
fn tombstones_of<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize) -> String {
    let view = cluster.view(number);
    let stones: Vec<_> = (0..cluster.keys.len())
        .filter_map(|key| cluster.held(number, key).map(|held| (key, held)))
        .filter(|(_, held)| matches!(held.meta.kind, Kind::Tombstone(_)))
        .take(3)
        .map(|(key, held)| (key, view.marker_at(&held.meta)))
        .collect();
    let evicted = stones.iter().any(|(_, marker)| marker.kind == Kind::Tombstone(Cause::Evicted));
    let peers: Vec<_> = view.peers().map(|peer| (peer.id, peer.live, peer.watermark, peer.reported)).collect();
    let unmet: Vec<_> = view.unmet().collect();
    let cut = view.stable_cut(cluster.now_at(number));
    format!("{stones:?} evicted {evicted} vector {:?} peers {peers:?} unmet {unmet:?} cut {cut:?}", view.vector())
}
