//! The handle that an application holds. Documents each method and delegates its work.

use std::hash::Hash;
use std::time::Duration;

use equivalent::Equivalent;
use serde::Serialize;

use super::as_key::AsKey;
use super::closing::Handles;
use super::fill_error::Failure;
use super::filled::Lifetime;
use super::shared::Shared;
use super::{
    BulkError, CacheKey, CacheSettings, CacheStats, CacheValue, EntryInfo, FillError, FillLease, Filled, InsertError,
    Iter, Members, NotReplicated, NotSeen, Pages, Policy, Ready, Replicated, Subscription, Token, Written,
};
use super::{bulk, fill, lookup, ready_wait, replicated, report, seen, stats, tick, write};
use crate::hlc::Stamp;
use crate::replica::Counters;
use crate::replica_id::ReplicaId;
use crate::report::CacheReport;
use crate::sync::{Arc, block_on};

/// A handle to a replicated cache. Cheap to clone; clones share one cache.
///
/// Reads, writes and deletes are synchronous: they never wait for the network, and work outside a runtime. Methods that
/// wait (fills, `ready`, `wait_replicated`) are `async`, and have a `_blocking` form.
///
/// The cache is open as long as a handle exists. Then this node's copy is dropped once a member has its writes, and
/// after five seconds in any case. If no member took them by then, a warning and `Node::shutdown` name the cache.
pub struct Cache<K, V> {
    pub(super) shared: Arc<Shared<K, V>>,
    /// The wait of a fill through this handle for each node whose turn is earlier.
    patience: Option<Duration>,
    handles: Arc<Handles>,
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), patience: self.patience, handles: Arc::clone(&self.handles) }
    }
}

impl<K, V> std::fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, replica) = (&self.shared.name, self.shared.services.id());
        f.debug_struct("Cache").field("name", name).field("replica", &replica).finish_non_exhaustive()
    }
}

impl<K: CacheKey, V: CacheValue> Cache<K, V> {
    pub(super) fn from_shared(shared: Arc<Shared<K, V>>) -> Self {
        let handles = Handles::new(&shared.services.host, Arc::clone(&shared) as _);
        Self { patience: shared.settings.cluster_single_flight, handles, shared }
    }

    /// Returns the value of a key, if there is one here that has not expired. Counts as a use.
    pub fn get<By, Q: AsKey<K, By> + ?Sized>(&self, key: &Q) -> Option<V> {
        lookup::get(&self.shared, key.as_key())
    }

    /// Returns the values of many keys, in the order of the keys. Each counts as a use.
    pub fn get_many<'a, By, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Vec<Option<V>>
    where
        Q: AsKey<K, By> + ?Sized + 'a,
    {
        keys.into_iter().map(|key| self.get(key)).collect()
    }

    /// Returns true if [`get`](Self::get) would find a value. Does not count as a use.
    pub fn contains_key<By, Q: AsKey<K, By> + ?Sized>(&self, key: &Q) -> bool {
        self.shared.reader.visible(key.as_key()).is_some_and(|found| found.item.value().is_some())
    }

    /// Returns the value of a key with its stamp, age and remaining time. Does not count as a use.
    pub fn entry<By, Q: AsKey<K, By> + ?Sized>(&self, key: &Q) -> Option<EntryInfo<V>> {
        lookup::entry(&self.shared, key.as_key())
    }

    /// Iterates over the keys and values here, in no order. Does not count as a use. Holds no lock between entries. No
    /// value is older than one that [`get`](Self::get) returned before, and no key comes twice. Look-ups take its keys.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(&self.shared)
    }

    /// Returns the values here page by page, for callers that cannot hold an iterator.
    #[must_use]
    pub fn pages(&self) -> Pages<'_, K, V> {
        Pages::new(&self.shared)
    }

    /// Writes a value with the time to live that the cache sets. Every node will have it, or something newer.
    ///
    /// # Errors
    /// The entry is too large, cannot be serialised, does not decode again, or is to live for no time. Nothing changes.
    pub fn insert(&self, key: K, value: V) -> Result<Written, InsertError> {
        write::insert(&self.shared, key, value, Lifetime::AsConfigured)
    }

    /// Writes a value that expires `time_to_live` (a hundred years at most) from now. The deadline is sent with it.
    ///
    /// # Errors
    /// As [`insert`](Self::insert), and for a time to live of zero.
    pub fn insert_with_ttl(&self, key: K, value: V, time_to_live: Duration) -> Result<Written, InsertError> {
        write::insert(&self.shared, key, value, Lifetime::For(time_to_live))
    }

    /// Writes many values with times that the cache sets, in order. Not a transaction: readers may see a part of them.
    ///
    /// # Errors
    /// One entry is refused, as by [`insert`](Self::insert). Nothing was written.
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<Vec<Written>, BulkError> {
        bulk::insert(&self.shared, entries)
    }

    /// Writes a value only if [`get`](Self::get) finds none here. If another node writes too, the greater stamp wins.
    /// Do not preload database rows with it: the write has a new stamp, so it wins over a newer value of another node
    /// that has not arrived here. Wait for [`ready`](Self::ready), then fill with [`get_with`](Self::get_with). Errors are
    /// those of [`insert`](Self::insert).
    pub fn insert_if_absent_local(&self, key: K, value: V) -> Result<Option<Written>, InsertError> {
        write::insert_if_absent(&self.shared, key, value, Lifetime::AsConfigured)
    }

    /// As [`insert_if_absent_local`](Self::insert_if_absent_local), with its own time to live; `None` never expires.
    /// Errors are those of [`insert_with_ttl`](Self::insert_with_ttl).
    pub fn insert_if_absent_local_with_ttl(
        &self,
        key: K,
        value: V,
        time_to_live: Option<Duration>,
    ) -> Result<Option<Written>, InsertError> {
        write::insert_if_absent(&self.shared, key, value, time_to_live.into())
    }

    /// Writes a value only if the present one has this stamp (from [`entry`](Self::entry) or [`Written`]). Keeps the
    /// deadline of the present value; if that has none, the new value never expires. Otherwise returns `None`.
    /// Compares on this node alone: if another node writes at the same time, the greater stamp wins everywhere.
    /// The write has a new stamp, so it also wins over a delete by another node that has not arrived here: a session
    /// that is loaded, changed and written back may return after its logout. Do not rewrite keys that must stay deleted.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn replace_if(&self, key: K, value: V, stamp: Stamp) -> Result<Option<Written>, InsertError> {
        write::replace_if(&self.shared, key, value, stamp)
    }

    /// As [`replace_if`](Self::replace_if), with its own time to live, counted from now; `None` never expires. Errors
    /// are those of [`insert_with_ttl`](Self::insert_with_ttl).
    pub fn replace_if_with_ttl(
        &self,
        key: K,
        value: V,
        stamp: Stamp,
        time_to_live: Option<Duration>,
    ) -> Result<Option<Written>, InsertError> {
        write::replace_if_with_ttl(&self.shared, key, value, stamp, time_to_live.into())
    }

    /// Deletes a key on every node, even if no write of it has arrived here yet. Returns the value that was here. To
    /// wait until the delete has arrived on other nodes, use [`last_written`](Self::last_written).
    ///
    /// `Q` must serialise to what `K` deserialises from, as borrowed forms do, and `K` must decode what it encodes. If
    /// not, nothing is deleted, an error is logged, and the report warns of `unreadable-entries`.
    pub fn remove<By, Q: AsKey<K, By, Form: Serialize> + ?Sized>(&self, key: &Q) -> Option<V> {
        write::remove(&self.shared, key.as_key()).and_then(|item| item.value().cloned())
    }

    /// As [`remove`](Self::remove), for callers that do not want the value.
    pub fn invalidate<By, Q: AsKey<K, By, Form: Serialize> + ?Sized>(&self, key: &Q) {
        drop(write::remove(&self.shared, key.as_key()));
    }

    /// Deletes a key on every node, if its value here has this stamp. Returns that value. For `None`, and for what it
    /// cannot know of other nodes, see [`replace_if`](Self::replace_if).
    pub fn remove_if_stamp<By, Q: AsKey<K, By> + ?Sized>(&self, key: &Q, stamp: Stamp) -> Option<V> {
        write::remove_if_stamp(&self.shared, key.as_key(), stamp).and_then(|item| item.value().cloned())
    }

    /// Deletes the values here that the predicate accepts, on every node. Returns their number. Holds no lock while the
    /// predicate runs, and does not count as a use.
    ///
    /// Deletes a key only if its value still has the stamp that the predicate saw. Keys that this node does not hold
    /// stay. A delete has a new stamp, so it also wins over a newer value of another node that has not arrived here. If
    /// the predicate panics, so does the call; some keys may be deleted by then.
    pub fn remove_if(&self, predicate: impl FnMut(&K, &V) -> bool) -> usize {
        bulk::remove_if(&self.shared, predicate)
    }

    /// As [`remove_if`](Self::remove_if), panics included, but deletes the values that the predicate refuses.
    pub fn retain(&self, mut predicate: impl FnMut(&K, &V) -> bool) -> usize {
        self.remove_if(|key, value| !predicate(key, value))
    }

    /// Deletes many keys on every node. Returns the number that had a value here. For `Q` see [`remove`](Self::remove).
    pub fn remove_many<'a, By, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> usize
    where
        Q: AsKey<K, By, Form: Serialize + 'a> + ?Sized + 'a,
    {
        bulk::remove(&self.shared, keys.into_iter().map(AsKey::as_key))
    }

    /// Deletes everything written so far on every node, even what has not arrived yet, with a single message.
    pub fn invalidate_all(&self) {
        write::invalidate_all(&self.shared);
    }

    /// Returns the newest write, delete, fill or invalidation of this node in this cache; `None` if there was none.
    /// Members see one node's changes in order, so a member that has this change has all changes before it.
    #[must_use]
    pub fn last_written(&self) -> Option<Written> {
        write::last(&self.shared)
    }

    /// Returns the value of a key. If there is none, returns the filler's value, which is then cached on every node.
    ///
    /// However many callers miss at once, one filler runs on this node. A caller that comes after a write, delete or
    /// invalidation of the key does not join a fill from before it. The filler runs as a task, in the caller's tokio
    /// runtime or, if there is none, in the node's. Dropping a caller does not stop the fill.
    ///
    /// A fill is joined, and waited for by callers that joined it, for at most `replication.fill_hold` (30 s) after its
    /// start. Then they run their own filler. The caller whose filler runs waits as long as
    /// [`fill_timeout`](super::CacheBuilder::fill_timeout) allows. A filler that its runtime does not begin within a
    /// second (the thread is blocked, for instance by another executor's `block_on`) runs on a thread of its own.
    ///
    /// A write or delete anywhere after the start of the fill wins over it, even if it arrives after the end of the
    /// fill. A fill that lost is returned to its callers and not cached.
    ///
    /// # Panics
    /// If there is no value to return: the filler panicked; the fill exceeded
    /// [`fill_timeout`](super::CacheBuilder::fill_timeout); a filler waits for its own key, perhaps through other
    /// fillers; its runtime ended or none could be started; or this call joined a [`try_get_with`](Self::try_get_with)
    /// of the key whose filler failed. To get an error instead, use that form in all calls for the key.
    pub async fn get_with<F, Fut>(&self, key: K, filler: F) -> V
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        let filler = move || async move { Ok(Filled::new(filler().await)) };
        fill::get_or_fill(&self.shared, self.patience, key, filler).await.unwrap_or_else(fill::no_value)
    }

    /// As [`get_with`](Self::get_with), with a filler that can fail.
    ///
    /// # Errors
    /// The filler failed, this caller's or that of the fill it joined; it panicked or took too long; it waits for its
    /// own key, perhaps through other fillers; or its runtime has ended or could not be started. Each caller that
    /// waited for the fill gets the error once. Nothing is cached, and the next call runs its own filler.
    pub async fn try_get_with<F, Fut, E>(&self, key: K, filler: F) -> Result<V, FillError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        self.fill_with(key, move || async move { filler().await.map(Filled::new) }).await
    }

    /// As [`try_get_with`](Self::try_get_with), errors included. The filler decides how its value is kept: [`Filled`].
    pub async fn fill_with<F, Fut, E>(&self, key: K, filler: F) -> Result<V, FillError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Filled<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let filler = move || async move { filler().await.map_err(Failure::of) };
        fill::get_or_fill(&self.shared, self.patience, key, filler).await.map_err(Failure::typed)
    }

    /// As [`get_with`](Self::get_with), without a runtime: the filler runs on the calling thread, and threads that join
    /// it block. Do not call it from async code.
    ///
    /// # Panics
    /// As [`get_with`](Self::get_with). Also if the fill to join runs in a runtime that only this thread drives: the
    /// wait would never end ([`FillError::WouldBlock`]). A filler cannot be interrupted at `fill_timeout`: callers that
    /// joined it panic in time, its own caller panics when it returns, and its value is dropped.
    pub fn get_with_blocking(&self, key: K, filler: impl FnOnce() -> V) -> V {
        let filler = || Ok(Filled::new(filler()));
        fill::get_or_fill_blocking(&self.shared, self.patience, key, filler).unwrap_or_else(fill::no_value)
    }

    /// As [`get_with_blocking`](Self::get_with_blocking), with the errors of [`try_get_with`](Self::try_get_with).
    pub fn try_get_with_blocking<E: Send + Sync + 'static>(
        &self,
        key: K,
        filler: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, FillError<E>> {
        self.fill_with_blocking(key, || filler().map(Filled::new))
    }

    /// As [`fill_with`](Self::fill_with), errors included, in the way of [`get_with_blocking`](Self::get_with_blocking).
    pub fn fill_with_blocking<E: Send + Sync + 'static>(
        &self,
        key: K,
        filler: impl FnOnce() -> Result<Filled<V>, E>,
    ) -> Result<V, FillError<E>> {
        let filler = || filler().map_err(Failure::of);
        fill::get_or_fill_blocking(&self.shared, self.patience, key, filler).map_err(Failure::typed)
    }

    /// As [`get_with`](Self::get_with), panics included, for a borrowed key. Makes it an owned key only on a miss.
    pub async fn get_with_by_ref<Q, F, Fut>(&self, key: &Q, filler: F) -> V
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        let filler = move || async move { Ok(Filled::new(filler().await)) };
        fill::get_or_fill_by_ref(&self.shared, self.patience, key, filler).await.unwrap_or_else(fill::no_value)
    }

    /// As [`try_get_with`](Self::try_get_with), errors included, for a borrowed key. Makes it owned only on a miss.
    pub async fn try_get_with_by_ref<Q, F, Fut, E>(&self, key: &Q, filler: F) -> Result<V, FillError<E>>
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let filler = move || async move { filler().await.map(Filled::new).map_err(Failure::of) };
        fill::get_or_fill_by_ref(&self.shared, self.patience, key, filler).await.map_err(Failure::typed)
    }

    /// As [`get_with_blocking`](Self::get_with_blocking), panics included, for a key that is made owned only on a miss.
    pub fn get_with_by_ref_blocking<Q>(&self, key: &Q, filler: impl FnOnce() -> V) -> V
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let filler = || Ok(Filled::new(filler()));
        fill::get_or_fill_by_ref_blocking(&self.shared, self.patience, key, filler).unwrap_or_else(fill::no_value)
    }

    /// As [`try_get_with_blocking`](Self::try_get_with_blocking), for a key that is made owned only on a miss.
    pub fn try_get_with_by_ref_blocking<Q, E>(
        &self,
        key: &Q,
        filler: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, FillError<E>>
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
        E: Send + Sync + 'static,
    {
        let filler = || filler().map(Filled::new).map_err(Failure::of);
        fill::get_or_fill_by_ref_blocking(&self.shared, self.patience, key, filler).map_err(Failure::typed)
    }

    /// Begins a fill that the caller runs itself, of a key that may have a value: see [`FillLease`].
    pub fn begin_fill(&self, key: K) -> FillLease<K, V> {
        FillLease::begin(&self.shared, &self.handles, key)
    }

    /// Returns a handle with its own [`cluster_single_flight`](super::CacheBuilder::cluster_single_flight), the wait for
    /// each node whose turn is earlier. `None` turns such waits off. A time outside 1 ms to 1 min is brought into that
    /// range, and one above a quarter of [`fill_timeout`](super::CacheBuilder::fill_timeout) is cut to that quarter.
    #[must_use]
    pub fn with_cluster_single_flight(&self, patience: Option<Duration>) -> Self {
        let patience = patience.map(|patience| self.shared.settings.bounded_patience(patience));
        Self { patience, ..self.clone() }
    }

    /// Waits until this cache has all that some member had, or it is known that no member has it open, or the time
    /// limit is reached. Reads and writes work meanwhile.
    pub async fn ready(&self, timeout: Duration) -> Ready {
        ready_wait::ready(&self.shared, timeout).await
    }

    /// As [`ready`](Self::ready), but blocks the calling thread, for callers outside a runtime.
    #[must_use]
    pub fn ready_blocking(&self, timeout: Duration) -> Ready {
        block_on(self.ready(timeout))
    }

    /// Waits until enough members have a write, or something newer for its key. The members are those that are alive at
    /// the call: members that join later do not count, and departures are reported.
    ///
    /// After a start it also waits for expected members: a configured seed must answer, and each live member must
    /// report whether it has the cache open. After that, [`All`](Members::All) succeeds at once if there are no
    /// members (no seeds and none joined, none has the cache open, or all departed). A [`Count`](Members::Count) fails
    /// at once while fewer members are alive. Both fail once this node is shut down. For deletes and invalidations wait
    /// for [`last_written`](Self::last_written). If there are over 16 other members, they report only in digests: allow
    /// one `digest_interval` for each. Nothing becomes durable: members hold the value in memory, and may evict it.
    ///
    /// # Errors
    /// The time limit is reached, too few members remain, or this node is shut down. The error lists the members with
    /// and without the write and those that departed, and tells if members were still expected.
    pub async fn wait_replicated(
        &self,
        written: Written,
        members: Members,
        timeout: Duration,
    ) -> Result<Replicated, NotReplicated> {
        replicated::wait(&self.shared, written, members, timeout).await
    }

    /// As [`wait_replicated`](Self::wait_replicated), errors included, but blocks the calling thread.
    pub fn wait_replicated_blocking(
        &self,
        written: Written,
        members: Members,
        timeout: Duration,
    ) -> Result<Replicated, NotReplicated> {
        block_on(self.wait_replicated(written, members, timeout))
    }

    /// Waits until this node has merged the write of a token, which any node made with [`Written::token`]: a user then
    /// reads their own writes here. A write that has lost, has expired, or was evicted here counts as merged.
    ///
    /// # Errors
    /// The time limit is reached, this node is shut down, or the token names no known replica: see [`NotSeen`]. An
    /// unknown replica is an error at once if this cache is [`ready`](Self::ready) and no further member is expected.
    pub async fn wait_seen(&self, token: &Token, timeout: Duration) -> Result<(), NotSeen> {
        seen::wait(&self.shared, *token, timeout).await
    }

    /// As [`wait_seen`](Self::wait_seen), errors included, but blocks the thread, for callers outside a runtime.
    pub fn wait_seen_blocking(&self, token: &Token, timeout: Duration) -> Result<(), NotSeen> {
        block_on(self.wait_seen(token, timeout))
    }

    /// Returns a stream of inserts, updates and removals here from now on, by any node, in the order of their effect.
    /// It is bounded by [`change_buffer`](super::CacheBuilder::change_buffer): a subscriber that falls behind by more
    /// gets [`SubscriptionError::Lagged`](super::SubscriptionError::Lagged). If several changes of one key arrive
    /// together, the stream may have only the last. A change that loses to the present register is not an event.
    #[must_use]
    pub fn subscribe(&self) -> Subscription<K, V> {
        self.shared.writer.subscribe(&self.shared.services.time)
    }

    /// Applies noted reads, makes tombstones of expired values, and sweeps now instead of in the background.
    pub fn run_pending_tasks(&self) {
        tick::run_pending(&self.shared);
    }

    /// Returns the number of values held here, also of those that are not yet swept, or that do not decode here.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.shared.writer.look(|engine| engine.replica.view().live_len())
    }

    /// Returns the sum of the weights of the values here.
    #[must_use]
    pub fn weighted_size(&self) -> u64 {
        self.shared.writer.look(|engine| engine.replica.view().live_weight())
    }

    /// Returns the number of other members known to have this cache open, dead but not yet forgotten ones included.
    #[must_use]
    pub fn members(&self) -> usize {
        self.shared.writer.look(|engine| engine.replica.view().peer_len())
    }

    /// Returns the name under which this cache was opened.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns this replica's id. It changes only if another process, such as a cloned machine, is found to use it.
    #[must_use]
    pub fn replica_id(&self) -> ReplicaId {
        self.shared.services.id()
    }

    /// Returns the settings with which this cache was opened, as far as applications read them.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.shared.settings.policy()
    }

    /// Returns every setting of this cache, including those of the protocol.
    #[must_use]
    pub fn settings(&self) -> &CacheSettings {
        &self.shared.settings
    }

    /// Returns the hits and misses so far, of [`get`](Self::get), [`get_with`](Self::get_with) and their variants.
    #[must_use]
    pub fn hits_and_misses(&self) -> (u64, u64) {
        self.shared.writer.reads.totals()
    }

    /// Returns the counters of the replication protocol.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.writer.look(|engine| engine.replica.view().counters().clone())
    }

    /// Returns the counts, size and lags of this cache here. Holds the replica's lock no longer than one write does.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        stats::stats(&self.shared)
    }

    /// Returns a report on this cache at one moment. Holds the replica's lock for microseconds, however many keys it has.
    #[must_use]
    pub fn inspect(&self) -> CacheReport {
        report::report(&self.shared)
    }
}
