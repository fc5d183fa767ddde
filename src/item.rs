//! What a register refers to: the user's key and value, shared and never changed.

use bytes::Bytes;

/// A type that can serve as a key in the core.
pub trait CoreKey: Eq + Clone {}
impl<T: Eq + Clone> CoreKey for T {}

/// A key as this replica knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key<K> {
    /// A key of the type this cache was opened with.
    Known(K),
    /// The canonical encoding of a key that does not decode here. Kept and relayed. Rare: boxed, so that it
    /// does not make the others larger.
    Opaque(Box<Bytes>),
}

impl<K> Key<K> {
    /// The typed key, if it decodes here.
    pub fn known(&self) -> Option<&K> {
        match self {
            Self::Known(key) => Some(key),
            Self::Opaque(_) => None,
        }
    }
}

/// A value as this replica knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<V> {
    /// No value: a tombstone.
    Absent,
    /// A value of the type this cache was opened with.
    Known(V),
    /// The encoding of a value that does not decode here. Kept, counted and relayed; never read.
    Opaque(Box<Bytes>),
}

/// Key and value of one register in one allocation. User types live only in here, so that the core
/// moves pointers and never runs a user's `Clone` or `Drop` under a lock.
#[derive(Debug)]
pub struct Item<K, V> {
    /// The key.
    pub key: Key<K>,
    /// The value.
    pub body: Body<V>,
}

/// The key of an item by itself: the item of a tombstone, which must not hold on to the value.
pub(crate) fn without_body<K: Clone, V>(item: &ItemRef<K, V>) -> ItemRef<K, V> {
    match item.body {
        Body::Absent => ItemRef::clone(item),
        Body::Known(_) | Body::Opaque(_) => ItemRef::new(Item { key: item.key.clone(), body: Body::Absent }),
    }
}

/// The size that counts of an item without its body, of the size with it: keys are short.
pub(crate) fn size_without_body(size: u32) -> u32 {
    size.min(64)
}

/// A counted pointer to an item. Nobody holds a weak one: the count of those would be eight bytes for each entry.
pub type ItemRef<K, V> = triomphe::Arc<Item<K, V>>;

impl<K, V> Item<K, V> {
    /// The value, if there is one that decodes here.
    pub fn value(&self) -> Option<&V> {
        match &self.body {
            Body::Known(value) => Some(value),
            Body::Absent | Body::Opaque(_) => None,
        }
    }
}
