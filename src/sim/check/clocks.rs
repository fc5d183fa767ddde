//! The rules about clocks, and one about cost. No replica merges a register further in the future than `max_drift`. No
//! replica takes the time of the first member that it receives a digest from without waiting. No sender sends registers
//! again that their receiver has reported.

use crate::crdt::Marker;
use crate::message::Message;
use crate::replica::Counters;
use crate::replica_id::ReplicaId;
use crate::sim::cluster::Cluster;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// The shortest wait for a second member before a replica takes the time of its only member, in nanoseconds. It is one
/// second, less a margin for drifting clocks.
const WAIT: u64 = 950_000_000;
/// The most times that one register is sent while the receiver defers it. Each wait is twice as long as the previous
/// one, up to a minute. Registers in flight when the receiver asks for the wait still arrive, and some of them are
/// duplicated.
const OFTEN: u32 = 100;
/// The largest lag of a wall clock behind the monotonic clock, in nanoseconds, at which the hybrid clock still follows
/// the wall clock. If the hybrid clock does so within the event, after the message was judged, it falls by up to this
/// much.
const SLEW: u64 = 100_000_000;

/// Checks that a write which is merged in the event of its first arrival is at most `max_drift` ahead of this replica's
/// clock. The check subtracts `SLEW`, because it reads the clock after the event. A write that arrived in an earlier
/// event is exempt, because it may have been deferred. A deferred write waits, by the monotonic clock, for as long as
/// it was ahead on arrival. The wall clock may have stopped or stepped back meanwhile.
pub(super) fn check_not_ahead<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    marker: Option<&Marker>,
) -> Result<(), Violation> {
    let before = cluster.openings[number].history.held[key].map(|before| before.stamp);
    let Some(Marker { stamp, .. }) = marker.filter(|marker| before != Some(marker.stamp)) else { return Ok(()) };
    let record = cluster.oracle(number).get(key, stamp);
    let is_new = record.is_some_and(|record| record.received_by.get(&number) == Some(&cluster.at));
    let (now, drift) = (cluster.now_at(number), cluster.settings.config.max_drift);
    let ahead = cluster.view(number).clock().is_ahead(now, stamp.time.saturating_sub(SLEW), drift);
    if !is_new || !ahead {
        return Ok(());
    }
    let (name, key, wall) = (cluster.name(number), cluster.key_name(key), now.wall);
    Err(cluster
        .violation(format!("ahead: {name} merges {stamp:?} for {key} at {wall}, although the stamp is in the future")))
}

/// Checks that a sender does not repeat a register that the receiver defers more than `OFTEN` times. The receiver asks
/// the sender to wait, each time for longer.
pub(in crate::sim) fn check_early<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    from: usize,
    message: &Message<K, V>,
) -> Result<(), Violation> {
    let (now, drift) = (cluster.now_at(number), cluster.settings.config.max_drift);
    let mut most = None;
    for entry in message.entries() {
        let dot = entry.dot();
        let time = entry.stamp().time.max(dot.counter);
        if cluster.view(number).clock().is_ahead(now, time, drift) {
            let count =
                cluster.openings[number].history.sent.sent_early.entry((from, dot.actor, dot.counter)).or_default();
            *count += 1;
            most = most.max(Some((*count, dot.counter)));
        }
    }
    let Some((count, dot)) = most.filter(|(count, _)| *count > OFTEN) else { return Ok(()) };
    let (name, from) = (cluster.name(number), cluster.name(from));
    Err(cluster.violation(format!(
        "cost: {name} received the dot {dot} {count} times from {from}, although it is deferred until it is due"
    )))
}

/// Checks the effect of a digest, right after the replica has handled it and before any other event.
pub(in crate::sim) fn check_answer<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    from: ReplicaId,
    before: &Counters,
) -> Result<(), Violation> {
    let (view, name) = (cluster.view(number), cluster.name(number));
    let now = view.counters();
    let mut told = view.peers().filter(|peer| peer.id == from);
    if now.reconciles_out > before.reconciles_out && told.any(|peer| peer.reported.dominates(view.vector())) {
        return Err(cluster
            .violation(format!("cost: {name} sends a reconcile to {from}, which has reported that it lacks nothing")));
    }
    let history = &cluster.openings[number].history;
    let only = history.membership.live.keys().all(|other| *other == from);
    let waited = history.membership.admitted.get(&from).is_some_and(|(since, _)| since + WAIT <= cluster.at);
    if now.time_taken > before.time_taken && only && !waited {
        return Err(cluster.violation(format!("clocks: {name} takes the time of {from} at its first digest")));
    }
    Ok(())
}
