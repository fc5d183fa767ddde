//! One shard: the index for look-ups, and the slab of slots behind it.
//!
//! The lock around a shard in [`Store`](super::Store) is its only owner. This file and `slab` contain all that happens
//! under that lock.

use hashbrown::HashTable;

use super::slab::Slab;
use super::slot::{Meta, Slot, SlotId, SlotRef};
use crate::hlc::HlcTime;
use crate::item::ItemRef;

/// The number of buckets of an index that is never made smaller.
const FEW_BUCKETS: usize = 64;

/// A register, and the place in which it was found, at one moment.
pub(crate) struct Snapshot<K, V> {
    pub(crate) slot: SlotRef,
    pub(crate) hash: u64,
    pub(crate) meta: Meta,
    pub(crate) item: ItemRef<K, V>,
}

/// One shard of the table; see the module.
pub(super) struct Shard<K, V> {
    number: usize,
    /// The numbers of the slots, by the hashes of their keys.
    index: HashTable<u32>,
    slab: Slab<K, V>,
    /// The generation of the next register that is added.
    generation: u32,
}

impl<K, V> Shard<K, V> {
    pub(super) fn new(number: usize) -> Self {
        Self { number, index: HashTable::new(), slab: Slab::new(), generation: 0 }
    }

    /// Returns the slot of a place, if the place has not been given to another key.
    pub(super) fn slot_of(&self, place: SlotRef) -> Option<&Slot<K, V>> {
        self.slab.get(place.id.index()).filter(|slot| slot.generation == place.generation)
    }

    /// Returns the metadata of the register in a place, if the place has not been given to another key.
    pub(super) fn meta_of(&self, place: SlotRef) -> Option<Meta> {
        Some(self.slab.meta(place.id.index(), self.slot_of(place)?))
    }

    /// Returns the deadline of a slot, or zero if it has none.
    #[inline]
    pub(super) fn deadline(&self, index: usize, slot: &Slot<K, V>) -> HlcTime {
        self.slab.deadline(index, slot)
    }

    /// Returns the first slot with this hash, and its number.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> Option<(usize, &Slot<K, V>)> {
        let is_it = |index: &u32| self.slab.get(*index as usize).is_some_and(|slot| slot.hash == hash);
        let index = *self.index.find(hash, is_it)? as usize;
        Some((index, self.slab.get(index)?))
    }

    /// Returns one more than the highest index of a slot.
    pub(super) fn end(&self) -> usize {
        self.slab.end()
    }

    /// Returns the first register that has this hash.
    pub(super) fn first_with(&self, hash: u64) -> Option<Snapshot<K, V>> {
        let (index, slot) = self.find(hash)?;
        Some(self.snapshot(index, slot))
    }

    /// Returns every register that has this hash.
    pub(super) fn all_with(&self, hash: u64) -> Vec<Snapshot<K, V>> {
        let same = self.index.iter_hash(hash).filter_map(|index| self.at(*index as usize));
        same.filter(|found| found.hash == hash).collect()
    }

    /// Returns the register in a slot, if the slot is in use.
    pub(super) fn at(&self, index: usize) -> Option<Snapshot<K, V>> {
        Some(self.snapshot(index, self.slab.get(index)?))
    }

    /// Returns the places of all values.
    pub(super) fn live_places(&self) -> Vec<SlotRef> {
        let live = self.slab.iter().filter(|(_, slot)| slot.is_live());
        live.map(|(index, slot)| SlotRef { id: SlotId::new(self.number, index), generation: slot.generation }).collect()
    }

    /// Returns the register in a place, if the place has not been given to another key.
    pub(super) fn resolve(&self, place: SlotRef) -> Option<Snapshot<K, V>> {
        Some(self.snapshot(place.id.index(), self.slot_of(place)?))
    }

    fn snapshot(&self, index: usize, slot: &Slot<K, V>) -> Snapshot<K, V> {
        Snapshot {
            slot: SlotRef { id: SlotId::new(self.number, index), generation: slot.generation },
            hash: slot.hash,
            meta: self.slab.meta(index, slot),
            item: ItemRef::clone(&slot.item),
        }
    }

    /// Adds a register for a key that has none.
    pub(super) fn add(&mut self, hash: u64, meta: &Meta, item: ItemRef<K, V>) -> SlotRef {
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        let index = self.slab.add(hash, generation, meta, item);
        let Self { index: table, slab, .. } = self;
        table.insert_unique(hash, index as u32, |index| slab.get(*index as usize).map_or(0, |slot| slot.hash));
        SlotRef { id: SlotId::new(self.number, index), generation }
    }

    /// Replaces the metadata of a register, and its item if a new one is given. Returns the displaced item.
    pub(super) fn update(&mut self, place: SlotRef, meta: &Meta, item: Option<ItemRef<K, V>>) -> Option<ItemRef<K, V>> {
        self.slab.update((place.id.index(), place.generation), meta, item)
    }

    /// Frees a place. Returns its item.
    pub(super) fn remove(&mut self, place: SlotRef) -> Option<ItemRef<K, V>> {
        let (index, hash) = (place.id.index(), self.slot_of(place)?.hash);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other as usize == index) {
            entry.remove();
        }
        let item = self.slab.remove(index);
        let (buckets, held) = (self.index.num_buckets(), self.index.len());
        if held < buckets / 8 && buckets > FEW_BUCKETS {
            self.shrink_index();
        }
        item
    }

    /// Makes the index smaller, after most of its entries were removed. The next change of its size is due only after
    /// additions or removals in proportion to its entries.
    #[cold]
    fn shrink_index(&mut self) {
        let Self { index: table, slab, .. } = self;
        table.shrink_to(2 * table.len(), |index| slab.get(*index as usize).map_or(0, |slot| slot.hash));
    }
}

#[cfg(test)]
impl<K, V> Shard<K, V> {
    /// Returns the number of slots that memory is allocated for, the number of values beside them, and the number of
    /// buckets of the index.
    pub(super) fn allocated(&self) -> [usize; 3] {
        let (slots, values) = self.slab.allocated();
        [slots, values, self.index.num_buckets()]
    }
}
