//! The user's key and value to which a register refers, shared and immutable.

use std::mem::{needs_drop, replace};

use bytes::Bytes;

use crate::garbage::{drop_panics, drop_quietly};

/// A type that can serve as a key in the core.
pub trait CoreKey: Eq + Clone {}
impl<T: Eq + Clone> CoreKey for T {}

/// A key, decoded or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key<K> {
    /// A key of the type this cache was opened with.
    Known(K),
    /// The canonical encoding of a key that does not decode here. It is kept and relayed. This is rare, so it is boxed,
    /// and does not enlarge the decoded variant.
    Opaque(Box<Bytes>),
    /// No key: it was taken out of an item that is being dropped.
    Gone,
}

impl<K> Key<K> {
    /// Returns the typed key, if it decodes here.
    pub fn known(&self) -> Option<&K> {
        match self {
            Self::Known(key) => Some(key),
            Self::Opaque(_) | Self::Gone => None,
        }
    }

    /// Returns the encoding of a key that does not decode here; empty for other keys.
    pub fn opaque(&self) -> &[u8] {
        match self {
            Self::Opaque(bytes) => bytes,
            Self::Known(_) | Self::Gone => &[],
        }
    }
}

/// A value, decoded or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<V> {
    /// A value of the type this cache was opened with.
    Known(V),
    /// The encoding of a value that does not decode here. It is kept, counted and relayed, and never read. `None` if
    /// there is no value: a tombstone. Both are one variant, so that a body of `Bytes` is no larger than `Bytes`.
    Opaque(Option<Box<Bytes>>),
}

impl<V> Body<V> {
    /// No value: a tombstone.
    pub const ABSENT: Self = Self::Opaque(None);

    /// Returns true if there is no value: a tombstone.
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Opaque(None))
    }
}

/// The key and value of one register in one allocation. User types exist only in here. So the core moves pointers, and
/// never runs a user's `Clone` or `Drop` under a lock.
///
/// A panic in the `Drop` of the key or the value is contained and counted, on whichever thread drops the last reference.
#[derive(Debug)]
pub struct Item<K, V> {
    /// The key.
    pub key: Key<K>,
    /// The value.
    pub body: Body<V>,
}

/// Returns an item with a key and no value.
pub(crate) fn of_key<K, V>(key: K) -> ItemRef<K, V> {
    ItemRef::new(Item { key: Key::Known(key), body: Body::ABSENT })
}

/// Returns an item with the key alone, for a tombstone, which must not keep the value in memory.
pub(crate) fn without_body<K: Clone, V>(item: &ItemRef<K, V>) -> ItemRef<K, V> {
    if item.body.is_absent() {
        return ItemRef::clone(item);
    }
    ItemRef::new(Item { key: item.key.clone(), body: Body::ABSENT })
}

/// Returns the size to count for an item without its body, given its size with the body. Keys are short, so at most 64
/// bytes count.
pub(crate) fn size_without_body(size: u32) -> u32 {
    size.min(64)
}

/// A reference-counted pointer to an item. It supports no weak references, whose count would take eight bytes per
/// entry.
pub type ItemRef<K, V> = triomphe::Arc<Item<K, V>>;

impl<K, V> Drop for Item<K, V> {
    fn drop(&mut self) {
        // Key and value are dropped one by one: two panics during one drop would abort the process.
        if needs_drop::<K>() {
            drop_quietly([replace(&mut self.key, Key::Gone)]);
        }
        if needs_drop::<V>() {
            drop_quietly([replace(&mut self.body, Body::ABSENT)]);
        }
    }
}

/// Drops a key that is in no item yet. A panic in its `Drop` is contained and counted.
#[inline]
pub(crate) fn drop_key<K>(key: K) {
    if needs_drop::<K>() {
        drop_quietly([Key::Known(key)]);
    }
}

/// Returns the number of panics in the `Drop` of keys of type `K` and values of type `V` in this process.
pub(crate) fn panics_in_drop<K, V>() -> u64 {
    drop_panics::<Key<K>>() + drop_panics::<Body<V>>()
}

impl<K, V> Item<K, V> {
    /// Returns the value, if there is one that decodes here.
    pub fn value(&self) -> Option<&V> {
        match &self.body {
            Body::Known(value) => Some(value),
            Body::Opaque(_) => None,
        }
    }
}
