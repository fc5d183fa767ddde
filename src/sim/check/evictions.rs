//! The scope of an eviction. A replica that has evicted nothing, and took over no state from a replica that has, loses
//! no value through evictions of its peers.

use super::content;
use crate::hlc::Stamp;
use crate::replica::RemovalCause;
use crate::sim::cluster::Cluster;
use crate::sim::history;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// Records that a value is gone for the readers of a replica. The second stamp belongs to the register that is held
/// now, if any. A newer write may have arrived expired or evicted; then the cause is that of the newer write.
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

/// Records a void that replaced an older value. A contested fill that arrives overtakes the value held here, and
/// becomes a void at once, with a dot of this replica. If the void is dropped by force in the same event, only the
/// reported change shows it. The vectors may not show it: if the session of the fill broke off, it may be that no
/// replica claims the fill.
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
        cluster.report.reach("an overtaking void was removed at once");
    }
}

/// Records an eviction. While a replica is alone, it remembers only the greatest time of its evictions.
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

/// Checks a value that was lost to a void or a reconcile. On a replica that evicts nothing, the loss must have a reason
/// other than an eviction by a peer. A write or delete that is newer than the value is such a reason.
fn check_loss<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    stamp: Stamp,
    cause: RemovalCause,
) -> Result<(), Violation> {
    if let Some(held) = cluster.held(number, key) {
        // Judges a void or doubt of this event before the loss, because the loss is judged by their fates.
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
        return Ok(()); // Overwritten or deleted by a newer record.
    };
    let over = record.expires != 0 && record.expires <= cluster.openings[number].latest_wall;
    // A doubt that was due excuses a loss as a due void does: its floor passed a write that the replica which raised
    // the floor could not know.
    if record.fate.doubted.contains(&number) || record.fate.voided || record.fate.expired || over || stamp.time <= epoch
    {
        return Ok(());
    }
    let (name, key, fate) = (cluster.name(number), cluster.key_name(key), &record.fate);
    Err(cluster.violation(format!(
        "evict: {name} has evicted nothing, but lost {key} of {stamp:?} by {cause:?}; fate {fate:?}"
    )))
}

/// Returns true if a replica may lose values through evictions of its peers. Three cases allow it:
///
/// - The replica has evicted values itself.
/// - It took over evictions that it had not seen.
/// - A reconcile ends now, and the value is at or below its sender's gc floor. There the sender cannot tell an evicted
///   value from a deleted one, because it remembers only the floor. A member gets a reconcile only if tombstones were
///   dropped that it had not seen.
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
