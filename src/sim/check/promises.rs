//! The answers of a replica about arrival: `wait_replicated`, the writes that a shutdown could not hand over, and
//! `ready`. Each answer is compared with the claims of the remaining replicas.

use crate::crdt::Dot;
use crate::sim::cluster::Cluster;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// Checks the answers after every event.
pub(super) fn check<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    check_replicated(cluster, number)?;
    check_ready(cluster, number)
}

/// Checks that each peer which is reported to have the last own write claims it. Also checks that a replica other than
/// the author claims a write that was handed over.
fn check_replicated<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    let view = cluster.view(number);
    let Some(last) = view.last_own_stamp() else { return Ok(()) };
    let dot = Dot::new(last.replica, last.time);
    let mut known = 0;
    for peer in view.peers().filter(|peer| view.member_has(peer.id, last) == Some(true)) {
        known += 1;
        let claims = |other: &usize| cluster.openings[*other].seen.covers(&dot);
        if !cluster.by_id.get(&peer.id).is_some_and(claims) {
            let (name, who) = (cluster.name(number), peer.id);
            return Err(cluster
                .violation(format!("promise: {name} reports that {who} has {dot:?}, which {who} does not claim")));
        }
    }
    // A replica that is alone for good has no peer to hand a write to, and promises nothing.
    let has_others = view.peer_len() > 0 || view.may_meet_members();
    let handed_over = has_others && !view.has_unsent();
    if handed_over && !(0..cluster.openings.len()).any(|at| at != number && cluster.openings[at].seen.covers(&dot)) {
        let name = cluster.name(number);
        return Err(cluster
            .violation(format!("promise: {name} reports {dot:?} as handed over, but no other replica claims it")));
    }
    if known > 0 {
        cluster.report.reach("known to be replicated");
    }
    if handed_over {
        cluster.report.reach("handed over");
    }
    Ok(())
}

/// Checks that a replica which has caught up with a member has everything that the member had when it sent the matching
/// digest.
fn check_ready<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    let caught_up = cluster.view(number).caught_up();
    let Some(caught_up) = caught_up.filter(|_| !cluster.openings[number].history.ready) else { return Ok(()) };
    cluster.openings[number].history.ready = true;
    let source = cluster.by_id.get(&caught_up.from).map(|source| &cluster.openings[*source].history);
    let Some((_, then)) = source.and_then(|source| source.said.get(&caught_up.as_of)) else {
        let name = cluster.name(number);
        return Err(cluster
            .violation(format!("promise: {name} is caught up by a digest that its source never sent: {caught_up:?}")));
    };
    if !cluster.openings[number].seen.dominates(then) {
        let lacking: Vec<_> = then.zip(&cluster.openings[number].seen).filter(|(_, had, has)| has < had).collect();
        let (name, from) = (cluster.name(number), caught_up.from);
        return Err(cluster.violation(format!("promise: {name} is caught up with {from}, but lacks {lacking:?}")));
    }
    cluster.report.reach("caught up");
    Ok(())
}
