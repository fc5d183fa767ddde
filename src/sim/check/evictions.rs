//! Eviction stays where it happened: a replica that has evicted nothing, and took over no state of one that has, loses
//! no value to the evictions of others.

use crate::hlc::Stamp;
use crate::replica::RemovalCause;
use crate::sim::cluster::Cluster;
use crate::sim::report::Violation;
use crate::sim::types::{SimKey, SimValue};

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    /// A value that readers of a replica saw is no longer there. The second stamp is of what stands there now, if
    /// anything does: a newer write may have arrived expired or evicted, and then the cause is the newer one's.
    pub(in crate::sim) fn note_removed(
        &mut self,
        number: usize,
        key: usize,
        (stamp, now): (Stamp, Stamp),
        cause: RemovalCause,
    ) -> Result<(), Violation> {
        match cause {
            RemovalCause::Size if now == stamp => {
                self.note_evicted(number, key, stamp);
                Ok(())
            }
            RemovalCause::Size => Ok(()),
            RemovalCause::Expired => self.note_expired_at(number, key, now),
            RemovalCause::Void | RemovalCause::Reconcile => self.check_loss(number, key, stamp, cause),
            RemovalCause::Explicit | RemovalCause::Replaced | RemovalCause::Invalidated => Ok(()),
        }
    }

    fn note_evicted(&mut self, number: usize, key: usize, stamp: Stamp) {
        self.openings[number].history.has_evicted = true;
        if self.view(number).peer_len() == 0 && self.view(number).unmet_len() == 0 {
            let alone = &mut self.openings[number].history.evicted_alone;
            *alone = stamp.time.max(*alone);
        }
        if let Some(record) = self.record_mut(number, key, &stamp) {
            record.fate.evicted.insert(number);
        }
        self.report.fault("evicted");
    }

    /// A value went with a void or a reconcile. Where the replica evicts nothing, a void must have been due for
    /// another reason than that a replica had evicted the value; and what overwrote or deleted the value is a reason.
    fn check_loss(&mut self, number: usize, key: usize, stamp: Stamp, cause: RemovalCause) -> Result<(), Violation> {
        if let Some(held) = self.held(number, key) {
            // A void of its own, or a doubt, is judged before the loss is.
            let marker = self.view(number).marker_at(&held.meta);
            self.note_held(number, key, Some(marker));
        }
        if self.is_given_up(number, stamp, cause) {
            if let Some(record) = self.record_mut(number, key, &stamp) {
                record.fate.given_up.insert(number);
            }
            return Ok(());
        }
        let epoch = self.view(number).epoch();
        let Some(record) = self.oracle(number).of(key).next().filter(|newest| newest.stamp == stamp) else {
            return Ok(()); // Overwritten or deleted by a record that is newer.
        };
        let over = record.expires != 0 && record.expires <= self.openings[number].latest_wall;
        // A doubt that was due is as a void that was due: the floor behind it passed a write that it could not know of.
        if record.fate.doubted.contains(&number)
            || record.fate.voided
            || record.fate.expired
            || over
            || stamp.time <= epoch
        {
            return Ok(());
        }
        let (name, key, fate) = (self.name(number), self.key_name(key), &record.fate);
        Err(self
            .violation(format!("evict: {name} has evicted nothing and lost {key} of {stamp:?} by {cause:?}; {fate:?}")))
    }

    /// Whether a replica may lose values to the evictions of others: it evicts itself, it took over evictions that it had
    /// not seen, or a reconcile whose sender had dropped tombstones ends now. At or below the gc floor of that sender, what
    /// it has evicted cannot be told from what it has deleted: the floor is all that it remembers. A member gets a
    /// reconcile only if tombstones were dropped that it had not seen.
    fn is_given_up(&mut self, number: usize, stamp: Stamp, cause: RemovalCause) -> bool {
        let history = &self.openings[number].history;
        if history.has_evicted || history.took_from_evicter {
            return true;
        }
        let sender = history.frame_from.filter(|_| cause == RemovalCause::Reconcile);
        let below = sender.and_then(|sender| history.floors.get(&sender)).is_some_and(|floor| stamp <= *floor);
        if below {
            self.report.reach("evicted below the floor of a reconcile");
        }
        below
    }
}
