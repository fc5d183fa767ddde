//! The membership layer under the replicas. It decides the time at which a process learns that another process is up,
//! down or gone, and reports that to its replicas. It repeats what `node/driver.rs` does then: change both together.

use super::agenda::Event;
use super::check::members;
use super::cluster::Cluster;
use super::codec::{cache_of, incarnation, process_of};
use super::outbound;
use super::process::View;
use super::report::Violation;
use super::settle;
use super::types::{SimKey, SimValue};
use crate::replica_id::ReplicaId;

/// Runs one round of the failure detector of every process.
pub(super) fn detect<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    for process in cluster.up() {
        for other in 0..cluster.processes.len() {
            if other != process {
                look_at(cluster, process, other)?;
            }
        }
        outbound::greet_the_unknown(cluster, process)?;
    }
    members::check_met(cluster)?;
    let round = cluster.settings.suspect_after.as_nanos() as u64 / 3;
    let after = round / 2 + cluster.network.jitter(round / 2);
    cluster.schedule(after, Event::Detector);
    Ok(())
}

/// Compares a process's view of another process with whether it reaches that process.
fn look_at<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    process: usize,
    other: usize,
) -> Result<(), Violation> {
    let view = cluster.processes[process].view_of(other);
    if reaches(cluster, process, other) {
        cluster.processes[process].silent_since.remove(&other);
        return if view == View::Up { Ok(()) } else { learn_up(cluster, process, other) };
    }
    let at = cluster.at;
    let since = *cluster.processes[process].silent_since.entry(other).or_insert(at);
    let given_up = at - since >= cluster.settings.suspect_after.as_nanos() as u64;
    match view {
        View::Up if given_up => learn_down(cluster, process, other),
        // A message that was in flight when the process stopped made its replica a live member once more.
        View::Down | View::Left if believes_live(cluster, process, other) => learn_down(cluster, process, other),
        _ => Ok(()),
    }
}

/// Returns true if a replica on a process believes that a replica on another process is live. Such a belief may outlast
/// the process.
fn believes_live<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, process: usize, other: usize) -> bool {
    cluster.settings.accept_departed
        && cluster.openings.iter().filter(|opening| opening.process == other).any(|theirs| {
            let ours = cluster.processes[process].open[usize::from(theirs.cache)];
            ours.is_some_and(|ours| cluster.view(ours).peers().any(|peer| peer.id == theirs.id && peer.live))
        })
}

/// Returns true if a process reaches another, directly or through a third process.
fn reaches<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, process: usize, other: usize) -> bool {
    let address = |process: usize| cluster.processes[process].address;
    let cut = |a: usize, b: usize| cluster.network.is_cut(address(a), address(b));
    let direct = |a: usize, b: usize| !cut(a, b) && !cut(b, a);
    let via = |third: usize| third != process && third != other && direct(process, third) && direct(third, other);
    cluster.processes[other].is_up() && (direct(process, other) || cluster.up().into_iter().any(via))
}

/// Records that a process is up and that each process which it replaces is gone. Greets it.
fn learn_up<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    process: usize,
    other: usize,
) -> Result<(), Violation> {
    cluster.trace(|| format!("n{process} finds n{other} up"));
    let name = cluster.processes[other].address.to_string().into();
    let here = &mut cluster.processes[process];
    here.views.insert(other, View::Up);
    let predecessors = here.membership.up(incarnation(other), &name, other);
    let mut predecessors: Vec<_> = predecessors.into_iter().filter_map(process_of).collect();
    if cluster.settings.accept_departed {
        // Add the predecessors that only a late message has named.
        predecessors
            .extend(std::iter::successors(cluster.processes[other].replaces, |old| cluster.processes[*old].replaces));
    }
    predecessors.retain(|old| *old != process);
    predecessors.into_iter().try_for_each(|old| learn_of_leave(cluster, process, old))?;
    outbound::greet(cluster, process, other)
}

/// Records that a process is down, or gone if it has left, and reports that to the replicas here.
fn learn_down<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    process: usize,
    other: usize,
) -> Result<(), Violation> {
    cluster.trace(|| format!("n{process} finds n{other} down"));
    cluster.report.fault("found dead");
    let left = cluster.processes[process].view_of(other) == View::Left;
    let gone = if left {
        drop_for_good(cluster, process, other)
    } else {
        cluster.processes[process].views.insert(other, View::Down);
        cluster.processes[process].stills.forget(incarnation(other));
        cluster.processes[process].membership.down(incarnation(other), false)
    };
    for (number, id) in known_on(cluster, process, other, gone) {
        let now = cluster.now_at(number);
        if left {
            cluster.openings[number].history.membership.ever.insert(id);
            cluster.openings[number].engine.replica.handle_member_left(now, id);
        } else {
            cluster.openings[number].engine.replica.handle_member_down(now, id);
        }
        settle::opening(cluster, number)?;
    }
    Ok(())
}

/// Returns the openings of a process, each with a replica of its cache that lived on another process. `gone` lists the
/// replicas that the membership state machine knows.
fn known_on<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    process: usize,
    other: usize,
    gone: Vec<(String, ReplicaId)>,
) -> Vec<(usize, ReplicaId)> {
    let here = &cluster.processes[process];
    let open = |cache: &str| here.open[usize::from(cache_of(cache)?)];
    let mut known: Vec<_> = gone.into_iter().filter_map(|(cache, id)| Some((open(&cache)?, id))).collect();
    if cluster.settings.accept_departed {
        // Add the replicas that only a late message has named.
        let theirs = cluster.openings.iter().filter(|theirs| theirs.process == other);
        known.extend(theirs.filter_map(|theirs| Some((here.open[usize::from(theirs.cache)]?, theirs.id))));
    }
    known.sort_unstable();
    known.dedup();
    known
}

/// Records that a process is gone: it has sent a goodbye, or will not return.
pub(super) fn learn_of_leave<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    process: usize,
    who: usize,
) -> Result<(), Violation> {
    if !cluster.processes[process].is_up() || cluster.processes[process].view_of(who) == View::Left {
        return Ok(());
    }
    cluster.trace(|| format!("n{process} receives the goodbye of n{who}"));
    cluster.processes[process].views.insert(who, View::Left);
    let gone = drop_for_good(cluster, process, who);
    tell_all_left(cluster, process, who, gone)
}

/// Removes a process from the membership state machine of another. Returns the replicas that lived on the removed
/// process.
fn drop_for_good<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    process: usize,
    who: usize,
) -> Vec<(String, ReplicaId)> {
    members::note_left(cluster, process, who);
    cluster.processes[process].stills.forget(incarnation(who));
    cluster.processes[process].membership.down(incarnation(who), true)
}

/// Forgets a process on behalf of an operator who states that it will not return. A process that still runs is met
/// again.
pub(super) fn forget<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    process: usize,
    who: usize,
) -> Result<(), Violation> {
    if !cluster.processes[process].membership.is_live(incarnation(who)) {
        members::note_left(cluster, process, who);
    }
    let gone = cluster.processes[process].membership.forget(incarnation(who));
    if !gone.is_empty() {
        cluster.report.fault("forgotten by hand");
    }
    tell_all_left(cluster, process, who, gone)
}

fn tell_all_left<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    process: usize,
    who: usize,
    gone: Vec<(String, ReplicaId)>,
) -> Result<(), Violation> {
    let known = known_on(cluster, process, who, gone);
    known.into_iter().try_for_each(|(number, id)| tell_left(cluster, number, id))
}

/// Reports to a replica that a member is gone for good.
pub(super) fn tell_left<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    id: ReplicaId,
) -> Result<(), Violation> {
    cluster.trace(|| format!("r{number} is informed that {id} departed"));
    let now = cluster.now_at(number);
    cluster.openings[number].history.membership.ever.insert(id);
    cluster.openings[number].engine.replica.handle_member_left(now, id);
    settle::opening(cluster, number)
}
