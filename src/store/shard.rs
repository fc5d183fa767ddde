//! One shard: the index for look-ups, and the slab of slots behind it.
//!
//! The lock around a shard in [`Store`](super::Store) is its only owner. This file contains all that happens under that
//! lock.

use hashbrown::HashTable;

use super::slot::{Meta, Slot, SlotId, SlotRef};
use crate::item::ItemRef;

/// The number of slots in one chunk of the slab.
const CHUNK: usize = 256;

/// The tag bit of a plain register: readers take its value without reading its slot, unless an epoch is being swept.
const PLAIN: u32 = 1;
/// The number of low bits of a tag that are not part of a hash.
const TAG_SHIFT: u32 = 8;

/// The part of a register that is stored in the index.
pub(super) struct Indexed<K, V> {
    pub(super) item: ItemRef<K, V>,
    /// The number of its slot within the shard.
    slot: u32,
    /// Some bits of its hash, and the plain bit.
    tag: u32,
}

/// Returns the part of a hash that a tag stores. These bits serve neither the index's positions, nor its own tags, nor
/// the choice of the shard.
fn tag_of(hash: u64) -> u32 {
    ((hash >> 24) as u32) << TAG_SHIFT
}

impl<K, V> Indexed<K, V> {
    /// Returns the number of its slot within the shard.
    #[inline]
    pub(super) fn slot(&self) -> usize {
        self.slot as usize
    }

    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.tag & PLAIN != 0
    }

    #[inline]
    fn may_be(&self, hash: u64) -> bool {
        (self.tag ^ tag_of(hash)) >> TAG_SHIFT == 0
    }

    fn set_tag(&mut self, hash: u64, plain: bool) {
        self.tag = tag_of(hash) | if plain { PLAIN } else { 0 };
    }
}

/// A copy of a register at one moment.
pub(crate) struct Snapshot<K, V> {
    pub(crate) slot: SlotRef,
    pub(crate) hash: u64,
    pub(crate) meta: Meta,
    pub(crate) item: ItemRef<K, V>,
}

/// One shard of the table; see the module.
pub(super) struct Shard<K, V> {
    number: usize,
    index: HashTable<Indexed<K, V>>,
    chunks: Vec<Vec<Option<Slot>>>,
    free: Vec<u32>,
    /// The generation of the next register that is added.
    generation: u32,
}

impl<K, V> Shard<K, V> {
    pub(super) fn new(number: usize) -> Self {
        Self { number, index: HashTable::new(), chunks: Vec::new(), free: Vec::new(), generation: 0 }
    }

    #[inline]
    pub(super) fn slot(&self, index: usize) -> Option<&Slot> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)?.as_ref()
    }

    /// Returns the slot of a place, if the place has not been given to another key.
    pub(super) fn slot_of(&self, place: SlotRef) -> Option<&Slot> {
        self.slot(place.id.index()).filter(|slot| slot.generation == place.generation)
    }

    fn slot_mut(&mut self, index: usize) -> Option<&mut Slot> {
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)?.as_mut()
    }

    /// Returns the first register that may have this hash. Only its slot has the full hash.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> Option<&Indexed<K, V>> {
        self.index.find(hash, |indexed| indexed.may_be(hash))
    }

    /// Returns one more than the highest index of a slot.
    pub(super) fn end(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Returns the first register that may have this hash.
    pub(super) fn first_with(&self, hash: u64) -> Option<Snapshot<K, V>> {
        let indexed = self.find(hash)?;
        Some(self.snapshot(self.slot(indexed.slot())?, indexed))
    }

    /// Returns every register that has this hash.
    pub(super) fn all_with(&self, hash: u64) -> Vec<Snapshot<K, V>> {
        let same = self.index.iter_hash(hash).filter(|indexed| indexed.may_be(hash));
        let same = same.filter_map(|indexed| Some(self.snapshot(self.slot(indexed.slot())?, indexed)));
        same.filter(|found| found.hash == hash).collect()
    }

    /// Returns the register in a slot, if the slot is in use.
    pub(super) fn at(&self, index: usize) -> Option<Snapshot<K, V>> {
        let slot = self.slot(index)?;
        Some(self.snapshot(slot, self.indexed(slot, index)?))
    }

    /// Returns the places of all values.
    pub(super) fn live_places(&self) -> Vec<SlotRef> {
        let slots = self.chunks.iter().flatten().enumerate();
        let live = slots.filter_map(|(index, slot)| Some((index, slot.as_ref().filter(|slot| slot.kind().is_live())?)));
        live.map(|(index, slot)| SlotRef { id: SlotId::new(self.number, index), generation: slot.generation }).collect()
    }

    /// Returns the register in a place, if the place has not been given to another key.
    pub(super) fn resolve(&self, place: SlotRef) -> Option<Snapshot<K, V>> {
        let slot = self.slot_of(place)?;
        Some(self.snapshot(slot, self.indexed(slot, place.id.index())?))
    }

    /// Returns the index entry of a slot that is in use.
    fn indexed(&self, slot: &Slot, index: usize) -> Option<&Indexed<K, V>> {
        self.index.find(slot.hash, |indexed| indexed.slot() == index)
    }

    fn snapshot(&self, slot: &Slot, indexed: &Indexed<K, V>) -> Snapshot<K, V> {
        Snapshot {
            slot: SlotRef { id: SlotId::new(self.number, indexed.slot()), generation: slot.generation },
            hash: slot.hash,
            meta: slot.meta(),
            item: ItemRef::clone(&indexed.item),
        }
    }

    /// Adds a register for a key that has none.
    pub(super) fn add(&mut self, hash: u64, meta: Meta, plain: bool, item: ItemRef<K, V>) -> SlotRef {
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        let index = self.place(Slot::new(hash, generation, meta));
        let Self { index: table, chunks, .. } = self;
        let hash_of = |indexed: &Indexed<K, V>| {
            let index = indexed.slot();
            chunks[index / CHUNK][index % CHUNK].as_ref().map_or(0, |slot| slot.hash)
        };
        let mut indexed = Indexed { item, slot: index as u32, tag: 0 };
        indexed.set_tag(hash, plain);
        table.insert_unique(hash, indexed, hash_of);
        SlotRef { id: SlotId::new(self.number, index), generation }
    }

    fn place(&mut self, slot: Slot) -> usize {
        if let Some(index) = self.free.pop() {
            let index = index as usize;
            self.chunks[index / CHUNK][index % CHUNK] = Some(slot);
            return index;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first chunk starts empty and grows: a small cache has all shards too.
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        let chunk = self.chunks.len() - 1;
        self.chunks[chunk].push(Some(slot));
        chunk * CHUNK + self.chunks[chunk].len() - 1
    }

    /// Replaces the metadata of a register, and its item if a new one is given. Returns the displaced item.
    pub(super) fn update(
        &mut self,
        place: SlotRef,
        meta: Meta,
        plain: bool,
        item: Option<ItemRef<K, V>>,
    ) -> Option<ItemRef<K, V>> {
        let index = place.id.index();
        let slot = self.slot_mut(index).filter(|slot| slot.generation == place.generation)?;
        let hash = slot.hash;
        *slot = Slot::new(hash, place.generation, meta);
        let indexed = self.index.find_mut(hash, |indexed| indexed.slot() == index)?;
        indexed.set_tag(hash, plain);
        item.map(|item| std::mem::replace(&mut indexed.item, item))
    }

    /// Frees a place. Returns its item.
    pub(super) fn remove(&mut self, place: SlotRef) -> Option<ItemRef<K, V>> {
        let index = place.id.index();
        let hash = self.slot_of(place)?.hash;
        let entry = self.index.find_entry(hash, |indexed| indexed.slot() == index).ok()?;
        let (indexed, _) = entry.remove();
        self.chunks[index / CHUNK][index % CHUNK] = None;
        self.free.push(index as u32);
        Some(indexed.item)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_register_takes_in_the_index_and_in_the_slab() {
        assert_eq!(size_of::<Option<super::Slot>>(), 56);
        assert_eq!(size_of::<super::Indexed<String, bytes::Bytes>>(), 16);
    }
}
