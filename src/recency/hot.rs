//! The places that were read most lately: a bounded sketch of the noted reads.
//!
//! Source: Metwally, Agrawal and El Abbadi 2005 (Space-Saving). A place that is not tracked takes over the counter with
//! the lowest count, and that count becomes the bound of its error. All counts are halved at each [`HotPlaces::age`], so
//! that reads of long ago fade.

use crate::store::{SlotId, SlotRef};

/// The number of tracked places. A place with more than 1/64 of the sampled reads is always among them.
const TRACKED: usize = 64;
/// One of so many noted reads is counted. It is a prime, so that reads in a fixed rotation are all counted in the end. A
/// noted read then costs 30 to 80 instructions more: few if its place is tracked, most if it is not (callgrind).
const STRIDE: u32 = 13;

/// A tracked place, the upper bound of its sampled reads, and the most by which that bound is too high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HotPlace {
    pub(crate) place: SlotRef,
    pub(crate) reads: u64,
    pub(crate) error: u64,
}

/// The sketch. It has about 2 KiB.
#[derive(Debug, Default)]
pub(crate) struct HotPlaces {
    /// The tracked places, apart from their counts: each counted read searches them.
    ids: Vec<u32>,
    counts: Vec<HotPlace>,
    sampled: u64,
    skipped: u32,
}

impl HotPlaces {
    /// Counts a noted read, or skips it. `generation` returns the generation of the place, for a place that is not
    /// tracked yet; `None` if the place is free.
    #[inline]
    pub(crate) fn note(&mut self, id: SlotId, generation: impl FnOnce() -> Option<u32>) {
        self.skipped += 1;
        if self.skipped == STRIDE {
            self.skipped = 0;
            self.count(id, generation);
        }
    }

    fn count(&mut self, id: SlotId, generation: impl FnOnce() -> Option<u32>) {
        self.sampled += 1;
        if let Some(at) = self.ids.iter().position(|known| *known == id.0) {
            self.counts[at].reads += 1;
            return;
        }
        let Some(generation) = generation() else { return };
        let place = SlotRef { id, generation };
        if self.ids.len() < TRACKED {
            self.ids.push(id.0);
            self.counts.push(HotPlace { place, reads: 1, error: 0 });
            return;
        }
        let lowest = (0..TRACKED).min_by_key(|at| self.counts[*at].reads).unwrap_or(0);
        let error = self.counts[lowest].reads;
        self.ids[lowest] = id.0;
        self.counts[lowest] = HotPlace { place, reads: error + 1, error };
    }

    /// Halves all counts. Drops places without reads, and places that `is_held` says belong to another key by now.
    pub(crate) fn age(&mut self, is_held: impl Fn(SlotRef) -> bool) {
        self.sampled /= 2;
        self.counts.iter_mut().for_each(|hot| (hot.reads, hot.error) = (hot.reads / 2, hot.error / 2));
        self.counts.retain(|hot| hot.reads > 0 && is_held(hot.place));
        self.ids = self.counts.iter().map(|hot| hot.place.id.0).collect();
    }

    /// Returns the number of sampled reads, and the places, those with the most reads first.
    pub(crate) fn top(&self) -> (u64, Vec<HotPlace>) {
        let mut counts = self.counts.clone();
        counts.sort_by(|a, b| b.reads.cmp(&a.reads).then(a.place.cmp(&b.place)));
        (self.sampled, counts)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(hot: &mut HotPlaces, id: u32) {
        (0..STRIDE).for_each(|_| hot.note(SlotId(id), || Some(id)));
    }

    /// Against a naive count: each bound holds, and every place with more than 1/64 of the reads is tracked.
    #[test]
    fn bounds_hold_and_frequent_places_are_tracked() {
        for seed in 0..20 {
            let (mut rng, mut hot) = (fastrand::Rng::with_seed(seed), HotPlaces::default());
            let mut exact = BTreeMap::<u32, u64>::new();
            for _ in 0..5_000 {
                // Low numbers are frequent, and there are far more places than counters.
                let id = (rng.f64().powi(4) * 2_000.0) as u32;
                read(&mut hot, id);
                *exact.entry(id).or_default() += 1;
            }
            let (sampled, top) = hot.top();
            assert_eq!((sampled, top.len()), (5_000, TRACKED));
            for found in &top {
                let reads = exact[&found.place.id.0];
                assert!(found.reads >= reads && found.reads - found.error <= reads, "{found:?}, exactly {reads}");
            }
            for (id, reads) in exact.iter().filter(|(_, reads)| **reads > 5_000 / TRACKED as u64) {
                assert!(top.iter().any(|found| found.place.id.0 == *id), "{id} has {reads} reads and is not tracked");
            }
        }
    }

    #[test]
    fn one_of_thirteen_reads_is_counted() {
        let mut hot = HotPlaces::default();
        (0..130).for_each(|_| hot.note(SlotId(1), || Some(1)));
        assert_eq!(hot.top().0, 10);
    }

    #[test]
    fn old_reads_fade_and_places_of_other_keys_go() {
        let mut hot = HotPlaces::default();
        (0..8).for_each(|_| read(&mut hot, 1));
        (0..3).for_each(|_| read(&mut hot, 2));
        read(&mut hot, 3);
        hot.age(|place| place.id.0 != 2);
        let (sampled, top) = hot.top();
        assert_eq!((sampled, top.len(), top[0].reads), (6, 1, 4));
        (0..8).for_each(|_| read(&mut hot, 2));
        assert_eq!(hot.top().1[0].place.id.0, 2, "a place that went can come back");
    }
}
