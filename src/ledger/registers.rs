//! The registers and every index over them. Only this code changes a register: it updates the table, logs, counts and
//! change stream together.

use super::below_eviction::BelowEviction;
use super::changes::{Change, Changes, Effect, RemovalCause};
use super::contests::Contests;
use super::direct::DirectNote;
use super::expiry::ExpiryIndex;
use super::invalidations::Invalidations;
use super::log::Logs;
use super::origins::Origins;
use super::placing::Placing;
use super::tombstones::{Retained, Tombstones};
use crate::crdt::{Cause, Dot, Kind, Marker};
use crate::env::Env;
use crate::hlc::{HlcTime, Stamp};
use crate::item::{CoreKey, ItemRef, Key};
use crate::members::StableCut;
use crate::message::bound::is_of_fill;
use crate::message::{Entry, FillNote};
use crate::replica_id::ReplicaId;
use crate::store::{Meta, SlotRef, Snapshot, Store};
use crate::sync::Arc;

/// The item that a key held, and the item that it holds now.
type BeforeAndAfter<'a, K, V> = (Option<&'a ItemRef<K, V>>, Option<ItemRef<K, V>>);

/// Displaced items, kept until the caller has released its lock: dropping them runs code of user types.
pub(crate) type Garbage<K, V> = smallvec::SmallVec<[ItemRef<K, V>; 2]>;

/// The number and total weight of the live values, and the number of those that expire.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Values {
    pub(crate) live: u64,
    pub(crate) weight: u64,
    pub(crate) expiring: u64,
}

/// The held registers, and every index over them.
pub(crate) struct Registers<K, V> {
    /// The id of this replica.
    id: ReplicaId,
    table: Arc<Store<K, V>>,
    origins: Origins,
    pub(super) logs: Logs,
    pub(super) tombstones: Tombstones,
    pub(super) retained: Retained,
    pub(super) expiry: ExpiryIndex,
    pub(super) below_eviction: BelowEviction,
    pub(super) contests: Contests,
    pub(super) changes: Changes<K, V>,
    invalidations: Invalidations,
    values: Values,
    /// The number of this replica's own id, once a direct write needed it.
    own_origin: Option<u32>,
    garbage: Garbage<K, V>,
}

impl<K: CoreKey, V> Registers<K, V> {
    pub(super) fn new(env: &Env) -> Self {
        Self {
            id: env.id,
            table: Arc::new(Store::new()),
            origins: Origins::default(),
            logs: Logs::default(),
            tombstones: Tombstones::default(),
            retained: Retained::default(),
            expiry: ExpiryIndex::default(),
            below_eviction: BelowEviction::default(),
            contests: Contests::new(env.max_drift()),
            changes: Changes::default(),
            invalidations: Invalidations::default(),
            values: Values::default(),
            own_origin: None,
            garbage: Garbage::new(),
        }
    }

    /// Takes over the state that outlives a change of the replica id: the table that readers share, the contests, the
    /// change stream and the displaced items.
    pub(super) fn take_over(&mut self, before: &mut Self) {
        self.table = Arc::clone(&before.table);
        self.contests = std::mem::take(&mut before.contests);
        self.invalidations = std::mem::take(&mut before.invalidations);
        std::mem::swap(&mut self.changes, &mut before.changes);
        std::mem::swap(&mut self.garbage, &mut before.garbage);
    }

    /// Returns the table that readers share.
    pub(crate) fn table(&self) -> &Arc<Store<K, V>> {
        &self.table
    }

    /// Raises the epoch: registers stamped at or below it count as absent from now on.
    pub(super) fn raise_epoch(&mut self, epoch: HlcTime, wall: HlcTime) {
        self.table.raise_epoch(epoch);
        self.invalidations.note(epoch, wall);
    }

    /// Notes that no register at or below the epoch is left.
    pub(super) fn note_swept(&mut self) {
        self.invalidations = Invalidations::default();
    }

    pub(crate) fn values(&self) -> Values {
        self.values
    }

    /// Returns the number of replica ids that registers refer to.
    pub(crate) fn origin_len(&self) -> usize {
        self.origins.len()
    }

    /// Returns the register of a key.
    pub(crate) fn find(&self, hash: u64, key: &Key<K>) -> Option<Snapshot<K, V>> {
        self.table.find_by(hash, |other| other == key)
    }

    pub(crate) fn stamp_of(&self, meta: &Meta) -> Stamp {
        Stamp::new(meta.stamp_time, self.origins.id(meta.stamp_replica))
    }

    pub(crate) fn dot_of(&self, meta: &Meta) -> Dot {
        Dot::new(self.origins.id(meta.dot_origin), meta.dot_time)
    }

    pub(crate) fn marker_of(&self, meta: &Meta) -> Marker {
        Marker { stamp: self.stamp_of(meta), kind: meta.kind, dot: self.dot_of(meta) }
    }

    /// Returns the marker of a register, if it has not changed since the snapshot `seen`.
    pub(crate) fn marker_if_unchanged(&self, seen: &Snapshot<K, V>) -> Option<Marker> {
        let held = self.table.meta(seen.slot)?;
        (held == seen.meta).then(|| self.marker_of(&held))
    }

    /// Returns the register in this place, if it has this dot.
    pub(crate) fn holder(&self, dot: Dot, slot: SlotRef) -> Option<Snapshot<K, V>> {
        self.table.resolve(slot).filter(|held| self.dot_of(&held.meta) == dot)
    }

    /// Returns the dot of the register that is in this place now.
    pub(crate) fn dot_at(&self, slot: SlotRef) -> Option<Dot> {
        self.table.meta(slot).map(|meta| self.dot_of(&meta))
    }

    /// Forgets bounds and lost stamps that are no longer needed. Returns the time up to which lost stamps are
    /// forgotten.
    pub(super) fn prune_contests(&mut self, env: &Env, cut: &StableCut, memberless_at: Option<HlcTime>) -> HlcTime {
        let Self { contests, table, origins, .. } = self;
        let is_seen = |slot: SlotRef, fill: Stamp| {
            let held = table.meta(slot).filter(|held| {
                Stamp::new(held.stamp_time, origins.id(held.stamp_replica)) == fill && !env.bugs().bounds_dropped_unseen
            });
            held.is_none_or(|held| cut.has_been_seen(Dot::new(origins.id(held.dot_origin), held.dot_time)))
        };
        contests.prune(cut.watermark, memberless_at, is_seen)
    }

    /// Returns true if readers can see this value, ignoring its time to live.
    pub(crate) fn is_readable(&self, meta: &Meta) -> bool {
        meta.kind.is_live() && meta.stamp_time > self.table.epoch()
    }

    /// Returns the number of remembered fills and of keys with remembered stamps. A key counts once for stamps that
    /// lost and once for unmerged stamps.
    pub(crate) fn contested_len(&self) -> usize {
        self.contests.len()
    }

    /// Returns the stamp of a register by which it may contest fills. Returns `None` for a void, which is no write.
    pub(super) fn contesting_stamp(&self, held: &Snapshot<K, V>) -> Option<Stamp> {
        (held.meta.kind != Kind::Tombstone(Cause::Void)).then(|| self.stamp_of(&held.meta))
    }

    /// Returns the register in a place in the form sent to other replicas, if it still has this dot. A retained body is
    /// sent as a value.
    pub(crate) fn entry_at(&self, dot: Dot, slot: SlotRef) -> Option<(Entry<K, V>, Snapshot<K, V>)> {
        let held = self.table.resolve(slot)?;
        let mut marker = self.marker_of(&held.meta);
        if marker.dot != dot {
            return None;
        }
        if held.meta.retained {
            marker.kind = Kind::Live;
        }
        debug_assert!(marker.kind.is_live() != held.item.body.is_absent());
        let (hash, item) = (held.hash, ItemRef::clone(&held.item));
        let Meta { expires, size, weight, .. } = held.meta;
        Some((Entry { hash, item, marker, expires, size, weight }, held))
    }

    /// Returns the bounds of the fills among these entries.
    pub(crate) fn fill_notes(&self, entries: &[Entry<K, V>]) -> Vec<FillNote> {
        if self.contests.len() == 0 {
            return Vec::new();
        }
        let note = |entry: &Entry<K, V>| self.contests.note_of(entry.hash, entry.stamp(), entry.dot().counter);
        entries.iter().filter_map(note).collect()
    }

    /// Places a register in the place of the held one, or in a new place. If a newer value may have been evicted, marks
    /// a register without a value as in doubt. In that case `Merge::place_joined` has already replaced an arriving
    /// value by a tombstone.
    pub(super) fn place(&mut self, held: Option<&Snapshot<K, V>>, new: Placing<K, V>, why: RemovalCause) -> SlotRef {
        self.place_with(held, new, why, false)
    }

    /// Places a register as [`place`](Self::place) does. If `void_counts_as_write` is true, a known mistake is put
    /// back: a void is taken for a write of the replica that its stamp names.
    pub(super) fn place_with(
        &mut self,
        held: Option<&Snapshot<K, V>>,
        new: Placing<K, V>,
        why: RemovalCause,
        void_counts_as_write: bool,
    ) -> SlotRef {
        let meta = self.meta_of(&new);
        let Placing { hash, marker, item, .. } = new;
        let in_doubt = !meta.kind.is_live() && self.may_be_older_than_evicted(held, marker.stamp);
        let slot = match held {
            Some(held) => self.replace(held, meta, marker, item, why, void_counts_as_write),
            None => self.add(hash, meta, marker, item),
        };
        if in_doubt {
            self.below_eviction.note_doubt(slot);
        }
        slot
    }

    /// Returns true if a register that is placed here with this stamp may be older than a value evicted here.
    pub(super) fn may_be_older_than_evicted(&self, held: Option<&Snapshot<K, V>>, stamp: Stamp) -> bool {
        stamp <= self.below_eviction.floor() && held.is_none_or(|held| self.below_eviction.is_in_doubt(held.slot))
    }

    fn add(&mut self, hash: u64, meta: Meta, marker: Marker, item: ItemRef<K, V>) -> SlotRef {
        let after = self.changes.is_watched().then(|| ItemRef::clone(&item));
        let slot = self.table.insert(hash, meta, item);
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
        void_counts_as_write: bool,
    ) -> SlotRef {
        let after = self.changes.is_watched().then(|| ItemRef::clone(&item));
        // A later write of the same replica beats or contests every fill that the earlier one contests, so the earlier
        // stamp need not be remembered. Fills and voids contest nothing, so a stamp that they replace is remembered.
        // The stamp of a void may also be a floor's, which is that of a register of any key.
        let is_void = marker.kind == Kind::Tombstone(Cause::Void) && !void_counts_as_write;
        if held.meta.stamp_replica != meta.stamp_replica || is_of_fill(marker.stamp) || is_void {
            self.note_lost(held, meta.stamp_time);
        }
        self.note_invalidated(held);
        // A register that only loses its body keeps its dot, and so its log entry. It is not appended again.
        let same_dot = self.dot_of(&held.meta) == marker.dot;
        self.unindex(held.slot, &held.meta, same_dot);
        self.table.replace(held.slot, meta, item).into_iter().for_each(|item| self.garbage.push(item));
        self.index(held.slot, &meta, marker.dot, same_dot);
        let effect = match (self.is_readable(&held.meta), self.is_readable(&meta)) {
            (false, true) => Effect::Inserted,
            // The same write under a new dot: readers see no change.
            (true, true) if self.stamp_of(&held.meta) == marker.stamp => return held.slot,
            (true, true) => Effect::Updated,
            (true, false) => Effect::Removed(why),
            (false, false) => return held.slot,
        };
        self.note_change(held.slot, meta.weight, effect, (Some(&held.item), after), marker);
        held.slot
    }

    /// Places an own write. Returns the register that it replaces. If that was a value whose time to live is over,
    /// returns its `Expired` tombstone. If no register has the hash of the key, the table is searched only once.
    pub(super) fn place_own(&mut self, env: &mut Env, new: Placing<K, V>) -> Option<Snapshot<K, V>> {
        let meta = self.meta_of(&new);
        let Placing { hash, marker, item, .. } = new;
        let after = self.changes.is_watched().then(|| ItemRef::clone(&item));
        let (item, found) = match self.table.insert_if_new(hash, item, || meta) {
            Ok((slot, _)) => {
                self.note_placed(slot, &meta, marker, after);
                return None;
            }
            Err(found) => found,
        };
        let is_same = found.hash == hash && found.item.key == item.key;
        let held = if is_same { Some(found) } else { self.find(hash, &item.key) };
        let held = held.map(|held| self.expired_before(env, &held).unwrap_or(held));
        match &held {
            Some(held) => self.replace(held, meta, marker, item, RemovalCause::Explicit, false),
            None => self.add(hash, meta, marker, item),
        };
        held
    }

    /// Returns the number of this replica's own id, for registers of its direct writes. It stays in use for ever.
    pub(super) fn own_origin(&mut self) -> u32 {
        let Self { origins, id, own_origin, .. } = self;
        *own_origin.get_or_insert_with(|| origins.acquire(*id))
    }

    /// Enters a direct write into the indexes, as [`place_own`](Self::place_own) does with other own writes.
    pub(super) fn absorb(&mut self, note: &DirectNote) {
        let DirectNote { slot, hash, ref before, ref after } = *note;
        let marker = self.marker_of(after);
        // One reference for the stamp, and one for the dot.
        self.origins.acquire(self.id);
        self.origins.acquire(self.id);
        if let Some(before) = before {
            if before.stamp_replica != after.stamp_replica {
                self.contests.note_loser(hash, self.stamp_of(before), after.stamp_time);
            }
            self.unindex(slot, before, false);
        }
        self.index(slot, after, marker.dot, false);
        let effect = before.map_or(Effect::Inserted, |_| Effect::Updated);
        self.note_change(slot, after.weight, effect, (None, None), marker);
    }

    /// Expires the held value if its time to live is over, so that the change stream reports the expiry before the
    /// overwrite. Returns the expired register in that case.
    pub(super) fn expired_before(&mut self, env: &mut Env, held: &Snapshot<K, V>) -> Option<Snapshot<K, V>> {
        if !held.meta.kind.is_live() || !held.meta.is_expired_by(env.now.wall) {
            return None;
        }
        let slot = self.make_expired(env, held);
        self.table.resolve(slot)
    }

    pub(super) fn make_expired(&mut self, env: &mut Env, held: &Snapshot<K, V>) -> SlotRef {
        env.counters.expired += 1;
        self.make_tombstone(held, Cause::Expired, RemovalCause::Expired)
    }

    /// Returns the table's record of a register. Adds a reference to its replica ids.
    fn meta_of(&mut self, new: &Placing<K, V>) -> Meta {
        let Placing { marker, expires, size, weight, arrival, .. } = *new;
        Meta {
            stamp_time: marker.stamp.time,
            dot_time: marker.dot.counter,
            stamp_replica: self.origins.acquire(marker.stamp.replica),
            dot_origin: self.origins.acquire(marker.dot.actor),
            expires,
            size,
            weight,
            arrival,
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

    fn note_change(
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

    /// Reports the removal of a value that the epoch made absent. It is reported once, when its register is removed or
    /// replaced.
    fn note_invalidated(&mut self, held: &Snapshot<K, V>) {
        if !held.meta.kind.is_live() || self.is_readable(&held.meta) {
            return;
        }
        let marker = self.marker_of(&held.meta);
        let effect = Effect::Removed(self.invalidations.cause_of(&held.meta));
        self.note_change(held.slot, 0, effect, (Some(&held.item), None), marker);
    }

    /// Remembers the stamp of a removed or replaced register, which may contest a fill. `winner` is the time of the
    /// register or epoch that beat it, or its own time if none did.
    pub(super) fn note_lost(&mut self, held: &Snapshot<K, V>, winner: HlcTime) {
        if let Some(loser) = self.contesting_stamp(held) {
            self.contests.note_loser(held.hash, loser, winner);
        }
    }

    /// Enters a register that was placed into the indexes.
    fn index(&mut self, slot: SlotRef, meta: &Meta, dot: Dot, logged: bool) {
        let bloated = !logged && self.logs.append(dot, slot);
        if meta.kind.is_live() {
            self.values.live += 1;
            self.values.weight += u64::from(meta.weight);
            if meta.expires != 0 {
                self.values.expiring += 1;
                self.expiry.add(meta.expires, slot);
            }
        } else {
            self.tombstones.add(meta, slot);
        }
        if bloated {
            self.compact_log(dot.actor);
        }
    }

    /// Takes a register that was replaced or removed out of the indexes.
    fn unindex(&mut self, slot: SlotRef, meta: &Meta, stays_logged: bool) {
        self.below_eviction.forget(slot);
        if !stays_logged {
            self.logs.note_stale(&self.origins.id(meta.dot_origin));
        }
        if meta.kind.is_live() {
            self.values.live -= 1;
            self.values.weight -= u64::from(meta.weight);
            self.values.expiring -= u64::from(meta.expires != 0);
        } else {
            self.tombstones.remove(meta, slot);
        }
        if meta.retained {
            self.retained.release(meta.size);
        }
        self.origins.release(meta.stamp_replica);
        self.origins.release(meta.dot_origin);
    }

    /// Removes a register without a tombstone. The caller raises floor and dropped vector, or knows why not. A value
    /// whose time to live is over is reported as expired: readers no longer saw it.
    pub(super) fn erase(&mut self, slot: SlotRef, meta: &Meta, why: RemovalCause) {
        let (is_readable, marker) = (self.is_readable(meta), self.marker_of(meta));
        self.unindex(slot, meta, false);
        let item = self.table.remove(slot);
        if meta.kind.is_live() {
            let why = if meta.is_expired_by(self.changes.wall) { RemovalCause::Expired } else { why };
            let why = if is_readable { why } else { self.invalidations.cause_of(meta) };
            self.note_change(slot, 0, Effect::Removed(why), (item.as_ref(), None), marker);
        }
        item.into_iter().for_each(|item| self.garbage.push(item));
    }

    /// Replaces a register with a tombstone of the same stamp and dot.
    pub(super) fn make_tombstone(&mut self, held: &Snapshot<K, V>, cause: Cause, why: RemovalCause) -> SlotRef {
        let marker = Marker { kind: Kind::Tombstone(cause), ..self.marker_of(&held.meta) };
        self.place(Some(held), Placing::without_body(held, marker), why)
    }

    /// Gives a register a new dot, with the same value and stamp.
    pub(super) fn reissue(&mut self, held: &Snapshot<K, V>, dot: Dot) -> SlotRef {
        let marker = Marker { dot, ..self.marker_of(&held.meta) };
        if held.meta.retained {
            return self.place_retained(held, marker);
        }
        self.place(Some(held), Placing::same_body(held, marker), RemovalCause::Replaced)
    }

    /// Keeps the held body for sending only. Places it under `marker`, an `Evicted` marker with an own dot, and sets
    /// `retained`. Readers miss it.
    pub(super) fn place_retained(&mut self, held: &Snapshot<K, V>, marker: Marker) -> SlotRef {
        let placing = Placing { weight: 0, ..Placing::same_body(held, marker) };
        let slot = self.place(Some(held), placing, RemovalCause::Size);
        if let Some(meta) = self.table.meta(slot) {
            self.table.set_meta(slot, Meta { retained: true, ..meta });
        }
        self.retained.keep(marker.dot.counter, slot, held.meta.size);
        slot
    }

    /// Compacts the logs that are mostly stale. An append compacts only the log that it extends, so this call also
    /// serves the logs of origins that no longer write.
    pub(super) fn compact_bloated_logs(&mut self) {
        self.logs.bloated().into_iter().for_each(|origin| self.compact_log(origin));
    }

    fn compact_log(&mut self, origin: ReplicaId) {
        let Self { logs, table, origins, id, .. } = self;
        let dot = |meta: Meta| Dot::new(origins.id(meta.dot_origin), meta.dot_time);
        logs.compact(origin, origin == *id, |slot| table.meta(slot).map(dot));
    }

    /// Keeps the items of these entries as displaced items, so that no user type is dropped in this call.
    pub(crate) fn set_aside<'a>(&mut self, entries: impl Iterator<Item = &'a Entry<K, V>>)
    where
        K: 'a,
        V: 'a,
    {
        self.garbage.extend(entries.map(|entry| ItemRef::clone(&entry.item)));
    }

    /// Takes out the displaced items. The caller drops them after releasing its lock.
    pub(crate) fn take_garbage(&mut self) -> Garbage<K, V> {
        std::mem::take(&mut self.garbage)
    }
}
