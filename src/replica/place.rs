//! The one place where a register changes: store, logs, counts and change stream together.

use super::bound::is_of_fill;
use super::log::OriginLog;
use super::{Change, CoreKey, Effect, RemovalCause, Replica};
use crate::crdt::{Cause, Dot, Kind, Marker};
use crate::hlc::{HlcTime, Now, Stamp};
use crate::item::{ItemRef, Key, without_body};
use crate::learnt::{Learnt, LearntBy};
use crate::replica_id::ReplicaId;
use crate::store::{Meta, SlotRef, Snapshot};

/// A register to be put in place.
pub(super) struct Placing<K, V> {
    pub(super) hash: u64,
    pub(super) marker: Marker,
    pub(super) expires: HlcTime,
    pub(super) size: u32,
    pub(super) weight: u32,
    pub(super) learnt: Learnt,
    pub(super) item: ItemRef<K, V>,
}

/// The live values that are held.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) live: u64,
    pub(super) weight: u64,
}

/// What a key held, and what it holds now.
type BeforeAndAfter<'a, K, V> = (Option<&'a ItemRef<K, V>>, Option<ItemRef<K, V>>);

impl<K: CoreKey, V> Replica<K, V> {
    pub(super) fn find(&self, hash: u64, key: &Key<K>) -> Option<Snapshot<K, V>> {
        self.store.find_by(hash, |other| other == key)
    }

    /// What a key holds.
    pub(crate) fn find_key(&self, hash: u64, key: &Key<K>) -> Option<Snapshot<K, V>> {
        self.find(hash, key)
    }

    /// The stamp of a register seen a moment ago, if it is still as it was.
    pub(crate) fn stamp_of_snapshot(&self, seen: &Snapshot<K, V>) -> Option<Stamp> {
        let held = self.store.meta(seen.slot)?;
        (held == seen.meta).then(|| self.stamp_of(&held))
    }

    pub(super) fn stamp_of(&self, meta: &Meta) -> Stamp {
        Stamp::new(meta.stamp_time, self.origins.id(meta.stamp_replica))
    }

    pub(super) fn dot_of(&self, meta: &Meta) -> Dot {
        Dot::new(self.origins.id(meta.dot_origin), meta.dot_time)
    }

    pub(super) fn marker_of(&self, meta: &Meta) -> Marker {
        Marker { stamp: self.stamp_of(meta), kind: meta.kind, dot: self.dot_of(meta) }
    }

    /// What is placed now was learnt now, by this path.
    pub(super) fn learnt(&self, now: crate::hlc::Now, path: LearntBy) -> Learnt {
        Learnt::new(now.mono.saturating_sub(self.opened), path)
    }

    /// Whether a reader would be given this value, its time to live aside.
    pub(super) fn is_readable(&self, meta: &Meta) -> bool {
        meta.kind.is_live() && meta.stamp_time > self.store.epoch()
    }

    /// Puts a register in place of what its key held, or of nothing. One without a value is in doubt if something newer may
    /// have been evicted.
    pub(super) fn place(&mut self, held: Option<&Snapshot<K, V>>, new: Placing<K, V>, why: RemovalCause) -> SlotRef {
        let meta = self.meta_of(&new);
        let Placing { hash, marker, item, .. } = new;
        let in_doubt = !meta.kind.is_live() && self.may_be_older_than_evicted(held, marker.stamp);
        let slot = match held {
            Some(held) => self.replace(held, meta, marker, item, why),
            None => self.add(hash, meta, marker, item),
        };
        if in_doubt {
            self.below_eviction.note_doubt(slot);
        }
        slot
    }

    fn add(&mut self, hash: u64, meta: Meta, marker: Marker, item: ItemRef<K, V>) -> SlotRef {
        let after = self.changes.is_watched().then(|| ItemRef::clone(&item));
        let slot = self.store.insert(hash, meta, item);
        self.note_placed(slot, &meta, marker, after);
        slot
    }

    fn replace(
        &mut self,
        held: &Snapshot<K, V>,
        meta: Meta,
        marker: Marker,
        item: ItemRef<K, V>,
        why: RemovalCause,
    ) -> SlotRef {
        let after = self.changes.is_watched().then(|| ItemRef::clone(&item));
        // The next write of one replica stands for the one before; a fill contests nothing.
        if held.meta.stamp_replica != meta.stamp_replica || is_of_fill(marker.stamp) {
            self.note_lost(held, meta.stamp_time);
        }
        self.note_invalidated(held);
        // The log names a dot once: a register that only loses its body keeps its entry.
        let same_dot = self.dot_of(&held.meta) == marker.dot;
        self.unindex(held, same_dot);
        self.garbage.extend(self.store.replace(held.slot, meta, item));
        self.index(held.slot, &meta, marker.dot, same_dot);
        let effect = match (self.is_readable(&held.meta), self.is_readable(&meta)) {
            (false, true) => Effect::Inserted,
            (true, true) => Effect::Updated,
            (true, false) => Effect::Removed(why),
            (false, false) => return held.slot,
        };
        self.note_change(held.slot, meta.weight, effect, (Some(&held.item), after), marker);
        held.slot
    }

    /// Puts an own write in place; gives what its key held before. One look at the table is enough where
    /// nothing has its hash.
    pub(super) fn place_own(&mut self, now: Now, new: Placing<K, V>) -> Option<Snapshot<K, V>> {
        let meta = self.meta_of(&new);
        let Placing { hash, marker, item, .. } = new;
        let after = self.changes.is_watched().then(|| ItemRef::clone(&item));
        let (item, found) = match self.store.insert_if_new(hash, meta, item) {
            Ok(slot) => {
                self.note_placed(slot, &meta, marker, after);
                return None;
            }
            Err(found) => found,
        };
        let is_same = found.hash == hash && found.item.key == item.key;
        let held = if is_same { Some(found) } else { self.find(hash, &item.key) };
        let held = held.map(|held| self.expired_before(now, &held).unwrap_or(held));
        match &held {
            Some(held) => self.replace(held, meta, marker, item, RemovalCause::Explicit),
            None => self.add(hash, meta, marker, item),
        };
        held
    }

    /// What the table is to know of a register; its ids count as used from now on.
    fn meta_of(&mut self, new: &Placing<K, V>) -> Meta {
        let Placing { marker, expires, size, weight, learnt, .. } = *new;
        Meta {
            stamp_time: marker.stamp.time,
            dot_time: marker.dot.counter,
            stamp_replica: self.origins.acquire(marker.stamp.replica),
            dot_origin: self.origins.acquire(marker.dot.actor),
            expires,
            size,
            weight,
            learnt,
            kind: marker.kind,
            retained: false,
        }
    }

    fn note_placed(&mut self, slot: SlotRef, meta: &Meta, marker: Marker, after: Option<ItemRef<K, V>>) {
        self.index(slot, meta, marker.dot, false);
        if self.is_readable(meta) {
            self.note_change(slot, meta.weight, Effect::Inserted, (None, after), marker);
        }
    }

    pub(super) fn note_change(
        &mut self,
        slot: SlotRef,
        weight: u32,
        effect: Effect,
        (before, after): BeforeAndAfter<'_, K, V>,
        Marker { stamp, dot, .. }: Marker,
    ) {
        let before = before.filter(|_| self.changes.is_watched()).cloned();
        let (origin, local) = (dot.actor, dot.actor == self.id);
        self.changes.note(Change { slot, weight, effect, before, after, stamp, origin, local });
    }

    fn index(&mut self, slot: SlotRef, meta: &Meta, dot: Dot, logged: bool) {
        let bloated = !logged && {
            let log = self.logs.entry(dot.actor).or_default();
            log.append(dot.counter, slot);
            log.is_bloated()
        };
        if meta.kind.is_live() {
            self.held.live += 1;
            self.held.weight += u64::from(meta.weight);
            if meta.expires != 0 {
                self.expiry.add(meta.expires, slot);
            }
        } else {
            self.tombstones.insert((meta.stamp_time, slot));
            self.count_tombstone(meta.kind, 1);
        }
        if bloated {
            self.compact_log_if_bloated(dot.actor);
        }
    }

    fn unindex(&mut self, held: &Snapshot<K, V>, stays_logged: bool) {
        self.below_eviction.forget(held.slot);
        let meta = &held.meta;
        let origin = self.origins.id(meta.dot_origin);
        if !stays_logged && let Some(log) = self.logs.get_mut(&origin) {
            log.retire_one();
        }
        if meta.kind.is_live() {
            self.held.live -= 1;
            self.held.weight -= u64::from(meta.weight);
        } else {
            self.tombstones.remove(&(meta.stamp_time, held.slot));
            self.count_tombstone(meta.kind, -1);
        }
        if meta.retained {
            self.retained_bytes = self.retained_bytes.saturating_sub(meta.size as usize);
        }
        self.origins.release(meta.stamp_replica);
        self.origins.release(meta.dot_origin);
    }

    /// Removes a register without leaving anything. The caller raises floor and dropped vector, or
    /// knows why not.
    pub(super) fn erase(&mut self, held: &Snapshot<K, V>, why: RemovalCause) {
        self.note_invalidated(held);
        let (was_readable, marker) = (self.is_readable(&held.meta), self.marker_of(&held.meta));
        self.unindex(held, false);
        self.garbage.extend(self.store.remove(held.slot));
        if was_readable {
            self.note_change(held.slot, 0, Effect::Removed(why), (Some(&held.item), None), marker);
        }
    }

    /// Removes a register without a trace: floor and dropped vector say so, and sessions that would
    /// hide it are broken off.
    pub(super) fn drop_register(&mut self, held: &Snapshot<K, V>, why: RemovalCause) {
        let (stamp, dot) = (self.stamp_of(&held.meta), self.dot_of(&held.meta));
        self.raise_floor_for(held.meta.kind, stamp, dot);
        self.note_dropped(dot);
        self.erase(held, why);
    }

    /// Notes that a dot was removed without a trace.
    pub(super) fn note_dropped(&mut self, dot: Dot) {
        self.dropped.raise(dot.actor, dot.counter);
        self.abort_sessions_hiding(dot);
    }

    /// Turns what a key holds into a tombstone with the same stamp and dot.
    pub(super) fn bury(&mut self, held: &Snapshot<K, V>, cause: Cause, why: RemovalCause) -> SlotRef {
        let marker = Marker { kind: Kind::Tombstone(cause), ..self.marker_of(&held.meta) };
        self.place(Some(held), self.tombstone_for(held, marker), why)
    }

    /// The register without its body under another marker.
    pub(super) fn tombstone_for(&self, held: &Snapshot<K, V>, marker: Marker) -> Placing<K, V> {
        let Meta { expires, size, learnt, .. } = held.meta;
        let item = without_body(&held.item);
        Placing { hash: held.hash, marker, expires, size: size.min(64), weight: 0, learnt, item }
    }

    /// Gives a register another dot of our own: same value, same stamp.
    pub(super) fn reissue(&mut self, now: Now, held: &Snapshot<K, V>) -> SlotRef {
        let marker = Marker { dot: self.issue_dot(now), ..self.marker_of(&held.meta) };
        if held.meta.retained {
            return self.place_retained(held, marker);
        }
        let Meta { expires, size, weight, learnt, .. } = held.meta;
        let placing =
            Placing { hash: held.hash, marker, expires, size, weight, learnt, item: ItemRef::clone(&held.item) };
        self.place(Some(held), placing, RemovalCause::Replaced)
    }

    /// Compacts the logs of origins that write no more as well.
    pub(super) fn compact_bloated_logs(&mut self) {
        let bloated = self.logs.iter().filter(|(_, log)| log.is_bloated()).map(|(origin, _)| *origin);
        bloated.collect::<Vec<_>>().into_iter().for_each(|origin| self.compact_log_if_bloated(origin));
    }

    /// Drops stale log entries once they are most of a log.
    fn compact_log_if_bloated(&mut self, origin: ReplicaId) {
        if !self.logs.get(&origin).is_some_and(OriginLog::is_bloated) {
            return;
        }
        let Some(mut log) = self.logs.remove(&origin) else { return };
        let own = origin == self.id;
        let (mut barrier, mut compacted) = (self.push_barrier, self.compacted);
        log.compact(|time, slot| {
            let dot = self.store.meta(slot).map(|meta| self.dot_of(&meta));
            let current = dot == Some(Dot::new(origin, time));
            match dot {
                _ if current || !own => {}
                // Its successor is ours: a push may claim past it only together with that.
                Some(dot) if dot.actor == origin => compacted = compacted.max(time),
                // Overtaken by another replica, or gone: a push must not claim past it unseen.
                _ => barrier = barrier.max(time),
            }
            current
        });
        (self.push_barrier, self.compacted) = (barrier, compacted);
        self.logs.insert(origin, log);
    }
}
