//! One node, one cache and the most common calls: `cargo run --example quickstart`.

use std::time::Duration;

use driftless::{Cache, Filled, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // In production: `.bind(..)` to an address that other nodes can reach, and `.seeds(..)` with the addresses of a few
    // nodes.
    let node = Node::builder().cluster("shop").start().await?;
    let prices: Cache<String, u64> =
        node.cache("prices").max_capacity(100_000).time_to_live(Duration::from_secs(600)).open()?;

    prices.insert("apple".into(), 120)?;
    assert_eq!(prices.get("apple"), Some(120));

    // An entry with its own time to live, which is replicated with the value as an absolute deadline.
    prices.insert_with_ttl("cherry".into(), 990, Duration::from_millis(50))?;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(prices.get("cherry"), None);

    // On a miss the filler runs once for all callers that wait for the key.
    assert_eq!(prices.get_with("pear".into(), || async { 95 }).await, 95);
    let plum = prices.fill_with("plum".into(), || async { std::io::Result::Ok(Filled::new(60).forever()) }).await?;
    assert_eq!((plum, prices.get("plum")), (60, Some(60)));

    // The metadata of an entry, and the statistics of the cache.
    let apple = prices.entry("apple").expect("it was inserted");
    println!("apple costs {}, written by {}, expires in {:?}", apple.value(), apple.origin(), apple.expires_in());
    assert_eq!(prices.remove("apple"), Some(120));
    println!("{:#?}", prices.stats());

    node.shutdown().await;
    Ok(())
}
