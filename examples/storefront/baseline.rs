//! The cost of the same accesses without this crate, with a private LRU cache on each node: a simulation, one access
//! after another.

use crate::{
    shop::Mode,
    trace::{Plan, Trace},
};
use lru::LruCache;
use std::{collections::HashSet, num::NonZeroUsize};

/// The results of the reads with one way of caching.
#[derive(Debug, Default, Clone, Copy)]
pub struct Outcome {
    pub reads: u64,
    pub database_reads: u64,
    /// Reads that returned a version older than the newest committed version.
    pub stale_reads: u64,
}

/// The end of a simulation of private caches.
#[derive(Debug, Default, Clone, Copy)]
pub struct Private {
    pub outcome: Outcome,
    /// Number of different rows that are cached on any node.
    pub different: usize,
}

/// Simulates private caches of `capacity` rows each. On an update, the writer's own cache keeps the new row or drops
/// the old one, depending on `mode`. If `told` is true, the caches of all other nodes drop their copy at once and at no
/// cost; otherwise they keep it.
pub fn private_caches(trace: &Trace, plan: Plan, capacity: usize, mode: Mode, told: bool) -> Private {
    let room = NonZeroUsize::new(capacity.min(trace.ids.len())).unwrap_or(NonZeroUsize::MIN);
    let mut caches: Vec<LruCache<u32, u32>> = (0..plan.nodes).map(|_| LruCache::new(room)).collect();
    let mut versions = vec![1; trace.ids.len()];
    let mut outcome = Outcome::default();
    for (index, &number) in trace.accesses.iter().enumerate() {
        let (node, version) = (plan.node(index), &mut versions[number as usize]);
        if plan.is_update(index) {
            *version += 1;
            update(&mut caches, node, number, *version, mode, told);
        } else {
            read(&mut caches[node], number, *version, &mut outcome);
        }
    }
    let different = caches.iter().flat_map(LruCache::iter).map(|(number, _)| number).collect::<HashSet<_>>().len();
    Private { outcome, different }
}

fn update(caches: &mut [LruCache<u32, u32>], writer: usize, number: u32, version: u32, mode: Mode, told: bool) {
    for (node, cache) in caches.iter_mut().enumerate() {
        if node == writer && mode == Mode::WriteThrough {
            cache.put(number, version);
        } else if node == writer || told {
            cache.pop(&number);
        }
    }
}

fn read(cache: &mut LruCache<u32, u32>, number: u32, version: u32, outcome: &mut Outcome) {
    outcome.reads += 1;
    match cache.get(&number) {
        Some(&cached) => outcome.stale_reads += u64::from(cached < version),
        None => {
            outcome.database_reads += 1;
            cache.put(number, version);
        }
    }
}
