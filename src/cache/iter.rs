//! Iteration over the values that are here.

use super::shared::Shared;
use super::{Cache, CacheKey, CacheValue};
use crate::store::SlotRef;
use crate::sync::Arc;

/// The iterator over the keys and values of a cache. See [`Cache::iter`].
///
/// Returns each key at most once, and exactly once if it has a value here from the start to the end of the iteration.
/// An entry that is added or removed meanwhile may or may not be returned.
///
/// Reads each value when it reaches it: the value is never older than one that [`get`](Cache::get) returned before.
/// Holds 8 bytes for each of up to 1/64 of the entries, and no keys or values.
pub struct Iter<'a, K, V> {
    shared: &'a Shared<K, V>,
    /// The places of one shard that are still to be read.
    places: std::vec::IntoIter<SlotRef>,
    /// The number of the next shard.
    shard: usize,
}

impl<'a, K, V> Iter<'a, K, V> {
    pub(super) fn new(shared: &'a Shared<K, V>) -> Self {
        Self { shared, places: Vec::new().into_iter(), shard: 0 }
    }
}

impl<K: CacheKey, V: CacheValue> Iterator for Iter<'_, K, V> {
    type Item = (Arc<K>, V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // The register is read now, and not when its place was listed: a snapshot of the shard would return values
            // older than those that the caller has read meanwhile.
            for place in self.places.by_ref() {
                if let Some(found) = self.shared.reader.readable_at(place)
                    && let (Some(key), Some(value)) = (found.item.key.known(), found.item.value())
                {
                    return Some((Arc::new(key.clone()), value.clone()));
                }
            }
            self.places = self.shared.reader.store().places(self.shard)?.into_iter();
            self.shard += 1;
        }
    }
}

impl<K, V> std::fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<'a, K: CacheKey, V: CacheValue> IntoIterator for &'a Cache<K, V> {
    type Item = (Arc<K>, V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
