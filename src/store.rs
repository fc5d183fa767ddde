//! The table of registers, shared by many readers, the replica and the direct writes of its threads.
//!
//! It is sharded. Each shard has a slab with the registers, and an index, which finds them by the hash of their key. A
//! reader holds a shard's read lock for the look-up only. It takes a counted pointer, and compares keys and clones the
//! value after it has released the lock. A writer takes a shard's write lock for one register at a time. While the
//! replica runs a call, no direct write changes the table. No user code runs under these locks. Removed registers give
//! their memory back, shard by shard.

use equivalent::Equivalent;

use crate::hlc::HlcTime;
use crate::item::{ItemRef, Key};
use crate::sync::{AtomicU64, Ordering, RwLock};

mod shard;
mod slab;
mod slot;

pub(crate) use shard::Snapshot;
pub(crate) use slot::{Meta, SlotId, SlotRef};

use shard::Shard;
use slot::SHARDS;

/// A cell aligned to 128 bytes, so that two shards never share a cache line.
#[repr(align(128))]
struct Aligned<T>(T);

type Guarded<K, V> = Aligned<RwLock<Shard<K, V>>>;

/// The part of a register that a reader needs.
pub(crate) struct Reading<K, V> {
    pub(crate) id: SlotId,
    /// True if this is a value that the epoch has not made absent.
    pub(crate) live: bool,
    pub(crate) expires: HlcTime,
    pub(crate) item: ItemRef<K, V>,
}

/// The metadata that was placed, and the displaced item.
pub(crate) type Replaced<K, V> = (Meta, Option<ItemRef<K, V>>);

/// The item that was not placed, and the first register that has the hash of its key.
pub(crate) type Found<K, V> = (ItemRef<K, V>, Snapshot<K, V>);

/// The sharded table of registers; see the module.
pub(crate) struct Store<K, V> {
    shards: Box<[Guarded<K, V>]>,
    epoch: AtomicU64,
}

impl<K, V> Store<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|number| Aligned(RwLock::new(Shard::new(number)))).collect(),
            epoch: AtomicU64::new(0),
        }
    }

    /// Returns the lock of the shard for registers with this hash.
    #[inline]
    fn shard_with(&self, hash: u64) -> &RwLock<Shard<K, V>> {
        &self.shards[Self::shard_of(hash)].0
    }

    /// Returns the lock of the shard that contains a place.
    #[inline]
    fn shard_at(&self, id: SlotId) -> &RwLock<Shard<K, V>> {
        &self.shards[id.shard()].0
    }

    #[inline]
    fn shard_of(hash: u64) -> usize {
        // Bits 48 to 53. The index of a shard uses the top seven bits as its own tags, and the low bits as positions.
        (hash >> 48) as usize & (SHARDS - 1)
    }

    /// Returns the epoch: a register stamped at or below it counts as absent.
    pub(crate) fn epoch(&self) -> HlcTime {
        self.epoch.load(Ordering::Acquire)
    }

    /// Raises the epoch.
    pub(crate) fn raise_epoch(&self, epoch: HlcTime) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    /// Returns the register of a key. Compares the key after releasing the lock.
    pub(crate) fn get<Q>(&self, hash: u64, key: &Q) -> Option<Snapshot<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.find_by(hash, |known| known.known().is_some_and(|known| key.equivalent(known)))
    }

    /// Returns the register whose key `matches` accepts. Compares keys after releasing the lock.
    pub(crate) fn find_by(&self, hash: u64, matches: impl Fn(&Key<K>) -> bool) -> Option<Snapshot<K, V>> {
        let shard = self.shard_with(hash);
        let first = shard.read().first_with(hash)?;
        if matches(&first.item.key) {
            return Some(first);
        }
        // Two keys may have the same hash: compare every register that has it.
        let same = shard.read().all_with(hash);
        same.into_iter().find(|found| matches(&found.item.key))
    }

    /// Returns the part of a key's register that a reader needs. Compares the key after releasing the lock.
    #[inline]
    pub(crate) fn read<Q>(&self, hash: u64, key: &Q) -> Option<Reading<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let number = Self::shard_of(hash);
        let first = {
            let shard = self.shards[number].0.read();
            let (index, slot) = shard.find(hash)?;
            let live = slot.is_live() && slot.stamp_time > self.epoch();
            let (expires, item) = (shard.deadline(index, slot), ItemRef::clone(&slot.item));
            Reading { id: SlotId::new(number, index), live, expires, item }
        };
        if first.item.key.known().is_some_and(|known| key.equivalent(known)) {
            return Some(first);
        }
        self.read_among(hash, key)
    }

    /// Returns the register of a key if the first register with its hash is of another key.
    #[cold]
    fn read_among<Q>(&self, hash: u64, key: &Q) -> Option<Reading<K, V>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let Snapshot { slot, meta, item, .. } = self.get(hash, key)?;
        let live = meta.kind.is_live() && meta.stamp_time > self.epoch();
        Some(Reading { id: slot.id, live, expires: meta.expires, item })
    }

    /// Returns the register in a place, if the place has not been given to another key.
    pub(crate) fn resolve(&self, place: SlotRef) -> Option<Snapshot<K, V>> {
        self.shard_at(place.id).read().resolve(place)
    }

    /// Returns the metadata of the register in a place, if the place has not been given to another key.
    pub(crate) fn meta(&self, slot: SlotRef) -> Option<Meta> {
        self.shard_at(slot.id).read().meta_of(slot)
    }

    /// Returns the hash of the key in a place, if the place has not been given to another key.
    pub(crate) fn hash(&self, slot: SlotRef) -> Option<u64> {
        self.shard_at(slot.id).read().slot_of(slot).map(|found| found.hash)
    }

    /// Returns a position that a number chooses: every shard, and every place in it, about equally often.
    pub(crate) fn position_of(&self, number: u64) -> Position {
        let shard = (number % SHARDS as u64) as usize;
        let places = self.shards[shard].0.read().end().max(1) as u64;
        Position { shard, index: (number / SHARDS as u64 % places) as usize }
    }

    /// Adds a register for a key that has none.
    pub(crate) fn insert(&self, hash: u64, meta: Meta, item: ItemRef<K, V>) -> SlotRef {
        self.shard_with(hash).write().add(hash, &meta, item)
    }

    /// Adds a register if no register has this hash. Otherwise returns the item, and the first register that has it.
    /// Makes the metadata under the shard's lock.
    pub(crate) fn insert_if_new(
        &self,
        hash: u64,
        item: ItemRef<K, V>,
        meta: impl FnOnce() -> Meta,
    ) -> Result<(SlotRef, Meta), Found<K, V>> {
        let mut shard = self.shard_with(hash).write();
        if let Some(found) = shard.first_with(hash) {
            return Err((item, found));
        }
        let meta = meta();
        Ok((shard.add(hash, &meta, item), meta))
    }

    /// Replaces a register if it has not changed since the snapshot `seen`. Makes the new metadata under the shard's
    /// lock. Returns the metadata and the displaced item, for the caller to drop. Otherwise returns the item.
    pub(crate) fn replace_unchanged(
        &self,
        seen: &Snapshot<K, V>,
        item: ItemRef<K, V>,
        meta: impl FnOnce() -> Meta,
    ) -> Result<Replaced<K, V>, ItemRef<K, V>> {
        let mut shard = self.shard_at(seen.slot.id).write();
        if shard.meta_of(seen.slot) != Some(seen.meta) {
            return Err(item);
        }
        let meta = meta();
        Ok((meta, shard.update(seen.slot, &meta, Some(item))))
    }

    /// Replaces the register in a place. Returns the displaced item, for the caller to drop.
    pub(crate) fn replace(&self, slot: SlotRef, meta: Meta, item: ItemRef<K, V>) -> Option<ItemRef<K, V>> {
        self.shard_at(slot.id).write().update(slot, &meta, Some(item))
    }

    /// Replaces the metadata of a register without touching its key or value.
    pub(crate) fn set_meta(&self, slot: SlotRef, meta: Meta) {
        self.shard_at(slot.id).write().update(slot, &meta, None);
    }

    /// Frees a place. Returns its item, for the caller to drop.
    pub(crate) fn remove(&self, slot: SlotRef) -> Option<ItemRef<K, V>> {
        self.shard_at(slot.id).write().remove(slot)
    }

    /// Returns the places of all values in one shard, in one step, so that no key is among them twice. Returns `None`
    /// from the number on at which there are no more shards. Holds the shard's lock while it reads all its slots.
    ///
    /// A register keeps its place as long as it is held. A key that is removed and added again gets a new place, or the
    /// old one under another generation. So the key that [`resolve`](Self::resolve) finds in a place is the key that
    /// was there.
    pub(crate) fn places(&self, shard: usize) -> Option<Vec<SlotRef>> {
        self.shards.get(shard).map(|shard| shard.0.read().live_places())
    }

    /// Returns up to `limit` registers from a position on, and the position at which to continue. A walk returns every
    /// register that is held throughout the walk. It holds a shard's lock for one page only.
    pub(crate) fn page(&self, from: Position, limit: usize) -> (Vec<Snapshot<K, V>>, Option<Position>) {
        let mut found = Vec::new();
        let Position { mut shard, mut index } = from;
        while shard < SHARDS {
            let guard = self.shards[shard].0.read();
            let end = guard.end();
            while index < end && found.len() < limit {
                found.extend(guard.at(index));
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

/// The position of a walk over all registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    shard: usize,
    index: usize,
}

impl Position {
    /// Returns the position as one number, for callers in another process.
    pub(crate) fn to_cursor(self) -> u64 {
        ((self.shard as u64) << 40) | (self.index as u64 & ((1 << 40) - 1))
    }

    /// Returns the position of a number. Every number is a valid position.
    pub(crate) fn from_cursor(cursor: u64) -> Self {
        Self { shard: (cursor >> 40) as usize, index: (cursor & ((1 << 40) - 1)) as usize }
    }
}

#[cfg(test)]
impl<K, V> Store<K, V> {
    /// Returns the number of slots that memory is allocated for, the number of values beside them, and the number of
    /// buckets of the indexes.
    fn allocated(&self) -> [usize; 3] {
        let shards = self.shards.iter().map(|shard| shard.0.read().allocated());
        shards.fold([0; 3], |sum, shard| std::array::from_fn(|part| sum[part] + shard[part]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrival::Arrival;
    use crate::crdt::Kind;
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
            arrival: Arrival::default(),
            kind: Kind::Live,
            retained: false,
        }
    }

    fn any_meta(random: &mut fastrand::Rng) -> Meta {
        let mut whole = Meta { arrival: Arrival { at: random.u32(..), ..Arrival::default() }, ..meta(random.u64(..)) };
        for part in 0..5 {
            if random.bool() {
                continue;
            }
            match part {
                0 => (whole.dot_time, whole.dot_origin) = (random.u64(..), random.u32(..)),
                1 => whole.expires = random.u64(1..),
                2 => whole.weight = random.u32(65_534..65_538),
                3 => (whole.stamp_replica, whole.dot_origin) = ([65_533 + random.u32(..5); 2]).into(),
                _ => (whole.size, whole.retained) = (random.u32(..1 << 24), true),
            }
        }
        whole
    }

    fn item(key: u64) -> ItemRef<u64, u64> {
        ItemRef::new(Item { key: Key::Known(key), body: Body::Known(key) })
    }

    #[test]
    fn a_register_comes_out_as_it_went_in() {
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
                arrival: Arrival { at: u32::MAX - 1, path: crate::arrival::Provenance::from_code(number as u8 % 7) },
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
    fn places_are_those_of_values_and_are_given_up_with_them() {
        let store = Store::new();
        let all: Vec<_> = (0..1_000u64).map(|key| store.insert(key << 44, meta(key), item(key))).collect();
        for place in &all[..500] {
            store.set_meta(*place, Meta { kind: Kind::Tombstone(crate::crdt::Cause::Deleted), ..meta(0) });
        }
        let listed: Vec<_> = (0..).map_while(|shard| store.places(shard)).flatten().collect();
        assert_eq!(listed.iter().copied().collect::<std::collections::BTreeSet<_>>().len(), listed.len());
        let mut keys: Vec<_> = listed.iter().map(|place| store.resolve(*place).unwrap().meta.dot_time).collect();
        keys.sort_unstable();
        assert_eq!(keys, (500..1_000).collect::<Vec<_>>());
        // A key that comes back in the same slot has a new place.
        store.remove(listed[0]);
        let moved = store.insert(0, meta(1), item(1));
        assert!(store.resolve(listed[0]).is_none() && moved != listed[0]);
    }

    /// The oracle is a map from keys to metadata. Registers with and without a deadline, a dot of their own and large
    /// numbers are added, replaced and removed at random. Removing all of them gives the memory back.
    #[test]
    fn registers_are_kept_exactly_and_their_memory_is_given_back() {
        let (mut random, store) = (fastrand::Rng::with_seed(1), Store::new());
        let mut held = std::collections::BTreeMap::<u64, (SlotRef, Meta)>::new();
        let mut allocated = Vec::new();
        for room in [40_000, 0, 300, 0] {
            for _ in 0..room * 3 {
                let (key, whole) = (random.u64(..room), any_meta(&mut random));
                let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                match held.get(&key).map(|(slot, _)| *slot) {
                    Some(slot) if random.u8(..4) == 0 => {
                        assert_eq!(store.remove(slot).and_then(|item| item.value().copied()), Some(key));
                        held.remove(&key);
                    }
                    Some(slot) => {
                        store.set_meta(slot, whole);
                        held.insert(key, (slot, whole));
                    }
                    None => {
                        held.insert(key, (store.insert(hash, whole, item(key)), whole));
                    }
                }
            }
            for (key, (slot, whole)) in &held {
                let found = store.get(key.wrapping_mul(0x9E37_79B9_7F4A_7C15), key).unwrap();
                assert_eq!((found.slot, found.meta), (*slot, *whole));
            }
            allocated.push(store.allocated());
            if room == 0 {
                held.values().for_each(|(slot, _)| assert!(store.remove(*slot).is_some()));
                held.clear();
                allocated.push(store.allocated());
            }
        }
        let [full, _, empty, few, _, last] = allocated.try_into().unwrap();
        assert!(full[0] > 20_000 && full[1] > 20_000 && full[2] > 20_000, "{full:?}");
        for empty in [empty, last] {
            assert!(empty[0] <= SHARDS * 256 && empty[1] == 0 && empty[2] <= SHARDS * 64, "{empty:?}");
        }
        assert!(few[0] <= SHARDS * 256 && few[2] <= SHARDS * 64, "{few:?}");
    }

    /// Adding and removing one register in turn allocates nothing.
    #[test]
    fn one_register_that_comes_and_goes_moves_no_memory() {
        let store = Store::new();
        let all: Vec<_> = (0..2_000u64).map(|key| store.insert(key, meta(key), item(key))).collect();
        for border in [2_000, 1_024, 512, 256, 1, 0] {
            all[border..].iter().for_each(|slot| drop(store.remove(*slot)));
            let allocated = store.allocated();
            for _ in 0..3 {
                let extra = store.insert(9_999, meta(1), item(1));
                assert_eq!(store.allocated(), allocated);
                store.remove(extra);
                assert_eq!(store.allocated(), allocated);
            }
        }
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
