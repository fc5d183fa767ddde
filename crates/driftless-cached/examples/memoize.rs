//! A function that one node computes, and that every node then reads from its own memory.
//!
//! ```sh
//! cargo run -p driftless-cached --example memoize
//! ```

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cached::ConcurrentCached;
use cached::macros::concurrent_cached;
use driftless::Node;
use driftless_cached::{DriftlessCache, StoreError};

/// The node of this process. An application has one.
static NODE: OnceLock<Node> = OnceLock::new();
static RUNS: AtomicUsize = AtomicUsize::new(0);

fn open(node: &Node) -> DriftlessCache<String, u64> {
    let cache = node.cache("lengths").max_capacity(10_000).time_to_live(Duration::from_secs(600)).open();
    DriftlessCache::new(cache.expect("the settings are valid"))
}

#[concurrent_cached(
    ty = "DriftlessCache<String, u64>",
    create = { open(NODE.get().expect("started before the first call")) },
    key = "String",
    convert = { text.to_owned() }
)]
fn length(text: &str) -> Result<u64, StoreError> {
    RUNS.fetch_add(1, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(100)); // the slow part
    Ok(text.chars().count() as u64)
}

/// Runs the example.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let first = Node::builder().cluster("demo").start().await?;
    let second = Node::builder().cluster("demo").seeds([first.local_addr().to_string()]).start().await?;
    first.wait_for_members(1, Duration::from_secs(10)).await?;
    NODE.set(first.clone()).map_err(|_| "started twice")?;
    let there = open(&second);
    println!("second node: {}", there.cache().ready(Duration::from_secs(10)).await);

    let text = "a text".to_owned();
    println!("computed: {}", length(&text)?);
    println!("remembered: {}", length(&text)?);
    assert_eq!(RUNS.load(Ordering::Relaxed), 1);
    while there.cache_get(&text)?.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("on the second node, without a computation: {:?}", there.cache_get(&text)?);

    there.cache_remove(&text)?; // on every node
    let removed = there.cache().last_written().ok_or("it was removed just now")?;
    open(&first).cache().wait_seen(&removed.token(), Duration::from_secs(10)).await?;
    length(&text)?;
    assert_eq!(RUNS.load(Ordering::Relaxed), 2);
    println!("removed on the second node, computed again on the first");
    second.shutdown().await;
    first.shutdown().await;
    Ok(())
}
