//! Helpers for the tests of real nodes.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use driftless::{Cache, Node};

/// A time limit for a loaded machine; on a quiet one nothing takes this long.
pub const SOON: Duration = Duration::from_secs(20);

/// Polls until `holds`, and returns the time it took. Panics after [`SOON`] with the last value.
pub fn eventually<T: std::fmt::Debug>(what: &str, mut look: impl FnMut() -> T, holds: impl Fn(&T) -> bool) -> Duration {
    let start = Instant::now();
    loop {
        let seen = look();
        if holds(&seen) {
            return start.elapsed();
        }
        assert!(start.elapsed() < SOON, "{what}: after {SOON:?} still {seen:?}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Starts a node with fast failure detection.
pub async fn node(cluster: &str, seeds: &[&Node]) -> Node {
    let seeds: Vec<_> = seeds.iter().map(|node| node.local_addr().to_string()).collect();
    Node::builder().cluster(cluster).seeds(seeds).local_timing().start().await.unwrap()
}

/// Opens the cache that most tests use.
pub fn open(node: &Node) -> Cache<String, String> {
    node.cache("test").open().unwrap()
}

/// Starts `count` nodes, each with the cache open, caught up, and known to every peer.
pub async fn cluster(name: &str, count: usize) -> (Vec<Node>, Vec<Cache<String, String>>) {
    let mut nodes = vec![node(name, &[]).await];
    for _ in 1..count {
        let next = node(name, &[&nodes[0]]).await;
        nodes.push(next);
    }
    let caches: Vec<_> = nodes.iter().map(open).collect();
    for node in &nodes {
        eventually("members", || node.members().len(), |seen| *seen == count - 1);
    }
    for cache in &caches {
        let ready = cache.ready(SOON).await;
        assert!(ready.is_ready(), "{ready}");
    }
    // `Ready` means that a cache has its peers' state, not that every peer knows it as a member yet.
    for cache in &caches {
        eventually("replicas", || cache.members(), |seen| *seen == count - 1);
    }
    (nodes, caches)
}

/// Waits until every cache has exactly these values. Panics with the differences after [`SOON`].
pub fn converge_to(caches: &[Cache<String, String>], expected: &std::collections::BTreeMap<String, String>) {
    for (number, cache) in caches.iter().enumerate() {
        let look =
            || cache.iter().map(|(key, value)| (key.to_string(), value)).collect::<std::collections::BTreeMap<_, _>>();
        let start = Instant::now();
        loop {
            let seen = look();
            if seen == *expected {
                break;
            }
            if start.elapsed() > SOON {
                let wrong: Vec<_> =
                    expected.iter().filter(|(key, value)| seen.get(*key) != Some(value)).take(5).collect();
                let extra: Vec<_> = seen.iter().filter(|(key, _)| !expected.contains_key(*key)).take(5).collect();
                panic!(
                    "node {number} has {} of {} values; missing or other: {wrong:?}; should be gone: {extra:?}; {:?}",
                    seen.len(),
                    expected.len(),
                    cache.counters()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub async fn stop(nodes: Vec<Node>) {
    for node in nodes {
        node.shutdown().await;
    }
}
