//! How a cache is opened.

use std::any::Any;
use std::marker::PhantomData;
use std::time::Duration;

use super::connection::Connection;
use super::counters::Counts;
use super::engine::Engine;
use super::feed::Feed;
use super::handle::Cache;
use super::host::Host;
use super::listener::Listeners;
use super::open_error::OpenError;
use super::port::Port;
use super::readable::Samples;
use super::reader::Reader;
use super::settings::CacheSettings;
use super::shared::Shared;
use super::surroundings::Surroundings;
use super::writer::Writer;
use super::{CacheKey, CacheValue, Weigher};
use crate::recency::{Eviction, ReadLog};
use crate::replica::{ConfigError, RemovalCause, Replica, ReplicaConfig};
use crate::sync::{Arc, Event};
use crate::wire;

pub use super::settings::Policy;

/// Builds a [`Cache`]. Made by `Node::cache`.
#[must_use = "a builder does nothing until `open` is called"]
pub struct CacheBuilder<K, V> {
    host: Arc<dyn Host>,
    name: String,
    settings: CacheSettings,
    weigher: Option<Weigher<K, V>>,
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
            listener: None,
            types: PhantomData,
        }
    }

    /// All knobs at once, as from a configuration file. What was set before is replaced.
    pub fn settings(mut self, settings: CacheSettings) -> Self {
        self.settings = settings;
        self
    }

    /// The weight this node holds at most: entries, unless there is a [`weigher`](Self::weigher).
    /// Beyond it the least recently used values are evicted, here only. Default: unbounded.
    pub fn max_capacity(mut self, max_capacity: u64) -> Self {
        self.settings.max_capacity = Some(max_capacity);
        self
    }

    /// In which order values go when there is no room: the least recently used first, or first those
    /// that were never used again. Default: [`Eviction::Lru`]. Each node has its own; what one evicts,
    /// others keep.
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.settings.eviction = eviction;
        self
    }

    /// What an entry weighs against [`max_capacity`](Self::max_capacity). Default: 1. Called outside
    /// of locks, once for each value that is written or received. Entries that weigh nothing are not bounded.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// How long a value lives unless it is written with a time of its own. It travels as an absolute
    /// deadline. Default: for ever.
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.settings.time_to_live = Some(time_to_live);
        self
    }

    /// Called for each value that is no longer here, with the reason; outside of locks, in order, by one thread at a
    /// time: that of a change, or the node's own for what others changed and what expires. It may call into the cache. It
    /// must not block: what takes long belongs in a channel, for a node whose thread is held up for
    /// seconds replicates nothing meanwhile and says so (`task-died`). While 1,024 removals wait for it, whoever removes
    /// more waits too; while it takes more than 100 ms for one, nobody does, and beyond 65,536 it is not told
    /// (`CacheStats::listener_lost`). If it panics, the panic is counted and logged. A listener that holds a handle of its
    /// cache keeps it open for ever; one that writes again what was evicted has no end.
    pub fn eviction_listener(mut self, listener: impl Fn(Arc<K>, V, RemovalCause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// How large an encoded key may be, in bytes. Default 4 KiB. Range 1 B to 64 KiB.
    pub fn max_key_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_key_bytes = bytes;
        self
    }

    /// How large an encoded value may be, in bytes. Default 1 MiB. Range 1 B to 14 MiB.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_value_bytes = bytes;
        self
    }

    /// How long a fill may take before all who wait for it get an error. Default: no limit. More than
    /// zero, and at most `replication.fill_hold`. Shorter bounds what a hanging source holds up; too
    /// short gives up fills that would have come.
    ///
    /// An asynchronous filler is dropped when its time is up; it must not block its thread. A blocking one
    /// cannot be interrupted: those who wait for it are told in time, its own caller when it ends.
    pub fn fill_timeout(mut self, limit: Duration) -> Self {
        self.settings.fill_timeout = Some(limit);
        self
    }

    /// One fill of a key for the whole cluster, if its members miss at about the same time: live members
    /// take turns by rendezvous hashing, and each waits this long for the one before it. Default: off,
    /// every node fills its own misses. See [`CacheSettings::cluster_single_flight`], and
    /// [`Cache::with_cluster_single_flight`] for single calls.
    pub fn cluster_single_flight(mut self, patience: Duration) -> Self {
        self.settings.cluster_single_flight = Some(patience);
        self
    }

    /// Events that a subscriber of the change stream may be behind before it loses the oldest. Default
    /// 1,024. Range 1 to 1,048,576.
    pub fn change_buffer(mut self, events: usize) -> Self {
        self.settings.change_buffer = events;
        self
    }

    /// The knobs of the replication protocol.
    pub fn replication(mut self, config: ReplicaConfig) -> Self {
        self.settings.replication = config;
        self
    }

    /// Opens the cache: from now on it is a member of the cluster's caches of this name. Opening a
    /// name again with the same types gives the cache that is open, with the settings it has.
    ///
    /// # Errors
    /// The name is empty or longer than 255 bytes, a setting is out of range, the name is open with other types, or the node
    /// was shut down.
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
            return Err(error.into());
        }
        let port = port.ok_or(OpenError::NodeIsDown)?;
        let any: Arc<dyn Any + Send + Sync> = Arc::clone(&port) as _;
        match any.downcast::<Shared<K, V>>() {
            Ok(shared) => Ok(Cache::from_shared(shared)),
            Err(_) => {
                host.close(&port);
                Err(OpenError::OtherTypes(name))
            }
        }
    }

    fn check(&self) -> Result<(), OpenError> {
        if !(1..=255).contains(&self.name.len()) {
            return Err(OpenError::Name(self.name.len()));
        }
        self.settings.validate()
    }

    fn make(self) -> Result<Arc<dyn Port>, ConfigError> {
        let services = self.host.services();
        let (id, seed) = self.host.draw_replica();
        let time = Arc::clone(&services.time);
        let replica = Replica::new(id, self.settings.replication.clone(), seed, time.now())?;
        let reader = Reader::new(Arc::clone(replica.view().store()), time);
        let engine = Engine::new(replica, self.settings.max_capacity, self.settings.eviction);
        let reads = ReadLog::new(self.settings.max_capacity.is_some());
        let feed = Feed::new(self.settings.change_buffer);
        Ok(Arc::new(Shared {
            name: Arc::from(self.name.as_str()),
            settings: self.settings,
            weigher: self.weigher,
            wire_limits: wire::Limits::default(),
            around: Surroundings::new(self.host, services, id),
            reader,
            writer: Writer::new(engine, reads, feed, Listeners::new(self.listener)),
            connection: Connection::default(),
            counts: Counts::default(),
            samples: Samples::default(),
            progress: Event::new(),
        }))
    }
}

impl<K, V> std::fmt::Debug for CacheBuilder<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
