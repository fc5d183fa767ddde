//! Writes and deletes of many keys. They take the replica's lock once for each thousand writes, not for each write.

use std::hash::Hash;

use equivalent::Equivalent;
use serde::Serialize;

use super::filled::Lifetime;
use super::insert_error::InsertError;
use super::shared::Shared;
use super::write::Written;
use super::{CacheKey, CacheValue, prepare, tick, write};
use crate::hlc::{Now, Stamp};
use crate::item::ItemRef;
use crate::replica::{Replica, Write};
use crate::store::{SlotRef, Snapshot};

/// The number of writes that are made under one hold of the lock.
const BATCH: usize = 1_000;
/// The number of values that are read under one hold of the lock, before the predicate sees them.
const PAGE: usize = 64;

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
    let now = shared.services.time.now();
    let prepared = |(index, (key, value))| {
        let write = prepare::insert(shared, now, key, value, Lifetime::AsConfigured);
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
    let wall = shared.services.time.wall();
    let deletes = keys.into_iter().filter_map(|key| prepare::delete(shared, key)).collect();
    let held = in_batches(shared, deletes, |replica, now, delete| replica.delete(now, delete).1);
    let was_readable = |(item, expires): &&(_, _)| {
        let item: &ItemRef<K, V> = item;
        item.value().is_some() && (*expires == 0 || *expires > wall)
    };
    held.iter().flatten().filter(was_readable).count()
}

/// Deletes the values here that `predicate` accepts. Returns the number of deleted keys.
///
/// The predicate runs without a lock. A value is deleted only if its key still has the stamp with which the predicate
/// saw it.
pub(super) fn remove_if<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    mut predicate: impl FnMut(&K, &V) -> bool,
) -> usize {
    let mut removed = 0;
    for places in (0..).map_while(|shard| shared.reader.store().places(shard)) {
        for page in places.chunks(PAGE) {
            let mut deletes = Vec::new();
            for (found, stamp) in stamped(shared, page) {
                if let (Some(key), Some(value)) = (found.item.key.known(), found.item.value())
                    && predicate(key, value)
                {
                    deletes.extend(prepare::delete_of(found.hash, key.clone()).map(|delete| (delete, stamp)));
                }
            }
            if !deletes.is_empty() {
                removed += write::remove_unchanged(shared, deletes).len();
            }
        }
    }
    removed
}

/// Returns the readable registers in these places with their stamps.
fn stamped<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, page: &[SlotRef]) -> Vec<(Snapshot<K, V>, Stamp)> {
    shared.writer.look(|engine| {
        let found = page.iter().filter_map(|place| shared.reader.readable_at(*place));
        found.filter_map(|found| engine.replica.view().stamp_of_snapshot(&found).map(|stamp| (found, stamp))).collect()
    })
}

fn in_batches<K: CacheKey, V: CacheValue, R>(
    shared: &Shared<K, V>,
    writes: Vec<Write<K, V>>,
    mut act: impl FnMut(&mut Replica<K, V>, Now, Write<K, V>) -> R,
) -> Vec<R> {
    let mut results = Vec::with_capacity(writes.len());
    let mut writes = writes.into_iter().peekable();
    while writes.peek().is_some() {
        let now = shared.services.time.now();
        shared.writer.change(now, |engine| {
            results.extend(writes.by_ref().take(BATCH).map(|write| act(&mut engine.replica, now, write)));
        });
        tick::after_write(shared);
    }
    results
}
