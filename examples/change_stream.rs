//! Subscribes to the changes of a cache, local and remote: `cargo run --example change_stream`.
//!
//! The stream shows what the readers of *this* node see. If several changes of one key arrive together, it may show
//! only the last: it is not a log. A subscriber that falls behind receives a `Lagged` error; it never slows down a
//! writer or the node.

use std::error::Error;
use std::time::Duration;

use driftless::{Cache, ChangeKind, Node, SubscriptionError};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let writer = Node::builder().cluster("stream").start().await?;
    let reader = Node::builder().cluster("stream").seeds([writer.local_addr().to_string()]).start().await?;
    let stock: Cache<String, u32> = writer.cache("stock").open()?;
    let here: Cache<String, u32> = reader.cache("stock").change_buffer(64).open()?;
    assert!(here.ready(PATIENCE).await.is_ready());
    while stock.members() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let mut changes = here.subscribe();
    let mut next = async || tokio::time::timeout(PATIENCE, changes.recv()).await.expect("gossip takes milliseconds");

    stock.insert("tea".into(), 3)?;
    let event = next().await?;
    assert_eq!((event.kind(), event.key().as_str(), event.value()), (ChangeKind::Inserted, "tea", Some(&3)));
    assert_eq!((event.is_local(), event.origin()), (false, stock.replica_id()));

    stock.insert("tea".into(), 2)?;
    let event = next().await?;
    assert_eq!((event.kind(), event.previous(), event.value()), (ChangeKind::Updated, Some(&3), Some(&2)));

    stock.remove("tea");
    let event = next().await?;
    let ChangeKind::Removed(cause) = event.kind() else { panic!("{event:?}") };
    println!("{} is gone: {cause:?}", event.key());

    // A slow subscriber delays no writer: it loses the oldest events and receives their number.
    for n in 0..1_000 {
        here.insert(format!("item {n}"), n)?;
    }
    match next().await {
        Err(SubscriptionError::Lagged(lost)) => println!("lost {lost} events: read the cache to be sure of its state"),
        other => panic!("a thousand events do not fit in 64 places: {other:?}"),
    }

    writer.shutdown().await;
    reader.shutdown().await;
    Ok(())
}
