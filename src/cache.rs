//! The cache people use.
//!
//! A [`Cache`] is a handle to one replica; clones share it. Reads go to a table that no writer or
//! merge holds for longer than one register takes; writes take the replica's lock for the time of one
//! write. User code (`Clone` of values, `Drop`, serialisation, weighers, listeners) runs outside of both; only
//! `Hash` and `Eq` of keys are called where any hash table calls them, and `Clone` of a key that becomes a tombstone.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use equivalent::Equivalent;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::hlc::{HlcTime, Now, Stamp, nanos};
use crate::item::{Body, Item, ItemRef, Key};
use crate::message::Message;
use crate::replica::{RemovalCause, Write};
use crate::replica_id::ReplicaId;
use crate::store::{Position, Reading, Snapshot};
use crate::sync::{Arc, Ordering};
use crate::wire;

pub mod builder;
mod bulk;
mod counters;
pub(crate) mod engine;
mod entry;
mod explain;
pub(crate) mod feed;
mod fill;
mod fill_error;
mod fill_task;
mod fill_wait;
mod filled;
mod flight;
mod handover;
mod insert_error;
pub(crate) mod inspect;
mod iter;
pub(crate) mod listener;
#[cfg(feature = "metrics")]
pub mod metrics_facade;
mod open_error;
pub(crate) mod port;
mod race;
mod readable;
mod ready;
mod replicated;
mod report;
mod settings;
mod settling;
mod shared;
mod stats;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod turn;
mod waits;
mod work;

pub use crate::recency::Eviction;
pub use builder::{CacheBuilder, Policy};
pub use bulk::BulkError;
pub use counters::FillStats;
pub use entry::EntryInfo;
pub use feed::{ChangeEvent, ChangeKind, Subscription, SubscriptionError};
pub use fill_error::FillError;
pub use filled::Filled;
pub use insert_error::InsertError;
pub use iter::Iter;
pub use open_error::{Limits, OpenError};
pub use ready::Ready;
pub use replicated::{Members, NotReplicated, Replicated};
pub use settings::CacheSettings;
pub use stats::{CacheStats, PeerLag, RemovalStats};

use engine::Engine;
pub(crate) use shared::{Handles, Shared};

/// What a key must be.
///
/// Its serde output must be deterministic, so that one key has one encoding on every node: no
/// `HashMap` inside a key.
pub trait CacheKey: Hash + Eq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<K: Hash + Eq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static> CacheKey for K {}

/// What a value must be.
pub trait CacheValue: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> CacheValue for V {}

/// Where time comes from. The node has the one that reads clocks.
pub trait TimeSource: Send + Sync + 'static {
    /// Wall and monotonic time.
    fn now(&self) -> Now;
    /// Wall time alone: what a read of a value with a time to live needs.
    fn wall(&self) -> HlcTime;
}

/// A node that has not answered so long after the time was up is held up.
const READY_GRACE: Duration = Duration::from_secs(1);

/// A time to live is capped here: a hundred years.
const MAX_TTL: Duration = Duration::from_secs(100 * 365 * 86_400);

type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u32 + Send + Sync>;

/// A handle to a replicated cache. Cheap to clone; clones are the same cache.
///
/// Whatever does not wait is synchronous: reads, writes, deletes never wait for the network, and work outside of a runtime. What waits
/// (fills, `ready`, `wait_replicated`) is `async`, with a `_blocking` form.
///
/// The cache is open for as long as a handle to it is there. With the last one this node's copy is gone, as soon as a member has what
/// was written to it, and after five seconds in any case. What no member took in that time is lost: a warning names the cache, and
/// `Node::shutdown` returns it. The node waits for members that have the cache open, and for configured seeds that it has not met.
pub struct Cache<K, V> {
    shared: Arc<Shared<K, V>>,
    /// How long a fill through this handle waits for another node's.
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
        f.debug_struct("Cache")
            .field("name", &self.shared.name)
            .field("replica", &self.shared.id())
            .finish_non_exhaustive()
    }
}

/// Proof of a write: its place in the order that decides everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Written {
    /// When and by whom: the greater stamp of a key wins.
    pub stamp: Stamp,
}

impl<K: CacheKey, V: CacheValue> Cache<K, V> {
    pub(crate) fn from_shared(shared: Arc<Shared<K, V>>) -> Self {
        let patience = shared.settings.cluster_single_flight;
        let handles = Arc::new(Handles(Arc::clone(&shared) as Arc<dyn port::Port>, Arc::clone(&shared.around.host)));
        Self { shared, patience, handles }
    }

    /// The value of a key, if there is one here that has not expired. Counts as a use.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        let found = self.shared.visible(key);
        let Some((id, value)) = found.as_ref().and_then(|found| Some((found.id, found.item.value()?))) else {
            self.shared.reads.miss();
            return None;
        };
        self.shared.reads.hit(id);
        Some(value.clone())
    }

    /// Whether [`get`](Self::get) would find a value. Does not count as a use.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        self.shared.visible(key).is_some_and(|found| found.item.value().is_some())
    }

    /// The value of a key with its stamp, age and remaining time. Does not count as a use.
    pub fn entry<Q>(&self, key: &Q) -> Option<EntryInfo<V>>
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        let (found, stamp) = self.shared.stamped(key)?;
        let time = Arc::clone(&self.shared.around.time);
        Some(EntryInfo {
            value: found.item.value()?.clone(),
            stamp,
            expires: found.meta.expires,
            now: time.wall(),
            time,
        })
    }

    /// Writes a value with the cache's default time to live. Every node will have it, or something
    /// newer.
    ///
    /// # Errors
    /// The entry is too large, cannot be serialised, or does not decode again; nothing has changed.
    pub fn insert(&self, key: K, value: V) -> Result<Written, InsertError> {
        self.shared.insert(key, value, self.shared.settings.time_to_live)
    }

    /// Writes a value that expires after `time_to_live`, counted from now; the deadline travels with
    /// it. More than a hundred years counts as a hundred.
    ///
    /// # Errors
    /// As [`insert`](Self::insert), and for a time to live of zero.
    pub fn insert_with_ttl(&self, key: K, value: V, time_to_live: Duration) -> Result<Written, InsertError> {
        self.shared.insert(key, value, Some(time_to_live))
    }

    /// Writes a value only if [`get`](Self::get) finds none here. Honest name: another node may write the same key
    /// at the same time; the greater stamp wins everywhere.
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

    /// As [`insert_if_absent_local`](Self::insert_if_absent_local), with a time to live of its own;
    /// `None` is never.
    ///
    /// # Errors
    /// As [`insert_with_ttl`](Self::insert_with_ttl).
    pub fn insert_if_absent_local_with_ttl(
        &self,
        key: K,
        value: V,
        time_to_live: Option<Duration>,
    ) -> Result<Option<Written>, InsertError> {
        self.shared.insert_if(key, value, time_to_live, |_, found| found.is_none())
    }

    /// Writes a value only if the one that is here has this stamp (from [`entry`](Self::entry) or
    /// [`Written`]). Compares on this node alone: another node may write at the same time, and the
    /// greater stamp wins everywhere. Returns `None` if the stamp was another, or nothing was here.
    ///
    /// What is written has a new stamp, so it also wins over a delete that another node has made and that has not arrived here: a
    /// session that is loaded, changed and written back may return after its logout. There is no write yet that loses to such a delete;
    /// keep what must stay deleted out of keys that are rewritten.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn replace_if(&self, key: K, value: V, stamp: Stamp) -> Result<Option<Written>, InsertError> {
        self.shared.insert_if(key, value, self.shared.settings.time_to_live, |engine, found| {
            found.and_then(|found| engine.replica.view().stamp_of_snapshot(found)) == Some(stamp)
        })
    }

    /// This cache, with another word on whether fills through this handle wait for other nodes' (see
    /// [`CacheBuilder::cluster_single_flight`]): for calls that differ from the rest. `None` is off. Between 1 ms and 1 min, and at most a
    /// quarter of [`CacheBuilder::fill_timeout`]: what is outside of that is cut to it.
    #[must_use]
    pub fn with_cluster_single_flight(&self, patience: Option<Duration>) -> Self {
        let patience = patience.map(|patience| self.shared.settings.bounded_patience(patience));
        Self { shared: Arc::clone(&self.shared), patience, handles: Arc::clone(&self.handles) }
    }

    /// Deletes a key on every node, also one never heard of here: its write may still be on its way.
    /// Returns the value that was here. Whether it has arrived elsewhere: [`last_written`](Self::last_written).
    ///
    /// `Q` must serialise to what `K` deserialises from, as borrowed forms do, and `K` must decode what it encodes: if not, nothing is
    /// deleted, an error is logged, and the report warns of `unreadable-entries`.
    pub fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Equivalent<K> + Hash + Serialize + ?Sized,
    {
        self.shared.remove(key)
    }

    /// As [`remove`](Self::remove), for callers who do not want the value.
    pub fn invalidate<Q>(&self, key: &Q)
    where
        Q: Equivalent<K> + Hash + Serialize + ?Sized,
    {
        drop(self.remove(key));
    }

    /// Deletes everything written so far, on every node, including what has not arrived yet. One
    /// message, however many entries.
    pub fn invalidate_all(&self) {
        let now = self.shared.around.time.now();
        self.shared.with_engine(now, |engine| engine.replica.invalidate_all(now));
        self.shared.wake_driver();
    }

    /// The newest write, delete, fill or invalidation that this node has made of this cache; nothing if there was none. To be
    /// waited for: members see one node's changes in order, so whoever has this one has all before it.
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
        self.shared.engine.lock().replica.view().last_own_stamp().map(|stamp| Written { stamp })
    }

    /// The keys and values here, in no order, as they are met. Does not count as a use, and holds no
    /// lock while the caller works.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(&self.shared)
    }

    /// How many values are held here: also those that have expired or were invalidated as a whole and are not yet swept, and
    /// those that do not decode here, which readers do not see.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.shared.engine.lock().replica.view().live_len()
    }

    /// The sum of the weights of the values here.
    #[must_use]
    pub fn weighted_size(&self) -> u64 {
        self.shared.engine.lock().replica.view().live_weight()
    }

    /// The settings this cache was opened with.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let CacheSettings { max_capacity, eviction, time_to_live, max_key_bytes, max_value_bytes, .. } =
            self.shared.settings;
        Policy { max_capacity, eviction, time_to_live, limits: Limits { max_key_bytes, max_value_bytes } }
    }

    /// Every knob of this cache, the protocol's included.
    #[must_use]
    pub fn settings(&self) -> &CacheSettings {
        &self.shared.settings
    }

    /// The name this cache was opened under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// This opening of this cache. Another one from the moment on at which it is found that some other process has the same,
    /// a clone of this machine for instance.
    #[must_use]
    pub fn replica_id(&self) -> ReplicaId {
        self.shared.id()
    }

    /// How many other members are known to have this cache open, dead but not yet forgotten ones
    /// included.
    #[must_use]
    pub fn members(&self) -> usize {
        self.shared.engine.lock().replica.view().peer_len()
    }

    /// Hits and misses of [`get`](Self::get) so far.
    #[must_use]
    pub fn hits_and_misses(&self) -> (u64, u64) {
        self.shared.reads.totals()
    }

    /// What the replication has counted so far.
    #[must_use]
    pub fn counters(&self) -> crate::replica::Counters {
        self.shared.engine.lock().replica.view().counters().clone()
    }

    /// Applies noted reads, buries expired values and sweeps now, instead of in the background.
    pub fn run_pending_tasks(&self) {
        let now = self.shared.around.time.now();
        self.shared.with_engine(now, |engine| {
            engine.apply_reads(&self.shared.reads);
            engine.replica.run_pending(now);
        });
    }

    /// Waits until this cache has what some member had, or until nobody is there to have more, or
    /// until the time is up. Reads and writes work meanwhile.
    pub async fn ready(&self, timeout: Duration) -> Ready {
        let mut answer = None;
        let asked = async { answer = Some(self.shared.around.host.ready(&self.shared.name, timeout).await) };
        // The node answers in time, unless its driver is held up, by a listener that blocks for instance.
        let mut limit = self.shared.around.host.sleep(timeout.saturating_add(READY_GRACE));
        race::before(asked, &mut limit).await;
        let instead = if answer.is_none() { "the node, which is held up" } else { "the node, which was shut down" };
        answer.flatten().unwrap_or_else(|| Ready::TimedOut {
            waiting_for: vec![instead.into()],
            members: 0,
            entries: self.entry_count(),
        })
    }

    /// As [`ready`](Self::ready), for callers outside of a runtime: it blocks the thread.
    #[must_use]
    pub fn ready_blocking(&self, timeout: Duration) -> Ready {
        crate::sync::block_on(self.ready(timeout))
    }
}

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    #[inline]
    fn visible<Q>(&self, key: &Q) -> Option<Reading<K, V>>
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        let found = self.store.read(self.hash(key), key)?;
        (found.live && self.is_fresh(found.expires)).then_some(found)
    }

    /// What a key holds, and its stamp, at one moment.
    fn stamped<Q>(&self, key: &Q) -> Option<(Snapshot<K, V>, Stamp)>
    where
        Q: Equivalent<K> + Hash + ?Sized,
    {
        let hash = self.hash(key);
        let engine = self.engine.lock();
        let found = self.store.get(hash, key).filter(|found| self.is_readable(found))?;
        let stamp = engine.replica.view().stamp_of_snapshot(&found)?;
        Some((found, stamp))
    }

    /// Whether [`Cache::get`] returns this register's value. One that does not decode here counts as absent, in every call.
    fn is_readable(&self, found: &Snapshot<K, V>) -> bool {
        self.is_visible(found) && found.item.value().is_some()
    }

    /// Whether there is a value, be it one that does not decode here.
    fn is_visible(&self, found: &Snapshot<K, V>) -> bool {
        let meta = &found.meta;
        meta.kind.is_live() && meta.stamp_time > self.store.epoch() && self.is_fresh(meta.expires)
    }

    #[inline]
    fn is_fresh(&self, expires: HlcTime) -> bool {
        expires == 0 || expires > self.around.time.wall()
    }

    fn page(&self, from: Position, limit: usize) -> (Vec<Snapshot<K, V>>, Option<Position>) {
        let (mut page, next) = self.store.page(from, limit);
        page.retain(|found| self.is_readable(found));
        (page, next)
    }

    fn wake_driver(&self) {
        if self.company.connected.load(Ordering::Relaxed) {
            (self.around.wake)();
        } else if self.company.detached.load(Ordering::Relaxed) {
            port::Port::tick(self);
        }
    }

    fn deadline(&self, now: Now, time_to_live: Option<Duration>) -> Result<HlcTime, InsertError> {
        match time_to_live {
            None => Ok(0),
            Some(Duration::ZERO) => Err(InsertError::ZeroTimeToLive),
            Some(ttl) => Ok(now.wall.saturating_add(nanos(ttl.min(MAX_TTL)))),
        }
    }

    fn prepare(&self, now: Now, key: K, value: V, time_to_live: Option<Duration>) -> Result<Write<K, V>, InsertError> {
        let hash = self.hash(&key);
        let item = ItemRef::new(Item { key: Key::Known(key), body: Body::Known(value) });
        self.prepare_item(now, hash, &item, time_to_live)
    }

    /// Checks an entry and measures it. Runs user code: not to be called under a lock.
    fn prepare_item(
        &self,
        now: Now,
        hash: u64,
        item: &ItemRef<K, V>,
        time_to_live: Option<Duration>,
    ) -> Result<Write<K, V>, InsertError> {
        let expires = self.deadline(now, time_to_live)?;
        let (Some(key), Some(value)) = (item.key.known(), item.value()) else {
            return Err(InsertError::Unserializable("nothing to write".into()));
        };
        let refused = |error: wire::EncodeError| InsertError::Unserializable(error.to_string());
        let key_size = wire::key_len(key).map_err(refused)?;
        let value_size = wire::encoded_len(value, wire::MAX_DEPTH).map_err(refused)?;
        let CacheSettings { max_key_bytes, max_value_bytes, .. } = self.settings;
        if key_size > max_key_bytes {
            return Err(InsertError::KeyTooLarge { size: key_size, limit: max_key_bytes });
        }
        if value_size > max_value_bytes {
            return Err(InsertError::ValueTooLarge { size: value_size, limit: max_value_bytes });
        }
        self.check_readable(key, key_size, value, value_size)?;
        let weight = self.weigher.as_ref().map_or(1, |weigh| weigh(key, value));
        let size = u32::try_from(key_size + value_size).unwrap_or(u32::MAX);
        Ok(Write { hash, item: ItemRef::clone(item), expires, size, weight })
    }

    fn insert(&self, key: K, value: V, time_to_live: Option<Duration>) -> Result<Written, InsertError> {
        let now = self.around.time.now();
        let write = self.prepare(now, key, value, time_to_live)?;
        let stamp = self.with_engine(now, |engine| engine.replica.write(now, write));
        self.wake_driver();
        Ok(Written { stamp })
    }

    fn insert_if(
        &self,
        key: K,
        value: V,
        time_to_live: Option<Duration>,
        condition: impl FnOnce(&Engine<K, V>, Option<&Snapshot<K, V>>) -> bool,
    ) -> Result<Option<Written>, InsertError> {
        let now = self.around.time.now();
        let write = self.prepare(now, key, value, time_to_live)?;
        let kept = ItemRef::clone(&write.item); // A write that is not made is not dropped under the lock.
        let stamp = self.with_engine(now, |engine| {
            let found =
                engine.replica.view().find_key(write.hash, &write.item.key).filter(|found| self.is_readable(found));
            condition(engine, found.as_ref()).then(|| engine.replica.write(now, write))
        });
        drop(kept);
        self.wake_driver();
        Ok(stamp.map(|stamp| Written { stamp }))
    }

    fn remove<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Equivalent<K> + Hash + Serialize + ?Sized,
    {
        let now = self.around.time.now();
        let delete = self.prepare_delete(key)?;
        let (_, held) = self.with_engine(now, |engine| engine.replica.delete(now, delete));
        self.wake_driver();
        let (item, expires) = held?;
        (expires == 0 || expires > now.wall).then(|| item.value().cloned())?
    }

    /// Runs user code: not to be called under a lock. `None` if the key cannot be encoded, or is too large for any node to hold:
    /// then there is nothing to delete, and nobody would take the tombstone.
    fn prepare_delete<Q>(&self, key: &Q) -> Option<Write<K, V>>
    where
        Q: Equivalent<K> + Hash + Serialize + ?Sized,
    {
        let hash = self.hash(key);
        let owned = match self.store.get(hash, key) {
            Some(found) => found.item.key.known().cloned()?,
            None => self.own_key(key)?,
        };
        let size = wire::key_len(&owned).ok().filter(|size| *size <= open_error::LARGEST.max_key_bytes)?;
        let item = ItemRef::new(Item { key: Key::Known(owned), body: Body::Absent });
        Some(Write { hash, item, expires: 0, size: u32::try_from(size).ok()?, weight: 0 })
    }

    /// What the node has to do with this cache's messages.
    pub(crate) fn encode(&self, message: &Message<K, V>) -> Result<bytes::Bytes, wire::EncodeError> {
        let envelope = wire::Envelope { cache: &self.name, from: self.id(), node: self.around.node };
        match message {
            Message::Push(push) if !push.raw.is_empty() => wire::forward(&envelope, &push.raw),
            other => wire::encode(&envelope, other),
        }
    }
}

/// Drops user types; one whose `Drop` panics takes nothing down with it.
pub(crate) fn drop_quietly<T>(garbage: impl IntoIterator<Item = T>) {
    for item in garbage {
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(item)));
        if let Err(panic) = dropped {
            tracing::error!("a key or value panicked in its Drop");
            // What it panicked with is user code as well. If that panics too, what that panicked with is left alone.
            let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(panic)));
            again.unwrap_or_else(std::mem::forget);
        }
    }
}

pub(crate) fn removal_cause(effect: crate::replica::Effect) -> Option<RemovalCause> {
    match effect {
        crate::replica::Effect::Inserted => None,
        crate::replica::Effect::Updated => Some(RemovalCause::Replaced),
        crate::replica::Effect::Removed(cause) => Some(cause),
    }
}
