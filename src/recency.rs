//! Which of the entries were used last: knows places, nothing of replication.
//!
//! Reads do not take the index's lock. They are noted in small rings, one for each of a few groups of
//! threads, and applied in batches by whoever is about to evict. When a ring is full its oldest notes
//! are overwritten: what matters for eviction is what was read last.

use std::cell::Cell;
use std::hash::{BuildHasherDefault, Hasher};

use ::lru::LruCache;

use crate::store::{SlotId, SlotRef};
use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Places are small distinct numbers: a multiplication spreads them.
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

/// Least-recently-used order of places.
pub(crate) struct Recency {
    order: LruCache<u32, u32, BuildHasherDefault<PlaceHasher>>,
}

impl Recency {
    pub(crate) fn new() -> Self {
        Self { order: LruCache::unbounded_with_hasher(BuildHasherDefault::default()) }
    }

    /// A new entry, or one that was written: it is now the most recent.
    pub(crate) fn insert(&mut self, slot: SlotRef) {
        self.order.put(slot.id.0, slot.generation);
    }

    /// An entry was read. Unknown places are ignored: the note may be older than a removal.
    pub(crate) fn touch(&mut self, id: SlotId) {
        self.order.promote(&id.0);
    }

    pub(crate) fn remove(&mut self, slot: SlotRef) {
        if self.order.peek(&slot.id.0) == Some(&slot.generation) {
            self.order.pop(&slot.id.0);
        }
    }

    /// Takes out the least recent entry.
    pub(crate) fn pop(&mut self) -> Option<SlotRef> {
        let (id, generation) = self.order.pop_lru()?;
        Some(SlotRef { id: SlotId(id), generation })
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The most recent first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SlotRef> + '_ {
        self.order.iter().map(|(id, generation)| SlotRef { id: SlotId(*id), generation: *generation })
    }
}

const STRIPES: usize = 16;
const RING: usize = 128;
const EMPTY: u32 = u32::MAX;

#[repr(align(128))]
struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
    head: AtomicUsize,
    ring: [AtomicU32; RING],
}

/// Reads noted by many threads without waiting for each other.
pub(crate) struct ReadLog {
    stripes: Box<[Stripe]>,
    noting: bool,
}

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

static NEXT_STRIPE: AtomicUsize = AtomicUsize::new(0);

fn stripe() -> usize {
    STRIPE.with(|stripe| {
        if stripe.get() == usize::MAX {
            stripe.set(NEXT_STRIPE.fetch_add(1, Ordering::Relaxed) % STRIPES);
        }
        stripe.get()
    })
}

impl ReadLog {
    /// `noting`: whether anybody will want to know what was read.
    pub(crate) fn new(noting: bool) -> Self {
        let stripe = || Stripe {
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            head: AtomicUsize::new(0),
            ring: [const { AtomicU32::new(EMPTY) }; RING],
        };
        Self { stripes: (0..STRIPES).map(|_| stripe()).collect(), noting }
    }

    pub(crate) fn hit(&self, slot: SlotRef) {
        let stripe = &self.stripes[stripe()];
        stripe.hits.fetch_add(1, Ordering::Relaxed);
        if self.noting {
            let place = stripe.head.fetch_add(1, Ordering::Relaxed) % RING;
            stripe.ring[place].store(slot.id.0, Ordering::Relaxed);
        }
    }

    pub(crate) fn miss(&self) {
        self.stripes[stripe()].misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Hits and misses so far.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let sum = |count: fn(&Stripe) -> &AtomicU64| {
            self.stripes.iter().map(|stripe| count(stripe).load(Ordering::Relaxed)).sum()
        };
        (sum(|stripe| &stripe.hits), sum(|stripe| &stripe.misses))
    }

    /// Hands out what was read, each thread's reads in their order, and forgets it.
    pub(crate) fn drain(&self, mut each: impl FnMut(SlotId)) {
        for stripe in &self.stripes {
            if stripe.head.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let head = stripe.head.swap(0, Ordering::Relaxed);
            let (first, count) = if head > RING { (head % RING, RING) } else { (0, head) };
            for offset in 0..count {
                let id = stripe.ring[(first + offset) % RING].swap(EMPTY, Ordering::Relaxed);
                if id != EMPTY {
                    each(SlotId(id));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(id: u32) -> SlotRef {
        SlotRef { id: SlotId(id), generation: id }
    }

    #[test]
    fn the_least_recent_goes_first_and_reads_count() {
        let mut recency = Recency::new();
        (0..3).for_each(|id| recency.insert(slot(id)));
        recency.touch(SlotId(0));
        assert_eq!(recency.pop(), Some(slot(1)));
        recency.remove(slot(2));
        assert_eq!(recency.pop(), Some(slot(0)));
        assert_eq!(recency.pop(), None);
    }

    #[test]
    fn a_reused_place_is_not_removed_for_its_predecessor() {
        let mut recency = Recency::new();
        recency.insert(SlotRef { id: SlotId(1), generation: 7 });
        recency.remove(SlotRef { id: SlotId(1), generation: 6 });
        assert_eq!(recency.len(), 1);
    }

    #[test]
    fn reads_come_out_in_order_and_the_last_ones_survive_overflow() {
        let log = ReadLog::new(true);
        (0..1_000).for_each(|id| log.hit(slot(id)));
        let mut seen = Vec::new();
        log.drain(|id| seen.push(id.0));
        assert_eq!(seen, (1_000 - RING as u32..1_000).collect::<Vec<_>>());
        log.drain(|_| panic!("drained twice"));
        assert_eq!(log.totals(), (1_000, 0));
    }
}
