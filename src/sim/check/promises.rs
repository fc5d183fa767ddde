//! What a replica answers when it is asked whether something has arrived: `wait_replicated`, the writes that a shutdown could not
//! hand over, `ready`. Each answer is compared with what the others really claim.

use crate::crdt::Dot;
use crate::sim::cluster::Cluster;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    /// Looked at after every event.
    pub(super) fn check_promises(&mut self, number: usize) -> Result<(), Violation> {
        self.check_replicated(number)?;
        self.check_ready(number)
    }

    /// Whoever is said to have our last write has said so, and what has been handed over somebody has.
    fn check_replicated(&mut self, number: usize) -> Result<(), Violation> {
        let view = self.view(number);
        let Some(last) = view.last_own_stamp() else { return Ok(()) };
        let dot = Dot::new(last.replica, last.time);
        let mut known = 0;
        for peer in view.peers().filter(|peer| view.member_has(peer.id, last) == Some(true)) {
            known += 1;
            let claims = |other: &usize| self.openings[*other].seen.covers(&dot);
            if !self.by_id.get(&peer.id).is_some_and(claims) {
                let (name, who) = (self.name(number), peer.id);
                return Err(
                    self.violation(format!("promise: {name} says that {who} has {dot:?}, which it does not claim"))
                );
            }
        }
        // Alone for good, there is nobody to hand anything to, and nothing is said.
        let cluster = view.peer_len() > 0 || view.may_meet_members();
        let handed_over = cluster && !view.has_unsent();
        if handed_over && !(0..self.openings.len()).any(|at| at != number && self.openings[at].seen.covers(&dot)) {
            let name = self.name(number);
            return Err(self.violation(format!("promise: {name} has handed over {dot:?}, and nobody claims it")));
        }
        if known > 0 {
            self.report.reach("known to be replicated");
        }
        if handed_over {
            self.report.reach("handed over");
        }
        Ok(())
    }

    /// Whoever is caught up with a member has everything that this one had when it first said so.
    fn check_ready(&mut self, number: usize) -> Result<(), Violation> {
        let caught_up = self.view(number).caught_up();
        let Some(caught_up) = caught_up.filter(|_| !self.openings[number].history.ready) else { return Ok(()) };
        self.openings[number].history.ready = true;
        let source = self.by_id.get(&caught_up.from).map(|source| &self.openings[*source].history);
        let Some((_, then)) = source.and_then(|source| source.said.get(&caught_up.as_of)) else {
            let name = self.name(number);
            return Err(self.violation(format!("promise: {name} is caught up by what nobody said: {caught_up:?}")));
        };
        if !self.openings[number].seen.dominates(then) {
            let lacking: Vec<_> = then.beside(&self.openings[number].seen).filter(|(_, had, has)| has < had).collect();
            let (name, from) = (self.name(number), caught_up.from);
            return Err(self.violation(format!("promise: {name} is caught up with {from} and lacks {lacking:?}")));
        }
        self.report.reach("caught up");
        Ok(())
    }
}
