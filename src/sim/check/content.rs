//! Content: a claim is kept. The vector of a replica covers a write only if it holds the write or something newer for
//! its key, or if the write is gone for a reason that was observed of this very record.

use crate::crdt::{Cause, Kind};
use crate::hlc::Stamp;
use crate::sim::cluster::Cluster;
use crate::sim::oracle::Record;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};
use crate::store::Snapshot;

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    pub(super) fn check_content(
        &mut self,
        number: usize,
        key: usize,
        held: Option<&Snapshot<K, V>>,
    ) -> Result<(), Violation> {
        if let Some(held) = held.filter(|held| held.meta.kind == Kind::Tombstone(Cause::Expired)) {
            self.note_expired(number, key, held)?;
        }
        let stamp = held.map(|held| self.view(number).stamp_at(&held.meta));
        let Some(record) = self.oracle(number).winner(key, &[&self.openings[number].seen]) else { return Ok(()) };
        if stamp.is_some_and(|stamp| stamp >= record.stamp) {
            return Ok(());
        }
        if let Some(held) = held.filter(|held| self.is_served(number, held)) {
            let (name, key, claimed) = (self.name(number), self.key_name(key), record.dot);
            let stamp = self.view(number).stamp_at(&held.meta);
            return Err(self.violation(format!("claim: {name} serves {key} of {stamp:?} and claims {claimed:?}")));
        }
        if record.expires != 0 && record.expires <= self.openings[number].latest_wall {
            // A read compares with the clock. The tombstone of it may be collected, or dropped by force as soon as it was made.
            return self.note_expired_at(number, key, record.stamp);
        }
        if self.may_be_gone(number, key, record) {
            return Ok(());
        }
        let (name, key, written, fate) = (self.name(number), self.key_name(key), record.stamp, &record.fate);
        Err(self.violation(format!("content: {name} claims {written:?} of {key}, holds {stamp:?}, and {fate:?}")))
    }

    /// Whether a value that a replica claims and does not hold may be gone.
    fn may_be_gone(&self, number: usize, key: usize, record: &Record<K, V>) -> bool {
        let opening = &self.openings[number];
        if record.item.is_none() || record.stamp.time <= self.view(number).epoch() {
            return true; // A delete is collected once it is stable. What an epoch has passed is swept, and never placed.
        }
        // Something newer stood here and was removed since. Only what is stable, or beyond a cap, is removed.
        opening.newest[key].is_some_and(|(newest, _)| newest > record.stamp)
            || record.fate.explains_a_miss()
            || self.is_overwritten(number, key, record)
    }

    /// Something newer is claimed by a replica of this cache, present or gone: the sender of the claim held that, or
    /// knew it collected. That this replica does not claim it itself can be: its origin's record may have been dropped
    /// (`max_retired`) before. Whether the winner comes here is looked at in the end.
    fn is_overwritten(&self, number: usize, key: usize, record: &Record<K, V>) -> bool {
        let cache = self.openings[number].cache;
        let seen: Vec<_> = self.openings.iter().filter(|other| other.cache == cache).map(|other| &other.seen).collect();
        self.oracle(number).winner(key, &seen).is_some_and(|winner| winner.stamp > record.stamp)
    }

    /// A value expires by the clock of a replica that holds it, and only then.
    fn note_expired(&mut self, number: usize, key: usize, held: &Snapshot<K, V>) -> Result<(), Violation> {
        let stamp = self.view(number).stamp_at(&held.meta);
        self.note_expired_at(number, key, stamp)
    }

    pub(in crate::sim) fn note_expired_at(&mut self, number: usize, key: usize, stamp: Stamp) -> Result<(), Violation> {
        let wall = self.openings[number].latest_wall;
        let Some(record) = self.record_mut(number, key, &stamp).filter(|record| !record.fate.expired) else {
            return Ok(());
        };
        if record.expires != 0 && record.expires <= wall {
            record.fate.expired = true;
            return Ok(());
        }
        let expires = record.expires;
        let (name, key) = (self.name(number), self.key_name(key));
        Err(self.violation(format!("content: {name} expired {key} of {stamp:?} before its time {expires}")))
    }
}
