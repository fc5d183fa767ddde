//! The handle that an application holds. Each method is documented here and done elsewhere.

use std::error::Error;
use std::hash::Hash;
use std::time::Duration;

use equivalent::Equivalent;
use serde::Serialize;

use super::closing::Handles;
use super::fill_error::Failure;
use super::shared::Shared;
use super::{
    BulkError, CacheKey, CacheSettings, CacheStats, CacheValue, EntryInfo, FillError, Filled, InsertError, Iter,
    Members, NotReplicated, Policy, Ready, Replicated, Subscription, Written,
};
use super::{bulk, fill, lookup, ready_wait, replicated, report, stats, tick, write};
use crate::hlc::Stamp;
use crate::replica::Counters;
use crate::replica_id::ReplicaId;
use crate::report::CacheReport;
use crate::sync::{Arc, block_on};

/// A handle to a replicated cache. Cheap to clone; clones are the same cache.
///
/// All that does not wait is synchronous: reads, writes and deletes never wait for the network, and work outside of a runtime. What waits
/// (fills, `ready`, `wait_replicated`) is `async`, with a `_blocking` form.
///
/// The cache is open for as long as a handle to it is there. With the last one this node's copy is gone, as soon as a member has what
/// was written to it, and after five seconds in any case. What no member took in that time is lost: a warning names the cache, and
/// `Node::shutdown` returns it. The node waits for members that have the cache open, and for configured seeds that it has not met.
pub struct Cache<K, V> {
    pub(super) shared: Arc<Shared<K, V>>,
    /// The time that a fill through this handle waits for another node's.
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
        let (name, replica) = (&self.shared.name, self.shared.around.id());
        f.debug_struct("Cache").field("name", name).field("replica", &replica).finish_non_exhaustive()
    }
}

impl<'a, K: CacheKey, V: CacheValue> IntoIterator for &'a Cache<K, V> {
    type Item = (Arc<K>, V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: CacheKey, V: CacheValue> Cache<K, V> {
    pub(super) fn from_shared(shared: Arc<Shared<K, V>>) -> Self {
        let handles = Handles::new(&shared.around.host, Arc::clone(&shared) as _);
        Self { patience: shared.settings.cluster_single_flight, handles, shared }
    }

    /// Returns the value of a key, if there is one here that has not expired. Counts as a use.
    pub fn get<Q: Equivalent<K> + Hash + ?Sized>(&self, key: &Q) -> Option<V> {
        lookup::get(&self.shared, key)
    }

    /// Returns the values of many keys, in their order. Each counts as a use.
    pub fn get_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Vec<Option<V>>
    where
        Q: Equivalent<K> + Hash + ?Sized + 'a,
    {
        keys.into_iter().map(|key| self.get(key)).collect()
    }

    /// Returns whether [`get`](Self::get) would find a value. Does not count as a use.
    pub fn contains_key<Q: Equivalent<K> + Hash + ?Sized>(&self, key: &Q) -> bool {
        self.shared.reader.visible(key).is_some_and(|found| found.item.value().is_some())
    }

    /// Returns the value of a key with its stamp, age and remaining time. Does not count as a use.
    pub fn entry<Q: Equivalent<K> + Hash + ?Sized>(&self, key: &Q) -> Option<EntryInfo<V>> {
        lookup::entry(&self.shared, key)
    }

    /// Returns the keys and values here, in no order, as they are met. Does not count as a use, and holds no lock while the caller works.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(&self.shared)
    }

    /// Writes a value with the cache's default time to live. Every node will have it, or something newer.
    ///
    /// # Errors
    /// The entry is too large, cannot be serialised, or does not decode again; nothing has changed.
    pub fn insert(&self, key: K, value: V) -> Result<Written, InsertError> {
        write::insert(&self.shared, key, value, self.shared.settings.time_to_live)
    }

    /// Writes a value that expires `time_to_live` from now; the deadline travels with it. More than a hundred years counts as a hundred.
    ///
    /// # Errors
    /// As [`insert`](Self::insert), and for a time to live of zero.
    pub fn insert_with_ttl(&self, key: K, value: V, time_to_live: Duration) -> Result<Written, InsertError> {
        write::insert(&self.shared, key, value, Some(time_to_live))
    }

    /// Writes many values with the default time to live, in their order. Not a transaction: a reader may see some of them before others.
    ///
    /// # Errors
    /// One entry is too large, cannot be serialised, or does not decode again; nothing was written.
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<Vec<Written>, BulkError> {
        bulk::insert(&self.shared, entries)
    }

    /// Writes a value only if [`get`](Self::get) finds none here. If another node writes it meanwhile, the greater stamp wins everywhere.
    ///
    /// Not for loading rows of a database: what is written has a new stamp, and wins over a newer value that another node has and this
    /// one has not received yet. Before [`ready`](Self::ready) that is every value. A preload waits for `ready`, and fills with
    /// [`get_with`](Self::get_with), which is stamped before its source is read.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn insert_if_absent_local(&self, key: K, value: V) -> Result<Option<Written>, InsertError> {
        self.insert_if_absent_local_with_ttl(key, value, self.shared.settings.time_to_live)
    }

    /// As [`insert_if_absent_local`](Self::insert_if_absent_local), with a time to live of its own; `None` is never.
    ///
    /// # Errors
    /// As [`insert_with_ttl`](Self::insert_with_ttl).
    pub fn insert_if_absent_local_with_ttl(
        &self,
        key: K,
        value: V,
        time_to_live: Option<Duration>,
    ) -> Result<Option<Written>, InsertError> {
        write::insert_if(&self.shared, key, value, time_to_live, |_, found| found.is_none())
    }

    /// Writes a value only if the one that is here has this stamp (from [`entry`](Self::entry) or
    /// [`Written`]). Compares on this node alone: another node may write at the same time, and the
    /// greater stamp wins everywhere. Returns `None` if the stamp was another, or nothing was here.
    ///
    /// The write has a new stamp, so it also wins over a delete that another node has made and that has not arrived here: a
    /// session that is loaded, changed and written back may return after its logout. There is no write yet that loses to such a delete;
    /// keep what must stay deleted out of keys that are rewritten.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn replace_if(&self, key: K, value: V, stamp: Stamp) -> Result<Option<Written>, InsertError> {
        write::replace_if(&self.shared, key, value, stamp)
    }

    /// Deletes a key on every node, also one never heard of here: its write may still be on its way. Returns the value that was here. To
    /// learn whether the delete has arrived elsewhere, wait for [`last_written`](Self::last_written).
    ///
    /// `Q` must serialise to what `K` deserialises from, as borrowed forms do, and `K` must decode what it encodes: if not, nothing is
    /// deleted, an error is logged, and the report warns of `unreadable-entries`.
    pub fn remove<Q: Equivalent<K> + Hash + Serialize + ?Sized>(&self, key: &Q) -> Option<V> {
        write::remove(&self.shared, key)
    }

    /// As [`remove`](Self::remove), for callers who do not want the value.
    pub fn invalidate<Q: Equivalent<K> + Hash + Serialize + ?Sized>(&self, key: &Q) {
        drop(self.remove(key));
    }

    /// Deletes many keys on every node. Returns how many had a value here.
    ///
    /// `Q` as for [`remove`](Self::remove).
    pub fn remove_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> usize
    where
        Q: Equivalent<K> + Hash + Serialize + ?Sized + 'a,
    {
        bulk::remove(&self.shared, keys)
    }

    /// Deletes everything written so far, on every node, including what has not arrived yet. One message, however many entries.
    pub fn invalidate_all(&self) {
        write::invalidate_all(&self.shared);
    }

    /// Returns the newest write, delete, fill or invalidation that this node has made of this cache; `None` if there was none. To be
    /// waited for: members see one node's changes in order, so a member that has this one has all before it.
    ///
    /// ```
    /// # async fn logout(sessions: driftless::Cache<String, u64>) -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// sessions.remove("token");
    /// if let Some(written) = sessions.last_written() {
    ///     sessions.wait_replicated(written, driftless::Members::All, Duration::from_secs(1)).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn last_written(&self) -> Option<Written> {
        write::last(&self.shared)
    }

    /// Returns the value of a key; if there is none, the filler's, which is then cached on every node.
    ///
    /// However many callers miss at once, one filler runs on this node. A caller that comes after a write, delete or invalidation of the
    /// key does not join a fill from before it. The filler runs as a task of its own, in the caller's tokio runtime or else in one of the
    /// node: a caller that is dropped drops only itself.
    ///
    /// A fill is joined and waited for by callers that joined it for at most `replication.fill_hold` (30 s) after its start; then they run
    /// their own filler. The caller whose filler runs waits for as long as [`fill_timeout`](super::CacheBuilder::fill_timeout) says. A
    /// filler that the caller's runtime does not begin within a second, because its thread is blocked (by the `block_on` of another
    /// executor, for instance), runs on a thread of its own.
    ///
    /// Whatever is written or deleted anywhere after the fill began beats it, whether it arrives
    /// before or after the fill ends. A fill that lost is returned to its callers and not cached.
    ///
    /// # Panics
    /// If there is no value to return: the filler panicked, the fill took longer than
    /// [`fill_timeout`](super::CacheBuilder::fill_timeout), a filler waits for its own key, maybe through others, the runtime
    /// it ran in has ended or none could be started; or this call joined a [`try_get_with`](Self::try_get_with) of the
    /// same key, whose filler failed. Use that form to get an error instead, for all callers of a key.
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
    /// The filler failed, this caller's or that of the caller whose fill this one joined; it panicked or took too long; it waits for
    /// its own key, maybe through others; or its runtime has ended or could not be started. Each caller that waited for the fill gets
    /// the error once; nothing is cached; the next call runs its own filler.
    pub async fn try_get_with<F, Fut, E>(&self, key: K, filler: F) -> Result<V, FillError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        self.fill_with(key, move || async move { filler().await.map(Filled::new) }).await
    }

    /// As [`try_get_with`](Self::try_get_with), with a filler that decides whether and how long its value is kept. See [`Filled`].
    ///
    /// # Errors
    /// As [`try_get_with`](Self::try_get_with).
    pub async fn fill_with<F, Fut, E>(&self, key: K, filler: F) -> Result<V, FillError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Filled<V>, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let filler = move || async move { filler().await.map_err(Failure::of) };
        fill::get_or_fill(&self.shared, self.patience, key, filler).await.map_err(Failure::typed)
    }

    /// As [`get_with`](Self::get_with), without a runtime: the filler runs on the calling thread, and
    /// threads that join it block. Do not call it from async code.
    ///
    /// # Panics
    /// As [`get_with`](Self::get_with); and if the fill to be joined runs in a runtime that only this thread drives, for then it would
    /// never end ([`FillError::WouldBlock`]). A filler that takes longer than `fill_timeout` cannot be
    /// interrupted: those who wait for it panic in time, and its own caller once it has returned; its value is thrown away.
    pub fn get_with_blocking(&self, key: K, filler: impl FnOnce() -> V) -> V {
        let filler = || Ok(Filled::new(filler()));
        fill::get_or_fill_blocking(&self.shared, self.patience, key, filler).unwrap_or_else(fill::no_value)
    }

    /// As [`get_with_blocking`](Self::get_with_blocking), with a filler that can fail.
    ///
    /// # Errors
    /// As [`try_get_with`](Self::try_get_with).
    pub fn try_get_with_blocking<E>(&self, key: K, filler: impl FnOnce() -> Result<V, E>) -> Result<V, FillError<E>>
    where
        E: Error + Send + Sync + 'static,
    {
        self.fill_with_blocking(key, || filler().map(Filled::new))
    }

    /// As [`try_get_with_blocking`](Self::try_get_with_blocking), with a filler that decides how long its value is kept. See [`Filled`].
    ///
    /// # Errors
    /// As [`try_get_with`](Self::try_get_with).
    pub fn fill_with_blocking<E: Error + Send + Sync + 'static>(
        &self,
        key: K,
        filler: impl FnOnce() -> Result<Filled<V>, E>,
    ) -> Result<V, FillError<E>> {
        let filler = || filler().map_err(Failure::of);
        fill::get_or_fill_blocking(&self.shared, self.patience, key, filler).map_err(Failure::typed)
    }

    /// As [`get_with`](Self::get_with), by a borrowed key: it is made an owned one only on a miss.
    ///
    /// # Panics
    /// As [`get_with`](Self::get_with).
    pub async fn get_with_by_ref<Q, F, Fut>(&self, key: &Q, filler: F) -> V
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        let filler = move || async move { Ok(Filled::new(filler().await)) };
        fill::get_or_fill_by_ref(&self.shared, self.patience, key, filler).await.unwrap_or_else(fill::no_value)
    }

    /// As [`try_get_with`](Self::try_get_with), by a borrowed key: it is made an owned one only on a miss.
    ///
    /// # Errors
    /// As [`try_get_with`](Self::try_get_with).
    pub async fn try_get_with_by_ref<Q, F, Fut, E>(&self, key: &Q, filler: F) -> Result<V, FillError<E>>
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let filler = move || async move { filler().await.map(Filled::new).map_err(Failure::of) };
        fill::get_or_fill_by_ref(&self.shared, self.patience, key, filler).await.map_err(Failure::typed)
    }

    /// As [`get_with_blocking`](Self::get_with_blocking), by a borrowed key: it is made an owned one only on a miss.
    ///
    /// # Panics
    /// As [`get_with_blocking`](Self::get_with_blocking).
    pub fn get_with_by_ref_blocking<Q>(&self, key: &Q, filler: impl FnOnce() -> V) -> V
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let filler = || Ok(Filled::new(filler()));
        fill::get_or_fill_by_ref_blocking(&self.shared, self.patience, key, filler).unwrap_or_else(fill::no_value)
    }

    /// As [`try_get_with_blocking`](Self::try_get_with_blocking), by a borrowed key: it is made an owned one only on a miss.
    ///
    /// # Errors
    /// As [`try_get_with`](Self::try_get_with).
    pub fn try_get_with_by_ref_blocking<Q, E>(
        &self,
        key: &Q,
        filler: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, FillError<E>>
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
        E: Error + Send + Sync + 'static,
    {
        let filler = || filler().map(Filled::new).map_err(Failure::of);
        fill::get_or_fill_by_ref_blocking(&self.shared, self.patience, key, filler).map_err(Failure::typed)
    }

    /// Returns a handle with its own cluster single-flight timeout: whether, and for how long, fills through it wait for other
    /// nodes' (see [`CacheBuilder::cluster_single_flight`](super::CacheBuilder::cluster_single_flight)), for calls that differ from
    /// the rest. `None` is off. Between 1 ms and 1 min, and at most a quarter of
    /// [`CacheBuilder::fill_timeout`](super::CacheBuilder::fill_timeout): what is outside of that is cut to it.
    #[must_use]
    pub fn with_cluster_single_flight(&self, patience: Option<Duration>) -> Self {
        let patience = patience.map(|patience| self.shared.settings.bounded_patience(patience));
        Self { patience, ..self.clone() }
    }

    /// Waits until this cache has what some member had, or until no member is there to have more, or
    /// until the time is up. Reads and writes work meanwhile.
    pub async fn ready(&self, timeout: Duration) -> Ready {
        ready_wait::ready(&self.shared, timeout).await
    }

    /// As [`ready`](Self::ready), for callers outside of a runtime: it blocks the thread.
    #[must_use]
    pub fn ready_blocking(&self, timeout: Duration) -> Ready {
        block_on(self.ready(timeout))
    }

    /// Waits until so many members have a write, or something newer for its key. The members are those
    /// that are alive at the call: joiners do not count, departures are reported.
    ///
    /// After a start it also waits for the members that should be there: until a configured seed has answered, and until each live
    /// member has said whether it has the cache open. From then on it is decided: [`All`](Members::All) of no members is reached at
    /// once (a node without seeds that no member has joined, a cache that no member has open, a cluster whose other members have
    /// departed), and a [`Count`](Members::Count) fails at once while fewer members are alive. Once this node is shut down both fail.
    /// For deletes and invalidations wait for [`last_written`](Self::last_written). In a cluster whose pushes are relayed (more than
    /// 16 other members) members say what they have in digests only: allow one `digest_interval` for each member.
    ///
    /// It makes nothing durable: other processes hold the value in memory. A member that evicts it afterwards has seen it all the same.
    ///
    /// # Errors
    /// The time is up, too many departed for it ever to be enough, or this node is shut down; says which members have it, which do
    /// not, and whether members were still expected.
    pub async fn wait_replicated(
        &self,
        written: Written,
        members: Members,
        timeout: Duration,
    ) -> Result<Replicated, NotReplicated> {
        replicated::wait(&self.shared, written, members, timeout).await
    }

    /// As [`wait_replicated`](Self::wait_replicated), for callers outside of a runtime: it blocks the thread.
    ///
    /// # Errors
    /// As [`wait_replicated`](Self::wait_replicated).
    pub fn wait_replicated_blocking(
        &self,
        written: Written,
        members: Members,
        timeout: Duration,
    ) -> Result<Replicated, NotReplicated> {
        block_on(self.wait_replicated(written, members, timeout))
    }

    /// Returns a stream of what is inserted, updated and removed here from now on, by whatever node, in the order in which it took effect.
    ///
    /// It is bounded by [`change_buffer`](super::CacheBuilder::change_buffer): a subscriber that falls
    /// behind by more gets [`SubscriptionError::Lagged`](super::SubscriptionError::Lagged). Several changes of one key that arrive
    /// together may be seen as the last of them; a change that loses against what is here is none.
    #[must_use]
    pub fn subscribe(&self) -> Subscription<K, V> {
        self.shared.writer.feed.subscribe()
    }

    /// Applies noted reads, makes tombstones of expired values and sweeps now, instead of in the background.
    pub fn run_pending_tasks(&self) {
        tick::run_pending(&self.shared);
    }

    /// Returns how many values are held here: also those that have expired or were invalidated as a whole and are not yet swept, and
    /// those that do not decode here, which readers do not see.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.shared.writer.look(|engine| engine.replica.view().live_len())
    }

    /// Returns the sum of the weights of the values here.
    #[must_use]
    pub fn weighted_size(&self) -> u64 {
        self.shared.writer.look(|engine| engine.replica.view().live_weight())
    }

    /// Returns how many other members are known to have this cache open, dead but not yet forgotten ones included.
    #[must_use]
    pub fn members(&self) -> usize {
        self.shared.writer.look(|engine| engine.replica.view().peer_len())
    }

    /// Returns the name this cache was opened under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns the id of this opening of this cache. It changes only if another process is found to use the same id, for instance a
    /// clone of this machine.
    #[must_use]
    pub fn replica_id(&self) -> ReplicaId {
        self.shared.around.id()
    }

    /// Returns the settings this cache was opened with.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.shared.settings.policy()
    }

    /// Returns every knob of this cache, the protocol's included.
    #[must_use]
    pub fn settings(&self) -> &CacheSettings {
        &self.shared.settings
    }

    /// Returns the hits and misses of [`get`](Self::get) so far.
    #[must_use]
    pub fn hits_and_misses(&self) -> (u64, u64) {
        self.shared.writer.reads.totals()
    }

    /// Returns what the replication has counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.writer.look(|engine| engine.replica.view().counters().clone())
    }

    /// Returns the counts of this cache on this node, and its present size and lags. Takes the lock of writers for as long as a write, however many values are here.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        stats::stats(&self.shared)
    }

    /// Returns a report on this cache at one moment: clocks, members and their lag, tombstones, repairs, warnings. Holds
    /// the replica's lock for microseconds, and never for longer with more keys.
    #[must_use]
    pub fn inspect(&self) -> CacheReport {
        report::report(&self.shared)
    }
}
