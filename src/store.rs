//! The table that readers share with the one writer.
//!
//! Sharded. Each shard has an index, which has all that a reader needs of most registers, and a slab of what
//! else is known of them. A reader takes a shard's read lock for the look-up only: it leaves with a counted
//! pointer, and compares keys and clones the value after the lock is gone. The replica is the only writer
//! and takes a shard's write lock for one register at a time. No user code runs under these locks.

use std::num::NonZeroU32;

use equivalent::Equivalent;
use hashbrown::HashTable;

use crate::crdt::Kind;
use crate::hlc::HlcTime;
use crate::item::{ItemRef, Key};
use crate::learnt::{Learnt, LearntBy};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, RwLock};

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

impl Meta {
    /// Whether its time to live is over when the wall clock says this.
    pub(crate) fn is_expired_by(&self, wall: HlcTime) -> bool {
        self.expires != 0 && self.expires <= wall
    }
}

/// Sizes are kept in this many bits; the largest entry that can be written needs fewer.
const SIZE_BITS: u32 = 24;
const SIZE_MASK: u32 = (1 << SIZE_BITS) - 1;
/// Where the path by which it was learnt is kept, in three bits.
const PATH_SHIFT: u32 = 27;
/// Set in every slot that is taken, so that a free one needs no room of its own.
const TAKEN: NonZeroU32 = NonZeroU32::new(1 << 30).expect("not zero");
const RETAINED: u32 = 1 << 31;

/// A register without its key and value, packed.
struct Slot {
    hash: u64,
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
    packed: NonZeroU32,
}

impl Slot {
    fn new(hash: u64, generation: u32, meta: Meta) -> Self {
        let Meta { stamp_time, dot_time, stamp_replica, dot_origin, expires, weight, .. } = meta;
        let (packed, learnt_at) = (Self::pack(&meta), meta.learnt.at);
        Self { hash, stamp_time, dot_time, expires, generation, stamp_replica, dot_origin, weight, learnt_at, packed }
    }

    fn pack(meta: &Meta) -> NonZeroU32 {
        let retained = if meta.retained { RETAINED } else { 0 };
        let (kind, path) = (u32::from(meta.kind.code()), meta.learnt.path as u32);
        TAKEN | meta.size.min(SIZE_MASK) | (kind << SIZE_BITS) | (path << PATH_SHIFT) | retained
    }

    fn kind(&self) -> Kind {
        Kind::from_code((self.packed.get() >> SIZE_BITS) as u8 & 7).unwrap_or(Kind::Live)
    }

    fn learnt(&self) -> Learnt {
        let path = LearntBy::from_code((self.packed.get() >> PATH_SHIFT) as u8 & 7);
        Learnt { at: self.learnt_at, path }
    }

    fn meta(&self) -> Meta {
        Meta {
            stamp_time: self.stamp_time,
            dot_time: self.dot_time,
            stamp_replica: self.stamp_replica,
            dot_origin: self.dot_origin,
            expires: self.expires,
            size: self.packed.get() & SIZE_MASK,
            weight: self.weight,
            learnt: self.learnt(),
            kind: self.kind(),
            retained: self.packed.get() & RETAINED != 0,
        }
    }
}

/// A value that readers may have without a look at its slot, unless an epoch is being swept.
const PLAIN: u32 = 1;
/// So many of the low bits of a tag are no part of a hash.
const TAG_SHIFT: u32 = 8;

/// What the index has of a register.
struct Indexed<K, V> {
    item: ItemRef<K, V>,
    /// The number of its slot within the shard.
    slot: u32,
    /// Some of its hash, and whether it is plain.
    tag: u32,
}

/// The part of a hash that is in a tag: neither the index's positions nor its own tags, nor the shard.
fn tag_of(hash: u64) -> u32 {
    ((hash >> 24) as u32) << TAG_SHIFT
}

impl<K, V> Indexed<K, V> {
    fn may_be(&self, hash: u64) -> bool {
        (self.tag ^ tag_of(hash)) >> TAG_SHIFT == 0
    }

    fn is_plain(&self) -> bool {
        self.tag & PLAIN != 0
    }
}

/// Aligned, so that readers of two shards do not wait for one cache line.
#[repr(align(128))]
struct Aligned<T>(T);

type Guarded<K, V> = Aligned<RwLock<Shard<K, V>>>;

struct Shard<K, V> {
    index: HashTable<Indexed<K, V>>,
    chunks: Vec<Vec<Option<Slot>>>,
    free: Vec<u32>,
}

impl<K, V> Shard<K, V> {
    fn slot(&self, index: usize) -> Option<&Slot> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)?.as_ref()
    }

    /// The slot of a place, if it is still the same key's.
    fn slot_of(&self, place: SlotRef) -> Option<&Slot> {
        self.slot(place.id.index()).filter(|slot| slot.generation == place.generation)
    }

    fn slot_mut(&mut self, index: usize) -> Option<&mut Slot> {
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)?.as_mut()
    }

    /// The first register that may have this hash: its slot says for certain.
    #[inline]
    fn find(&self, hash: u64) -> Option<&Indexed<K, V>> {
        self.index.find(hash, |indexed| indexed.may_be(hash))
    }

    /// What the index has of a slot that is taken.
    fn indexed(&self, slot: &Slot, index: usize) -> Option<&Indexed<K, V>> {
        self.index.find(slot.hash, |indexed| indexed.slot as usize == index)
    }

    fn place(&mut self, slot: Slot) -> usize {
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

    /// Gives a register other marks, and another item if there is one; returns what was displaced.
    fn update(&mut self, place: SlotRef, meta: Meta, plain: u32, item: Option<ItemRef<K, V>>) -> Option<ItemRef<K, V>> {
        let index = place.id.index();
        let slot = self.slot_mut(index).filter(|slot| slot.generation == place.generation)?;
        let hash = slot.hash;
        *slot = Slot::new(hash, place.generation, meta);
        let indexed = self.index.find_mut(hash, |indexed| indexed.slot as usize == index)?;
        indexed.tag = tag_of(hash) | plain;
        item.map(|item| std::mem::replace(&mut indexed.item, item))
    }
}

/// What a reader needs of a register.
pub(crate) struct Reading<K, V> {
    pub(crate) id: SlotId,
    /// A value, and none that the epoch made absent.
    pub(crate) live: bool,
    pub(crate) expires: HlcTime,
    pub(crate) item: ItemRef<K, V>,
}

/// A register as it was at one moment.
pub(crate) struct Snapshot<K, V> {
    pub(crate) slot: SlotRef,
    pub(crate) hash: u64,
    pub(crate) meta: Meta,
    pub(crate) item: ItemRef<K, V>,
}

/// An item that was not placed, and the register that is in its way.
pub(crate) type Found<K, V> = (ItemRef<K, V>, Snapshot<K, V>);

/// See the module.
pub(crate) struct Store<K, V> {
    shards: Box<[Guarded<K, V>]>,
    epoch: AtomicU64,
    /// Whether registers that the epoch made absent may still be here.
    unswept: AtomicBool,
    generations: AtomicU32,
}

impl<K, V> Store<K, V> {
    pub(crate) fn new() -> Self {
        let empty = || Shard { index: HashTable::new(), chunks: Vec::new(), free: Vec::new() };
        Self {
            shards: (0..SHARDS).map(|_| Aligned(RwLock::new(empty()))).collect(),
            epoch: AtomicU64::new(0),
            unswept: AtomicBool::new(false),
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

    /// From now on readers look at every stamp, until [`note_swept`](Self::note_swept).
    pub(crate) fn raise_epoch(&self, epoch: HlcTime) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
        self.unswept.store(true, Ordering::Release);
    }

    /// All that was there when the epoch rose has been looked at, and removed if it had become absent.
    pub(crate) fn note_swept(&self) {
        self.unswept.store(false, Ordering::Release);
    }

    /// What a tag says of a register: whether its slot tells a reader nothing that matters.
    fn plain(&self, meta: &Meta) -> u32 {
        if meta.kind.is_live() && meta.expires == 0 && meta.stamp_time > self.epoch() { PLAIN } else { 0 }
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
        let first = Self::first_with(&self.shards[number].0.read(), number, hash)?;
        if first.hash == hash && matches(&first.item.key) {
            return Some(first);
        }
        // Two keys with one hash: look at every register that has it.
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
            let shard = self.shards[number].0.read();
            let indexed = shard.find(hash)?;
            let index = indexed.slot as usize;
            let (live, expires) = if indexed.is_plain() && !self.unswept.load(Ordering::Acquire) {
                (true, 0)
            } else {
                let slot = shard.slot(index)?;
                (slot.kind().is_live() && slot.stamp_time > self.epoch(), slot.expires)
            };
            Reading { id: SlotId::new(number, index), live, expires, item: ItemRef::clone(&indexed.item) }
        };
        if first.item.key.known().is_some_and(|known| key.equivalent(known)) {
            return Some(first);
        }
        self.read_among(hash, key)
    }

    /// One of several keys with one hash.
    #[cold]
    fn read_among<Q>(&self, hash: u64, key: &Q) -> Option<Reading<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let Snapshot { slot, meta, item, .. } = self.get(hash, key)?;
        let live = meta.kind.is_live() && meta.stamp_time > self.epoch();
        Some(Reading { id: slot.id, live, expires: meta.expires, item })
    }

    fn all_with(&self, hash: u64) -> Vec<Snapshot<K, V>> {
        let number = Self::shard_of(hash);
        let shard = self.shards[number].0.read();
        let same = shard.index.iter_hash(hash).filter(|indexed| indexed.may_be(hash));
        let same = same.filter_map(|indexed| Some((shard.slot(indexed.slot as usize)?, indexed)));
        let same = same.map(|(slot, indexed)| Self::snapshot(number, slot, indexed));
        same.filter(|found| found.hash == hash).collect()
    }

    fn snapshot(number: usize, slot: &Slot, indexed: &Indexed<K, V>) -> Snapshot<K, V> {
        Snapshot {
            slot: SlotRef { id: SlotId::new(number, indexed.slot as usize), generation: slot.generation },
            hash: slot.hash,
            meta: slot.meta(),
            item: ItemRef::clone(&indexed.item),
        }
    }

    /// The first register that may have this hash.
    fn first_with(shard: &Shard<K, V>, number: usize, hash: u64) -> Option<Snapshot<K, V>> {
        let indexed = shard.find(hash)?;
        Some(Self::snapshot(number, shard.slot(indexed.slot as usize)?, indexed))
    }

    /// The register in a slot of a shard, if the slot is taken.
    fn snapshot_at(shard: &Shard<K, V>, number: usize, index: usize) -> Option<Snapshot<K, V>> {
        let slot = shard.slot(index)?;
        Some(Self::snapshot(number, slot, shard.indexed(slot, index)?))
    }

    /// The register in a place, if it is still the same key's.
    pub(crate) fn resolve(&self, place: SlotRef) -> Option<Snapshot<K, V>> {
        let (number, index) = (place.id.shard(), place.id.index());
        let shard = self.shards[number].0.read();
        let slot = shard.slot_of(place)?;
        Some(Self::snapshot(number, slot, shard.indexed(slot, index)?))
    }

    /// What is known of the register in a place, if it is still the same key's.
    pub(crate) fn meta(&self, slot: SlotRef) -> Option<Meta> {
        self.shards[slot.id.shard()].0.read().slot_of(slot).map(Slot::meta)
    }

    /// The hash of the key in a place, if it is still the same key's.
    pub(crate) fn hash(&self, slot: SlotRef) -> Option<u64> {
        self.shards[slot.id.shard()].0.read().slot_of(slot).map(|found| found.hash)
    }

    /// Adds a register for a key that has none.
    pub(crate) fn insert(&self, hash: u64, meta: Meta, item: ItemRef<K, V>) -> SlotRef {
        let (number, plain) = (Self::shard_of(hash), self.plain(&meta));
        self.add(&mut self.shards[number].0.write(), hash, meta, plain, item)
    }

    /// Adds a register if none may have this hash; otherwise gives back the item, and the first that may.
    pub(crate) fn insert_if_new(&self, hash: u64, meta: Meta, item: ItemRef<K, V>) -> Result<SlotRef, Found<K, V>> {
        let (number, plain) = (Self::shard_of(hash), self.plain(&meta));
        let mut shard = self.shards[number].0.write();
        match Self::first_with(&shard, number, hash) {
            Some(found) => Err((item, found)),
            None => Ok(self.add(&mut shard, hash, meta, plain, item)),
        }
    }

    fn add(&self, shard: &mut Shard<K, V>, hash: u64, meta: Meta, plain: u32, item: ItemRef<K, V>) -> SlotRef {
        // Only the one writer counts.
        let generation = self.generations.load(Ordering::Relaxed);
        self.generations.store(generation.wrapping_add(1), Ordering::Relaxed);
        let index = shard.place(Slot::new(hash, generation, meta));
        let Shard { index: table, chunks, .. } = shard;
        let hash_of = |indexed: &Indexed<K, V>| {
            let index = indexed.slot as usize;
            chunks[index / CHUNK][index % CHUNK].as_ref().map_or(0, |slot| slot.hash)
        };
        table.insert_unique(hash, Indexed { item, slot: index as u32, tag: tag_of(hash) | plain }, hash_of);
        SlotRef { id: SlotId::new(Self::shard_of(hash), index), generation }
    }

    /// Replaces what a place holds; returns what was there, for the caller to drop.
    pub(crate) fn replace(&self, slot: SlotRef, meta: Meta, item: ItemRef<K, V>) -> Option<ItemRef<K, V>> {
        self.shards[slot.id.shard()].0.write().update(slot, meta, self.plain(&meta), Some(item))
    }

    /// Changes what is known of a register without touching key or value.
    pub(crate) fn set_meta(&self, slot: SlotRef, meta: Meta) {
        self.shards[slot.id.shard()].0.write().update(slot, meta, self.plain(&meta), None);
    }

    /// Frees a place; returns what was there, for the caller to drop.
    pub(crate) fn remove(&self, slot: SlotRef) -> Option<ItemRef<K, V>> {
        let mut shard = self.shards[slot.id.shard()].0.write();
        let index = slot.id.index();
        let hash = shard.slot_of(slot)?.hash;
        let entry = shard.index.find_entry(hash, |indexed| indexed.slot as usize == index).ok()?;
        let (indexed, _) = entry.remove();
        shard.chunks[index / CHUNK][index % CHUNK] = None;
        shard.free.push(index as u32);
        Some(indexed.item)
    }

    /// Up to `limit` registers from a position on, and the position to go on from. A walk sees every
    /// register that is there from its start to its end; it holds a shard's lock for a page only.
    pub(crate) fn page(&self, from: Position, limit: usize) -> (Vec<Snapshot<K, V>>, Option<Position>) {
        let mut found = Vec::new();
        let Position { mut shard, mut index } = from;
        while shard < SHARDS {
            let guard = self.shards[shard].0.read();
            let end = guard.chunks.last().map_or(0, |last| (guard.chunks.len() - 1) * CHUNK + last.len());
            while index < end && found.len() < limit {
                found.extend(Self::snapshot_at(&guard, shard, index));
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
    use crate::item::{Body, Item};

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

    fn item(key: u64) -> ItemRef<u64, u64> {
        ItemRef::new(Item { key: Key::Known(key), body: Body::Known(key) })
    }

    #[test]
    fn a_register_is_small_and_comes_out_as_it_went_in() {
        assert_eq!(size_of::<Option<Slot>>(), 56);
        assert_eq!(size_of::<Indexed<String, bytes::Bytes>>(), 16);
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
            assert_eq!((read.id, read.expires, read.live), (slot.id, 0, true));
        }
    }

    #[test]
    fn keys_that_share_all_64_bits_of_hash_are_told_apart() {
        let store = Store::new();
        let slots: Vec<_> = (0..5).map(|key| store.insert(7, meta(key), item(key))).collect();
        for key in 0..5 {
            assert_eq!(store.get(7, &key).unwrap().meta.dot_time, key);
            assert_eq!(store.read(7, &key).unwrap().id, slots[key as usize].id);
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
