//! The members that a process has for its caches. Checks the membership state machine against the records that this
//! file keeps independently.

use crate::replica_id::ReplicaId;
use crate::sim::cluster::Cluster;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// The longest time until two present replicas of one cache have met in a healed network, in nanoseconds. A lost
/// greeting is repeated about every second. A process that answered "not open" is greeted again only after 30 seconds.
/// The limit need not include that time, because the process greets its peers when it opens the cache.
const MEET_WITHIN: u64 = 20_000_000_000;

/// Records that this replica has received a digest from a replica of process `from`.
pub(in crate::sim) fn note_digest<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    from: usize,
    id: ReplicaId,
) {
    let greatest = cluster.openings[number].history.membership.greatest.entry(from).or_insert(id);
    *greatest = id.max(*greatest);
}

/// Records that a process is gone for good. Afterwards a node ignores messages from all replicas of that process, and
/// no longer remembers which was the last. A run with `accept_departed` accepts such messages in any order, so this file
/// forgets the greatest replica as well.
pub(in crate::sim) fn note_left<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, process: usize, who: usize) {
    for number in cluster.processes[process].openings() {
        cluster.openings[number].history.membership.greatest.remove(&who);
    }
}

/// Checks that no live member of a replica has a successor: a replica of the same process with a greater id, from which
/// a digest has arrived here. The ids of one process rise, so the replica with the smaller id was closed.
pub(super) fn check<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    let greatest = &cluster.openings[number].history.membership.greatest;
    let process = |id: &ReplicaId| cluster.by_id.get(id).map(|other| cluster.openings[*other].process);
    let successor = |id: &ReplicaId| process(id).and_then(|process| greatest.get(&process)).filter(|other| *other > id);
    for (id, _) in cluster.view(number).members().filter(|(_, live)| *live) {
        if let Some(successor) = successor(&id) {
            let name = cluster.name(number);
            return Err(cluster.violation(format!(
                "members: {name} counts {id} as a member, although it has received a digest of its successor \
                 {successor}"
            )));
        }
    }
    Ok(())
}

/// Checks that the replicas of one cache meet once the network is healed.
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
    let strangers = &mut cluster.openings[number].history.membership.strangers;
    if knows {
        strangers.remove(&id);
        return Ok(());
    }
    let since = *strangers.entry(id).or_insert(at);
    if at - since <= MEET_WITHIN {
        return Ok(());
    }
    let (name, who) = (cluster.name(number), cluster.name(other));
    Err(cluster.violation(format!("members: {name} has not met {who}, which has been a member since {since}")))
}
