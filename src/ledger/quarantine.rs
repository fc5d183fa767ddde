//! The bounded quarantine of entries from the future, which wait until they are due.

use std::collections::BTreeMap;

use super::Ledger;
use crate::env::Env;
use crate::hlc::{HlcTime, Now};
use crate::item::CoreKey;
use crate::members::Members;
use crate::message::Entry;
use crate::replica_id::ReplicaId;

/// The highest number of replicas recorded as offenders.
const MAX_OFFENDERS: usize = 64;
/// The most bytes of keys and values that may wait.
const MAX_BYTES: usize = 64 << 20;

/// The time at which an entry is due, and its dot.
type Place = (HlcTime, ReplicaId, HlcTime);

/// The entries that wait, and the replicas whose clock was too far ahead.
pub(crate) struct Quarantine<K, V> {
    /// The waiting entries, by due time and dot. An entry that is offered repeatedly waits once.
    waiting: BTreeMap<Place, Entry<K, V>>,
    /// The bytes of keys and values that wait.
    bytes: usize,
    /// The replicas whose clock was found too far ahead, with the time that each claimed.
    offenders: BTreeMap<ReplicaId, HlcTime>,
}

impl<K, V> Default for Quarantine<K, V> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), bytes: 0, offenders: BTreeMap::new() }
    }
}

/// The result of offering an entry to the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offered {
    Waits,
    Full,
}

impl<K, V> Quarantine<K, V> {
    /// Returns the number of bytes that wait, and the most that may.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn buffers(&self) -> (usize, usize) {
        (self.bytes, MAX_BYTES)
    }

    /// Returns the replicas whose clock was found too far ahead, with the time that each claimed.
    pub(crate) fn offenders(&self) -> impl Iterator<Item = (ReplicaId, HlcTime)> + '_ {
        self.offenders.iter().map(|(id, time)| (*id, *time))
    }

    fn note_offender(&mut self, who: ReplicaId, time: HlcTime) {
        if self.offenders.len() < MAX_OFFENDERS || self.offenders.contains_key(&who) {
            self.offenders.insert(who, time);
        }
    }

    /// Returns the number of entries that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the time at which the first entry is due.
    pub(super) fn first_due(&self) -> Option<HlcTime> {
        self.waiting.first_key_value().map(|((due, ..), _)| *due)
    }

    /// Puts an entry into the quarantine. Returns the entry that it replaces, if any, for the caller to set aside.
    fn put(&mut self, entry: Entry<K, V>, max: usize) -> (Offered, Option<Entry<K, V>>) {
        let (dot, due) = (entry.dot(), entry.stamp().time.max(entry.dot().counter));
        let place = (due, dot.actor, dot.counter);
        let mut before = None;
        if let Some(waits) = self.waiting.get(&place) {
            // The same dot is the same event. Its marker can differ only because a replica on the way had evicted the
            // body.
            if waits.marker == entry.marker || waits.kind().is_live() {
                return (Offered::Waits, None);
            }
            before = self.take(place);
        }
        let bytes = self.bytes.saturating_add(entry.size as usize);
        if self.waiting.len() >= max || bytes > MAX_BYTES {
            return (Offered::Full, before);
        }
        self.bytes = bytes;
        self.waiting.insert(place, entry);
        (Offered::Waits, before)
    }

    fn take(&mut self, place: Place) -> Option<Entry<K, V>> {
        let entry = self.waiting.remove(&place)?;
        self.bytes = self.bytes.saturating_sub(entry.size as usize);
        Some(entry)
    }

    /// Takes out the entry that is due first.
    pub(super) fn take_first(&mut self) -> Option<Entry<K, V>> {
        let place = *self.waiting.first_key_value()?.0;
        self.take(place)
    }

    /// Takes out all entries of one origin.
    fn take_of(&mut self, origin: ReplicaId) -> Vec<Entry<K, V>> {
        let of_origin = |place: &&Place| place.1 == origin;
        let places: Vec<_> = self.waiting.keys().filter(of_origin).copied().collect();
        places.into_iter().filter_map(|place| self.take(place)).collect()
    }

    /// Removes a replica from the offenders.
    fn forget_offender(&mut self, who: &ReplicaId) {
        self.offenders.remove(who);
    }
}

/// Records a replica whose clock was too far ahead, with the time that it claimed.
pub(crate) fn note_offender<K, V>(ledger: &mut Ledger<K, V>, env: &mut Env, who: ReplicaId, time: HlcTime) {
    env.counters.deferred += 1;
    ledger.quarantine.note_offender(who, time);
}

/// Puts an entry into quarantine. Does not keep an entry whose origin is not a member. Does not keep a fill with a
/// bound either, because the quarantine keeps no bounds.
pub(crate) fn defer<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    members: &Members,
    entry: Entry<K, V>,
    bounded: bool,
) {
    let origin = entry.dot().actor;
    note_offender(ledger, env, origin, entry.stamp().time.max(entry.dot().counter));
    if bounded || (!members.contains(&origin) && !env.bugs().quarantine_keeps_departed) {
        // An entry of a departed origin is not kept: if a later write overtook the entry, the origin can no longer
        // deliver that write. A member that still holds the entry will offer it again.
        env.counters.deferred_overflow += 1;
        return;
    }
    let (put, before) = ledger.quarantine.put(entry, env.config.max_deferred);
    ledger.registers.set_aside(before.iter());
    env.counters.deferred_overflow += u64::from(put == Offered::Full);
}

/// Drops the waiting entries of a member that was forgotten. No replica has merged these entries. Right clocks have
/// stamped later writes and deletes below them. If the entries were merged when due, they would undo those writes and
/// deletes.
pub(crate) fn purge<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, origin: ReplicaId) {
    ledger.quarantine.forget_offender(&origin);
    if env.bugs().quarantine_keeps_departed {
        return;
    }
    let gone = ledger.quarantine.take_of(origin);
    env.counters.deferred_purged += gone.len() as u64;
    ledger.registers.set_aside(gone.iter());
}

/// Returns the nanoseconds until the next entry is due. `None` if nothing waits, or while a session comes in.
pub(crate) fn next_due_in<K, V>(ledger: &Ledger<K, V>, env: &Env, now: Now) -> Option<u64> {
    if ledger.receiving.is_some() {
        return None; // Deferred entries are released after the session.
    }
    let judged = env.clock.judging(now).saturating_add(env.max_drift());
    Some(ledger.quarantine.first_due()?.saturating_sub(judged))
}
