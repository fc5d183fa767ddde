//! The caches that run in this process, behind one trait.
#![allow(clippy::ptr_arg)] // mini-moka looks up by the owned form of the key only.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use driftless::cache::CacheValue;
use driftless::{Cache, CacheBuilder, Eviction, Node};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

/// A cache from strings to `V`, as a benchmark uses it.
pub trait Contestant<V>: Send + Sync {
    fn get(&self, key: &String) -> Option<V>;
    fn insert(&self, key: String, value: V);
    /// Returns the value of a key, or runs `fill` on a miss. At most one fill of a key runs at a time.
    fn get_or_fill(&self, key: &String, fill: &dyn Fn() -> V) -> V;
}

/// A contestant: its name and its constructor, which takes the maximum number of entries.
pub struct Maker<V> {
    pub name: &'static str,
    /// True if the benchmarks with a bound include the cache.
    pub bounded: bool,
    /// True if the cache runs one fill for all concurrent callers.
    pub fills: bool,
    pub make: fn(&Ground, usize) -> Box<dyn Contestant<V>>,
}

/// A value that all contestants can hold.
pub trait Value: CacheValue + Unpin {}
impl<T: CacheValue + Unpin> Value for T {}

/// A single node, on which the driftless caches are opened.
pub struct Ground {
    node: Node,
    _runtime: Runtime,
    opened: AtomicUsize,
}

impl Ground {
    pub fn new() -> Self {
        let runtime = Runtime::new().expect("a runtime starts");
        let node = runtime.block_on(Node::builder().cluster("bench").start()).expect("a node starts");
        Self { node, _runtime: runtime, opened: AtomicUsize::new(0) }
    }

    fn builder<V: Value>(&self) -> CacheBuilder<String, V> {
        self.node.cache(&format!("bench-{}", self.opened.fetch_add(1, Ordering::Relaxed)))
    }

    /// Opens a bounded cache with another order of eviction than the default.
    pub fn open_bounded<V: Value>(&self, entries: usize, eviction: Eviction) -> Cache<String, V> {
        let builder = self.builder().max_capacity(entries as u64).eviction(eviction);
        builder.open().expect("the cache opens")
    }

    /// Opens a cache under a name of its own. `usize::MAX` entries is unbounded.
    pub fn open<V: Value>(&self, entries: usize) -> Cache<String, V> {
        let builder = self.builder();
        let builder = if entries == usize::MAX { builder } else { builder.max_capacity(entries as u64) };
        builder.open().expect("the cache opens")
    }
}

impl Default for Ground {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns all contestants, driftless first.
pub fn all<V: Value>() -> Vec<Maker<V>> {
    fn maker<V>(
        name: &'static str,
        bounded: bool,
        fills: bool,
        make: fn(&Ground, usize) -> Box<dyn Contestant<V>>,
    ) -> Maker<V> {
        Maker { name, bounded, fills, make }
    }
    vec![
        maker("driftless", true, true, |ground, entries| Box::new(ground.open::<V>(entries))),
        maker("driftless, bounded", false, false, |ground, entries| Box::new(ground.open::<V>(room(entries)))),
        maker("driftless, segmented", true, false, |ground, entries| {
            Box::new(ground.open_bounded::<V>(room(entries), Eviction::SegmentedLru))
        }),
        maker("driftless, sieve", true, false, |ground, entries| {
            Box::new(ground.open_bounded::<V>(room(entries), Eviction::Sieve))
        }),
        maker("quick_cache", true, true, |_, entries| {
            Box::new(quick_cache::sync::Cache::<String, V>::new(room(entries)))
        }),
        maker("moka", true, true, |_, entries| Box::new(moka::sync::Cache::<String, V>::new(entries as u64))),
        maker("mini-moka", true, false, |_, entries| {
            Box::new(mini_moka::sync::Cache::<String, V>::new(entries as u64))
        }),
        maker("foyer-memory", true, false, |_, entries| {
            let lru = foyer_memory::LruConfig::default();
            let cache: foyer_memory::Cache<String, V> =
                foyer_memory::CacheBuilder::new(room(entries)).with_eviction_config(lru).build();
            Box::new(cache)
        }),
        maker("lru in a mutex", true, true, |_, entries| {
            Box::new(Mutex::new(match NonZeroUsize::new(entries) {
                Some(entries) if entries.get() != usize::MAX => lru::LruCache::<String, V>::new(entries),
                _ => lru::LruCache::unbounded(),
            }))
        }),
        maker("papaya", false, false, |_, _| Box::new(papaya::HashMap::<String, V>::new())),
    ]
}

/// Returns the bound of a cache. A cache that requires a bound gets one that is never reached.
fn room(entries: usize) -> usize {
    if entries == usize::MAX { 200_000 } else { entries }
}

impl<V: Value> Contestant<V> for Cache<String, V> {
    fn get(&self, key: &String) -> Option<V> {
        Self::get(self, key)
    }

    fn insert(&self, key: String, value: V) {
        Self::insert(self, key, value).expect("the entry is accepted");
    }

    fn get_or_fill(&self, key: &String, fill: &dyn Fn() -> V) -> V {
        self.get_with_by_ref_blocking(key, fill)
    }
}

impl<V: Value> Contestant<V> for quick_cache::sync::Cache<String, V> {
    fn get(&self, key: &String) -> Option<V> {
        Self::get(self, key)
    }

    fn insert(&self, key: String, value: V) {
        Self::insert(self, key, value);
    }

    fn get_or_fill(&self, key: &String, fill: &dyn Fn() -> V) -> V {
        let filled: Result<V, ()> = self.get_or_insert_with(key, || Ok(fill()));
        filled.expect("the fill cannot fail")
    }
}

impl<V: Value> Contestant<V> for moka::sync::Cache<String, V> {
    fn get(&self, key: &String) -> Option<V> {
        Self::get(self, key)
    }

    fn insert(&self, key: String, value: V) {
        Self::insert(self, key, value);
    }

    fn get_or_fill(&self, key: &String, fill: &dyn Fn() -> V) -> V {
        self.get_with_by_ref(key, fill)
    }
}

impl<V: Value> Contestant<V> for mini_moka::sync::Cache<String, V> {
    fn get(&self, key: &String) -> Option<V> {
        Self::get(self, key)
    }

    fn insert(&self, key: String, value: V) {
        Self::insert(self, key, value);
    }

    fn get_or_fill(&self, _: &String, _: &dyn Fn() -> V) -> V {
        unreachable!("it has no fills")
    }
}

impl<V: Value> Contestant<V> for foyer_memory::Cache<String, V> {
    fn get(&self, key: &String) -> Option<V> {
        Self::get(self, key).map(|entry| entry.value().clone())
    }

    fn insert(&self, key: String, value: V) {
        drop(Self::insert(self, key, value));
    }

    fn get_or_fill(&self, _: &String, _: &dyn Fn() -> V) -> V {
        unreachable!("its fills are asynchronous only")
    }
}

impl<V: Value> Contestant<V> for Mutex<lru::LruCache<String, V>> {
    fn get(&self, key: &String) -> Option<V> {
        self.lock().get(key).cloned()
    }

    fn insert(&self, key: String, value: V) {
        let replaced = self.lock().push(key, value);
        drop(replaced);
    }

    fn get_or_fill(&self, key: &String, fill: &dyn Fn() -> V) -> V {
        self.lock().get_or_insert_ref(key, fill).clone()
    }
}

impl<V: Value> Contestant<V> for papaya::HashMap<String, V> {
    fn get(&self, key: &String) -> Option<V> {
        self.pin().get(key).cloned()
    }

    fn insert(&self, key: String, value: V) {
        self.pin().insert(key, value);
    }

    fn get_or_fill(&self, _: &String, _: &dyn Fn() -> V) -> V {
        unreachable!("it has no fills")
    }
}

/// A table row of 200 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Record {
    pub fields: [u64; 25],
}

/// Returns the key of a number: `key-000123`.
pub fn key(number: u32) -> String {
    format!("key-{number:06}")
}
