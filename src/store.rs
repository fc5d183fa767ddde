//! The table that readers share with the one writer.
//!
//! Sharded slabs of registers with a hash index beside each. A reader takes a shard's read lock for
//! the look-up only: it leaves with a counted pointer, and compares keys and clones the value after
//! the lock is gone. The replica is the only writer and takes a shard's write lock for one register
//! at a time. No user code runs under these locks.

use equivalent::Equivalent;
use hashbrown::HashTable;

use crate::crdt::Kind;
use crate::hlc::HlcTime;
use crate::item::{Item, Key};
use crate::learnt::{Learnt, LearntBy};
use crate::sync::{Arc, AtomicU32, AtomicU64, Ordering, RwLock};

const SHARD_BITS: u32 = 6;
const SHARDS: usize = 1 << SHARD_BITS;
const CHUNK: usize = 256;

/// The place of a register, until it is removed; then the place is given to another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId(pub(crate) u32);

impl SlotId {
    fn new(shard: usize, index: usize) -> Self {
        Self(((index as u32) << SHARD_BITS) | shard as u32)
    }

    fn shard(self) -> usize {
        self.0 as usize & (SHARDS - 1)
    }

    fn index(self) -> usize {
        (self.0 >> SHARD_BITS) as usize
    }
}

/// A place together with its generation: says whether the register is still the same key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotRef {
    pub(crate) id: SlotId,
    pub(crate) generation: u32,
}

/// What a slot knows of its register, all but key and value. Replica ids are interned numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) stamp_time: HlcTime,
    pub(crate) dot_time: HlcTime,
    pub(crate) stamp_replica: u32,
    pub(crate) dot_origin: u32,
    /// Wall time after which the value counts as expired; zero is never.
    pub(crate) expires: HlcTime,
    /// Bytes of the encoded key and value.
    pub(crate) size: u32,
    /// What the user's weigher says.
    pub(crate) weight: u32,
    pub(crate) learnt: Learnt,
    pub(crate) kind: Kind,
    /// Evicted here, but the body is kept until every live member was sent it.
    pub(crate) retained: bool,
}

/// Where the path by which it was learnt is kept, in three bits.
const PATH_SHIFT: u32 = 27;

/// Sizes are kept in this many bits; the largest entry that can be written needs fewer.
const SIZE_BITS: u32 = 24;
const SIZE_MASK: u32 = (1 << SIZE_BITS) - 1;
const RETAINED: u32 = 1 << 31;

/// A register, packed so that a look-up touches one cache line of it.
#[repr(align(64))]
struct Slot<K, V> {
    hash: u64,
    item: Arc<Item<K, V>>,
    stamp_time: HlcTime,
    dot_time: HlcTime,
    expires: HlcTime,
    generation: u32,
    stamp_replica: u32,
    dot_origin: u32,
    weight: u32,
    learnt_at: u32,
    /// The size in the low bits, above it the numbers of the kind and of the path by which it was learnt, and at
    /// the top whether the body is retained.
    packed: u32,
}

impl<K, V> Slot<K, V> {
    fn new(hash: u64, generation: u32, meta: Meta, item: Arc<Item<K, V>>) -> Self {
        let Meta { stamp_time, dot_time, stamp_replica, dot_origin, expires, weight, .. } = meta;
        let (packed, learnt_at) = (Self::pack(&meta), meta.learnt.at);
        Self {
            hash,
            item,
            stamp_time,
            dot_time,
            expires,
            generation,
            stamp_replica,
            dot_origin,
            weight,
            learnt_at,
            packed,
        }
    }

    fn pack(meta: &Meta) -> u32 {
        let retained = if meta.retained { RETAINED } else { 0 };
        let (kind, path) = (u32::from(meta.kind.code()), meta.learnt.path as u32);
        meta.size.min(SIZE_MASK) | (kind << SIZE_BITS) | (path << PATH_SHIFT) | retained
    }

    fn kind(&self) -> Kind {
        Kind::from_code((self.packed >> SIZE_BITS) as u8 & 7).unwrap_or(Kind::Live)
    }

    fn learnt(&self) -> Learnt {
        Learnt { at: self.learnt_at, path: LearntBy::from_code((self.packed >> PATH_SHIFT) as u8 & 7) }
    }

    fn meta(&self) -> Meta {
        Meta {
            stamp_time: self.stamp_time,
            dot_time: self.dot_time,
            stamp_replica: self.stamp_replica,
            dot_origin: self.dot_origin,
            expires: self.expires,
            size: self.packed & SIZE_MASK,
            weight: self.weight,
            learnt: self.learnt(),
            kind: self.kind(),
            retained: self.packed & RETAINED != 0,
        }
    }

    fn set_meta(&mut self, meta: Meta) {
        self.stamp_time = meta.stamp_time;
        self.dot_time = meta.dot_time;
        self.stamp_replica = meta.stamp_replica;
        self.dot_origin = meta.dot_origin;
        self.expires = meta.expires;
        self.weight = meta.weight;
        self.learnt_at = meta.learnt.at;
        self.packed = Self::pack(&meta);
    }
}

struct Shard<K, V> {
    index: HashTable<u32>,
    chunks: Vec<Vec<Option<Slot<K, V>>>>,
    free: Vec<u32>,
}

impl<K, V> Shard<K, V> {
    fn slot(&self, index: usize) -> Option<&Slot<K, V>> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)?.as_ref()
    }

    fn slot_mut(&mut self, index: usize) -> Option<&mut Slot<K, V>> {
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)?.as_mut()
    }

    /// Where the first register with this hash is.
    #[inline]
    fn position(&self, hash: u64) -> Option<&u32> {
        self.index.find(hash, |&index| self.slot(index as usize).is_some_and(|slot| slot.hash == hash))
    }

    fn place(&mut self, slot: Slot<K, V>) -> usize {
        if let Some(index) = self.free.pop() {
            let index = index as usize;
            self.chunks[index / CHUNK][index % CHUNK] = Some(slot);
            return index;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first one grows: small caches have many shards too.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        let chunk = self.chunks.len() - 1;
        self.chunks[chunk].push(Some(slot));
        chunk * CHUNK + self.chunks[chunk].len() - 1
    }
}

/// What a reader needs of a register.
pub(crate) struct Reading<K, V> {
    pub(crate) id: SlotId,
    pub(crate) live: bool,
    pub(crate) stamp_time: HlcTime,
    pub(crate) expires: HlcTime,
    pub(crate) item: Arc<Item<K, V>>,
}

/// A register as it was at one moment.
pub(crate) struct Snapshot<K, V> {
    pub(crate) slot: SlotRef,
    pub(crate) hash: u64,
    pub(crate) meta: Meta,
    pub(crate) item: Arc<Item<K, V>>,
}

/// See the module.
pub(crate) struct Store<K, V> {
    shards: Box<[RwLock<Shard<K, V>>]>,
    epoch: AtomicU64,
    generations: AtomicU32,
}

impl<K, V> Store<K, V> {
    pub(crate) fn new() -> Self {
        let shard = || RwLock::new(Shard { index: HashTable::new(), chunks: Vec::new(), free: Vec::new() });
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            epoch: AtomicU64::new(0),
            generations: AtomicU32::new(0),
        }
    }

    fn shard_of(hash: u64) -> usize {
        // The top seven bits are the index's tags and the low ones its positions.
        (hash >> 48) as usize & (SHARDS - 1)
    }

    /// Whatever is stamped at or below this time counts as absent.
    pub(crate) fn epoch(&self) -> HlcTime {
        self.epoch.load(Ordering::Acquire)
    }

    pub(crate) fn raise_epoch(&self, epoch: HlcTime) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    /// The register of a key. The key is compared after the lock is gone.
    pub(crate) fn get<Q>(&self, hash: u64, key: &Q) -> Option<Snapshot<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.find_by(hash, |known| known.known().is_some_and(|known| key.equivalent(known)))
    }

    /// The register whose key `matches` says it is, compared after the lock is gone.
    pub(crate) fn find_by(&self, hash: u64, matches: impl Fn(&Key<K>) -> bool) -> Option<Snapshot<K, V>> {
        let number = Self::shard_of(hash);
        let first = {
            let shard = self.shards[number].read();
            let index = *shard.position(hash)? as usize;
            Self::snapshot(&shard, number, index)?
        };
        if matches(&first.item.key) {
            return Some(first);
        }
        // Two keys with one 64-bit hash: look at every register that has it.
        self.all_with(hash).into_iter().find(|found| matches(&found.item.key))
    }

    /// What a reader needs of the register of a key. The key is compared after the lock is gone.
    #[inline]
    pub(crate) fn read<Q>(&self, hash: u64, key: &Q) -> Option<Reading<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let number = Self::shard_of(hash);
        let first = {
            let shard = self.shards[number].read();
            let index = *shard.position(hash)? as usize;
            let slot = shard.slot(index)?;
            Reading {
                id: SlotId::new(number, index),
                live: slot.kind().is_live(),
                stamp_time: slot.stamp_time,
                expires: slot.expires,
                item: Arc::clone(&slot.item),
            }
        };
        if first.item.key.known().is_some_and(|known| key.equivalent(known)) {
            return Some(first);
        }
        let Snapshot { slot, meta, item, .. } = self.get(hash, key)?;
        let Meta { stamp_time, expires, kind, .. } = meta;
        Some(Reading { id: slot.id, live: kind.is_live(), stamp_time, expires, item })
    }

    fn all_with(&self, hash: u64) -> Vec<Snapshot<K, V>> {
        let number = Self::shard_of(hash);
        let shard = self.shards[number].read();
        let same = shard.index.iter_hash(hash).filter_map(|&index| Self::snapshot(&shard, number, index as usize));
        same.filter(|found| found.hash == hash).collect()
    }

    fn snapshot(shard: &Shard<K, V>, number: usize, index: usize) -> Option<Snapshot<K, V>> {
        let slot = shard.slot(index)?;
        Some(Snapshot {
            slot: SlotRef { id: SlotId::new(number, index), generation: slot.generation },
            hash: slot.hash,
            meta: slot.meta(),
            item: Arc::clone(&slot.item),
        })
    }

    /// The register in a place, if the place is taken.
    pub(crate) fn at(&self, id: SlotId) -> Option<Snapshot<K, V>> {
        Self::snapshot(&self.shards[id.shard()].read(), id.shard(), id.index())
    }

    /// The register in a place, if it is still the same key's.
    pub(crate) fn resolve(&self, slot: SlotRef) -> Option<Snapshot<K, V>> {
        self.at(slot.id).filter(|found| found.slot == slot)
    }

    /// What is known of the register in a place, if it is still the same key's.
    pub(crate) fn meta(&self, slot: SlotRef) -> Option<Meta> {
        let shard = self.shards[slot.id.shard()].read();
        shard.slot(slot.id.index()).filter(|found| found.generation == slot.generation).map(Slot::meta)
    }

    /// Adds a register for a key that has none.
    pub(crate) fn insert(&self, hash: u64, meta: Meta, item: Arc<Item<K, V>>) -> SlotRef {
        // Only the one writer counts.
        let generation = self.generations.load(Ordering::Relaxed);
        self.generations.store(generation.wrapping_add(1), Ordering::Relaxed);
        let number = Self::shard_of(hash);
        let mut shard = self.shards[number].write();
        let index = shard.place(Slot::new(hash, generation, meta, item));
        let Shard { index: table, chunks, .. } = &mut *shard;
        let hash_of = |&index: &u32| {
            let slot = chunks[index as usize / CHUNK][index as usize % CHUNK].as_ref();
            slot.map_or(0, |slot| slot.hash)
        };
        table.insert_unique(hash, index as u32, hash_of);
        SlotRef { id: SlotId::new(number, index), generation }
    }

    /// Replaces what a place holds; returns what was there, for the caller to drop.
    pub(crate) fn replace(&self, slot: SlotRef, meta: Meta, item: Arc<Item<K, V>>) -> Option<Arc<Item<K, V>>> {
        let mut shard = self.shards[slot.id.shard()].write();
        let found = shard.slot_mut(slot.id.index()).filter(|found| found.generation == slot.generation)?;
        found.set_meta(meta);
        Some(std::mem::replace(&mut found.item, item))
    }

    /// Changes what is known of a register without touching key or value.
    pub(crate) fn set_meta(&self, slot: SlotRef, meta: Meta) {
        let mut shard = self.shards[slot.id.shard()].write();
        if let Some(found) = shard.slot_mut(slot.id.index()).filter(|found| found.generation == slot.generation) {
            found.set_meta(meta);
        }
    }

    /// Frees a place; returns what was there, for the caller to drop.
    pub(crate) fn remove(&self, slot: SlotRef) -> Option<Arc<Item<K, V>>> {
        let mut shard = self.shards[slot.id.shard()].write();
        let index = slot.id.index();
        let hash = shard.slot(index).filter(|found| found.generation == slot.generation)?.hash;
        if let Ok(entry) = shard.index.find_entry(hash, |&other| other as usize == index) {
            entry.remove();
        }
        let taken = shard.chunks[index / CHUNK][index % CHUNK].take();
        shard.free.push(index as u32);
        taken.map(|slot| slot.item)
    }

    /// Up to `limit` registers from a position on, and the position to go on from. A walk sees every
    /// register that is there from its start to its end; it holds a shard's lock for a page only.
    pub(crate) fn page(&self, from: Position, limit: usize) -> (Vec<Snapshot<K, V>>, Option<Position>) {
        let mut found = Vec::new();
        let Position { mut shard, mut index } = from;
        while shard < SHARDS {
            let guard = self.shards[shard].read();
            let end = guard.chunks.last().map_or(0, |last| (guard.chunks.len() - 1) * CHUNK + last.len());
            while index < end && found.len() < limit {
                found.extend(Self::snapshot(&guard, shard, index));
                index += 1;
            }
            if index < end {
                return (found, Some(Position { shard, index }));
            }
            drop(guard);
            shard += 1;
            index = 0;
            if found.len() >= limit && shard < SHARDS {
                return (found, Some(Position { shard, index }));
            }
        }
        (found, None)
    }
}

impl Position {
    /// As one number, for those who walk from afar.
    pub(crate) fn to_cursor(self) -> u64 {
        ((self.shard as u64) << 40) | (self.index as u64 & ((1 << 40) - 1))
    }

    /// From a number, whoever made it.
    pub(crate) fn from_cursor(cursor: u64) -> Self {
        Self { shard: (cursor >> 40) as usize, index: (cursor & ((1 << 40) - 1)) as usize }
    }
}

/// Where a walk over all registers stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    shard: usize,
    index: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Body;

    fn meta(time: u64) -> Meta {
        Meta {
            stamp_time: time,
            dot_time: time,
            stamp_replica: 0,
            dot_origin: 0,
            expires: 0,
            size: 0,
            weight: 1,
            learnt: Learnt::default(),
            kind: Kind::Live,
            retained: false,
        }
    }

    fn item(key: u64) -> Arc<Item<u64, u64>> {
        Arc::new(Item { key: Key::Known(key), body: Body::Known(key) })
    }

    #[test]
    fn a_register_is_one_cache_line_and_comes_out_as_it_went_in() {
        assert_eq!(size_of::<Option<Slot<String, bytes::Bytes>>>(), 64);
        let store = Store::new();
        let kinds = (0..5).filter_map(Kind::from_code).flat_map(|kind| [(kind, false), (kind, true)]);
        for (number, (kind, retained)) in (1u64..).zip(kinds) {
            let whole = Meta {
                stamp_time: number,
                dot_time: u64::MAX - number,
                stamp_replica: 3,
                dot_origin: u32::MAX,
                expires: number << 40,
                size: 14 << 20,
                weight: u32::MAX,
                learnt: Learnt { at: u32::MAX - 1, path: LearntBy::from_code(number as u8 % 7) },
                kind,
                retained,
            };
            let slot = store.insert(number, whole, item(number));
            assert_eq!(store.meta(slot), Some(whole));
            store.set_meta(slot, meta(9));
            assert_eq!(store.meta(slot), Some(meta(9)));
            let read = store.read(number, &number).unwrap();
            assert_eq!((read.id, read.stamp_time, read.expires, read.live), (slot.id, 9, 0, true));
        }
    }

    #[test]
    fn keys_that_share_all_64_bits_of_hash_are_told_apart() {
        let store = Store::new();
        let slots: Vec<_> = (0..5).map(|key| store.insert(7, meta(key), item(key))).collect();
        for key in 0..5 {
            assert_eq!(store.get(7, &key).unwrap().meta.dot_time, key);
            assert_eq!(store.read(7, &key).unwrap().stamp_time, key);
        }
        store.remove(slots[0]);
        assert!(store.get(7, &0).is_none());
        assert_eq!(store.get(7, &4).unwrap().slot, slots[4]);
    }

    #[test]
    fn a_freed_place_is_reused_under_another_generation() {
        let store = Store::new();
        let old = store.insert(7, meta(1), item(1));
        assert!(store.remove(old).is_some());
        let new = store.insert(7, meta(2), item(2));
        assert_eq!(old.id, new.id);
        assert!(store.resolve(old).is_none() && store.meta(old).is_none() && store.remove(old).is_none());
        assert_eq!(store.resolve(new).unwrap().meta.dot_time, 2);
    }

    #[test]
    fn pages_cover_everything_once() {
        let store = Store::new();
        for key in 0..10_000u64 {
            store.insert(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), meta(key), item(key));
        }
        let mut seen = std::collections::BTreeSet::new();
        let mut position = Some(Position::default());
        while let Some(from) = position {
            let (page, next) = store.page(from, 37);
            assert!(page.len() <= 37);
            assert!(page.iter().all(|found| seen.insert(found.meta.dot_time)));
            position = next;
        }
        assert_eq!(seen.len(), 10_000);
    }
}
