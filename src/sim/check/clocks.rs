//! Clocks: nothing is merged that lies further in the future than `max_drift`, and nobody takes the time of the first member
//! that is heard. And what a member has said it has is not sent to it again.

use crate::crdt::Marker;
use crate::message::Message;
use crate::replica::Counters;
use crate::replica_id::ReplicaId;
use crate::sim::cluster::Cluster;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// For how long a replica waits at least for a second member before it takes the time of its only one. A second, less what
/// clocks that drift make of it.
const WAIT: u64 = 950_000_000;
/// How often something is sent that waits for its time. Each wait is twice the one before, up to a minute; what is under way when
/// the receiver asks for it comes as well, and some of it twice.
const OFTEN: u32 = 100;
/// A clock that falls behind the monotonic one by less than this is taken at its word again within the event.
const SLEW: u64 = 100_000_000;

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    /// What is merged in the event that brings it here first lies no further ahead than `max_drift`, by the clock of this
    /// replica. What was brought before may have been deferred: it waits for as long as it was ahead then, by the monotonic
    /// clock, and the wall clock may have stood still or stepped back meanwhile. A clock that stands still is followed for
    /// `SLEW` only after the message was judged.
    pub(super) fn check_not_ahead(&self, number: usize, key: usize, marker: Option<&Marker>) -> Result<(), Violation> {
        let before = self.openings[number].history.held[key].map(|before| before.stamp);
        let Some(Marker { stamp, .. }) = marker.filter(|marker| before != Some(marker.stamp)) else { return Ok(()) };
        let record = self.oracle(number).get(key, stamp);
        let is_new = record.is_some_and(|record| record.told.get(&number) == Some(&self.at));
        let (now, drift) = (self.now_at(number), self.settings.config.max_drift);
        let ahead = self.view(number).clock().is_ahead(now, stamp.time.saturating_sub(SLEW), drift);
        if !is_new || !ahead {
            return Ok(());
        }
        let (name, key, wall) = (self.name(number), self.key_name(key), now.wall);
        Err(self.violation(format!("ahead: {name} merges {stamp:?} for {key} at {wall}: it is from the future")))
    }

    /// What a replica defers is not sent to it again and again: whoever sends it is asked to wait, each time for longer.
    pub(in crate::sim) fn check_early(
        &mut self,
        number: usize,
        from: usize,
        message: &Message<K, V>,
    ) -> Result<(), Violation> {
        let (now, drift) = (self.now_at(number), self.settings.config.max_drift);
        let mut most = None;
        for entry in message.entries() {
            let dot = entry.dot();
            let time = entry.stamp().time.max(dot.counter);
            if self.view(number).clock().is_ahead(now, time, drift) {
                let count =
                    self.openings[number].history.sent.sent_early.entry((from, dot.actor, dot.counter)).or_default();
                *count += 1;
                most = most.max(Some((*count, dot.counter)));
            }
        }
        let Some((count, dot)) = most.filter(|(count, _)| *count > OFTEN) else { return Ok(()) };
        let (name, from) = (self.name(number), self.name(from));
        Err(self.violation(format!(
            "cost: {name} was sent the dot {dot} {count} times by {from}, while it waits for its time"
        )))
    }

    /// After a digest was taken in, and before anything else is done.
    pub(in crate::sim) fn check_answer(
        &self,
        number: usize,
        from: ReplicaId,
        before: &Counters,
    ) -> Result<(), Violation> {
        let (view, name) = (self.view(number), self.name(number));
        let now = view.counters();
        let mut told = view.peers().filter(|peer| peer.id == from);
        if now.reconciles_out > before.reconciles_out && told.any(|peer| peer.reported.dominates(view.vector())) {
            return Err(self.violation(format!("cost: {name} tells {from} everything, which said that it has it")));
        }
        let history = &self.openings[number].history;
        let only = history.company.live.keys().all(|other| *other == from);
        let waited = history.company.admitted.get(&from).is_some_and(|(since, _)| since + WAIT <= self.at);
        if now.time_taken > before.time_taken && only && !waited {
            return Err(self.violation(format!("clocks: {name} takes the time of {from}, the first that it hears")));
        }
        Ok(())
    }
}
