//! Nodes whose wall clocks are wrong from the start.
#![cfg(feature = "node")]

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use common::{SOON, cluster, eventually, open, stop};
use driftless::{Cache, Node};

/// Returns the bytes that a cache has received so far.
fn received(cache: &Cache<String, String>) -> u64 {
    cache.inspect().bytes_in.values().sum()
}

async fn join(name: &str, first: &Node, offset: Duration) -> Node {
    let behind = -i64::try_from(offset.as_nanos()).unwrap();
    let builder = Node::builder().cluster(name).seeds([first.local_addr().to_string()]).local_timing();
    builder.clock_offset(Arc::new(AtomicI64::new(behind))).start().await.unwrap()
}

/// Starts a node with its clock behind those of a cluster that agrees, by 5 s and by an hour. Promises: the node
/// becomes ready, receives writes and deletes, and does not receive the same registers repeatedly. Every node reports a
/// warning with its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_behind_works_and_is_named() {
    let (nodes, caches) = cluster("behind", 3).await;
    for number in 0..20_000 {
        caches[0].insert(format!("key-{number}"), "x".repeat(100)).unwrap();
    }
    for cache in &caches {
        eventually("replicated", || cache.entry_count(), |count| *count == 20_000);
    }
    let right = join("behind", &nodes[0], Duration::ZERO).await;
    let there = open(&right);
    assert!(there.ready(SOON).await.is_ready());
    let healthy = received(&there);
    right.shutdown().await;
    for offset in [5, 3_600] {
        let late = join("behind", &nodes[0], Duration::from_secs(offset)).await;
        let here = open(&late);
        let ready = here.ready(SOON).await;
        assert!(ready.is_ready(), "{offset} s behind: {ready}");
        assert_eq!(here.entry_count(), 20_000);
        caches[1].insert("fresh".into(), offset.to_string()).unwrap();
        caches[1].remove("key-1");
        eventually("a write arrives", || here.get("fresh"), |seen| *seen == Some(offset.to_string()));
        eventually("a delete arrives", || here.get("key-1"), Option::is_none);
        here.insert("fresh".into(), "back".into()).unwrap();
        eventually("its own write wins", || caches[2].get("fresh"), |seen| seen.as_deref() == Some("back"));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let skewed = received(&here);
        // Each member may send everything once, and some of it twice on a slow machine. An endless repetition would
        // send 50 times as much within these seconds. The deterministic schedules of the core tests check that most of
        // it is sent once.
        assert!(skewed < 20 * healthy, "{offset} s behind: {skewed} bytes, {healthy} with a right clock");
        let name = late.local_addr().to_string();
        for cache in caches.iter().chain([&here]) {
            let blamed = || {
                let warnings = cache.inspect().warnings.into_iter();
                warnings
                    .filter(|warning| warning.name.starts_with("clock-"))
                    .map(|warning| (warning.name, warning.about))
                    .collect::<Vec<_>>()
            };
            eventually(
                "the node that is behind is named, alone",
                blamed,
                |blamed| matches!(&blamed[..], [(warning, node)] if warning == "clock-behind" && node.contains(&name)),
            );
        }
        caches[1].insert("key-1".into(), "x".repeat(100)).unwrap();
        late.shutdown().await;
        eventually("gone", || caches[0].members(), |members| *members == 2);
        caches[1].remove("fresh");
    }
    stop(nodes).await;
}
