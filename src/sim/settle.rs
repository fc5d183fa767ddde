//! The end of an event: the messages of a replica are drained, its changes are followed, and it is checked.

use super::check;
use super::check::evictions;
use super::cluster::Cluster;
use super::history;
use super::outbound;
use super::report::Violation;
use super::trace::brief;
use super::types::{SimKey, SimValue};
use crate::replica::{Change, Effect};

/// The most messages that one event may cause on one replica.
const MAX_BURST: usize = 20_000;
/// The most events of one run, beside those that its length explains.
const MAX_EVENTS: u64 = 1_000_000;
/// The most events that each simulated second explains. Nine replicas with a digest every 100 ms have about 700 of them.
/// With more retired origins than `max_retired`, and members that list different members, each digest leads to a session
/// as well, until these members are forgotten: about 1,300 (seed 260004235, which ends after 930 seconds).
const EVENTS_PER_SECOND: u64 = 2_000;

/// Drains and checks a replica after any call to it. Each call of this function is one event of the run.
pub(super) fn opening<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    cluster.report.events += 1;
    if cluster.report.events > MAX_EVENTS + EVENTS_PER_SECOND * (cluster.at / 1_000_000_000) {
        return Err(cluster.violation("bounded: the run does not come to an end".to_owned()));
    }
    let now = cluster.now_at(number);
    let opening = &mut cluster.openings[number];
    opening.latest_wall = opening.latest_wall.max(now.wall);
    opening.history.begin_event();
    history::note(cluster, number);
    follow_changes(cluster, number)?;
    for _ in 0..MAX_BURST {
        let Some(transmit) = cluster.openings[number].engine.replica.poll_transmit(now) else {
            cluster.openings[number].wake = cluster.replica(number).poll_timeout(now);
            follow_changes(cluster, number)?;
            return check::replica(cluster, number);
        };
        outbound::send(cluster, number, transmit)?;
    }
    Err(cluster.violation(format!("bounded: {} sends without end", cluster.name(number))))
}

/// Settles every opening of a process.
pub(super) fn process<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    process: usize,
) -> Result<(), Violation> {
    let open = cluster.processes[process].openings();
    open.into_iter().try_for_each(|number| opening(cluster, number))
}

fn follow_changes<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    let now = cluster.now_at(number);
    let opening = &mut cluster.openings[number];
    let settled = opening.engine.settle(now, &opening.reads, true);
    if cluster.view(number).counters().forced_drops > cluster.openings[number].history.counted.forced_drops {
        // An eviction for capacity has forced out a tombstone, which may be the reason for one of the changes: judge
        // the floors first.
        history::note(cluster, number);
    }
    settled.news.iter().flat_map(|news| &news.changes).try_for_each(|change| follow(cluster, number, change))
}

/// Follows a change as a listener does, and checks that it fits the listener's previous knowledge.
fn follow<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    change: &Change<K, V>,
) -> Result<(), Violation> {
    let item = change.after.as_ref().or(change.before.as_ref());
    let Some(key) = item.map(|item| &item.key) else {
        return Err(cluster.violation(format!("changes: {} reports a change without a key", cluster.name(number))));
    };
    let Some(at) = cluster.number_of(key) else {
        return Err(cluster.violation(format!(
            "types: {} holds {}, which was never written: a key changed in transit",
            cluster.name(number),
            key.known().map_or_else(|| brief(key), brief)
        )));
    };
    let believed = &mut cluster.openings[number].mirror[at];
    let before = *believed;
    let (fits, after) = match change.effect {
        Effect::Inserted => (before.is_none(), Some(change.stamp)),
        Effect::Updated => (before.is_some(), Some(change.stamp)),
        Effect::Removed(_) => (before.is_some(), None),
    };
    *believed = after;
    if fits {
        return match (change.effect, before) {
            (Effect::Removed(cause), Some(stamp)) => {
                evictions::note_removed(cluster, number, at, (stamp, change.stamp), cause)
            }
            _ => Ok(()),
        };
    }
    let name = cluster.name(number);
    Err(cluster.violation(format!(
        "changes: {name} reports {:?} for {}, although it had reported {before:?}",
        change.effect,
        brief(key)
    )))
}
