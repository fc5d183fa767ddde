//! What one connection knows, and what all of them share.

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

/// What every connection works on.
pub struct Shared {
    pub node: Node,
    pub cache: Cache<Bytes, Bytes>,
    pub cluster: String,
    pub redis: SocketAddr,
    pub max_clients: usize,
    /// One permit per connection.
    pub places: Arc<Semaphore>,
    pub started: Instant,
    pub stats: Stats,
    /// By how many nanoseconds this node's clock is wrong, if this is a drill.
    pub drill: Option<Arc<AtomicI64>>,
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

/// A number that only grows.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds, and returns the new value.
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
    /// What `CLIENT SETNAME` said.
    pub name: Bytes,
    /// The client has said goodbye: answer, then close.
    pub closing: bool,
}

impl<'a> Session<'a> {
    pub fn new(shared: &'a Shared) -> Self {
        Self { shared, id: shared.stats.connections.add(1), name: Bytes::new(), closing: false }
    }

    /// A read that counts. The key is borrowed, and the value shares the cache's own memory.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        let value = self.shared.cache.get(key);
        let counter = if value.is_some() { &self.shared.stats.hits } else { &self.shared.stats.misses };
        counter.add(1);
        value
    }
}
