//! Writes and deletes of this node: prepared without the replica's lock, made under that lock, then sent.

use std::hash::Hash;
use std::time::Duration;

use equivalent::Equivalent;
use serde::Serialize;

use super::engine::Engine;
use super::insert_error::InsertError;
use super::shared::Shared;
use super::token::Token;
use super::{CacheKey, CacheValue, prepare, tick};
use crate::hlc::Stamp;
use crate::item::ItemRef;
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
    time_to_live: Option<Duration>,
) -> Result<Written, InsertError> {
    let now = shared.around.time.now();
    let write = prepare::insert(shared, now, key, value, time_to_live)?;
    let stamp = shared.writer.change(now, |engine| engine.replica.write(now, write));
    tick::after_write(shared);
    Ok(Written { stamp })
}

/// Writes a value if `condition` accepts the register that readers now see under its key.
pub(super) fn insert_if<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    key: K,
    value: V,
    time_to_live: Option<Duration>,
    condition: impl FnOnce(&Engine<K, V>, Option<&Snapshot<K, V>>) -> bool,
) -> Result<Option<Written>, InsertError> {
    let now = shared.around.time.now();
    let write = prepare::insert(shared, now, key, value, time_to_live)?;
    let kept = ItemRef::clone(&write.item); // A write that is not made is dropped after the lock.
    let stamp = shared.writer.change(now, |engine| {
        let found = engine.replica.view().find_key(write.hash, &write.item.key);
        let found = found.filter(|found| shared.reader.is_readable(found));
        condition(engine, found.as_ref()).then(|| engine.replica.write(now, write))
    });
    drop(kept);
    tick::after_write(shared);
    Ok(stamp.map(|stamp| Written { stamp }))
}

/// Writes a value if readers see a value with this stamp.
pub(super) fn replace_if<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    key: K,
    value: V,
    stamp: Stamp,
) -> Result<Option<Written>, InsertError> {
    insert_if(shared, key, value, shared.settings.time_to_live, |engine, found| {
        found.and_then(|found| engine.replica.view().stamp_of_snapshot(found)) == Some(stamp)
    })
}

/// Deletes a key on every node. Returns the value that was here, if readers could see one.
pub(super) fn remove<K: CacheKey, V: CacheValue, Q>(shared: &Shared<K, V>, key: &Q) -> Option<V>
where
    Q: Equivalent<K> + Hash + Serialize + ?Sized,
{
    let now = shared.around.time.now();
    let delete = prepare::delete(shared, key)?;
    let (_, held) = shared.writer.change(now, |engine| engine.replica.delete(now, delete));
    tick::after_write(shared);
    let (item, expires) = held?;
    (expires == 0 || expires > now.wall).then(|| item.value().cloned())?
}

/// Deletes everything written so far, on every node.
pub(super) fn invalidate_all<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) {
    let now = shared.around.time.now();
    shared.writer.change(now, |engine| engine.replica.invalidate_all(now));
    tick::after_write(shared);
}

/// Returns the newest write, delete, fill or invalidation of this node.
pub(super) fn last<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> Option<Written> {
    let stamp = shared.writer.look(|engine| engine.replica.view().last_own_stamp());
    stamp.map(|stamp| Written { stamp })
}
