//! The store: the traits of `cached`, on a handle to a replicated cache.

use std::sync::Arc;

use cached::{
    ConcurrentCacheBase, ConcurrentCachePeek, ConcurrentCached, ConcurrentCachedAsync, SerializeCached,
    SerializeCachedAsync,
};
use driftless::cache::{CacheKey, CacheValue};
use driftless::{Cache, InsertError};

use crate::compute;
use crate::leases::{Begun, Caller, Leases};

/// A replicated cache as a store of `cached`. Cheap to clone; clones share one cache.
///
/// The values are in the memory of every node. The [crate's page](crate) states how this store differs from the local
/// ones.
pub struct DriftlessCache<K: CacheKey, V: CacheValue> {
    cache: Cache<K, V>,
    leases: Arc<Leases<K, V>>,
}

/// The reason why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A value was not stored: it is too large, or cannot be encoded and read back.
    #[error(transparent)]
    Insert(#[from] InsertError),
    /// A value was not computed: the computation panicked, took longer than the cache's `fill_timeout`, waits for its
    /// own key, or could not be started.
    #[error("no value was computed: {0}")]
    Compute(String),
}

impl<K: CacheKey, V: CacheValue> Clone for DriftlessCache<K, V> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), leases: Arc::clone(&self.leases) }
    }
}

impl<K: CacheKey, V: CacheValue> std::fmt::Debug for DriftlessCache<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DriftlessCache").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl<K: CacheKey, V: CacheValue> From<Cache<K, V>> for DriftlessCache<K, V> {
    fn from(cache: Cache<K, V>) -> Self {
        Self::new(cache)
    }
}

impl<K: CacheKey, V: CacheValue> DriftlessCache<K, V> {
    /// Makes a store of an open cache. Time to live, capacity and eviction are those of the cache.
    #[must_use]
    pub fn new(cache: Cache<K, V>) -> Self {
        Self { cache, leases: Arc::new(Leases::new()) }
    }

    /// Returns the cache, for instance to wait until it is ready, or to invalidate on every node.
    #[must_use]
    pub fn cache(&self) -> &Cache<K, V> {
        &self.cache
    }

    fn set(&self, key: K, value: V) -> Result<Option<V>, StoreError> {
        let before = self.peek_value(&key);
        self.cache.insert(key, value)?;
        Ok(before)
    }

    /// Returns a value. If there is none, begins the fill of the computation that may follow.
    fn get_or_begin(&self, caller: Caller, key: &K) -> Option<V> {
        let found = self.cache.get(key);
        if found.is_none() {
            self.leases.begin(&self.cache, caller, key);
        }
        found
    }

    /// Stores a value that was computed since this caller's look-up, unless something newer is known.
    fn end(&self, caller: Caller, key: &K, value: &V) -> Result<(), StoreError> {
        match self.leases.end(caller, key) {
            Begun::No => self.cache.insert(key.clone(), value.clone()).map(drop)?,
            Begun::Lease(lease) => lease.complete(value.clone()).map(drop)?,
            Begun::Ended => {}
        }
        Ok(())
    }

    /// Returns a value without counting a use.
    fn peek_value(&self, key: &K) -> Option<V> {
        self.cache.entry(key).map(driftless::EntryInfo::into_value)
    }
}

impl<K: CacheKey, V: CacheValue> ConcurrentCacheBase for DriftlessCache<K, V> {
    type Error = StoreError;

    /// Returns the number of values on this node. Includes values that have expired and are not yet swept.
    fn cache_size(&self) -> Result<Option<usize>, StoreError> {
        Ok(usize::try_from(self.cache.entry_count()).ok())
    }

    fn cache_hits(&self) -> Option<u64> {
        Some(self.cache.hits_and_misses().0)
    }

    fn cache_misses(&self) -> Option<u64> {
        Some(self.cache.hits_and_misses().1)
    }

    /// Returns the most weight that this node holds; a value weighs 1 unless the cache has a weigher.
    fn cache_capacity(&self) -> Option<usize> {
        self.cache.policy().max_capacity.and_then(|capacity| usize::try_from(capacity).ok())
    }

    /// Returns the number of values that this node evicted to stay within its capacity.
    fn cache_evictions(&self) -> Option<u64> {
        Some(self.cache.stats().removals.size)
    }
}

impl<K: CacheKey, V: CacheValue> ConcurrentCached<K, V> for DriftlessCache<K, V> {
    /// Returns a value from this node's memory. A miss begins the fill that [`SerializeCached::cache_set_ref`] ends.
    ///
    /// # Errors
    /// None.
    fn cache_get(&self, k: &K) -> Result<Option<V>, StoreError> {
        Ok(self.get_or_begin(Caller::function(), k))
    }

    /// Writes a value on every node. Returns the value that was here just before. Always a write of its own: it wins
    /// over every write and delete that this node knows.
    ///
    /// # Errors
    /// The entry is too large, or cannot be encoded and read back. Nothing has changed.
    fn cache_set(&self, k: K, v: V) -> Result<Option<V>, StoreError> {
        self.set(k, v)
    }

    /// Deletes a value on every node, also if it has not arrived here yet. Returns the value that was here.
    ///
    /// # Errors
    /// None.
    fn cache_remove(&self, k: &K) -> Result<Option<V>, StoreError> {
        Ok(self.cache.remove(k))
    }

    /// As `cache_remove`. An expired value is absent in driftless, so it is not returned.
    ///
    /// # Errors
    /// None.
    fn cache_remove_entry(&self, k: &K) -> Result<Option<(K, V)>, StoreError> {
        Ok(self.cache.remove(k).map(|value| (k.clone(), value)))
    }

    /// Returns true if a value that has not expired is here. Does not count as a use.
    ///
    /// # Errors
    /// None.
    fn cache_contains(&self, k: &K) -> Result<bool, StoreError> {
        Ok(self.cache.contains_key(k))
    }

    /// Deletes everything written so far on every node, with one message.
    ///
    /// # Errors
    /// None.
    fn cache_clear(&self) -> Result<(), StoreError> {
        self.cache.invalidate_all();
        Ok(())
    }

    /// As `cache_clear`. The counters of a cache count since it was opened, and are not reset.
    ///
    /// # Errors
    /// None.
    fn cache_reset(&self) -> Result<(), StoreError> {
        self.cache_clear()
    }

    /// Returns a value. If there is none, computes it with `f`, once for all threads of this node that ask. A write or
    /// delete on any node after the start of `f` wins over the computed value, which is then returned and not stored.
    ///
    /// # Errors
    /// `f` of another thread panicked or took too long, or the thread waits for its own key.
    fn cache_get_or_set_with<F: FnOnce() -> V>(&self, k: K, f: F) -> Result<V, StoreError> {
        compute::get_or_set_with(&self.cache, k, f)
    }

    /// As `cache_get_or_set_with`, with an `f` that can fail. A failure is not stored. If a thread waited for another
    /// one whose `f` failed, it runs its own.
    ///
    /// # Errors
    /// As `cache_get_or_set_with`. The error of `f` is the inner one.
    fn cache_try_get_or_set_with<F: FnOnce() -> Result<V, E>, E>(
        &self,
        k: K,
        f: F,
    ) -> Result<Result<V, E>, StoreError> {
        compute::try_get_or_set_with(&self.cache, k, f)
    }
}

/// Nothing here waits, except for the computations: each operation is that of [`ConcurrentCached`], in this node's
/// memory.
impl<K: CacheKey, V: CacheValue> ConcurrentCachedAsync<K, V> for DriftlessCache<K, V> {
    async fn async_cache_get(&self, k: &K) -> Result<Option<V>, StoreError> {
        Ok(self.get_or_begin(Caller::future(), k))
    }

    async fn async_cache_set(&self, k: K, v: V) -> Result<Option<V>, StoreError> {
        self.set(k, v)
    }

    async fn async_cache_remove(&self, k: &K) -> Result<Option<V>, StoreError> {
        self.cache_remove(k)
    }

    async fn async_cache_remove_entry(&self, k: &K) -> Result<Option<(K, V)>, StoreError> {
        self.cache_remove_entry(k)
    }

    async fn async_cache_contains(&self, k: &K) -> Result<bool, StoreError> {
        self.cache_contains(k)
    }

    async fn async_cache_clear(&self) -> Result<(), StoreError> {
        self.cache_clear()
    }

    async fn async_cache_reset(&self) -> Result<(), StoreError> {
        self.cache_clear()
    }

    /// Returns a value. If there is none, computes it with `f`, in each caller that asks. A write or delete on any node
    /// after the start of `f` wins over the computed value, which is then returned and not stored.
    ///
    /// # Errors
    /// The value was not stored: it is too large, or cannot be encoded and read back.
    async fn async_cache_get_or_set_with<F, Fut>(&self, k: K, f: F) -> Result<V, StoreError>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = V> + Send,
    {
        compute::async_get_or_set_with(&self.cache, k, f).await
    }

    /// As `async_cache_get_or_set_with`, with an `f` that can fail. A failure is not stored.
    ///
    /// # Errors
    /// As `async_cache_get_or_set_with`. The error of `f` is the inner one.
    async fn async_cache_try_get_or_set_with<F, Fut, E: Send>(&self, k: K, f: F) -> Result<Result<V, E>, StoreError>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<V, E>> + Send,
    {
        compute::async_try_get_or_set_with(&self.cache, k, f).await
    }
}

/// The end of a memoized function. `#[concurrent_cached]` calls this trait where a store has it, and no other code
/// does, so that sets of the macro are told from sets of the application.
impl<K: CacheKey, V: CacheValue> SerializeCached<K, V> for DriftlessCache<K, V> {
    /// Stores a value that was computed since a look-up of the same thread missed. A write or delete on any node after
    /// that look-up wins over it. Without such a look-up it is a write, as [`ConcurrentCached::cache_set`].
    ///
    /// # Errors
    /// The entry is too large, or cannot be encoded and read back. Nothing has changed.
    fn cache_set_ref(&self, k: &K, v: &V) -> Result<(), StoreError> {
        self.end(Caller::function(), k, v)
    }
}

/// As [`SerializeCached`]. The look-up belongs to the same task of tokio, or outside of one to the same thread.
impl<K: CacheKey, V: CacheValue> SerializeCachedAsync<K, V> for DriftlessCache<K, V> {
    async fn async_cache_set_ref(&self, k: &K, v: &V) -> Result<(), StoreError> {
        self.end(Caller::future(), k, v)
    }
}

impl<K: CacheKey, V: CacheValue> ConcurrentCachePeek<K, V> for DriftlessCache<K, V> {
    fn cache_peek(&self, k: &K) -> Result<Option<V>, StoreError> {
        Ok(self.peek_value(k))
    }
}
