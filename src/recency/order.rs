//! The places in order of their last use. In a segmented order, the places that were used again have an order of
//! their own.

use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroUsize;

use ::lru::LruCache;

use crate::store::{SlotId, SlotRef};

/// A hasher for places, which are small distinct numbers: one multiplication spreads them.
#[derive(Default)]
pub(crate) struct PlaceHasher(u64);

impl Hasher for PlaceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(26);
    }
}

/// The number of places in an order whose map is never made smaller.
const FEW: usize = 1_024;
/// A number of places that is never reached.
const FAR: NonZeroUsize = NonZeroUsize::new(usize::MAX - 1).expect("not zero");

/// Places with their generations, in order of their last use.
struct Places {
    lru: LruCache<u32, u32, BuildHasherDefault<PlaceHasher>>,
    /// The most places since the map last got smaller, as far as places were removed since.
    most: usize,
}

impl Places {
    fn new() -> Self {
        Self { lru: LruCache::unbounded_with_hasher(BuildHasherDefault::default()), most: 0 }
    }

    fn put(&mut self, slot: SlotRef) {
        self.lru.put(slot.id.0, slot.generation);
    }

    /// Makes a place the most recent. Returns true if it is here.
    fn promote(&mut self, id: SlotId) -> bool {
        self.lru.promote(&id.0)
    }

    fn generation(&self, id: SlotId) -> Option<u32> {
        self.lru.peek(&id.0).copied()
    }

    fn pop(&mut self, id: SlotId) -> Option<SlotRef> {
        // Most orders have no place without weight, so most of these calls need not search.
        let generation = if self.lru.is_empty() { None } else { self.lru.pop(&id.0) }?;
        self.shrink();
        Some(SlotRef { id, generation })
    }

    fn pop_least_recent(&mut self) -> Option<SlotRef> {
        let (id, generation) = self.lru.pop_lru()?;
        self.shrink();
        Some(SlotRef { id: SlotId(id), generation })
    }

    /// Gives memory back after most places were removed. The map is as large again only after the same number of
    /// places were added.
    fn shrink(&mut self) {
        let left = self.lru.len();
        self.most = self.most.max(left + 1);
        if self.most > FEW && left < self.most / 8 {
            self.most = left;
            // Each change of the limit, which is never reached, fits the map to its content.
            let limit = if self.lru.cap() == NonZeroUsize::MAX { FAR } else { NonZeroUsize::MAX };
            self.lru.resize(limit);
        }
    }

    fn len(&self) -> usize {
        self.lru.len()
    }

    fn iter(&self) -> impl Iterator<Item = SlotRef> + '_ {
        self.lru.iter().map(|(id, generation)| SlotRef { id: SlotId(*id), generation: *generation })
    }
}

/// The places in order of their last use. In a segmented order, the places that were used again have an order of their
/// own. Places of entries without weight have an order of their own in any case: evicting them would make no room.
pub(crate) struct Order {
    /// Places not used again since they were added, or moved back by [`demote`](Self::demote). In a plain order: all.
    probation: Places,
    /// Places used again since they were added; empty in a plain order.
    protected: Places,
    /// Places of entries of weight zero, which are never evicted.
    weightless: Places,
    segmented: bool,
}

impl Order {
    pub(super) fn new(segmented: bool) -> Self {
        Self { probation: Places::new(), protected: Places::new(), weightless: Places::new(), segmented }
    }

    /// Adds a new entry, or notes a write to one. It is the most recent from now on. `weighs` is true if its weight is
    /// more than zero.
    pub(super) fn insert(&mut self, slot: SlotRef, weighs: bool) {
        if !weighs {
            self.probation.pop(slot.id);
            self.protected.pop(slot.id);
            self.weightless.put(slot);
            return;
        }
        if self.weightless.pop(slot.id) == Some(slot) {
            self.probation.put(slot);
        }
        if self.segmented {
            if self.generation(slot.id) == Some(slot.generation) {
                return self.touch(slot.id);
            }
            // The place may have belonged to another key.
            self.protected.pop(slot.id);
        }
        self.probation.put(slot);
    }

    /// Notes that another node's write replaced the value of an entry. That is no use, so an entry with weight keeps its
    /// position. An entry that had no weight had no position either: it takes that of a value that has just arrived.
    pub(super) fn reweigh(&mut self, slot: SlotRef, weighs: bool) {
        if !weighs && self.generation(slot.id) == Some(slot.generation) {
            self.remove(slot);
            self.weightless.put(slot);
        } else if weighs && self.weightless.generation(slot.id) == Some(slot.generation) {
            self.weightless.pop(slot.id);
            self.probation.put(slot);
        }
    }

    /// Notes a read of an entry. Ignores unknown places: the note may be older than a removal.
    pub(super) fn touch(&mut self, id: SlotId) {
        if self.weightless.promote(id) {
            return;
        }
        if !self.segmented {
            self.probation.promote(id);
        } else if !self.protected.promote(id)
            && let Some(slot) = self.probation.pop(id)
        {
            self.protected.put(slot);
        }
    }

    /// Moves the least recently used of the protected places back to probation, until a fifth of all places is there.
    /// Done only when a place is evicted: while the cache fills, four fifths of the present places are few, and uses
    /// would be lost.
    fn demote(&mut self) {
        while self.protected.len() * 5 > self.len() * 4 {
            let Some(slot) = self.protected.pop_least_recent() else { return };
            self.probation.put(slot);
        }
    }

    /// Returns the generation of a place, if the entry there has weight.
    pub(super) fn generation(&self, id: SlotId) -> Option<u32> {
        self.probation.generation(id).or_else(|| self.protected.generation(id))
    }

    pub(super) fn remove(&mut self, slot: SlotRef) {
        for order in [&mut self.probation, &mut self.protected, &mut self.weightless] {
            if order.generation(slot.id) == Some(slot.generation) {
                order.pop(slot.id);
            }
        }
    }

    /// Takes out the next entry to evict. The newest entry stays if an older one can be evicted.
    pub(super) fn pop(&mut self) -> Option<SlotRef> {
        self.demote();
        let few = self.probation.len() <= 1;
        let next = if few { self.protected.pop_least_recent() } else { None };
        next.or_else(|| self.probation.pop_least_recent())
    }

    /// Returns the number of entries that can be evicted.
    pub(super) fn len(&self) -> usize {
        self.probation.len() + self.protected.len()
    }

    /// Returns the places, starting with those evicted last. Places that are never evicted follow at the end.
    pub(super) fn iter(&self) -> impl Iterator<Item = SlotRef> + '_ {
        self.protected.iter().chain(self.probation.iter()).chain(self.weightless.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(id: u32) -> SlotRef {
        SlotRef { id: SlotId(id), generation: id }
    }

    /// Plain order: the least recently used entry is evicted first, and a read counts as a use.
    #[test]
    fn the_least_recent_goes_first_and_reads_count() {
        let mut recency = Order::new(false);
        (0..3).for_each(|id| recency.insert(slot(id), true));
        recency.touch(SlotId(0));
        assert_eq!(recency.pop(), Some(slot(1)));
        recency.remove(slot(2));
        assert_eq!(recency.pop(), Some(slot(0)));
        assert_eq!(recency.pop(), None);
    }

    fn order(recency: &mut Order) -> Vec<u32> {
        std::iter::from_fn(|| recency.pop()).map(|slot| slot.id.0).collect()
    }

    /// Segmented order: entries used again outlive all new ones but the newest. The plain order evicts them before
    /// all new ones.
    #[test]
    fn what_was_used_again_outlives_what_only_passes() {
        let run = |segmented| {
            let mut recency = Order::new(segmented);
            (0..10).for_each(|id| recency.insert(slot(id), true));
            (0..4).for_each(|id| recency.touch(SlotId(id)));
            (10..16).for_each(|id| recency.insert(slot(id), true));
            let gone: Vec<_> = (0..6).filter_map(|_| recency.pop()).map(|slot| slot.id.0).collect();
            (gone, order(&mut recency))
        };
        let (first, rest) = run(true);
        assert_eq!(first, [4, 5, 6, 7, 8, 9]);
        assert_eq!(rest, [10, 11, 12, 13, 14, 0, 1, 2, 3, 15], "the newest goes last of all");
        let (first, rest) = run(false);
        assert_eq!((first, rest), (vec![4, 5, 6, 7, 8, 9], vec![0, 1, 2, 3, 10, 11, 12, 13, 14, 15]));
    }

    /// Segmented order: a use counts although few entries are there yet, because nothing had to go.
    #[test]
    fn a_use_is_not_lost_while_the_cache_fills() {
        let mut recency = Order::new(true);
        for id in 0..4 {
            recency.insert(slot(id), true);
            recency.touch(SlotId(id));
        }
        (4..10).for_each(|id| recency.insert(slot(id), true));
        let gone: Vec<_> = (0..6).filter_map(|_| recency.pop()).map(|slot| slot.id.0).collect();
        assert_eq!(gone, [4, 5, 6, 7, 8, 0], "of five, four were used again, and one of them makes room");
    }

    /// Segmented order: if all entries are used again, the least recent of them move back, so that four fifths remain.
    #[test]
    fn a_fifth_is_kept_for_what_comes() {
        let mut recency = Order::new(true);
        (0..10).for_each(|id| recency.insert(slot(id), true));
        (0..10).for_each(|id| recency.touch(SlotId(id)));
        assert_eq!(recency.pop(), Some(slot(0)));
        assert_eq!(
            (recency.protected.len(), recency.len()),
            (8, 9),
            "1 moved back as well, and goes next if it is not used"
        );
        recency.insert(slot(10), true);
        assert_eq!(recency.pop(), Some(slot(1)));
    }

    /// After most places are removed, the map fits its content, and the order is as before.
    #[test]
    fn memory_is_given_back_and_the_order_stays() {
        for segmented in [false, true] {
            let mut recency = Order::new(segmented);
            (0..10_000).for_each(|id| recency.insert(slot(id), true));
            (10..9_990).for_each(|id| recency.remove(slot(id)));
            assert!(recency.probation.most < 10_000 / 4, "it got smaller");
            (10_000..10_010).for_each(|id| recency.insert(slot(id), true));
            let expected: Vec<_> = (0..10).chain(9_990..10_010).collect();
            assert_eq!(order(&mut recency), expected);
        }
    }

    /// Segmented order: the only new entry is not evicted while an older one can be.
    #[test]
    fn what_has_just_come_is_not_what_goes() {
        let mut recency = Order::new(true);
        recency.insert(slot(1), true);
        recency.touch(SlotId(1));
        recency.insert(slot(2), true);
        recency.touch(SlotId(1));
        assert_eq!(recency.pop(), Some(slot(1)));
        assert_eq!(recency.pop(), Some(slot(2)));
    }

    /// Segmented order: a place that is reused for another key does not inherit that its predecessor was used again.
    #[test]
    fn a_place_that_changed_hands_starts_again() {
        let mut recency = Order::new(true);
        (0..10).for_each(|id| recency.insert(slot(id), true));
        recency.touch(SlotId(3));
        recency.insert(SlotRef { id: SlotId(3), generation: 99 }, true);
        assert_eq!((recency.protected.len(), recency.len()), (0, 10));
        recency.remove(SlotRef { id: SlotId(3), generation: 3 });
        assert_eq!(recency.len(), 10);
        recency.remove(SlotRef { id: SlotId(3), generation: 99 });
        assert_eq!(recency.len(), 9);
    }

    /// Entries without weight are never evicted. One that gets weight is the most recent; one that loses it leaves the
    /// order. Both orders follow this rule.
    #[test]
    fn what_weighs_nothing_is_left_alone_until_it_weighs_something() {
        for segmented in [false, true] {
            let mut recency = Order::new(segmented);
            (0..6).for_each(|id| recency.insert(slot(id), id % 2 == 0));
            assert_eq!((recency.len(), recency.iter().count()), (3, 6));
            recency.touch(SlotId(1));
            recency.reweigh(slot(0), false);
            recency.reweigh(slot(1), true);
            recency.reweigh(slot(2), true);
            recency.reweigh(SlotRef { id: SlotId(4), generation: 99 }, false);
            assert_eq!(order(&mut recency), [2, 4, 1], "{segmented}");
            recency.insert(slot(3), true);
            recency.insert(slot(5), true);
            recency.insert(slot(5), false);
            recency.remove(slot(5));
            assert_eq!((recency.iter().count(), order(&mut recency)), (2, vec![3]), "{segmented}");
        }
    }

    /// A place that is reused for an entry without weight is not evicted for its predecessor, and the reverse.
    #[test]
    fn a_place_that_changed_hands_has_the_weight_of_its_new_owner() {
        for segmented in [false, true] {
            let mut recency = Order::new(segmented);
            recency.insert(slot(1), true);
            recency.touch(SlotId(1));
            recency.insert(slot(2), false);
            recency.insert(SlotRef { id: SlotId(1), generation: 99 }, false);
            recency.insert(SlotRef { id: SlotId(2), generation: 99 }, true);
            assert_eq!(order(&mut recency), [2]);
        }
    }

    #[test]
    fn a_reused_place_is_not_removed_for_its_predecessor() {
        let mut recency = Order::new(false);
        recency.insert(SlotRef { id: SlotId(1), generation: 7 }, true);
        recency.remove(SlotRef { id: SlotId(1), generation: 6 });
        assert_eq!(recency.len(), 1);
    }
}
