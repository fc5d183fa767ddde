//! Many keys at once. Writes take the replica's lock once for each thousand, not for each.

use std::hash::Hash;

use equivalent::Equivalent;
use serde::Serialize;

use super::{Cache, CacheKey, CacheValue, InsertError, Written};
use crate::replica::Write;

/// Writes made under one lock.
const BATCH: usize = 1_000;

/// A batch that was refused because of one entry. Nothing of it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} of the batch: {error}")]
#[non_exhaustive]
pub struct BulkError {
    /// Which entry, counted from zero.
    pub index: usize,
    /// Why.
    #[source]
    pub error: InsertError,
}

impl<K: CacheKey, V: CacheValue> Cache<K, V> {
    /// The values of many keys, in their order. Each counts as a use.
    pub fn get_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Vec<Option<V>>
    where
        Q: Equivalent<K> + Hash + ?Sized + 'a,
    {
        keys.into_iter().map(|key| self.get(key)).collect()
    }

    /// Writes many values with the cache's default time to live, in their order. Not a transaction: a
    /// reader may see some of them before others.
    ///
    /// # Errors
    /// One entry is too large, cannot be serialised, or does not decode again; nothing was written.
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<Vec<Written>, BulkError> {
        let now = self.shared.around.time.now();
        let prepare = |(index, (key, value))| {
            let write = self.shared.prepare(now, key, value, self.shared.settings.time_to_live);
            write.map_err(|error| BulkError { index, error })
        };
        let writes = entries.into_iter().enumerate().map(prepare).collect::<Result<Vec<_>, _>>()?;
        Ok(self.in_batches(writes, |replica, now, write| Written { stamp: replica.write(now, write) }))
    }

    /// Deletes many keys on every node. Returns how many had a value here.
    ///
    /// `Q` as for [`remove`](Self::remove).
    pub fn remove_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> usize
    where
        Q: Equivalent<K> + Hash + Serialize + ?Sized + 'a,
    {
        let wall = self.shared.around.time.wall();
        let deletes = keys.into_iter().filter_map(|key| self.shared.prepare_delete(key)).collect();
        let held = self.in_batches(deletes, |replica, now, delete| replica.delete(now, delete).1);
        let was_readable = |(item, expires): &&(_, _)| {
            let item: &crate::item::ItemRef<K, V> = item;
            item.value().is_some() && (*expires == 0 || *expires > wall)
        };
        held.iter().flatten().filter(was_readable).count()
    }

    fn in_batches<R>(
        &self,
        writes: Vec<Write<K, V>>,
        mut act: impl FnMut(&mut crate::replica::Replica<K, V>, crate::hlc::Now, Write<K, V>) -> R,
    ) -> Vec<R> {
        let mut results = Vec::with_capacity(writes.len());
        let mut writes = writes.into_iter().peekable();
        while writes.peek().is_some() {
            let now = self.shared.around.time.now();
            self.shared.with_engine(now, |engine| {
                results.extend(writes.by_ref().take(BATCH).map(|write| act(&mut engine.replica, now, write)));
            });
            self.shared.wake_driver();
        }
        results
    }
}
