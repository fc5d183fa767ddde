//! Look-ups of one key.

use std::hash::Hash;

use equivalent::Equivalent;

use super::entry::EntryInfo;
use super::shared::Shared;
use super::{CacheKey, CacheValue};
use crate::hlc::Stamp;
use crate::recency::Miss;
use crate::store::Snapshot;
use crate::sync::Arc;

/// Returns the value of a key, and counts the look-up. A hit counts as a use. Times a few look-ups among many.
#[inline]
pub(super) fn get<K: CacheKey, V: CacheValue, Q>(shared: &Shared<K, V>, key: &Q) -> Option<V>
where
    Q: Equivalent<K> + Hash + ?Sized,
{
    if shared.writer.reads.may_sample() { timed(shared, key) } else { look_up(shared, key) }
}

#[cold]
fn timed<K: CacheKey, V: CacheValue, Q>(shared: &Shared<K, V>, key: &Q) -> Option<V>
where
    Q: Equivalent<K> + Hash + ?Sized,
{
    if !shared.writer.reads.claims_sample() {
        return look_up(shared, key);
    }
    let begun = shared.services.time.now().mono;
    let found = look_up(shared, key);
    shared.counts.timings.gets.record(shared.services.time.now().mono.saturating_sub(begun));
    found
}

#[inline]
fn look_up<K: CacheKey, V: CacheValue, Q>(shared: &Shared<K, V>, key: &Q) -> Option<V>
where
    Q: Equivalent<K> + Hash + ?Sized,
{
    let found = shared.reader.read(key);
    let shown = found.as_ref().filter(|found| shared.reader.shows(found));
    let Some((id, value)) = shown.and_then(|found| Some((found.id, found.item.value()?))) else {
        let reason = if found.is_none() { Miss::Absent } else { why_missed(shared, key) };
        shared.writer.reads.miss(reason);
        return None;
    };
    shared.writer.reads.hit(id);
    Some(value.clone())
}

/// Returns the reason why a register that is held has no value for readers. Looks it up again with its metadata, which
/// hits do not need.
#[cold]
fn why_missed<K: CacheKey, V: CacheValue, Q>(shared: &Shared<K, V>, key: &Q) -> Miss
where
    Q: Equivalent<K> + Hash + ?Sized,
{
    let found = shared.reader.store().get(shared.reader.hash(key), key);
    found.map_or(Miss::Absent, |found| shared.reader.why_absent(&found))
}

/// Returns the value of a key with its stamp and times.
pub(super) fn entry<K: CacheKey, V: CacheValue, Q>(shared: &Shared<K, V>, key: &Q) -> Option<EntryInfo<V>>
where
    Q: Equivalent<K> + Hash + ?Sized,
{
    let (found, stamp) = stamped(shared, key)?;
    let time = Arc::clone(&shared.services.time);
    Some(EntryInfo { value: found.item.value()?.clone(), stamp, expires: found.meta.expires, now: time.wall(), time })
}

/// Returns the register of a key and its stamp, both read under one hold of the replica's lock.
fn stamped<K: CacheKey, V: CacheValue, Q>(shared: &Shared<K, V>, key: &Q) -> Option<(Snapshot<K, V>, Stamp)>
where
    Q: Equivalent<K> + Hash + ?Sized,
{
    let hash = shared.reader.hash(key);
    shared.writer.look(|engine| {
        let found = shared.reader.store().get(hash, key).filter(|found| shared.reader.is_readable(found))?;
        let stamp = engine.replica.view().stamp_of_snapshot(&found)?;
        Some((found, stamp))
    })
}
