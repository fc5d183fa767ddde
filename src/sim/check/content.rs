//! The promise behind a claim. If the vector of a replica covers a write, the replica holds the write or something
//! newer for its key. Otherwise the write is gone for a reason that was observed for this very record.

use crate::crdt::{Cause, Kind};
use crate::hlc::Stamp;
use crate::sim::cluster::Cluster;
use crate::sim::oracle::Record;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};
use crate::store::Snapshot;

/// Checks that a replica holds the newest write of a key that it claims, or that this write has a fate.
pub(super) fn check<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    held: Option<&Snapshot<K, V>>,
) -> Result<(), Violation> {
    if let Some(held) = held.filter(|held| held.meta.kind == Kind::Tombstone(Cause::Expired)) {
        note_expired(cluster, number, key, held)?;
    }
    let stamp = held.map(|held| cluster.view(number).stamp_at(&held.meta));
    let Some(record) = cluster.oracle(number).winner(key, &[&cluster.openings[number].seen]) else { return Ok(()) };
    if stamp.is_some_and(|stamp| stamp >= record.stamp) {
        return Ok(());
    }
    if let Some(held) = held.filter(|held| cluster.is_served(number, held)) {
        let (name, key, claimed) = (cluster.name(number), cluster.key_name(key), record.dot);
        let stamp = cluster.view(number).stamp_at(&held.meta);
        return Err(
            cluster.violation(format!("claim: {name} serves {key} of {stamp:?}, although it claims {claimed:?}"))
        );
    }
    if record.expires != 0 && record.expires <= cluster.openings[number].latest_wall {
        // A read compares the deadline with the clock. The `Expired` tombstone may be collected, or dropped by force as
        // soon as it was made.
        return note_expired_at(cluster, number, key, record.stamp);
    }
    if may_be_gone(cluster, number, key, record) {
        return Ok(());
    }
    let (name, key, written, fate) = (cluster.name(number), cluster.key_name(key), record.stamp, &record.fate);
    Err(cluster.violation(format!("content: {name} claims {written:?} of {key}, but holds {stamp:?}; fate {fate:?}")))
}

/// Returns true if a value that a replica claims and does not hold may be gone.
fn may_be_gone<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    record: &Record<K, V>,
) -> bool {
    let opening = &cluster.openings[number];
    if record.item.is_none() || record.stamp.time <= cluster.view(number).epoch() {
        // A delete is collected once it is stable. A write at or below the epoch is swept, or skipped on arrival.
        return true;
    }
    // Something newer was here and was removed since. Only stable registers, or those beyond a cap, are removed.
    opening.newest[key].is_some_and(|(newest, _)| newest > record.stamp)
        || record.fate.explains_a_miss()
        || is_overwritten(cluster, number, key, record)
}

/// Returns true if a replica of this cache, present or gone, claims something newer. The replica from which this
/// replica has its claim held that newer write, or knew that it was collected. This replica need not claim it: it may
/// have dropped the record of the origin before (`max_retired`). The end of the run checks that the winner arrives
/// here.
fn is_overwritten<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    record: &Record<K, V>,
) -> bool {
    let cache = cluster.openings[number].cache;
    let seen: Vec<_> = cluster.openings.iter().filter(|other| other.cache == cache).map(|other| &other.seen).collect();
    cluster.oracle(number).winner(key, &seen).is_some_and(|winner| winner.stamp > record.stamp)
}

/// Records an `Expired` tombstone.
fn note_expired<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    held: &Snapshot<K, V>,
) -> Result<(), Violation> {
    let stamp = cluster.view(number).stamp_at(&held.meta);
    note_expired_at(cluster, number, key, stamp)
}

/// Records that a replica holds a write as expired. Fails if the deadline has not passed by the clock of this replica:
/// a value expires only by the clock of a replica that holds it.
pub(super) fn note_expired_at<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    stamp: Stamp,
) -> Result<(), Violation> {
    let wall = cluster.openings[number].latest_wall;
    let Some(record) = cluster.record_mut(number, key, &stamp).filter(|record| !record.fate.expired) else {
        return Ok(());
    };
    if record.expires != 0 && record.expires <= wall {
        record.fate.expired = true;
        return Ok(());
    }
    let expires = record.expires;
    let (name, key) = (cluster.name(number), cluster.key_name(key));
    Err(cluster.violation(format!("content: {name} expired {key} of {stamp:?} before its time {expires}")))
}
