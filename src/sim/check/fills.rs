//! The rule for fills: a value whose source was read before a write, delete or `invalidate_all` of its key must not win
//! over that write, delete or epoch.

use crate::hlc::{HlcTime, Stamp, nanos};
use crate::sim::cluster::Cluster;
use crate::sim::oracle::{FillStart, Record};
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// Checks a fill when it is stored, against everything that this replica has issued or received by then.
pub(in crate::sim) fn check<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    start: &FillStart,
    stamp: Stamp,
) -> Result<(), Violation> {
    // A push that waits for its predecessor, or a register that waits for its time, is received and not yet merged. The
    // end of the run checks the fill against it.
    let seen = &cluster.openings[number].seen;
    let taken = |record: &Record<K, V>| record.received_by.contains_key(&number) && record.is_claimed_by(seen);
    let told = |record: &Record<K, V>| record.author == number || taken(record);
    check_against(cluster, number, key, start, stamp, &[number], told)
}

/// Checks a fill that is served at the end, against everything that any present replica has issued or received.
pub(super) fn check_served<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    open: &[usize],
    stamp: Stamp,
) -> Result<(), Violation> {
    let Some(start) = cluster.oracle(number).get(key, &stamp).and_then(|record| record.fill.as_ref()) else {
        return Ok(());
    };
    // A deferred write is dropped when its author departs. No replica has merged it, so it may be known no more.
    let is_kept = |record: &Record<K, V>, at: &usize| {
        record.received_by.contains_key(at) && (open.contains(&record.author) || !record.deferred_by.contains(at))
    };
    let told = |record: &Record<K, V>| open.iter().any(|at| record.author == *at || is_kept(record, at));
    check_against(cluster, number, key, start, stamp, open, told)
}

/// Returns true if the writer's clock was near enough for a fill to lose against the write. A clock that is more than
/// `max_drift` behind the filler's clock stamps its writes below a fill that began before them. The page on guarantees
/// states this limit, and it is the only exemption. The writer's clock is its wall clock at the write. The filler's
/// clock is its hybrid clock at the start of the fill, which is past everything that it had seen. The writer must also
/// not be that far behind the clock of a replica to which it is a newcomer. Stamps that contest fills are remembered
/// for members only.
fn is_within_drift<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    wall: HlcTime,
    unmet_clock: HlcTime,
    start: &FillStart,
) -> bool {
    wall.saturating_add(nanos(cluster.settings.config.max_drift)) > start.began.max(unmet_clock)
}

/// Checks a fill against later writes that `told` accepts, and against later epochs that one of `present` knows.
fn check_against<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    start: &FillStart,
    stamp: Stamp,
    present: &[usize],
    told: impl Fn(&Record<K, V>) -> bool,
) -> Result<(), Violation> {
    let name = cluster.key_name(key);
    let later = |record: &&Record<K, V>| {
        let lost = record.fill.is_none() && record.stamp < stamp && record.at > start.at;
        lost && is_within_drift(cluster, record.wall, record.unmet_clock, start) && told(record)
    };
    if let Some(record) = cluster.oracle(number).of(key).find(later) {
        let (later, at) = (record.stamp, record.at);
        return Err(cluster.violation(format!(
            "fill: {name} of {stamp:?}, begun at {}, wins against {later:?}, which was issued at {at}",
            start.at
        )));
    }
    // A smaller epoch is masked by a greater one, so only its author may know of it.
    let knows = |record: &crate::sim::oracle::EpochRecord| {
        present.iter().any(|at| record.author == *at || record.time == cluster.view(*at).epoch())
    };
    let later = |record: &&crate::sim::oracle::EpochRecord| {
        let lost = record.time < stamp.time && knows(record) && record.at > start.at;
        lost && is_within_drift(cluster, record.wall, record.unmet_clock, start)
    };
    match cluster.oracle(number).epochs.iter().find(later) {
        Some(record) => Err(cluster.violation(format!(
            "fill: {name} of {stamp:?}, begun at {}, is stamped above the epoch {} of {}",
            start.at, record.time, record.at
        ))),
        None => Ok(()),
    }
}
