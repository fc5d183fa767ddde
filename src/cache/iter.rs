//! Iteration over the values that are here.

use super::shared::Shared;
use super::{CacheKey, CacheValue};
use crate::item::ItemRef;
use crate::store::Position;
use crate::sync::Arc;

const PAGE: usize = 256;

/// The iterator over the keys and values of a cache. See [`Cache::iter`](super::Cache::iter).
///
/// Returns each entry exactly once if it is here from the start to the end of the iteration. An entry that is added or
/// removed meanwhile may or may not be returned.
pub struct Iter<'a, K, V> {
    shared: &'a Shared<K, V>,
    page: std::vec::IntoIter<ItemRef<K, V>>,
    next: Option<Position>,
}

impl<'a, K, V> Iter<'a, K, V> {
    pub(super) fn new(shared: &'a Shared<K, V>) -> Self {
        Self { shared, page: Vec::new().into_iter(), next: Some(Position::default()) }
    }
}

impl<K: CacheKey, V: CacheValue> Iterator for Iter<'_, K, V> {
    type Item = (Arc<K>, V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            for item in self.page.by_ref() {
                if let (Some(key), Some(value)) = (item.key.known(), item.value()) {
                    return Some((Arc::new(key.clone()), value.clone()));
                }
            }
            let (page, next) = self.shared.reader.page(self.next?, PAGE);
            self.next = next;
            self.page = page.into_iter().map(|found| found.item).collect::<Vec<_>>().into_iter();
        }
    }
}

impl<K, V> std::fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}
