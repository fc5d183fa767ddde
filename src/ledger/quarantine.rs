//! Registers from the future wait in a bounded quarantine until their time comes.

use std::collections::BTreeMap;

use super::Ledger;
use crate::env::Env;
use crate::hlc::{HlcTime, Now};
use crate::item::CoreKey;
use crate::members::Members;
use crate::message::Entry;
use crate::replica_id::ReplicaId;

/// Offenders named at most.
const MAX_OFFENDERS: usize = 64;
/// Bytes of keys and values that wait, at most.
const MAX_BYTES: usize = 64 << 20;

/// When a register is due, and its dot.
type Place = (HlcTime, ReplicaId, HlcTime);

/// What waits, and whose clock it was.
pub(crate) struct Quarantine<K, V> {
    /// By the time they are due and the dot: what is offered again and again waits once.
    waiting: BTreeMap<Place, Entry<K, V>>,
    /// Of keys and values that wait.
    bytes: usize,
    /// Whose clock was found too far ahead, and the time they claimed.
    offenders: BTreeMap<ReplicaId, HlcTime>,
}

impl<K, V> Default for Quarantine<K, V> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), bytes: 0, offenders: BTreeMap::new() }
    }
}

/// What became of an entry that was to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Waits,
    Full,
}

impl<K, V> Quarantine<K, V> {
    /// Bytes that wait, and how many may.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn buffers(&self) -> (usize, usize) {
        (self.bytes, MAX_BYTES)
    }

    /// Replicas whose clock was found too far ahead, and the time they claimed.
    pub(crate) fn offenders(&self) -> impl Iterator<Item = (ReplicaId, HlcTime)> + '_ {
        self.offenders.iter().map(|(id, time)| (*id, *time))
    }

    fn note_offender(&mut self, who: ReplicaId, time: HlcTime) {
        if self.offenders.len() < MAX_OFFENDERS || self.offenders.contains_key(&who) {
            self.offenders.insert(who, time);
        }
    }

    /// Registers that wait for their time.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When the first of them is due.
    pub(super) fn first_due(&self) -> Option<HlcTime> {
        self.waiting.first_key_value().map(|((due, ..), _)| *due)
    }

    /// Puts an entry in its place; what it takes the place of is handed back.
    fn put(&mut self, entry: Entry<K, V>, max: usize) -> (Put, Option<Entry<K, V>>) {
        let (dot, due) = (entry.dot(), entry.stamp().time.max(entry.dot().counter));
        let place = (due, dot.actor, dot.counter);
        let mut before = None;
        if let Some(waits) = self.waiting.get(&place) {
            // The same event; another marker only if it lost its body somewhere.
            if waits.marker == entry.marker || waits.kind().is_live() {
                return (Put::Waits, None);
            }
            before = self.take(place);
        }
        let bytes = self.bytes.saturating_add(entry.size as usize);
        if self.waiting.len() >= max || bytes > MAX_BYTES {
            return (Put::Full, before);
        }
        self.bytes = bytes;
        self.waiting.insert(place, entry);
        (Put::Waits, before)
    }

    fn take(&mut self, place: Place) -> Option<Entry<K, V>> {
        let entry = self.waiting.remove(&place)?;
        self.bytes = self.bytes.saturating_sub(entry.size as usize);
        Some(entry)
    }

    /// Takes out the first entry.
    pub(super) fn take_first(&mut self) -> Option<Entry<K, V>> {
        let place = *self.waiting.first_key_value()?.0;
        self.take(place)
    }

    /// Takes out all that waits of one origin.
    fn take_of(&mut self, origin: ReplicaId) -> Vec<Entry<K, V>> {
        let of_origin = |place: &&Place| place.1 == origin;
        let places: Vec<_> = self.waiting.keys().filter(of_origin).copied().collect();
        places.into_iter().filter_map(|place| self.take(place)).collect()
    }

    /// It is no offender any more.
    fn forget_offender(&mut self, who: &ReplicaId) {
        self.offenders.remove(who);
    }
}

/// Notes who was ahead.
pub(crate) fn note_offender<K, V>(ledger: &mut Ledger<K, V>, env: &mut Env, who: ReplicaId, time: HlcTime) {
    env.counters.deferred += 1;
    ledger.quarantine.note_offender(who, time);
}

/// Puts an entry in quarantine, unless it would lose what came with it.
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
        // A departed origin never delivers what overtook this entry. A member that holds it offers it again.
        env.counters.deferred_overflow += 1;
        return;
    }
    let (put, before) = ledger.quarantine.put(entry, env.config.max_deferred);
    ledger.registers.set_aside(before.iter());
    env.counters.deferred_overflow += u64::from(put == Put::Full);
}

/// Drops what waits of a member that was forgotten. No replica has merged it, and writes and deletes made since by
/// right clocks are stamped below it: merged when its time comes, it would undo them.
pub(crate) fn purge<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, origin: ReplicaId) {
    ledger.quarantine.forget_offender(&origin);
    if env.bugs().quarantine_keeps_departed {
        return;
    }
    let gone = ledger.quarantine.take_of(origin);
    env.counters.deferred_purged += gone.len() as u64;
    ledger.registers.set_aside(gone.iter());
}

/// Nanoseconds until the next register's time comes.
pub(crate) fn next_due_in<K, V>(ledger: &Ledger<K, V>, env: &Env, now: Now) -> Option<u64> {
    if ledger.receiving.is_some() {
        return None; // Released when the session has ended.
    }
    let judged = env.clock.judging(now).saturating_add(env.max_drift());
    Some(ledger.quarantine.first_due()?.saturating_sub(judged))
}
