//! What the tests of real nodes share.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use driftless::{Cache, Node};

/// Long enough for a loaded machine; nothing here takes that long.
pub const SOON: Duration = Duration::from_secs(20);

/// Polls until `holds`, or fails with what was seen.
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

/// A node with fast failure detection.
pub async fn node(cluster: &str, seeds: &[&Node]) -> Node {
    let seeds: Vec<_> = seeds.iter().map(|node| node.local_addr().to_string()).collect();
    Node::builder().cluster(cluster).seeds(seeds).local_timing().start().await.unwrap()
}

/// The cache most tests use.
pub fn open(node: &Node) -> Cache<String, String> {
    node.cache("test").open().unwrap()
}

/// `count` nodes, each with the cache open and caught up.
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
    // Ready says that a cache has what others had, not that all of them know of it yet.
    for cache in &caches {
        eventually("replicas", || cache.members(), |seen| *seen == count - 1);
    }
    (nodes, caches)
}

/// Waits until every cache has exactly these values.
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
