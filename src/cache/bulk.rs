//! Writes and deletes of many keys. They take the replica's lock once for each thousand writes, not for each write.

use std::hash::Hash;

use equivalent::Equivalent;
use serde::Serialize;

use super::insert_error::InsertError;
use super::shared::Shared;
use super::write::Written;
use super::{CacheKey, CacheValue, prepare, tick};
use crate::hlc::Now;
use crate::item::ItemRef;
use crate::replica::{Replica, Write};

/// The number of writes that are made under one hold of the lock.
const BATCH: usize = 1_000;

/// A batch that was refused because of one entry. Nothing of the batch was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} of the batch: {error}")]
#[non_exhaustive]
pub struct BulkError {
    /// The index of that entry, counted from zero.
    pub index: usize,
    /// The reason for the refusal.
    pub error: InsertError,
}

/// Writes many values in their order, or none of them if one is refused.
pub(super) fn insert<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    entries: impl IntoIterator<Item = (K, V)>,
) -> Result<Vec<Written>, BulkError> {
    let now = shared.around.time.now();
    let prepared = |(index, (key, value))| {
        let write = prepare::insert(shared, now, key, value, shared.settings.time_to_live);
        write.map_err(|error| BulkError { index, error })
    };
    let writes = entries.into_iter().enumerate().map(prepared).collect::<Result<Vec<_>, _>>()?;
    Ok(in_batches(shared, writes, |replica, now, write| Written { stamp: replica.write(now, write) }))
}

/// Deletes many keys. Returns the number of keys with a value that readers could see.
pub(super) fn remove<'a, K: CacheKey, V: CacheValue, Q>(
    shared: &Shared<K, V>,
    keys: impl IntoIterator<Item = &'a Q>,
) -> usize
where
    Q: Equivalent<K> + Hash + Serialize + ?Sized + 'a,
{
    let wall = shared.around.time.wall();
    let deletes = keys.into_iter().filter_map(|key| prepare::delete(shared, key)).collect();
    let held = in_batches(shared, deletes, |replica, now, delete| replica.delete(now, delete).1);
    let was_readable = |(item, expires): &&(_, _)| {
        let item: &ItemRef<K, V> = item;
        item.value().is_some() && (*expires == 0 || *expires > wall)
    };
    held.iter().flatten().filter(was_readable).count()
}

fn in_batches<K: CacheKey, V: CacheValue, R>(
    shared: &Shared<K, V>,
    writes: Vec<Write<K, V>>,
    mut act: impl FnMut(&mut Replica<K, V>, Now, Write<K, V>) -> R,
) -> Vec<R> {
    let mut results = Vec::with_capacity(writes.len());
    let mut writes = writes.into_iter().peekable();
    while writes.peek().is_some() {
        let now = shared.around.time.now();
        shared.writer.change(now, |engine| {
            results.extend(writes.by_ref().take(BATCH).map(|write| act(&mut engine.replica, now, write)));
        });
        tick::after_write(shared);
    }
    results
}
