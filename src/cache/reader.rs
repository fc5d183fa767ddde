//! The read path of a cache: registers are found by this process's hash of their key, and filtered by its wall clock.

use std::hash::{BuildHasher, Hash};

use equivalent::Equivalent;
use foldhash::fast::RandomState;

use super::{CacheKey, CacheValue, TimeSource};
use crate::crdt::{Cause, Kind};
use crate::hlc::HlcTime;
use crate::item::Key;
use crate::recency::Miss;
use crate::store::{Reading, SlotRef, Snapshot, Store};
use crate::sync::Arc;

/// The read side of a cache. Changes nothing: the replica is the store's only writer.
pub(super) struct Reader<K, V> {
    store: Arc<Store<K, V>>,
    hasher: RandomState,
    time: Arc<dyn TimeSource>,
}

impl<K: CacheKey, V: CacheValue> Reader<K, V> {
    pub(super) fn new(store: Arc<Store<K, V>>, time: Arc<dyn TimeSource>) -> Self {
        Self { store, hasher: RandomState::default(), time }
    }

    /// Returns the store of all registers, with a value or without.
    pub(super) fn store(&self) -> &Store<K, V> {
        &self.store
    }

    #[inline]
    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Returns the hash of a key that may not decode here.
    pub(super) fn hash_of(&self, key: &Key<K>) -> u64 {
        match key.known() {
            Some(key) => self.hash(key),
            None => self.hash(key.opaque()),
        }
    }

    /// Returns the register of a key, with a value or without.
    #[inline]
    pub(super) fn read<Q>(&self, key: &Q) -> Option<Reading<K, V>>
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        self.store.read(self.hash(key), key)
    }

    /// Returns true if a register holds a value that has not expired. That value may be one that does not decode here.
    #[inline]
    pub(super) fn shows(&self, found: &Reading<K, V>) -> bool {
        found.live && self.is_fresh(found.expires)
    }

    /// Returns the register of a key, if it holds a value that has not expired. That value may be one that does not
    /// decode here.
    #[inline]
    pub(super) fn visible<Q>(&self, key: &Q) -> Option<Reading<K, V>>
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        self.read(key).filter(|found| self.shows(found))
    }

    /// Returns true if [`Cache::get`](super::Cache::get) returns this register's value. A value that does not decode
    /// here counts as absent, in every call.
    pub(super) fn is_readable(&self, found: &Snapshot<K, V>) -> bool {
        self.is_visible(found) && found.item.value().is_some()
    }

    /// Returns true if the register holds a value that has not expired. That value may be one that does not decode
    /// here.
    pub(super) fn is_visible(&self, found: &Snapshot<K, V>) -> bool {
        let meta = &found.meta;
        // A value at or below the epoch was invalidated, even if the sweep has not reached it yet.
        meta.kind.is_live() && meta.stamp_time > self.store.epoch() && self.is_fresh(meta.expires)
    }

    /// Returns the reason why readers see no value in this register. A value that is there after all has arrived since.
    pub(super) fn why_absent(&self, found: &Snapshot<K, V>) -> Miss {
        let meta = &found.meta;
        match meta.kind {
            _ if meta.stamp_time <= self.store.epoch() => Miss::Invalidated,
            Kind::Live if !self.is_fresh(meta.expires) => Miss::Expired,
            Kind::Live if found.item.value().is_none() => Miss::Unreadable,
            Kind::Live => Miss::Absent,
            Kind::Tombstone(Cause::Deleted) => Miss::Deleted,
            Kind::Tombstone(Cause::Expired) => Miss::Expired,
            Kind::Tombstone(Cause::Evicted) => Miss::Evicted,
            Kind::Tombstone(Cause::Void) => Miss::Void,
        }
    }

    #[inline]
    fn is_fresh(&self, expires: HlcTime) -> bool {
        expires == 0 || expires > self.time.wall()
    }

    /// Returns the register in a place, if readers see its value.
    pub(super) fn readable_at(&self, place: SlotRef) -> Option<Snapshot<K, V>> {
        self.store.resolve(place).filter(|found| self.is_readable(found))
    }
}
