//! Company: the members that a process has for its caches. Checks the membership machine against books of this file's own.

use crate::replica_id::ReplicaId;
use crate::sim::cluster::Cluster;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// In a healed network two replicas of one cache that are both there have met after so many nanoseconds. A question that is
/// lost is asked again each second or so; whoever said that a cache is not open is asked again after half a minute, and need
/// not be waited for that long.
const MEET_WITHIN: u64 = 20_000_000_000;

/// Takes note that a replica of a process spoke to this one and was heard.
pub(in crate::sim) fn note_heard<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    from: usize,
    id: ReplicaId,
) {
    let greatest = cluster.openings[number].history.company.greatest.entry(from).or_insert(id);
    *greatest = id.max(*greatest);
}

/// Takes note that a process is gone for good. Nobody remembers then which of its replicas came last: a node hears none of
/// them any more, and where a run has the dead be heard they may be heard in any order.
pub(in crate::sim) fn note_left<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, process: usize, who: usize) {
    for number in cluster.processes[process].openings() {
        cluster.openings[number].history.company.greatest.remove(&who);
    }
}

/// Checks that no replica has a member that was closed before one that it has heard was opened in its place. Ids of a process rise.
pub(super) fn check<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    let greatest = &cluster.openings[number].history.company.greatest;
    let process = |id: &ReplicaId| cluster.by_id.get(id).map(|other| cluster.openings[*other].process);
    let successor = |id: &ReplicaId| process(id).and_then(|process| greatest.get(&process)).filter(|other| *other > id);
    for (id, _) in cluster.view(number).members().filter(|(_, live)| *live) {
        if let Some(successor) = successor(&id) {
            let name = cluster.name(number);
            return Err(cluster.violation(format!(
                "company: {name} has {id} for a member, and has heard {successor}, which took its place"
            )));
        }
    }
    Ok(())
}

/// Checks, in a healed network, that replicas of one cache meet.
pub(in crate::sim) fn check_met<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    if !cluster.course.healed {
        return Ok(());
    }
    let open: Vec<_> = (0..cluster.openings.len()).filter(|&number| cluster.openings[number].is_open).collect();
    let pairs = open.iter().flat_map(|&number| open.iter().map(move |&other| (number, other)));
    let pairs: Vec<_> = pairs.filter(|&(number, other)| can_meet(cluster, number, other)).collect();
    pairs.into_iter().try_for_each(|(number, other)| check_pair(cluster, number, other))
}

fn can_meet<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize, other: usize) -> bool {
    let (ours, theirs) = (&cluster.openings[number], &cluster.openings[other]);
    let up = |process: usize| cluster.processes[process].is_up();
    number != other
        && ours.cache == theirs.cache
        && up(ours.process)
        && up(theirs.process)
        && !cluster.never_meet(number, other)
}

fn check_pair<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    other: usize,
) -> Result<(), Violation> {
    let (at, id) = (cluster.at, cluster.openings[other].id);
    let knows = cluster.view(number).members().any(|member| member == (id, true));
    let strangers = &mut cluster.openings[number].history.company.strangers;
    if knows {
        strangers.remove(&id);
        return Ok(());
    }
    let since = *strangers.entry(id).or_insert(at);
    if at - since <= MEET_WITHIN {
        return Ok(());
    }
    let (name, who) = (cluster.name(number), cluster.name(other));
    Err(cluster.violation(format!("company: {name} has not met {who}, which has been there since {since}")))
}
