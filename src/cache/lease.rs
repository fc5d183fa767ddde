//! Fills that the application runs itself, from the start of a lease to its end.

use super::closing::Handles;
use super::fill_end::write_of;
use super::filled::Filled;
use super::insert_error::InsertError;
use super::shared::Shared;
use super::{CacheKey, CacheValue, tick};
use crate::item::{ItemRef, of_key};
use crate::replica::FillTicket;
use crate::sync::Arc;

/// A fill that the application runs itself, from [`Cache::begin_fill`](super::Cache::begin_fill) to
/// [`complete`](Self::complete). It is for code that cannot pass its work as a closure to
/// [`get_with`](super::Cache::get_with): a proxy, a macro, a batch of rows.
///
/// The fill is stamped when the lease begins, so begin it before the source is read. A write, delete or invalidation
/// after that moment, on any node, wins over the value, also if it arrives after the end. So does a newer fill. The
/// effect is that of a lease in memcache, without a server.
///
/// - Callers of `get_with` do not wait for a lease, and a lease does not wait for them. For one fill however many
///   callers, use `get_with`.
/// - A lease older than `replication.fill_hold` (30 s) stores nothing. Until then it holds back the collection of
///   tombstones.
/// - A dropped lease has no effect. A lease keeps its cache open.
///
/// ```
/// # #[cfg(feature = "node")]
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use driftless::{Cache, Node};
/// let node = Node::builder().cluster("shop").start().await?;
/// let prices: Cache<String, u64> = node.cache("prices").open()?;
///
/// let lease = prices.begin_fill("pear".into());
/// let price = 95; // read from the database
/// assert!(lease.complete(price)?);
///
/// let late = prices.begin_fill("pear".into());
/// prices.invalidate("pear"); // here or on another node
/// assert!(!late.complete(price)?); // the delete is newer
/// assert_eq!(prices.get("pear"), None);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "node"))]
/// # fn main() {}
/// ```
#[must_use = "a dropped lease has no effect: complete it"]
pub struct FillLease<K: CacheKey, V: CacheValue> {
    shared: Arc<Shared<K, V>>,
    /// Keeps the cache open.
    _open: Arc<Handles>,
    hash: u64,
    /// The key, in an item without a value. The item catches a panic in the `Drop` of the key.
    item: ItemRef<K, V>,
    /// `None` once the fill has ended.
    ticket: Option<FillTicket>,
}

impl<K: CacheKey, V: CacheValue> FillLease<K, V> {
    pub(super) fn begin(shared: &Arc<Shared<K, V>>, handles: &Arc<Handles>, key: K) -> Self {
        let (item, now) = (of_key(key), shared.services.time.now());
        let hash = shared.reader.hash_of(&item.key);
        let ticket = shared.writer.change(now, |engine| engine.replica.begin_fill(now, hash, &item.key));
        Self { shared: Arc::clone(shared), _open: Arc::clone(handles), hash, item, ticket: Some(ticket) }
    }

    /// Ends the fill with a value, which has the cache's default time to live from now on. Returns false if the value is
    /// not stored: something newer is known here, or the lease is older than `replication.fill_hold`. To wait for other
    /// nodes, use [`last_written`](super::Cache::last_written).
    ///
    /// # Errors
    /// As [`Cache::insert`](super::Cache::insert). Nothing is stored.
    pub fn complete(self, value: V) -> Result<bool, InsertError> {
        self.complete_with(Filled::new(value))
    }

    /// As [`complete`](Self::complete), errors included, with a time to live of its own. Returns false also for
    /// [`Filled::uncached`].
    pub fn complete_with(mut self, filled: Filled<V>) -> Result<bool, InsertError> {
        let shared = &self.shared;
        let now = shared.services.time.now();
        // Runs user code. If that panics, `Drop` ends the fill.
        let (_, write) = write_of(shared, now, (self.hash, &self.item.key), filled);
        let Some(write) = write.inspect_err(|_| shared.counts.fills.refused.one())? else { return Ok(false) };
        let Some(ticket) = self.ticket.take() else { return Ok(false) };
        let kept = ItemRef::clone(&write.item); // A value that is not stored is dropped after the lock.
        let stored = shared.writer.change(now, |engine| engine.replica.finish_fill(now, &ticket, write).is_some());
        drop(kept);
        if !stored {
            shared.counts.fills.lost.one();
        }
        tick::after_write(shared);
        Ok(stored)
    }
}

impl<K: CacheKey, V: CacheValue> std::fmt::Debug for FillLease<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stamp = self.ticket.as_ref().map(FillTicket::stamp);
        f.debug_struct("FillLease").field("cache", &self.shared.name).field("stamp", &stamp).finish_non_exhaustive()
    }
}

impl<K: CacheKey, V: CacheValue> Drop for FillLease<K, V> {
    /// Ends a fill that has no value, so that it no longer holds back the collection of tombstones.
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let shared = &self.shared;
            shared.writer.change(shared.services.time.now(), |engine| engine.replica.abort_fill(&ticket));
        }
    }
}
