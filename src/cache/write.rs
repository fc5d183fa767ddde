//! Writes and deletes of this node: prepared without a lock, made at the table or under the replica's lock. Then
//! `tick::after_write` sends them, or wakes the node's driver, which does.

use std::hash::Hash;

use equivalent::Equivalent;
use serde::Serialize;

use super::engine::Engine;
use super::filled::Lifetime;
use super::insert_error::InsertError;
use super::shared::Shared;
use super::token::Token;
use super::{CacheKey, CacheValue, prepare, tick};
use crate::hlc::{HlcTime, Stamp};
use crate::item::ItemRef;
use crate::replica::Write;
use crate::store::Snapshot;

/// The receipt of a write: its stamp, by which every replica orders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Written {
    /// The time and the replica of the write. Of two writes of one key, the one with the greater stamp wins.
    pub stamp: Stamp,
}

impl Written {
    /// Returns the write as 22 characters, for [`Cache::wait_seen`](super::Cache::wait_seen) on another node.
    #[must_use]
    pub fn token(&self) -> Token {
        Token::new(self.stamp)
    }
}

/// Writes a value.
#[inline]
pub(super) fn insert<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    key: K,
    value: V,
    lifetime: Lifetime,
) -> Result<Written, InsertError> {
    let now = shared.services.time.now();
    let write = prepare::insert(shared, now, key, value, lifetime)?;
    let stamp = shared.writer.write(now, write);
    tick::after_write(shared);
    Ok(Written { stamp })
}

/// Writes a value if `condition` accepts the register that readers now see under its key. `condition` gets the deadline
/// that `lifetime` sets, and returns the deadline to write.
pub(super) fn insert_if<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    key: K,
    value: V,
    lifetime: Lifetime,
    condition: impl FnOnce(&Engine<K, V>, Option<&Snapshot<K, V>>, HlcTime) -> Option<HlcTime>,
) -> Result<Option<Written>, InsertError> {
    let now = shared.services.time.now();
    let write = prepare::insert(shared, now, key, value, lifetime)?;
    let kept = ItemRef::clone(&write.item); // A write that is not made is dropped after the lock.
    let stamp = shared.writer.change(now, |engine| {
        let found = readable(shared, engine, &write);
        let expires = condition(engine, found.as_ref(), write.expires)?;
        Some(engine.replica.write(now, Write { expires, ..write }))
    });
    drop(kept);
    tick::after_write(shared);
    Ok(stamp.map(|stamp| Written { stamp }))
}

/// Writes a value if readers see none under its key.
pub(super) fn insert_if_absent<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    key: K,
    value: V,
    lifetime: Lifetime,
) -> Result<Option<Written>, InsertError> {
    insert_if(shared, key, value, lifetime, |_, found, expires| found.is_none().then_some(expires))
}

/// Writes a value if readers see a value with this stamp. The new value keeps the deadline of that value.
pub(super) fn replace_if<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    key: K,
    value: V,
    stamp: Stamp,
) -> Result<Option<Written>, InsertError> {
    insert_if(shared, key, value, Lifetime::Forever, |engine, found, _| {
        found.filter(|found| has_stamp(engine, found, stamp)).map(|found| found.meta.expires)
    })
}

/// Writes a value with this time to live, if readers see a value with this stamp.
pub(super) fn replace_if_with_ttl<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    key: K,
    value: V,
    stamp: Stamp,
    lifetime: Lifetime,
) -> Result<Option<Written>, InsertError> {
    insert_if(shared, key, value, lifetime, |engine, found, expires| {
        found.filter(|found| has_stamp(engine, found, stamp)).map(|_| expires)
    })
}

/// Returns the register under a write's key, if readers see its value.
fn readable<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    engine: &Engine<K, V>,
    write: &Write<K, V>,
) -> Option<Snapshot<K, V>> {
    let found = engine.replica.view().find_key(write.hash, &write.item.key)?;
    shared.reader.is_readable(&found).then_some(found)
}

fn has_stamp<K: CacheKey, V: CacheValue>(engine: &Engine<K, V>, found: &Snapshot<K, V>, stamp: Stamp) -> bool {
    engine.replica.view().stamp_of_snapshot(found) == Some(stamp)
}

/// Deletes a key on every node. Returns the item that was here, if readers could see its value.
pub(super) fn remove<K: CacheKey, V: CacheValue, Q>(shared: &Shared<K, V>, key: &Q) -> Option<ItemRef<K, V>>
where
    Q: Equivalent<K> + Hash + Serialize + ?Sized,
{
    let now = shared.services.time.now();
    let delete = prepare::delete(shared, key)?;
    let (_, held) = shared.writer.change(now, |engine| engine.replica.delete(now, delete));
    tick::after_write(shared);
    let (item, expires) = held?;
    (expires == 0 || expires > now.wall).then_some(item)
}

/// Deletes a key on every node, if readers see a value with this stamp. Returns the item that was here in that case.
pub(super) fn remove_if_stamp<K: CacheKey, V: CacheValue, Q>(
    shared: &Shared<K, V>,
    key: &Q,
    stamp: Stamp,
) -> Option<ItemRef<K, V>>
where
    Q: Equivalent<K> + Hash + ?Sized,
{
    let hash = shared.reader.hash(key);
    let held = shared.reader.store().get(hash, key).filter(|found| shared.reader.is_readable(found))?;
    let delete = prepare::delete_of(hash, held.item.key.known()?.clone())?;
    remove_unchanged(shared, vec![(delete, stamp)]).pop()
}

/// Makes each delete whose key still has a readable value with the given stamp. Returns the items that were removed.
pub(super) fn remove_unchanged<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    deletes: Vec<(Write<K, V>, Stamp)>,
) -> Vec<ItemRef<K, V>> {
    let now = shared.services.time.now();
    let mut unused = Vec::new(); // Deletes that are not made are dropped after the lock.
    let removed = shared.writer.change(now, |engine| {
        let mut removed = Vec::new();
        for (delete, stamp) in deletes {
            match readable(shared, engine, &delete).filter(|found| has_stamp(engine, found, stamp)) {
                Some(found) => {
                    engine.replica.delete(now, delete);
                    removed.push(found.item);
                }
                None => unused.push(delete),
            }
        }
        removed
    });
    tick::after_write(shared);
    removed
}

/// Deletes everything written so far, on every node.
pub(super) fn invalidate_all<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) {
    let now = shared.services.time.now();
    shared.writer.change(now, |engine| engine.replica.invalidate_all(now));
    tick::after_write(shared);
}

/// Returns the newest write, delete, fill or invalidation of this node.
pub(super) fn last<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> Option<Written> {
    let stamp = shared.writer.look(|engine| engine.replica.view().last_own_stamp());
    stamp.map(|stamp| Written { stamp })
}
