//! The slots of one shard, in chunks. A slot keeps its number as long as its register is held.
//!
//! Columns beside the slots of a chunk hold the fields that few registers have. A column takes no memory while no slot of
//! its chunk needs it. A chunk without registers is given back to the allocator, except the lowest one: a register that
//! is added and removed in turn does not allocate each time.

use super::slot::{Meta, Rare, Slot};
use crate::hlc::HlcTime;
use crate::item::ItemRef;

/// The number of slots in one chunk.
const CHUNK: usize = 256;

/// A value for some of the slots in a chunk.
struct Column<T> {
    values: Vec<T>,
    used: usize,
}

impl<T: Copy + Default> Column<T> {
    const fn new() -> Self {
        Self { values: Vec::new(), used: 0 }
    }

    /// Sets or removes the value of a slot. `had` is true if the slot has a value so far.
    #[inline(never)]
    fn set(&mut self, at: usize, had: bool, value: Option<T>) {
        match value {
            Some(value) => self.put(at, had, value),
            None if had => self.take(),
            None => {}
        }
    }

    fn put(&mut self, at: usize, had: bool, value: T) {
        if self.values.len() <= at {
            self.values.resize(at + 1, T::default());
        }
        self.values[at] = value;
        self.used += usize::from(!had);
    }

    /// Removes the value of a slot.
    #[inline(never)]
    fn take(&mut self) {
        self.used -= 1;
        if self.used == 0 {
            self.values = Vec::new();
        }
    }

    fn get(&self, at: usize) -> T {
        self.values.get(at).copied().unwrap_or_default()
    }
}

/// A run of slots with consecutive numbers.
struct Chunk<K, V> {
    slots: Vec<Option<Slot<K, V>>>,
    /// The places in `slots` that are free.
    free: Vec<u8>,
    deadlines: Column<HlcTime>,
    rare: Column<Rare>,
}

impl<K, V> Chunk<K, V> {
    const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), deadlines: Column::new(), rare: Column::new() }
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    fn has_room(&self) -> bool {
        self.slots.len() < CHUNK || !self.free.is_empty()
    }

    /// Takes a free slot. `full` is true if a new chunk gets the memory for all its slots at once.
    fn place(&mut self, slot: Slot<K, V>, full: bool) -> usize {
        if let Some(at) = self.free.pop() {
            self.slots[at as usize] = Some(slot);
            return at.into();
        }
        if full && self.slots.capacity() == 0 {
            self.slots.reserve_exact(CHUNK);
        }
        self.slots.push(Some(slot));
        self.slots.len() - 1
    }

    /// Stores what a slot has no space for. `had_deadline` and `was_rare` are true if that was so before.
    #[inline]
    fn set_columns(&mut self, at: usize, (had_deadline, was_rare): (bool, bool), meta: &Meta) {
        if had_deadline || meta.expires != 0 {
            self.deadlines.set(at, had_deadline, (meta.expires != 0).then_some(meta.expires));
        }
        let rare = Rare::of(meta);
        if was_rare || rare.is_some() {
            self.rare.set(at, was_rare, rare);
        }
    }

    #[inline]
    fn remove(&mut self, at: usize) -> Option<ItemRef<K, V>> {
        let slot = self.slots.get_mut(at)?.take()?;
        if slot.expires() {
            self.deadlines.take();
        }
        if slot.is_rare() {
            self.rare.take();
        }
        self.free.push(at as u8);
        Some(slot.item)
    }
}

/// The slots of one shard.
pub(super) struct Slab<K, V> {
    chunks: Vec<Chunk<K, V>>,
    /// One bit for each chunk: set if the chunk has room.
    room: Vec<u64>,
    /// The number of the first word of `room` that may have a bit set.
    first_room: usize,
    /// The one chunk without registers that keeps its memory.
    kept: Option<usize>,
}

impl<K, V> Slab<K, V> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), room: Vec::new(), first_room: 0, kept: None }
    }

    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<&Slot<K, V>> {
        self.chunks.get(number / CHUNK)?.slots.get(number % CHUNK)?.as_ref()
    }

    /// Returns each slot in use with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Slot<K, V>)> {
        let chunks = (0..).step_by(CHUNK).zip(&self.chunks);
        let slots = chunks.flat_map(|(first, chunk)| (first..).zip(&chunk.slots));
        slots.filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }

    /// Returns one more than the highest number of a slot.
    pub(super) fn end(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.slots.len())
    }

    /// Returns the deadline of a slot, or zero if it has none.
    #[inline]
    pub(super) fn deadline(&self, number: usize, slot: &Slot<K, V>) -> HlcTime {
        if slot.expires() { self.chunks[number / CHUNK].deadlines.get(number % CHUNK) } else { 0 }
    }

    /// Returns the metadata of a slot.
    #[inline]
    pub(super) fn meta(&self, number: usize, slot: &Slot<K, V>) -> Meta {
        let meta = slot.meta(self.deadline(number, slot));
        if slot.is_rare() { self.chunks[number / CHUNK].rare.get(number % CHUNK).complete(meta) } else { meta }
    }

    /// Adds a register. Returns the number of its slot: the lowest chunk with room has it.
    pub(super) fn add(&mut self, hash: u64, generation: u32, meta: &Meta, item: ItemRef<K, V>) -> usize {
        let number = self.chunk_with_room();
        if self.kept == Some(number) {
            self.kept = None;
        }
        let chunk = &mut self.chunks[number];
        // The first chunk grows step by step: a small cache has all shards too.
        let at = chunk.place(Slot::new(hash, generation, meta, item), number > 0);
        chunk.set_columns(at, (false, false), meta);
        if !chunk.has_room() {
            self.room[number / 64] &= !(1 << (number % 64));
        }
        number * CHUNK + at
    }

    fn chunk_with_room(&mut self) -> usize {
        while let Some(word) = self.room.get(self.first_room) {
            if *word != 0 {
                return self.first_room * 64 + word.trailing_zeros() as usize;
            }
            self.first_room += 1;
        }
        let number = self.chunks.len();
        self.chunks.push(Chunk::new());
        self.note_room(number);
        number
    }

    fn note_room(&mut self, number: usize) {
        let word = number / 64;
        if self.room.len() <= word {
            self.room.resize(word + 1, 0);
        }
        self.room[word] |= 1 << (number % 64);
        self.first_room = self.first_room.min(word);
    }

    /// Replaces the metadata of a register, and its item if a new one is given. Returns the displaced item. Does nothing
    /// if the slot has another generation.
    pub(super) fn update(
        &mut self,
        (number, generation): (usize, u32),
        meta: &Meta,
        item: Option<ItemRef<K, V>>,
    ) -> Option<ItemRef<K, V>> {
        let (chunk, at) = (self.chunks.get_mut(number / CHUNK)?, number % CHUNK);
        let slot = chunk.slots.get_mut(at)?.as_mut().filter(|slot| slot.generation == generation)?;
        let before = (slot.expires(), slot.is_rare());
        slot.set_meta(meta);
        let displaced = item.map(|item| std::mem::replace(&mut slot.item, item));
        chunk.set_columns(at, before, meta);
        displaced
    }

    /// Removes a register. Returns its item.
    pub(super) fn remove(&mut self, number: usize) -> Option<ItemRef<K, V>> {
        let (number, at) = (number / CHUNK, number % CHUNK);
        let chunk = self.chunks.get_mut(number)?;
        let had_room = chunk.has_room();
        let item = chunk.remove(at)?;
        let is_empty = chunk.is_empty();
        if !had_room {
            self.note_room(number);
        }
        if is_empty {
            self.note_empty(number);
        }
        Some(item)
    }

    /// Notes that a chunk has no registers left. Gives the memory of such chunks back, except that of the lowest one,
    /// which the next register takes.
    fn note_empty(&mut self, number: usize) {
        let Some(other) = self.kept else {
            self.kept = Some(number);
            return;
        };
        self.kept = Some(number.min(other));
        self.chunks[number.max(other)] = Chunk::new();
        while self.chunks.last().is_some_and(|chunk| chunk.slots.is_empty()) {
            self.chunks.pop();
            let number = self.chunks.len();
            self.room[number / 64] &= !(1 << (number % 64));
        }
        if self.chunks.len() * 4 < self.chunks.capacity() {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
    }
}

#[cfg(test)]
impl<K, V> Slab<K, V> {
    /// Returns the number of slots that memory is allocated for, and the number of values in columns.
    pub(super) fn allocated(&self) -> (usize, usize) {
        let slots = self.chunks.iter().map(|chunk| chunk.slots.capacity()).sum();
        (slots, self.chunks.iter().map(|chunk| chunk.deadlines.values.len() + chunk.rare.values.len()).sum())
    }
}
