//! Nodes that all tests of this program share, and helpers. Each call opens a cache under a name of its own.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Poll;
use std::time::Duration;

use driftless::cache::{CacheKey, CacheValue};
use driftless::{Cache, CacheBuilder, Node, RemovalCause};
use tokio::sync::oneshot;

pub use crate::common::{SOON, eventually};

/// An error of a filler.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such row")]
pub struct NoRow;

fn start(seeds: &[&Node]) -> Node {
    let seeds: Vec<_> = seeds.iter().map(|node| node.local_addr().to_string()).collect();
    Node::builder().cluster("expectations").seeds(seeds).local_timing().start_blocking().unwrap()
}

/// Returns a name that no other cache of this process has.
pub fn fresh_name() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("cache-{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// Returns the node of the tests for which replication does not matter.
pub fn lone() -> &'static Node {
    static NODE: OnceLock<Node> = OnceLock::new();
    NODE.get_or_init(|| start(&[]))
}

/// Returns the builder of a cache on the lone node.
pub fn local<K: CacheKey, V: CacheValue>() -> CacheBuilder<K, V> {
    lone().cache(&fresh_name())
}

/// Opens an unbounded cache of numbers on the lone node.
pub fn numbers() -> Cache<u32, u32> {
    local().open().unwrap()
}

/// Opens a cache of at most this many numbers on the lone node.
pub fn at_most(max_capacity: u64) -> Cache<u32, u32> {
    local().max_capacity(max_capacity).open().unwrap()
}

/// Returns two nodes that know each other.
pub fn pair() -> &'static [Node; 2] {
    static NODES: OnceLock<[Node; 2]> = OnceLock::new();
    NODES.get_or_init(|| {
        let one = start(&[]);
        let two = start(&[&one]);
        for node in [&one, &two] {
            node.wait_for_members_blocking(1, SOON).unwrap();
        }
        [one, two]
    })
}

/// Opens one cache on two nodes, and waits until each is caught up and knows the other.
pub fn both<K: CacheKey, V: CacheValue>() -> [Cache<K, V>; 2] {
    both_with(|builder| builder)
}

/// As [`both`], with settings.
pub fn both_with<K, V>(configure: impl Fn(CacheBuilder<K, V>) -> CacheBuilder<K, V>) -> [Cache<K, V>; 2]
where
    K: CacheKey,
    V: CacheValue,
{
    let name = fresh_name();
    let caches = pair().each_ref().map(|node| configure(node.cache(&name)).open().unwrap());
    for cache in &caches {
        assert!(cache.ready_blocking(SOON).is_ready());
        eventually("replicas", || cache.members(), |seen| *seen == 1);
    }
    caches
}

/// Waits until a cache returns this value, or nothing, for a key.
pub fn arrives<K: CacheKey, V: CacheValue + Debug + PartialEq>(cache: &Cache<K, V>, key: &K, value: &Option<V>) {
    eventually("the value", || cache.get(key), |seen| seen == value);
}

/// Returns the present keys in ascending order.
pub fn keys<K: CacheKey + Ord, V: CacheValue>(cache: &Cache<K, V>) -> Vec<K> {
    let mut keys: Vec<_> = cache.iter().map(|(key, _)| K::clone(&key)).collect();
    keys.sort();
    keys
}

/// The removals that an eviction listener was called with.
pub struct Removals<K, V>(Arc<Mutex<Vec<(K, V, RemovalCause)>>>);

impl<K: CacheKey + Debug, V: CacheValue + Debug + PartialEq> Removals<K, V> {
    /// Opens a cache whose listener records.
    pub fn of(builder: CacheBuilder<K, V>) -> (Self, Cache<K, V>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let builder = builder.eviction_listener(move |key, value, cause| {
            log.lock().unwrap().push((K::clone(&key), value, cause));
        });
        (Self(seen), builder.open().unwrap())
    }

    /// Returns the removals so far.
    pub fn now(&self) -> Vec<(K, V, RemovalCause)> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until exactly these removals were reported, in this order.
    pub fn are(&self, expected: &[(K, V, RemovalCause)]) {
        eventually("removals", || self.now(), |seen| seen == expected);
    }
}

/// Sets a cache up so that tombstones are collected soon after every member has seen them.
pub fn collecting_soon<K: CacheKey, V: CacheValue>(builder: CacheBuilder<K, V>) -> CacheBuilder<K, V> {
    let mut replication = driftless::ReplicaConfig::default();
    replication.gc_grace = Duration::ZERO;
    replication.digest_interval = Duration::from_millis(50);
    replication.max_drift = Duration::from_millis(100);
    builder.replication(replication)
}

/// Returns a filler that ends with `outcome`, and the sender of the message on which it ends.
pub fn held<T: Send + 'static>(
    outcome: T,
) -> (oneshot::Sender<()>, impl FnOnce() -> Pin<Box<dyn Future<Output = T> + Send>> + Send + 'static) {
    let (end, ended) = oneshot::channel();
    let filler = move || -> Pin<Box<dyn Future<Output = T> + Send>> {
        Box::pin(async move {
            ended.await.unwrap();
            outcome
        })
    };
    (end, filler)
}

/// Polls a future for the first time. It must not be complete yet.
pub async fn begin<F: Future>(future: &mut Pin<Box<F>>) {
    std::future::poll_fn(|context| {
        assert!(future.as_mut().poll(context).is_pending(), "it is complete already");
        Poll::Ready(())
    })
    .await;
}
