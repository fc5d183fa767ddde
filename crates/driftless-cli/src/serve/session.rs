//! The state of one connection, and the state that all connections share.

use bytes::Bytes;
use driftless::{Cache, Node};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::sync::Semaphore;

/// The state that all connections share.
pub struct Shared {
    pub node: Node,
    /// The caches by the number that clients give to `SELECT`. There is at least one.
    pub databases: Vec<Cache<Bytes, Bytes>>,
    pub cluster: String,
    pub redis: SocketAddr,
    pub max_clients: usize,
    /// One permit per free connection.
    pub places: Arc<Semaphore>,
    pub started: Instant,
    pub stats: Stats,
    /// The offset of this node's clock in nanoseconds, in a drill only.
    pub drill: Option<Arc<AtomicI64>>,
}

impl Shared {
    /// Returns the cache that a new connection uses.
    pub fn cache(&self) -> &Cache<Bytes, Bytes> {
        &self.databases[0]
    }
}

/// Counters for `INFO`.
#[derive(Default)]
pub struct Stats {
    pub connections: Counter,
    pub rejected: Counter,
    pub malformed: Counter,
    pub commands: Counter,
    pub hits: Counter,
    pub misses: Counter,
}

/// A counter, which never decreases.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds a number and returns the new value.
    pub fn add(&self, number: u64) -> u64 {
        self.0.fetch_add(number, Relaxed) + number
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One connection.
pub struct Session<'a> {
    pub shared: &'a Shared,
    pub id: u64,
    /// The name set by `CLIENT SETNAME`.
    pub name: Bytes,
    /// True once the connection has to be closed after the reply.
    pub closing: bool,
}

impl<'a> Session<'a> {
    pub fn new(shared: &'a Shared) -> Self {
        Self { shared, id: shared.stats.connections.add(1), name: Bytes::new(), closing: false }
    }

    /// Reads a value and counts the hit or miss. The key is borrowed, and the value shares the memory of the cache.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        let value = self.shared.cache().get(key);
        let counter = if value.is_some() { &self.shared.stats.hits } else { &self.shared.stats.misses };
        counter.add(1);
        value
    }
}
