//! How an entry of another replica joins what is here.

use super::bound::FillBound;
use super::fill_bound::contester;
use super::message::Entry;
use super::place::Placing;
use super::{CoreKey, RemovalCause, Replica};
use crate::crdt::register::{Side, join};
use crate::crdt::{Cause, Kind, Marker};
use crate::hlc::{Now, Stamp};
use crate::item::{ItemRef, without_body};
use crate::store::{Meta, SlotRef, Snapshot};

/// What came of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merged {
    /// The register is now (also) the entry's.
    Placed(SlotRef),
    /// A void of our own stands in its place.
    Voided,
    /// What was here is newer.
    Lost,
    /// Its dot had been seen.
    Seen,
    /// It lies at or below the epoch.
    Expunged,
    /// It comes from the future and waits, or will be offered again.
    Deferred,
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Merges one entry, which is [set aside](Self::set_aside). See "Merging an entry" in the protocol.
    pub(super) fn merge_entry(&mut self, now: Now, entry: Entry<K, V>, bound: Option<&FillBound>) -> Merged {
        let contester = contester(&entry);
        if entry.stamp().time <= self.store.epoch() && !self.bugs.epoch_only_sweeps {
            self.counters.skipped_by_epoch += 1;
            self.note_skipped(&entry, self.store.epoch());
            self.contest_fills(now, contester);
            return Merged::Expunged;
        }
        let held = self.find(entry.hash, &entry.item.key);
        if self.vector.covers(&entry.dot()) && !self.reinserts(held.as_ref()) {
            self.counters.seen += 1;
            // It may have been claimed by a replica on which it had lost, and be new to us all the same.
            let winner = held.as_ref().map_or(self.highest_floor(), |held| self.stamp_of(&held.meta));
            self.note_beaten(&entry, winner);
            self.contest_fills(now, contester);
            return Merged::Seen;
        }
        if entry.dot().actor == self.id {
            // Not ours, whoever says so: our own pushes would claim it to others, and never bring it.
            self.note_twin(now, entry.dot().counter);
            return Merged::Seen;
        }
        if self.is_from_the_future(now, &entry) {
            self.defer(now, entry, bound.is_some());
            return Merged::Deferred;
        }
        self.clock.observe(entry.stamp().time.max(entry.dot().counter));
        let entry = Self::expired_on_arrival(now, entry);
        let merged = match bound {
            Some(bound) => self.merge_bounded(now, held, entry, bound),
            None => self.merge_plain(now, held, entry),
        };
        self.contest_fills(now, contester);
        merged
    }

    fn merge_plain(&mut self, now: Now, held: Option<Snapshot<K, V>>, entry: Entry<K, V>) -> Merged {
        match held {
            None => self.merge_into_nothing(now, entry),
            Some(held) => self.merge_into(now, &held, entry),
        }
    }

    /// Merges a fill that was stamped above something young.
    fn merge_bounded(
        &mut self,
        now: Now,
        held: Option<Snapshot<K, V>>,
        entry: Entry<K, V>,
        bound: &FillBound,
    ) -> Merged {
        let (hash, fill) = (entry.hash, entry.stamp());
        let found = held.as_ref().map(|held| self.stamp_of(&held.meta));
        // Where something is held, that decides, and no floor.
        let wins = found.map_or(fill > self.highest_floor(), |found| found <= fill);
        let write = held.as_ref().and_then(|held| self.write_of(held));
        let contested = || {
            self.is_contested(hash, write, fill, bound)
                || self.is_contested_by_evicted(fill, bound)
                || (found != Some(fill) && self.is_late(fill, bound))
        };
        if wins && entry.kind().ranks_live() && contested() {
            self.void_contested(now, held.as_ref(), &entry);
            return Merged::Voided;
        }
        let merged = self.merge_plain(now, held, entry);
        if let Merged::Placed(slot) = merged
            && self.store.meta(slot).is_some_and(|meta| self.stamp_of(&meta) == fill)
        {
            self.note_bound(hash, fill, slot, bound);
        }
        merged
    }

    /// A value that arrives after its time is a tombstone from the start: no reader ever sees it.
    fn expired_on_arrival(now: Now, entry: Entry<K, V>) -> Entry<K, V> {
        if !entry.kind().is_live() || entry.expires == 0 || entry.expires > now.wall {
            return entry;
        }
        let marker = Marker { kind: Kind::Tombstone(Cause::Expired), ..entry.marker };
        let item = without_body(&entry.item);
        Entry { marker, item, size: entry.size.min(64), weight: 0, ..entry }
    }

    fn reinserts(&self, held: Option<&Snapshot<K, V>>) -> bool {
        self.bugs.reinsert_seen && held.is_none_or(|held| !held.meta.kind.is_live())
    }

    fn merge_into_nothing(&mut self, now: Now, entry: Entry<K, V>) -> Merged {
        let reinserted = self.bugs.reinsert_seen && self.vector.covers(&entry.dot());
        // Below both floors it may have been evicted here just as well as deleted, so others are left to judge.
        if entry.stamp() > self.floor || entry.stamp() <= self.eviction_floor() || reinserted {
            self.counters.merged += 1;
            return Merged::Placed(self.place_joined(now, None, entry));
        }
        // Something we already collected may have overwritten or deleted it.
        if !entry.kind().is_live() {
            if self.bugs.tombstone_below_floor_merged {
                self.counters.merged += 1;
                return Merged::Placed(self.place_joined(now, None, entry));
            }
            if self.bugs.tombstone_below_floor_dropped {
                return Merged::Lost;
            }
        }
        self.counters.voided += 1;
        self.note_skipped(&entry, self.floor.time);
        let stamp = if self.bugs.void_keeps_stamp { entry.stamp() } else { self.floor };
        self.place_void(now, None, &entry, stamp);
        Merged::Voided
    }

    pub(super) fn place_void(&mut self, now: Now, held: Option<&Snapshot<K, V>>, entry: &Entry<K, V>, stamp: Stamp) {
        let dot = self.issue_dot(now);
        let item = without_body(&entry.item);
        let marker = Marker { stamp, kind: Kind::Tombstone(Cause::Void), dot };
        let learnt = self.learnt(now, self.path);
        let placing =
            Placing { hash: entry.hash, marker, expires: 0, size: entry.size.min(64), weight: 0, learnt, item };
        self.place(held, placing, RemovalCause::Void);
    }

    /// Voids a register that is here, at `stamp`.
    pub(super) fn void_held(&mut self, now: Now, held: &Snapshot<K, V>, stamp: Stamp) {
        let marker = Marker { stamp, kind: Kind::Tombstone(Cause::Void), dot: self.issue_dot(now) };
        let learnt = self.learnt(now, self.path);
        let placing = self.tombstone_for(held, marker);
        self.place(Some(held), Placing { expires: 0, learnt, ..placing }, RemovalCause::Void);
    }

    fn merge_into(&mut self, now: Now, held: &Snapshot<K, V>, entry: Entry<K, V>) -> Merged {
        let expired = self.expired_before(now, held);
        let held = expired.as_ref().unwrap_or(held);
        let ours = self.marker_of(&held.meta);
        let joined = join(ours, entry.marker);
        if ours.dot == entry.marker.dot && ours.stamp != entry.marker.stamp {
            self.counters.conflicts += 1;
        }
        let in_doubt = self.below_eviction.is_in_doubt(held.slot);
        if joined.changed && in_doubt && entry.stamp() <= self.floor && entry.stamp() > self.eviction_floor() {
            // What is held in doubt is as good as nothing: a tombstone that was collected may be newer.
            self.counters.voided += 1;
            self.place_void(now, Some(held), &entry, self.floor);
            return Merged::Voided;
        }
        if !joined.changed {
            self.counters.lost += 1;
            self.note_beaten(&entry, ours.stamp);
            // An equal dot is the same event again: it is here, and to be claimed like a new one.
            return if ours.dot == entry.marker.dot { Merged::Placed(held.slot) } else { Merged::Lost };
        }
        self.counters.merged += 1;
        Merged::Placed(match joined.body {
            Side::Offered => self.place_joined(now, Some(held), Entry { marker: joined.marker, ..entry }),
            Side::Held => self.keep_body(now, held, joined.marker),
        })
    }

    /// Puts a register that keeps its body under the greater dot of the same write.
    fn keep_body(&mut self, now: Now, held: &Snapshot<K, V>, marker: Marker) -> SlotRef {
        let why = removal_cause(marker.kind);
        if held.meta.retained {
            // The same write came without its body, under a greater dot. Members that have seen that dot would skip the
            // body under ours, so it gets a greater one. Once: two replicas could go on like this for ever.
            if held.meta.dot_time != held.meta.stamp_time {
                self.counters.evicted_unsent += 1;
                let placing = self.tombstone_for(held, marker);
                return self.place(Some(held), placing, why);
            }
            let marker = Marker { dot: self.issue_dot(now), ..marker };
            return self.place_retained(held, marker);
        }
        let Meta { expires, size, weight, learnt, .. } = held.meta;
        let item = ItemRef::clone(&held.item);
        self.place(Some(held), Placing { hash: held.hash, marker, expires, size, weight, learnt, item }, why)
    }

    /// Puts an entry that has won in place. What may be older than something evicted here is kept without its value.
    fn place_joined(&mut self, now: Now, held: Option<&Snapshot<K, V>>, mut entry: Entry<K, V>) -> SlotRef {
        if self.may_be_older_than_evicted(held, entry.stamp()) && entry.kind().is_live() {
            self.counters.in_doubt += 1;
            entry.marker.kind = Kind::Tombstone(Cause::Evicted);
            entry = Entry { item: without_body(&entry.item), size: entry.size.min(64), weight: 0, ..entry };
        }
        let why = removal_cause(entry.kind());
        self.place(held, self.placing_of(now, entry), why)
    }

    fn placing_of(&self, now: Now, entry: Entry<K, V>) -> Placing<K, V> {
        let Entry { hash, item, marker, expires, size, weight } = entry;
        Placing { hash, marker, expires, size, weight, learnt: self.learnt(now, self.path), item }
    }
}

fn removal_cause(kind: Kind) -> RemovalCause {
    match kind {
        Kind::Live => RemovalCause::Replaced,
        Kind::Tombstone(Cause::Deleted) => RemovalCause::Explicit,
        Kind::Tombstone(Cause::Expired) => RemovalCause::Expired,
        Kind::Tombstone(Cause::Evicted) => RemovalCause::Size,
        Kind::Tombstone(Cause::Void) => RemovalCause::Void,
    }
}
