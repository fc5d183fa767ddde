//! Eviction stays where it happened: a replica that has evicted nothing, and took over no state of one that has, loses
//! no value to the evictions of others.

use super::content;
use crate::hlc::Stamp;
use crate::replica::RemovalCause;
use crate::sim::cluster::Cluster;
use crate::sim::history;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// Takes note of a value that is no longer there for the readers of a replica. The second stamp is that of what stands there
/// now, if anything does: a newer write may have arrived expired or evicted, and then the cause is the newer one's.
pub(in crate::sim) fn note_removed<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    (stamp, now): (Stamp, Stamp),
    cause: RemovalCause,
) -> Result<(), Violation> {
    match cause {
        RemovalCause::Size if now == stamp => {
            note_evicted(cluster, number, key, stamp);
            Ok(())
        }
        RemovalCause::Size => Ok(()),
        RemovalCause::Expired => content::note_expired_at(cluster, number, key, now),
        RemovalCause::Void => {
            note_overtaken(cluster, number, key, (stamp, now));
            check_loss(cluster, number, key, stamp, cause)
        }
        RemovalCause::Reconcile => check_loss(cluster, number, key, stamp, cause),
        RemovalCause::Explicit | RemovalCause::Replaced | RemovalCause::Invalidated => Ok(()),
    }
}

/// Takes note of a void that took the place of an older value. A fill that comes contested has overtaken what was here, and is a
/// void from the start, with a dot of this replica. Dropped by force in the same event, it is seen in the change alone; the fill
/// itself may be claimed by nobody, if the session that brought it broke off.
fn note_overtaken<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    (stamp, void): (Stamp, Stamp),
) {
    if void <= stamp {
        return;
    }
    cluster.trace(|| format!("  r{number} key {key} of {stamp:?} is overtaken by a void at {void:?}"));
    let newest = &mut cluster.openings[number].newest[key];
    *newest = (*newest).max(Some((void, true)));
    if cluster.held(number, key).is_none() {
        cluster.report.reach("a void that overtook left at once");
    }
}

/// Takes note of an eviction. Of those while it is alone, a replica remembers only the greatest time.
fn note_evicted<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize, key: usize, stamp: Stamp) {
    cluster.openings[number].history.has_evicted = true;
    if cluster.view(number).peer_len() == 0 && cluster.view(number).unmet_len() == 0 {
        let alone = &mut cluster.openings[number].history.evicted_alone;
        *alone = stamp.time.max(*alone);
    }
    if let Some(record) = cluster.record_mut(number, key, &stamp) {
        record.fate.evicted.insert(number);
    }
    cluster.report.fault("evicted");
}

/// Checks a value that went with a void or a reconcile. Where the replica evicts nothing, a void must have been due for
/// another reason than that a replica had evicted the value. A write or delete that is newer than the value is a reason.
fn check_loss<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    stamp: Stamp,
    cause: RemovalCause,
) -> Result<(), Violation> {
    if let Some(held) = cluster.held(number, key) {
        // A void of its own, or a doubt, is judged before the loss is.
        let marker = cluster.view(number).marker_at(&held.meta);
        history::note_held(cluster, number, key, Some(marker));
    }
    if is_given_up(cluster, number, stamp, cause) {
        if let Some(record) = cluster.record_mut(number, key, &stamp) {
            record.fate.given_up.insert(number);
        }
        return Ok(());
    }
    let epoch = cluster.view(number).epoch();
    let Some(record) = cluster.oracle(number).of(key).next().filter(|newest| newest.stamp == stamp) else {
        return Ok(()); // Overwritten or deleted by a record that is newer.
    };
    let over = record.expires != 0 && record.expires <= cluster.openings[number].latest_wall;
    // A doubt that was due is as a void that was due: the floor behind it passed a write that it could not know of.
    if record.fate.doubted.contains(&number) || record.fate.voided || record.fate.expired || over || stamp.time <= epoch
    {
        return Ok(());
    }
    let (name, key, fate) = (cluster.name(number), cluster.key_name(key), &record.fate);
    Err(cluster
        .violation(format!("evict: {name} has evicted nothing and lost {key} of {stamp:?} by {cause:?}; {fate:?}")))
}

/// Returns whether a replica may lose values to the evictions of others: it evicts itself, it took over evictions that it had
/// not seen, or a reconcile whose sender had dropped tombstones ends now. At or below the gc floor of that sender, what the
/// sender has evicted cannot be told from what it has deleted: the floor is all that it remembers. A member gets a reconcile
/// only if tombstones were dropped that it had not seen.
fn is_given_up<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    stamp: Stamp,
    cause: RemovalCause,
) -> bool {
    let history = &cluster.openings[number].history;
    if history.has_evicted || history.took_from_evicter {
        return true;
    }
    let sender = history.frame_from.filter(|_| cause == RemovalCause::Reconcile);
    let below = sender.and_then(|sender| history.floors.get(&sender)).is_some_and(|floor| stamp <= *floor);
    if below {
        cluster.report.reach("evicted below the floor of a reconcile");
    }
    below
}
