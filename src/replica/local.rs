//! What the user of this replica does: write, delete, evict.

use super::place::Placing;
use super::wire::Unencodable;
use super::{CoreKey, RemovalCause, Replica};
use crate::crdt::{Cause, Dot, Kind, Marker};
use crate::hlc::{HlcTime, Now, Stamp};
use crate::item::{ItemRef, Key};
use crate::learnt::LearntBy;
use crate::store::{Meta, SlotRef, Snapshot};

/// A write or a delete, ready to be stamped.
#[derive(Debug)]
pub struct Write<K, V> {
    /// This process's hash of the key.
    pub hash: u64,
    /// Key and value; a body of `Absent` is a delete.
    pub item: ItemRef<K, V>,
    /// Absolute wall time after which the value is expired; zero is never.
    pub expires: HlcTime,
    /// Bytes of the encoded key and value.
    pub size: u32,
    /// What the user's weigher says.
    pub weight: u32,
}

/// What a delete took away, and when it would have expired.
pub type Removed<K, V> = (ItemRef<K, V>, HlcTime);

/// What an eviction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// The register was stable and is gone.
    Gone,
    /// An `Evicted` tombstone stands for it.
    Tombstone,
    /// There was no value.
    Nothing,
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Writes a value. Every replica will have it, or something newer.
    pub fn write(&mut self, now: Now, write: Write<K, V>) -> Stamp {
        self.put(now, write, Kind::Live).0
    }

    /// Deletes a key, also one never heard of: the write may still be on its way. Returns the stamp
    /// of the delete, and the register it replaced if that was a readable value.
    pub fn delete(&mut self, now: Now, write: Write<K, V>) -> (Stamp, Option<Removed<K, V>>) {
        if self.bugs.delete_unknown_is_noop && self.find(write.hash, &write.item.key).is_none() {
            return (Stamp::ZERO, None);
        }
        let (stamp, held) = self.put(now, write, Kind::Tombstone(Cause::Deleted));
        let readable = held.filter(|held| self.is_readable(&held.meta));
        (stamp, readable.map(|held| (held.item, held.meta.expires)))
    }

    fn put(&mut self, now: Now, write: Write<K, V>, kind: Kind) -> (Stamp, Option<Snapshot<K, V>>) {
        let Write { hash, item, expires, size, weight } = write;
        let dot = self.issue_dot(now);
        let stamp = Stamp::new(dot.counter, self.id);
        let learnt = self.learnt(now, LearntBy::Written);
        let placing = Placing { hash, marker: Marker { stamp, kind, dot }, expires, size, weight, learnt, item };
        let held = self.place_own(now, placing);
        self.counters.writes += 1;
        self.enforce_tombstone_cap();
        (stamp, held)
    }

    /// Gives up a register that can no longer be told to anybody, if it is still there: a value becomes a `Void` tombstone, so that no
    /// replica keeps what it overwrote; what has a key that cannot be told goes without a trace.
    pub(crate) fn give_up(&mut self, now: Now, hash: u64, key: &Key<K>, dot: Dot, what: Unencodable) -> bool {
        let held = self.find(hash, key).filter(|held| self.dot_of(&held.meta) == dot);
        let Some(held) = held else { return false };
        match what {
            Unencodable::Value => {
                // It was written, and a void contests no fill.
                self.note_lost(&held, held.meta.stamp_time);
                self.void_held(now, &held, self.stamp_of(&held.meta));
            }
            Unencodable::Key => {
                self.lossy = true;
                self.drop_register(&held, RemovalCause::Void);
            }
        }
        self.enforce_tombstone_cap();
        true
    }

    /// Gives up the value in a place to stay within capacity. Local: other replicas keep theirs.
    pub(crate) fn evict(&mut self, now: Now, slot: SlotRef) -> Evicted {
        let Some(held) = self.store.resolve(slot).filter(|held| held.meta.kind.is_live()) else {
            return Evicted::Nothing;
        };
        self.lossy = true;
        if self.bugs.evict_without_tombstone {
            self.erase(&held, RemovalCause::Size);
            return Evicted::Gone;
        }
        if self.may_evict_without_trace(now, &held) {
            self.counters.evicted_stable += 1;
            self.note_evicted(self.stamp_of(&held.meta));
            self.drop_register(&held, RemovalCause::Size);
            return Evicted::Gone;
        }
        self.counters.evicted_unstable += 1;
        if self.is_unsent(&held.meta) {
            self.retain(&held);
        } else {
            self.bury(&held, Cause::Evicted, RemovalCause::Size);
        }
        self.enforce_tombstone_cap();
        Evicted::Tombstone
    }

    /// Evicts an own write for readers and keeps its body until every live member has reported it.
    fn retain(&mut self, held: &Snapshot<K, V>) {
        let size = held.meta.size as usize;
        if self.retained_bytes + size > self.config.max_retained_bytes {
            self.counters.evicted_unsent += 1;
            self.bury(held, Cause::Evicted, RemovalCause::Size);
            return;
        }
        let marker = Marker { kind: Kind::Tombstone(Cause::Evicted), ..self.marker_of(&held.meta) };
        self.place_retained(held, marker);
    }

    /// Puts the body that is held under a marker with a dot of our own, invisible to readers and still to be sent.
    pub(super) fn place_retained(&mut self, held: &Snapshot<K, V>, marker: Marker) -> SlotRef {
        let Meta { expires, size, learnt, .. } = held.meta;
        let item = ItemRef::clone(&held.item);
        let placing = Placing { hash: held.hash, marker, expires, size, weight: 0, learnt, item };
        let slot = self.place(Some(held), placing, RemovalCause::Size);
        if let Some(meta) = self.store.meta(slot) {
            self.store.set_meta(slot, Meta { retained: true, ..meta });
        }
        self.retained_bytes += size as usize;
        self.retained.push_back((marker.dot.counter, slot));
        slot
    }

    /// Drops the bodies of evicted own writes that every live member has reported.
    pub(super) fn release_retained(&mut self) {
        let held_by_all = self.held_by_all_live();
        while let Some(&(time, slot)) = self.retained.front().filter(|(time, _)| *time <= held_by_all) {
            self.retained.pop_front();
            let held = self.store.resolve(slot);
            let held = held.filter(|held| held.meta.retained && held.meta.dot_time == time);
            if let Some(held) = held {
                self.bury(&held, Cause::Evicted, RemovalCause::Size);
            }
        }
    }
}
