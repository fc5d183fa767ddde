//! The record of reads.
//!
//! Reads do not take the lock of the replica. For an order by last use they are noted in small rings: one for each of
//! the first few threads, and one shared by all further threads. `Engine::settle` (`cache/engine.rs`) applies the notes
//! after each call of the replica, before anything is evicted. When a ring is full, its oldest notes are overwritten:
//! only the latest reads matter for eviction. For the sieve a read sets a bit, and nothing has to be applied.

use super::Eviction;
use crate::store::SlotId;
use crate::sync::{AtomicU32, AtomicU64, OnceLock, Ordering, seat, seats};

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
    /// One more than the number of hits when a look-up was last timed.
    sampled: AtomicU64,
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
    /// Used only if `marks` is true.
    visited: Visited,
    /// True if a read sets a bit instead of leaving a note.
    marks: bool,
}

/// Hits from one timed look-up to the next.
const SAMPLED: u64 = 1_024;

impl ReadLog {
    /// Creates the log of a cache with this order of eviction. Without one, only hits and misses are counted.
    pub(crate) fn new(eviction: Option<Eviction>) -> Self {
        let marks = eviction == Some(Eviction::Sieve);
        let noting = eviction.is_some() && !marks;
        let stripe = || Stripe {
            hits: AtomicU64::new(0),
            misses: Default::default(),
            sampled: AtomicU64::new(0),
            drained: AtomicU64::new(0),
            ring: (0..if noting { RING } else { 0 }).map(|_| AtomicU32::new(EMPTY)).collect(),
        };
        Self { stripes: (0..STRIPES).map(|_| stripe()).collect(), visited: Visited::default(), marks }
    }

    /// Returns the stripe of this thread, and true if no other thread uses it.
    #[inline]
    fn stripe(&self) -> (&Stripe, bool) {
        let own = seat().filter(|seat| *seat < STRIPES - 1);
        (&self.stripes[own.unwrap_or(STRIPES - 1)], own.is_some())
    }

    /// Returns true if the next look-up of this thread may be one to time, which [`claims_sample`](Self::claims_sample)
    /// decides. It is a small part of a look-up.
    #[inline]
    pub(crate) fn may_sample(&self) -> bool {
        self.stripe().0.hits.load(Ordering::Relaxed).is_multiple_of(SAMPLED)
    }

    /// Returns true for the first look-up after each 1,024 hits of a thread. Misses change no count of hits, so they
    /// would otherwise be timed again and again.
    #[cold]
    pub(crate) fn claims_sample(&self) -> bool {
        let stripe = self.stripe().0;
        let next = stripe.hits.load(Ordering::Relaxed) + 1;
        stripe.sampled.swap(next, Ordering::Relaxed) != next
    }

    #[inline]
    pub(crate) fn hit(&self, id: SlotId) {
        let (stripe, own) = self.stripe();
        let note = count(&stripe.hits, own);
        if let Some(place) = stripe.ring.get(note as usize % RING) {
            place.store(id.0, Ordering::Relaxed);
        } else if self.marks {
            self.visited.set(id);
        }
    }

    pub(super) fn visited(&self) -> &Visited {
        &self.visited
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
        let of = |stripe: &Stripe, reason: Miss| stripe.misses[reason as usize].load(Ordering::Relaxed);
        let count = move |reason| self.stripes.iter().map(|stripe| of(stripe, reason)).sum();
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

/// The number of places in the first chunk of [`Visited`]. Each further chunk doubles the number of places.
const FIRST_CHUNK: u32 = 4_096;
/// The number of chunks that cover all places.
const CHUNKS: usize = 21;

/// One bit for each place: set by reads, and cleared by the hand of the sieve.
pub(super) struct Visited {
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
}

impl Default for Visited {
    fn default() -> Self {
        Self { chunks: std::array::from_fn(|_| OnceLock::new()) }
    }
}

impl Visited {
    /// Returns the chunk of a place, and the number of the place in that chunk.
    #[inline]
    fn locate(id: SlotId) -> (usize, usize) {
        match id.0 / FIRST_CHUNK {
            0 => (0, id.0 as usize),
            above => {
                let chunk = above.ilog2();
                (chunk as usize + 1, (id.0 - (FIRST_CHUNK << chunk)) as usize)
            }
        }
    }

    #[inline]
    fn word(&self, id: SlotId) -> Option<(&AtomicU64, u64)> {
        let (chunk, place) = Self::locate(id);
        let words = self.chunks[chunk].get()?;
        Some((&words[place / 64], 1 << (place % 64)))
    }

    /// Sets the bit of a place. Does nothing if [`reset`](Self::reset) has never made room for the place.
    #[inline]
    pub(super) fn set(&self, id: SlotId) {
        // Most reads are of places whose bit is set already: they write nothing.
        if let Some((word, bit)) = self.word(id)
            && word.load(Ordering::Relaxed) & bit == 0
        {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Clears the bit of a place, and makes room for it if there is none. Only one thread may call this at a time.
    pub(super) fn reset(&self, id: SlotId) {
        self.make_room(id);
        self.take(id);
    }

    /// Makes room for the bit of a place if there is none. Only one thread may call this at a time.
    pub(super) fn make_room(&self, id: SlotId) {
        let (chunk, _) = Self::locate(id);
        if self.chunks[chunk].get().is_none() {
            let places = FIRST_CHUNK as usize * if chunk == 0 { 1 } else { 1 << (chunk - 1) };
            let words = (0..places / 64).map(|_| AtomicU64::new(0)).collect();
            let _occupied: Result<(), _> = self.chunks[chunk].set(words);
        }
    }

    /// Returns the bit of a place.
    pub(super) fn is_set(&self, id: SlotId) -> bool {
        self.word(id).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Clears the bit of a place. Returns true if it was set.
    pub(super) fn take(&self, id: SlotId) -> bool {
        match self.word(id) {
            Some((word, bit)) if word.load(Ordering::Relaxed) & bit != 0 => {
                word.fetch_and(!bit, Ordering::Relaxed) & bit != 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read log: 1,000 reads into a ring of 512 are drained in order, and the latest 512 survive.
    #[test]
    fn reads_come_out_in_order_and_the_last_ones_survive_overflow() {
        let log = ReadLog::new(Some(Eviction::Lru));
        (0..1_000).for_each(|id| log.hit(SlotId(id)));
        let mut seen = Vec::new();
        log.drain(|id| seen.push(id.0));
        assert_eq!(seen, (1_000 - RING as u32..1_000).collect::<Vec<_>>());
        log.drain(|_| panic!("drained twice"));
        assert_eq!(log.totals(), (1_000, 0));
    }

    /// Bits of places on both sides of each chunk's border are told apart. A place without room is ignored.
    #[test]
    fn every_place_has_a_bit_of_its_own() {
        let borders = (0..CHUNKS as u32 - 1).map(|chunk| FIRST_CHUNK << chunk);
        // The greatest chunks would take 256 MiB: their places are only located.
        let (small, large): (Vec<_>, Vec<_>) = borders.partition(|border| *border < 1 << 20);
        let places: Vec<_> = small.iter().flat_map(|border| [border - 1, *border, border + 63]).map(SlotId).collect();
        let visited = Visited::default();
        visited.set(places[0]);
        assert!(!visited.is_set(places[0]), "there is no room yet");
        places.iter().for_each(|place| visited.reset(*place));
        for place in &places {
            visited.set(*place);
            let set: Vec<_> = places.iter().filter(|place| visited.is_set(**place)).collect();
            assert_eq!(set, [place]);
            assert!(visited.take(*place) && !visited.take(*place));
        }
        for border in large {
            let (before, after) = (Visited::locate(SlotId(border - 1)), Visited::locate(SlotId(border)));
            assert_eq!((before.0 + 1, after.1), (after.0, 0));
        }
        assert_eq!(Visited::locate(SlotId(u32::MAX)).0, CHUNKS - 1);
    }
}
