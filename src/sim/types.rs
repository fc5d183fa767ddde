//! The keys and values of a run: of the user's own types, or numbers.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use crate::cache::{CacheKey, CacheSettings, CacheValue};
use crate::sync::{AtomicU64, Ordering};

/// A key that can be simulated: a cache's key that can be printed.
pub trait SimKey: CacheKey + Debug {}
impl<K: CacheKey + Debug> SimKey for K {}

/// A value that can be simulated: a cache's value that can be compared and printed.
pub trait SimValue: CacheValue + PartialEq + Debug {}
impl<V: CacheValue + PartialEq + Debug> SimValue for V {}

type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u32 + Send + Sync>;

/// The generators of the keys and values of a run.
pub struct Types<K, V> {
    key: Box<dyn Fn(u64) -> K + Send + Sync>,
    value: Box<dyn Fn(u64) -> V + Send + Sync>,
    weigher: Option<Weigher<K, V>>,
    /// The settings of the cache. Only the limits of keys and values are used here.
    pub(super) limits: CacheSettings,
    /// The number of the first value that is not known to be sound.
    sound: AtomicU64,
}

impl<K, V> Debug for Types<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Types").field("weigher", &self.weigher.is_some()).finish_non_exhaustive()
    }
}

impl<K, V> Types<K, V> {
    /// Returns the types of a run. `key` makes the `n`-th key, `value` the value of the `n`-th write, from zero.
    /// Different numbers must make different keys; values may repeat.
    pub fn new(
        key: impl Fn(u64) -> K + Send + Sync + 'static,
        value: impl Fn(u64) -> V + Send + Sync + 'static,
    ) -> Self {
        let (limits, sound) = (CacheSettings::default(), AtomicU64::new(0));
        Self { key: Box::new(key), value: Box::new(value), weigher: None, limits, sound }
    }

    /// Sets the weight of an entry against `max_capacity`. By default each entry weighs 1.
    #[must_use]
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    pub(super) fn sound(&self) -> u64 {
        self.sound.load(Ordering::Relaxed)
    }

    /// Records that the values up to the `n`-th are sound. A run numbers its values without gaps, so the values before
    /// the `n`-th were checked as well.
    pub(super) fn note_sound(&self, n: u64) {
        self.sound.fetch_max(n.saturating_add(1), Ordering::Relaxed);
    }

    pub(super) fn key(&self, n: u64) -> K {
        (self.key)(n)
    }

    pub(super) fn value(&self, n: u64) -> V {
        (self.value)(n)
    }

    pub(super) fn weigh(&self, key: &K, value: &V) -> u32 {
        self.weigher.as_ref().map_or(1, |weigh| weigh(key, value))
    }
}

/// Returns numbers as keys, and values of many lengths, so that frames are cut at many places.
#[must_use]
pub fn numbers() -> Types<u16, String> {
    let length = |n: u64| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55) as usize;
    let types = Types::new(|n| n as u16, move |n| format!("{n:.<0$}", length(n)));
    types.weigher(|_, value: &String| 1 + value.len() as u32 / 128)
}

/// Returns the hash of a key, the same in every run.
pub(super) fn hash_of<T: Hash + ?Sized>(key: &T) -> u64 {
    // SipHash with fixed keys, so that runs are reproducible.
    #[allow(deprecated)]
    let mut hasher = std::hash::SipHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
