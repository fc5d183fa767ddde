//! Twenty thousand entries removed on all nodes with one message: `cargo run --release --example invalidate_all`.

use std::error::Error;
use std::time::{Duration, Instant};

use driftless::{Cache, Members, Node};

const PATIENCE: Duration = Duration::from_secs(20);
const ENTRIES: u64 = 20_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let one = Node::builder().cluster("everything").start().await?;
    let two = Node::builder().cluster("everything").seeds([one.local_addr().to_string()]).start().await?;
    // Put entries that are invalidated together into a cache of their own: a node carries any number of caches.
    let rates: Cache<u64, u64> = one.cache("rates").open()?;
    let names: Cache<u64, u64> = one.cache("names").open()?;
    let rates_there: Cache<u64, u64> = two.cache("rates").open()?;
    let names_there: Cache<u64, u64> = two.cache("names").open()?;
    assert!(rates_there.ready(PATIENCE).await.is_ready() && names_there.ready(PATIENCE).await.is_ready());
    while rates.members() == 0 || names.members() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let last = rates.insert_many((0..ENTRIES).map(|n| (n, n)))?;
    rates.wait_replicated(*last.last().expect("many"), Members::All, PATIENCE).await?;
    let kept = names.insert(1, 1)?;
    names.wait_replicated(kept, Members::All, PATIENCE).await?;
    assert_eq!(rates_there.entry_count(), ENTRIES);

    let (before, start) = (one.traffic().bytes_out, Instant::now());
    rates.invalidate_all(); // all entries written so far, also those still in transit
    assert_eq!(rates.get(&7), None); // gone on this node at once
    while rates_there.get(&7).is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("{ENTRIES} entries were gone on the other node after {:?}", start.elapsed());
    println!("about {} bytes were sent meanwhile, membership included", one.traffic().bytes_out - before);
    assert_eq!(names_there.get(&1), Some(1)); // other caches are unaffected

    // Entries written from now on stay.
    let new = rates.insert(7, 8)?;
    rates.wait_replicated(new, Members::All, PATIENCE).await?;
    assert_eq!(rates_there.get(&7), Some(8));

    one.shutdown().await;
    two.shutdown().await;
    Ok(())
}
