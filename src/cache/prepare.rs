//! The preparation of a write before the replica's lock is taken: the entry is checked, measured and weighed. Runs user
//! code, so it must not be called under a lock.

use std::hash::Hash;

use equivalent::Equivalent;
use serde::Serialize;

use super::filled::Lifetime;
use super::insert_error::InsertError;
use super::open_error::LARGEST;
use super::settings::CacheSettings;
use super::shared::Shared;
use super::{CacheKey, CacheValue, lifetime};
use crate::hlc::Now;
use crate::item::{Body, Item, ItemRef, Key, of_key};
use crate::replica::Write;
use crate::wire;

/// Returns the write that stores a value, or the reason why it is refused.
#[inline]
pub(super) fn insert<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    now: Now,
    key: K,
    value: V,
    lifetime: Lifetime,
) -> Result<Write<K, V>, InsertError> {
    let hash = shared.reader.hash(&key);
    let item = ItemRef::new(Item { key: Key::Known(key), body: Body::Known(value) });
    item_of(shared, now, hash, &item, lifetime)
}

/// Returns the write that stores an item, or the reason why it is refused.
#[inline]
pub(super) fn item_of<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    now: Now,
    hash: u64,
    item: &ItemRef<K, V>,
    lifetime: Lifetime,
) -> Result<Write<K, V>, InsertError> {
    let (Some(key), Some(value)) = (item.key.known(), item.value()) else {
        return Err(InsertError::Unserializable("nothing to write".into()));
    };
    let refused = |error: wire::EncodeError| InsertError::Unserializable(error.to_string());
    let expires = lifetime::deadline(shared, now, (hash, key, value), lifetime)?;
    let key_size = wire::key_len(key).map_err(refused)?;
    let value_size = wire::encoded_len(value, wire::MAX_DEPTH).map_err(refused)?;
    let CacheSettings { max_key_bytes, max_value_bytes, .. } = shared.settings;
    if key_size > max_key_bytes {
        return Err(InsertError::KeyTooLarge { size: key_size, limit: max_key_bytes });
    }
    if value_size > max_value_bytes {
        return Err(InsertError::ValueTooLarge { size: value_size, limit: max_value_bytes });
    }
    if shared.samples.is_due(key_size, value_size) {
        shared.samples.check(&shared.name, (key, key_size), (value, value_size))?;
    }
    let weight = wire::Intake::weigh(shared, key, value);
    let size = u32::try_from(key_size + value_size).unwrap_or(u32::MAX);
    Ok(Write { hash, item: ItemRef::clone(item), expires, size, weight })
}

/// Returns the write that deletes a key. Returns `None` if the key cannot be encoded, does not decode as the same key,
/// or is too large for any node to hold. Then there is nothing to delete, and no node would accept the tombstone.
pub(super) fn delete<K: CacheKey, V: CacheValue, Q>(shared: &Shared<K, V>, key: &Q) -> Option<Write<K, V>>
where
    Q: Equivalent<K> + Hash + Serialize + ?Sized,
{
    let hash = shared.reader.hash(key);
    let owned = match shared.reader.store().get(hash, key) {
        Some(found) => found.item.key.known().cloned()?,
        None => shared.samples.own_key(&shared.name, key)?,
    };
    delete_of(hash, owned)
}

/// Returns the write that deletes a key which is held here. Returns `None` if the key cannot be encoded, or is too
/// large.
pub(super) fn delete_of<K: CacheKey, V: CacheValue>(hash: u64, key: K) -> Option<Write<K, V>> {
    let item = of_key(key);
    let size = wire::key_len(item.key.known()?).ok().filter(|size| *size <= LARGEST.max_key_bytes)?;
    Some(Write { hash, item, expires: 0, size: u32::try_from(size).ok()?, weight: 0 })
}
