//! Beliefs: what a replica takes another to have seen, and to write no more, is what that one said of itself.

use crate::crdt::Dot;
use crate::hlc::Stamp;
use crate::sim::cluster::Cluster;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

/// Looked at after every so many events of the whole run, and after every digest and acknowledgement.
const EVERY: u64 = 8;

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    pub(super) fn check_beliefs(&self, number: usize) -> Result<(), Violation> {
        if !self.report.events.is_multiple_of(EVERY) {
            return Ok(());
        }
        for peer in self.view(number).peers() {
            let Some(member) = self.by_id.get(&peer.id).map(|member| &self.openings[*member]) else { continue };
            if !member.seen.dominates(&peer.reported) {
                let more = peer.reported.beside(&member.seen).filter(|(_, believed, said)| believed > said);
                let more: Vec<_> = more.collect();
                let (name, who) = (self.name(number), peer.id);
                return Err(self.violation(format!("beliefs: {name} believes that {who} has seen {more:?}")));
            }
            let said = member.history.watermark;
            if peer.watermark > said {
                let (name, who, believed) = (self.name(number), peer.id, peer.watermark);
                return Err(self.violation(format!(
                    "beliefs: {name} believes the watermark {believed} of {who}, {said} was said"
                )));
            }
        }
        Ok(())
    }

    /// A watermark is a promise: what its replica has not issued yet will be stamped above. Every one that it ever said
    /// counts, whether anybody believes it yet or not.
    pub(in crate::sim) fn check_watermark(&self, number: usize, stamp: Stamp, dot: &Dot) -> Result<(), Violation> {
        let said = self.openings[number].history.watermark;
        if stamp.time > said {
            return Ok(());
        }
        let name = self.name(number);
        Err(self.violation(format!("watermark: {name} issued {stamp:?} as {dot:?} after it had said {said}")))
    }
}
