//! The recency order of entries. It handles places only, and is independent of replication.
//!
//! Reads do not take the index's lock. They are noted in small rings: one for each of the first few threads, and one
//! shared by all further threads. `Engine::settle` (`cache/engine.rs`) applies the notes after each call of the
//! replica, before anything is evicted. When a ring is full, its oldest notes are overwritten: only the latest reads
//! matter for eviction.

use std::hash::{BuildHasherDefault, Hasher};

use ::lru::LruCache;
use serde::{Deserialize, Serialize};

use crate::store::{SlotId, SlotRef};
use crate::sync::{AtomicU32, AtomicU64, Ordering, seat, seats};

mod hot;

pub(crate) use hot::{HotPlace, HotPlaces};

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

type Order = LruCache<u32, u32, BuildHasherDefault<PlaceHasher>>;

/// The order in which values are evicted when there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Eviction {
    /// The least recently used first.
    #[default]
    Lru,
    /// Values that were used only once, by their write or arrival, are evicted before values that were used again.
    /// Within each group the least recently used is evicted first (Karedla, Love and Wherry 1994). At most four fifths
    /// of the values of a full cache count as used again. One pass over many keys, or a flood of writes from other nodes, does not
    /// evict the values in use here.
    SegmentedLru,
}

/// The places in order of their last use. In a segmented order, the places that were used again have an order of their
/// own. Places of entries without weight have an order of their own in any case: evicting them would make no room.
pub(crate) struct Recency {
    /// Places not used again since they were added, or moved back by [`demote`](Self::demote). In a plain order: all.
    probation: Order,
    /// Places used again since they were added; empty in a plain order.
    protected: Order,
    /// Places of entries of weight zero, which are never evicted.
    weightless: Order,
    segmented: bool,
    /// The places that were read most lately, for reports.
    pub(crate) hot: HotPlaces,
}

impl Recency {
    pub(crate) fn new(eviction: Eviction) -> Self {
        let order = || LruCache::unbounded_with_hasher(BuildHasherDefault::default());
        let segmented = eviction == Eviction::SegmentedLru;
        Self { probation: order(), protected: order(), weightless: order(), segmented, hot: HotPlaces::default() }
    }

    /// Adds a new entry, or notes a write to one. It is the most recent from now on. `weighs` is true if its weight is
    /// more than zero.
    pub(crate) fn insert(&mut self, slot: SlotRef, weighs: bool) {
        if !weighs {
            self.probation.pop(&slot.id.0);
            self.protected.pop(&slot.id.0);
            self.weightless.put(slot.id.0, slot.generation);
            return;
        }
        if self.weightless.pop(&slot.id.0) == Some(slot.generation) {
            self.probation.put(slot.id.0, slot.generation);
        }
        if self.segmented {
            if self.generation(slot.id) == Some(slot.generation) {
                return self.touch(slot.id);
            }
            // The place may have belonged to another key.
            self.protected.pop(&slot.id.0);
        }
        self.probation.put(slot.id.0, slot.generation);
    }

    /// Notes that another node's write replaced the value of an entry. That is no use, so an entry with weight keeps its
    /// position. An entry that had no weight had no position either: it takes that of a value that has just arrived.
    pub(crate) fn reweigh(&mut self, slot: SlotRef, weighs: bool) {
        if !weighs && self.generation(slot.id) == Some(slot.generation) {
            self.remove(slot);
            self.weightless.put(slot.id.0, slot.generation);
        } else if weighs && self.weightless.peek(&slot.id.0) == Some(&slot.generation) {
            self.weightless.pop(&slot.id.0);
            self.probation.put(slot.id.0, slot.generation);
        }
    }

    /// Notes a read of an entry, for its position and for reports.
    pub(crate) fn note_read(&mut self, id: SlotId) {
        self.touch(id);
        let Self { probation, protected, weightless, hot, .. } = self;
        let orders = [&*probation, &*protected, &*weightless];
        hot.note(id, || orders.into_iter().find_map(|order| order.peek(&id.0)).copied());
    }

    /// Notes a use of an entry. Ignores unknown places: the note may be older than a removal.
    pub(crate) fn touch(&mut self, id: SlotId) {
        if self.weightless.promote(&id.0) {
            return;
        }
        if !self.segmented {
            self.probation.promote(&id.0);
        } else if !self.protected.promote(&id.0)
            && let Some(generation) = self.probation.pop(&id.0)
        {
            self.protected.put(id.0, generation);
        }
    }

    /// Moves the least recently used of the protected places back to probation, until a fifth of all places is there.
    /// Done only when a place is evicted: while the cache fills, four fifths of the present places are few, and uses
    /// would be lost.
    fn demote(&mut self) {
        while self.protected.len() * 5 > self.len() * 4 {
            let Some((id, generation)) = self.protected.pop_lru() else { return };
            self.probation.put(id, generation);
        }
    }

    fn generation(&self, id: SlotId) -> Option<u32> {
        self.probation.peek(&id.0).or_else(|| self.protected.peek(&id.0)).copied()
    }

    pub(crate) fn remove(&mut self, slot: SlotRef) {
        for order in [&mut self.probation, &mut self.protected, &mut self.weightless] {
            if order.peek(&slot.id.0) == Some(&slot.generation) {
                order.pop(&slot.id.0);
            }
        }
    }

    /// Takes out the next entry to evict. The newest entry stays if an older one can be evicted.
    pub(crate) fn pop(&mut self) -> Option<SlotRef> {
        self.demote();
        let few = self.probation.len() <= 1;
        let next = if few { self.protected.pop_lru() } else { None };
        let (id, generation) = next.or_else(|| self.probation.pop_lru())?;
        Some(SlotRef { id: SlotId(id), generation })
    }

    /// Returns the number of entries that can be evicted.
    pub(crate) fn len(&self) -> usize {
        self.probation.len() + self.protected.len()
    }

    /// Returns the places, starting with those evicted last. Places that are never evicted follow at the end.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SlotRef> + '_ {
        let all = self.protected.iter().chain(self.probation.iter()).chain(self.weightless.iter());
        all.map(|(id, generation)| SlotRef { id: SlotId(*id), generation: *generation })
    }
}

/// The reason why a read found no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// Nothing is held: the key was never written, or its value was removed without a trace.
    Absent,
    /// The value was deleted.
    Deleted,
    /// The time to live of the value has ended.
    Expired,
    /// The value was evicted here.
    Evicted,
    /// A tombstone stands in place of a write that may have been overtaken.
    Void,
    /// The value is older than an `invalidate_all`.
    Invalidated,
    /// The value does not decode as this cache's type.
    Unreadable,
}

impl Miss {
    pub(crate) const ALL: [Self; 7] =
        [Self::Absent, Self::Deleted, Self::Expired, Self::Evicted, Self::Void, Self::Invalidated, Self::Unreadable];

    fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Deleted => "deleted",
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Void => "void",
            Self::Invalidated => "invalidated",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The number of stripes. The last one is shared by all threads that have no stripe of their own.
const STRIPES: usize = 16;
/// The number of notes in a ring.
const RING: usize = 512;
/// The content of a ring where no note is.
const EMPTY: u32 = u32::MAX;

/// One ring with its counts. Aligned, so that two stripes never share a cache line.
#[repr(align(128))]
struct Stripe {
    /// The number of hits so far. It is also the number of the next note.
    hits: AtomicU64,
    /// The number of misses so far, by [`Miss`].
    misses: [AtomicU64; Miss::ALL.len()],
    /// The number of the first note that [`ReadLog::drain`] has not reached.
    drained: AtomicU64,
    ring: Box<[AtomicU32]>,
}

/// Adds one and returns the value before. A counter that only this thread changes needs no locked bus operation.
fn count(counter: &AtomicU64, own: bool) -> u64 {
    if own {
        let before = counter.load(Ordering::Relaxed);
        counter.store(before.wrapping_add(1), Ordering::Release);
        before
    } else {
        counter.fetch_add(1, Ordering::AcqRel)
    }
}

/// The log of reads, into which many threads write without waiting for each other.
pub(crate) struct ReadLog {
    stripes: Box<[Stripe]>,
}

impl ReadLog {
    /// Creates the log. `noting` is true if reads will be drained; otherwise only hits and misses are counted.
    pub(crate) fn new(noting: bool) -> Self {
        let stripe = || Stripe {
            hits: AtomicU64::new(0),
            misses: Default::default(),
            drained: AtomicU64::new(0),
            ring: (0..if noting { RING } else { 0 }).map(|_| AtomicU32::new(EMPTY)).collect(),
        };
        Self { stripes: (0..STRIPES).map(|_| stripe()).collect() }
    }

    /// Returns the stripe of this thread, and true if no other thread uses it.
    #[inline]
    fn stripe(&self) -> (&Stripe, bool) {
        let own = seat().filter(|seat| *seat < STRIPES - 1);
        (&self.stripes[own.unwrap_or(STRIPES - 1)], own.is_some())
    }

    #[inline]
    pub(crate) fn hit(&self, id: SlotId) {
        let (stripe, own) = self.stripe();
        let note = count(&stripe.hits, own);
        if let Some(place) = stripe.ring.get(note as usize % RING) {
            place.store(id.0, Ordering::Relaxed);
        }
    }

    pub(crate) fn miss(&self, reason: Miss) {
        let (stripe, own) = self.stripe();
        count(&stripe.misses[reason as usize], own);
    }

    /// Returns the hits and misses so far.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let hits = self.stripes.iter().map(|stripe| stripe.hits.load(Ordering::Relaxed)).sum();
        (hits, self.misses().map(|(_, count)| count).sum())
    }

    /// Returns the misses so far, by the name of their reason.
    pub(crate) fn misses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count =
            |reason: Miss| self.stripes.iter().map(|it| it.misses[reason as usize].load(Ordering::Relaxed)).sum();
        Miss::ALL.into_iter().map(move |reason| (reason.name(), count(reason)))
    }

    /// Passes each noted read to `each`, the reads of each thread in order, and removes it. Only one caller may drain
    /// at a time.
    pub(crate) fn drain(&self, mut each: impl FnMut(SlotId)) {
        let (own, shared) = self.stripes.split_at(STRIPES - 1);
        // Stripes of seats that no thread has taken hold no notes.
        let used = own.iter().take(seats()).chain(shared);
        for stripe in used.filter(|stripe| !stripe.ring.is_empty()) {
            let end = stripe.hits.load(Ordering::Acquire);
            let drained = stripe.drained.load(Ordering::Relaxed);
            if drained == end {
                continue;
            }
            for note in drained.max(end.saturating_sub(RING as u64))..end {
                let place = &stripe.ring[note as usize % RING];
                let id = place.load(Ordering::Relaxed);
                // A concurrent read that wraps around the ring to this place may be lost here.
                place.store(EMPTY, Ordering::Relaxed);
                if id != EMPTY {
                    each(SlotId(id));
                }
            }
            stripe.drained.store(end, Ordering::Relaxed);
        }
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
        let mut recency = Recency::new(Eviction::Lru);
        (0..3).for_each(|id| recency.insert(slot(id), true));
        recency.touch(SlotId(0));
        assert_eq!(recency.pop(), Some(slot(1)));
        recency.remove(slot(2));
        assert_eq!(recency.pop(), Some(slot(0)));
        assert_eq!(recency.pop(), None);
    }

    fn order(recency: &mut Recency) -> Vec<u32> {
        std::iter::from_fn(|| recency.pop()).map(|slot| slot.id.0).collect()
    }

    /// Segmented order: entries used again outlive all new ones but the newest. The plain order evicts them before
    /// all new ones.
    #[test]
    fn what_was_used_again_outlives_what_only_passes() {
        let run = |eviction| {
            let mut recency = Recency::new(eviction);
            (0..10).for_each(|id| recency.insert(slot(id), true));
            (0..4).for_each(|id| recency.touch(SlotId(id)));
            (10..16).for_each(|id| recency.insert(slot(id), true));
            let gone: Vec<_> = (0..6).filter_map(|_| recency.pop()).map(|slot| slot.id.0).collect();
            (gone, order(&mut recency))
        };
        let (first, rest) = run(Eviction::SegmentedLru);
        assert_eq!(first, [4, 5, 6, 7, 8, 9]);
        assert_eq!(rest, [10, 11, 12, 13, 14, 0, 1, 2, 3, 15], "the newest goes last of all");
        let (first, rest) = run(Eviction::Lru);
        assert_eq!((first, rest), (vec![4, 5, 6, 7, 8, 9], vec![0, 1, 2, 3, 10, 11, 12, 13, 14, 15]));
    }

    /// Segmented order: a use counts although few entries are there yet, because nothing had to go.
    #[test]
    fn a_use_is_not_lost_while_the_cache_fills() {
        let mut recency = Recency::new(Eviction::SegmentedLru);
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
        let mut recency = Recency::new(Eviction::SegmentedLru);
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

    /// Segmented order: the only new entry is not evicted while an older one can be.
    #[test]
    fn what_has_just_come_is_not_what_goes() {
        let mut recency = Recency::new(Eviction::SegmentedLru);
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
        let mut recency = Recency::new(Eviction::SegmentedLru);
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
        for eviction in [Eviction::Lru, Eviction::SegmentedLru] {
            let mut recency = Recency::new(eviction);
            (0..6).for_each(|id| recency.insert(slot(id), id % 2 == 0));
            assert_eq!((recency.len(), recency.iter().count()), (3, 6));
            recency.touch(SlotId(1));
            recency.reweigh(slot(0), false);
            recency.reweigh(slot(1), true);
            recency.reweigh(slot(2), true);
            recency.reweigh(SlotRef { id: SlotId(4), generation: 99 }, false);
            assert_eq!(order(&mut recency), [2, 4, 1], "{eviction:?}");
            recency.insert(slot(3), true);
            recency.insert(slot(5), true);
            recency.insert(slot(5), false);
            recency.remove(slot(5));
            assert_eq!((recency.iter().count(), order(&mut recency)), (2, vec![3]), "{eviction:?}");
        }
    }

    /// A place that is reused for an entry without weight is not evicted for its predecessor, and the reverse.
    #[test]
    fn a_place_that_changed_hands_has_the_weight_of_its_new_owner() {
        for eviction in [Eviction::Lru, Eviction::SegmentedLru] {
            let mut recency = Recency::new(eviction);
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
        let mut recency = Recency::new(Eviction::Lru);
        recency.insert(SlotRef { id: SlotId(1), generation: 7 }, true);
        recency.remove(SlotRef { id: SlotId(1), generation: 6 });
        assert_eq!(recency.len(), 1);
    }

    /// Read log: 1,000 reads into a ring of 512 are drained in order, and the latest 512 survive.
    #[test]
    fn reads_come_out_in_order_and_the_last_ones_survive_overflow() {
        let log = ReadLog::new(true);
        (0..1_000).for_each(|id| log.hit(SlotId(id)));
        let mut seen = Vec::new();
        log.drain(|id| seen.push(id.0));
        assert_eq!(seen, (1_000 - RING as u32..1_000).collect::<Vec<_>>());
        log.drain(|_| panic!("drained twice"));
        assert_eq!(log.totals(), (1_000, 0));
    }
}
