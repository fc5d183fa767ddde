//! Walks over the values that are here, page by page, for callers that cannot hold an iterator: a cursor is a number.

use super::shared::Shared;
use super::{CacheKey, CacheValue};
use crate::store::{Position, Snapshot};
use crate::sync::Arc;

/// One page of a walk over the keys and values of a cache. See [`Pages::scan`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page<K, V> {
    /// The keys and values of this page. May be empty although the walk goes on.
    pub entries: Vec<(Arc<K>, V)>,
    /// The cursor of the next page; `None` if this is the last.
    pub next: Option<u64>,
}

impl<K, V> Default for Page<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), next: None }
    }
}

/// The values of a cache, page by page: see [`Cache::pages`](super::Cache::pages). Counts as no use.
pub struct Pages<'a, K, V> {
    shared: &'a Shared<K, V>,
}

impl<K, V> std::fmt::Debug for Pages<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("cache", &self.shared.name).finish()
    }
}

impl<'a, K: CacheKey, V: CacheValue> Pages<'a, K, V> {
    pub(super) fn new(shared: &'a Shared<K, V>) -> Self {
        Self { shared }
    }

    /// Returns one page of a walk over the keys and values here. A walk begins with cursor 0, and continues with
    /// [`Page::next`] until there is none. Does not count as a use.
    ///
    /// A walk returns every key that has a value here from its start to its end, and no such key twice. A key that is
    /// added or removed meanwhile may be missing, and one that is removed and added again may come twice. A page reads
    /// at most `limit` registers, tombstones among them, so that it may have fewer entries. A limit of 0 counts as 1.
    /// Cursors are kept nowhere: they cost nothing, and are of no use to another node or after a restart.
    #[must_use]
    pub fn scan(&self, cursor: u64, limit: usize) -> Page<K, V> {
        let (found, next) = self.shared.reader.store().page(Position::from_cursor(cursor), limit.max(1));
        Page { entries: readable(self.shared, found), next: next.map(Position::to_cursor) }
    }

    /// Returns up to `limit` keys and values near a place that the number `random` chooses; none only if there is none
    /// here. Does not count as a use. Keys of one place come together, so this is no fair draw of several keys.
    #[must_use]
    pub fn sample(&self, random: u64, limit: usize) -> Vec<(Arc<K>, V)> {
        let store = self.shared.reader.store();
        for start in [store.position_of(random), Position::default()] {
            let mut next = Some(start);
            while let Some(from) = next {
                let (found, following) = store.page(from, limit.max(1));
                let entries = readable(self.shared, found);
                if !entries.is_empty() {
                    return entries;
                }
                next = following;
            }
        }
        Vec::new()
    }
}

fn readable<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, found: Vec<Snapshot<K, V>>) -> Vec<(Arc<K>, V)> {
    let entry = |found: Snapshot<K, V>| {
        let (key, value) = (found.item.key.known()?, found.item.value()?);
        Some((Arc::new(key.clone()), value.clone()))
    };
    found.into_iter().filter(|found| shared.reader.is_readable(found)).filter_map(entry).collect()
}
