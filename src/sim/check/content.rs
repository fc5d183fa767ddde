//! Content: a claim is kept. The vector of a replica covers a write only if it holds the write or something newer for
//! its key, or if the write is gone for a reason that was observed of this very record.

use crate::crdt::{Cause, Kind};
use crate::hlc::Stamp;
use crate::sim::cluster::Cluster;
use crate::sim::oracle::Record;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};
use crate::store::Snapshot;

/// Checks that a replica holds what it claims of a key, or that the newest such write has a fate.
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
        return Err(cluster.violation(format!("claim: {name} serves {key} of {stamp:?} and claims {claimed:?}")));
    }
    if record.expires != 0 && record.expires <= cluster.openings[number].latest_wall {
        // A read compares with the clock. The tombstone of it may be collected, or dropped by force as soon as it was made.
        return note_expired_at(cluster, number, key, record.stamp);
    }
    if may_be_gone(cluster, number, key, record) {
        return Ok(());
    }
    let (name, key, written, fate) = (cluster.name(number), cluster.key_name(key), record.stamp, &record.fate);
    Err(cluster.violation(format!("content: {name} claims {written:?} of {key}, holds {stamp:?}, and {fate:?}")))
}

/// Returns whether a value that a replica claims and does not hold may be gone.
fn may_be_gone<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    record: &Record<K, V>,
) -> bool {
    let opening = &cluster.openings[number];
    if record.item.is_none() || record.stamp.time <= cluster.view(number).epoch() {
        return true; // A delete is collected once it is stable. What an epoch has passed is swept, and never placed.
    }
    // Something newer stood here and was removed since. Only what is stable, or beyond a cap, is removed.
    opening.newest[key].is_some_and(|(newest, _)| newest > record.stamp)
        || record.fate.explains_a_miss()
        || is_overwritten(cluster, number, key, record)
}

/// Returns whether a replica of this cache, present or gone, claims something newer: the sender of the claim held that, or
/// knew that it was collected. This replica need not claim it itself: the record of its origin may have been dropped before
/// (`max_retired`). The end of the run checks that the winner comes here.
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

/// Takes note of a tombstone that the end of a time to live has left.
fn note_expired<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    held: &Snapshot<K, V>,
) -> Result<(), Violation> {
    let stamp = cluster.view(number).stamp_at(&held.meta);
    note_expired_at(cluster, number, key, stamp)
}

/// Takes note that a replica holds a write for expired. A value expires by the clock of a replica that holds it, and only then.
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
