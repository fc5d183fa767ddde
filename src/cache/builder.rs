//! The builder that opens a cache.

use std::any::Any;
use std::marker::PhantomData;
use std::time::Duration;

use super::connection::Connection;
use super::counters::Counts;
use super::differing::{Differing, differing};
use super::engine::Engine;
use super::feed::Feed;
use super::handle::Cache;
use super::host::Host;
use super::listener::Listeners;
use super::open_error::OpenError;
use super::port::Port;
use super::readable::Samples;
use super::reader::Reader;
use super::services::CacheServices;
use super::settings::CacheSettings;
use super::shared::Shared;
use super::writer::Writer;
use super::{CacheKey, CacheValue, ExpireAfter, Weigher};
use crate::recency::{Eviction, ReadLog};
use crate::replica::{ConfigError, RemovalCause, Replica, ReplicaConfig};
use crate::sync::{Arc, Event, Mutex};
use crate::wire;

pub use super::settings::Policy;

/// The builder of a [`Cache`]. Made by `Node::cache`.
#[must_use = "a builder does nothing until `open` is called"]
pub struct CacheBuilder<K, V> {
    host: Arc<dyn Host>,
    name: String,
    settings: CacheSettings,
    weigher: Option<Weigher<K, V>>,
    expire_after: Option<ExpireAfter<K, V>>,
    #[allow(clippy::type_complexity)]
    listener: Option<Box<dyn Fn(Arc<K>, V, RemovalCause) + Send + Sync>>,
    types: PhantomData<fn(K) -> V>,
}

impl<K: CacheKey, V: CacheValue> CacheBuilder<K, V> {
    pub(crate) fn new(host: Arc<dyn Host>, name: &str) -> Self {
        Self {
            host,
            name: name.to_owned(),
            settings: CacheSettings::default(),
            weigher: None,
            expire_after: None,
            listener: None,
            types: PhantomData,
        }
    }

    /// Sets all settings at once, as from a configuration file. Replaces everything that was set before.
    pub fn settings(mut self, settings: CacheSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the most weight that this node holds. Each entry weighs 1, unless there is a [`weigher`](Self::weigher).
    /// Beyond that, values are evicted on this node only: first those whose time to live has ended, then in the order of
    /// [`eviction`](Self::eviction). Default: unbounded.
    ///
    /// A call evicts at most 512 values and one for each change that it makes. If more must go, later calls and the
    /// node's thread evict the rest at once, in the same portions; until then the capacity is exceeded.
    pub fn max_capacity(mut self, max_capacity: u64) -> Self {
        self.settings.max_capacity = Some(max_capacity);
        self
    }

    /// Sets the order of eviction: by last use alone, or values that were used only once before all others. Default:
    /// [`Eviction::Lru`]. Each node has its own order, and evicting a value on one node does not remove it from others.
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.settings.eviction = eviction;
        self
    }

    /// Sets the function that returns the weight of an entry, which counts against
    /// [`max_capacity`](Self::max_capacity). Default: 1. It is called outside locks, once for each value that is
    /// written or received. Entries of weight zero are never evicted, so that nothing bounds their number.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// Sets the time to live of values that are written without a time of their own. It is sent as an absolute
    /// deadline. Default: for ever.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.settings.time_to_live = Some(time_to_live);
        self
    }

    /// Sets the function that returns the time to live of a value from its key and itself. `None` is
    /// [`time_to_live`](Self::time_to_live), which is no upper bound here. The node that writes a value calls the
    /// function once, outside locks, and all nodes expire the value together. It is not called for a write or fill that
    /// has a time of its own (such as [`insert_with_ttl`](Cache::insert_with_ttl) or [`Filled::ttl`](crate::Filled::ttl)),
    /// nor for one that keeps the deadline of the value before ([`replace_if`](Cache::replace_if)).
    ///
    /// A time of zero refuses the write. The value of a fill is then returned, not cached, and logged: to keep a value
    /// out of the cache, return [`Filled::uncached`](crate::Filled::uncached). A panic goes to the caller of the write,
    /// or to the callers that wait for the fill. Every node should have the same function.
    pub fn expire_after(mut self, time: impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.expire_after = Some(Box::new(time));
        self
    }

    /// Sets the part by which a time to live is shortened at most, so that values that were loaded together do not all
    /// expire in one moment. With 0.1 each value has between nine tenths and the whole of its time. The node that writes
    /// a value draws its part, and all nodes still expire the value together. Applies to
    /// [`time_to_live`](Self::time_to_live) and [`expire_after`](Self::expire_after). A time that is given with a write
    /// or fill is kept exactly. Default: 0. Range 0 to 0.9.
    pub fn ttl_jitter(mut self, part: f64) -> Self {
        self.settings.ttl_jitter = part;
        self
    }

    /// Sets the eviction listener, which is called for each value that is no longer here, with the cause. Calls are
    /// made outside locks, in order, and by one thread at a time: by a thread that made a change, or by the node's own
    /// thread for changes by other nodes and for expiry. That thread also makes calls for changes by further threads.
    /// The listener may call into the cache.
    ///
    /// The listener must not block: hand slow work to a channel. A node whose thread is held up for seconds replicates
    /// nothing meanwhile, and its report warns `task-died`. While over 1,024 removals wait for the listener, a thread
    /// that removes more waits too. While the listener takes more than 100 ms for one removal, no thread waits, and
    /// removals beyond 65,536 are not reported to it (`CacheStats::listener_lost`).
    ///
    /// A panic of the listener is counted and logged. A listener that holds a handle of its cache keeps that cache open
    /// for ever. A listener that inserts evicted values again causes further evictions without end.
    pub fn eviction_listener(mut self, listener: impl Fn(Arc<K>, V, RemovalCause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Sets the largest size of an encoded key, in bytes. Default 4 KiB. Range 1 B to 64 KiB.
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_key_bytes = bytes;
        self
    }

    /// Sets the largest size of an encoded value, in bytes. Default 1 MiB. Range 1 B to 14 MiB.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_value_bytes = bytes;
        self
    }

    /// Sets the time that a fill may take before every caller that waits for it gets an error. Default: no limit. Must
    /// be more than zero, and at most `replication.fill_hold`. A shorter limit bounds the effect of a source that
    /// hangs. A limit that is too short abandons fills that would have succeeded.
    ///
    /// At the limit an asynchronous filler is dropped; it must not block its thread. A blocking filler cannot be
    /// interrupted: callers that joined it get the error at the limit, and its own caller gets it when the filler
    /// returns.
    pub fn fill_timeout(mut self, limit: Duration) -> Self {
        self.settings.fill_timeout = Some(limit);
        self
    }

    /// Enables one fill of a key for the whole cluster, if its members miss that key at about the same time. Rendezvous
    /// hashing gives the live members an order. The second waits this long for the value of the first, the third twice
    /// as long, and every later member three times as long. Default: off; every node fills its own misses. See
    /// [`CacheSettings::cluster_single_flight`], and [`Cache::with_cluster_single_flight`] for single calls.
    pub fn cluster_single_flight(mut self, patience: Duration) -> Self {
        self.settings.cluster_single_flight = Some(patience);
        self
    }

    /// Sets the number of events that a subscriber of the change stream may be behind before it loses the oldest.
    /// Default 1,024. Range 1 to 1,048,576.
    pub fn change_buffer(mut self, events: usize) -> Self {
        self.settings.change_buffer = events;
        self
    }

    /// Sets the settings of the replication protocol.
    pub fn replication(mut self, config: ReplicaConfig) -> Self {
        self.settings.replication = config;
        self
    }

    /// Opens the cache, which from now on replicates with the caches of this name on other nodes. If the name is
    /// already open on this node with the same types, returns a handle to the open cache, which keeps its settings, its
    /// weigher and its listener. If this builder asks for others, the log and the report of the cache name the
    /// differences (warning `settings-differ`). A builder on which nothing was set asks for nothing.
    ///
    /// # Errors
    /// The name is empty or longer than 255 bytes, a setting is out of range, the name is open with other types, or the
    /// node was shut down.
    pub fn open(self) -> Result<Cache<K, V>, OpenError> {
        self.check()?;
        let (host, name) = (Arc::clone(&self.host), self.name.clone());
        let mut builder = Some(self);
        let mut failed = None;
        let port = host.open(&name, &mut || {
            let made = builder.take().map(Self::make)?;
            made.map_err(|error| failed = Some(error)).ok()
        });
        if let Some(error) = failed {
            return Err(of_cache(&name)(error.into()));
        }
        let port = port.ok_or(OpenError::NodeIsDown)?;
        let any: Arc<dyn Any + Send + Sync> = Arc::clone(&port) as _;
        match any.downcast::<Shared<K, V>>() {
            Ok(shared) => {
                if let Some(again) = builder {
                    again.note_differences(&shared);
                }
                Ok(Cache::from_shared(shared))
            }
            Err(_) => {
                // `host.open` has counted a handle. Because none is returned, the count is taken back.
                host.close(&port);
                Err(OpenError::OtherTypes(name))
            }
        }
    }

    fn check(&self) -> Result<(), OpenError> {
        if !(1..=255).contains(&self.name.len()) {
            return Err(OpenError::Name(self.name.len()));
        }
        self.settings.validate().map_err(of_cache(&self.name))
    }

    /// Reports the settings of this builder that the open cache does not have. Functions cannot be compared, so that
    /// another one counts as a difference in any case.
    fn note_differences(&self, open: &Shared<K, V>) {
        let functions = [
            ("weigher", self.weigher.is_some()),
            ("expire_after", self.expire_after.is_some()),
            ("eviction_listener", self.listener.is_some()),
        ];
        let ignored = functions.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| format!("this {name} is ignored"));
        let ignored: Vec<_> = ignored.collect();
        if ignored.is_empty() && self.settings == CacheSettings::default() {
            return;
        }
        let differences: Vec<_> = differing(&open.settings.each(), &self.settings.each())
            .map(|(name, here, asked)| format!("{name} is {here}, not {asked}"))
            .chain(ignored)
            .collect();
        if differences.is_empty() {
            return;
        }
        tracing::warn!(
            cache = %self.name, ?differences,
            "a cache was opened again with other settings, and keeps those of its first opening"
        );
        open.differing.note_opening(differences);
    }

    fn make(self) -> Result<Arc<dyn Port>, ConfigError> {
        let services = self.host.services(&self.name);
        let (id, seed) = self.host.draw_replica();
        let time = Arc::clone(&services.time);
        let replica = Replica::new(id, self.settings.replication.clone(), seed, time.now())?;
        let reader = Reader::new(Arc::clone(replica.view().store()), time);
        let engine = Engine::new(replica, self.settings.max_capacity, self.settings.eviction);
        let reads = ReadLog::new(self.settings.max_capacity.map(|_| self.settings.eviction));
        let feed = Feed::new(self.settings.change_buffer);
        Ok(Arc::new(Shared {
            name: Arc::from(self.name.as_str()),
            settings: self.settings,
            weigher: self.weigher,
            expire_after: self.expire_after,
            wire_limits: wire::Limits::default(),
            services: CacheServices::new(self.host, services, id),
            reader,
            writer: Writer::new(engine, reads, feed, Listeners::new(self.listener)),
            connection: Connection::default(),
            counts: Counts::default(),
            samples: Samples::default(),
            differing: Differing::default(),
            warnings: Mutex::default(),
            progress: Event::new(),
        }))
    }
}

/// Returns a function that adds the cache's name to an error of its settings.
fn of_cache(name: &str) -> impl FnOnce(OpenError) -> OpenError {
    move |error| OpenError::Settings { cache: name.to_owned(), error: Box::new(error) }
}

impl<K, V> std::fmt::Debug for CacheBuilder<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
