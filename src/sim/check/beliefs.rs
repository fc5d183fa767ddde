//! The beliefs of a replica about its peers: the writes that a peer has seen, and the time below which it writes no
//! more. A replica must not believe more than the peer itself has stated.

use crate::crdt::Dot;
use crate::hlc::Stamp;
use crate::sim::cluster::Cluster;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// Events of the whole run between two checks of the beliefs.
const EVERY: u64 = 8;

/// Checks that no replica believes more of a peer than the peer has stated.
pub(super) fn check<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    if !cluster.report.events.is_multiple_of(EVERY) {
        return Ok(());
    }
    for peer in cluster.view(number).peers() {
        let Some(member) = cluster.by_id.get(&peer.id).map(|member| &cluster.openings[*member]) else { continue };
        if !member.seen.dominates(&peer.reported) {
            let more = peer.reported.zip(&member.seen).filter(|(_, believed, said)| believed > said);
            let more: Vec<_> = more.collect();
            let (name, who) = (cluster.name(number), peer.id);
            return Err(cluster
                .violation(format!("beliefs: {name} assumes that {who} has seen more than it reported: {more:?}")));
        }
        let said = member.history.watermark;
        if peer.watermark > said {
            let (name, who, believed) = (cluster.name(number), peer.id, peer.watermark);
            return Err(cluster.violation(format!(
                "beliefs: {name} assumes the watermark {believed} of {who}, which has sent {said} at most"
            )));
        }
    }
    Ok(())
}

/// Checks that a replica does not issue a stamp at or below a watermark that it has sent: every later stamp must be
/// above. Every sent watermark counts, even if no replica has received it yet.
pub(in crate::sim) fn check_watermark<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    stamp: Stamp,
    dot: &Dot,
) -> Result<(), Violation> {
    let said = cluster.openings[number].history.watermark;
    if stamp.time > said {
        return Ok(());
    }
    let name = cluster.name(number);
    Err(cluster
        .violation(format!("watermark: {name} issued {stamp:?} as {dot:?} after it had sent the watermark {said}")))
}
