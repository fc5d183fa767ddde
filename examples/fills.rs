//! Fills: misses that are computed from a slow source: `cargo run --example fills`.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use driftless::{Cache, FillError, Filled, Node};

#[derive(Debug, thiserror::Error)]
#[error("the database is not available")]
struct Away;

/// A stand-in for the database: slow, and it counts its reads.
#[derive(Default)]
struct Database {
    reads: AtomicU32,
}

impl Database {
    async fn product(&self, id: u32) -> Result<Option<String>, Away> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(100)).await;
        match id {
            0 => Err(Away),
            1..1_000 => Ok(Some(format!("product {id}"))),
            _ => Ok(None),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let node = Node::builder().cluster("fills").start().await?;
    let database = Arc::new(Database::default());
    // `None` is a product that does not exist. The cache keeps that answer too, for a shorter time.
    let products: Cache<u32, Option<String>> = node.cache("products").fill_timeout(Duration::from_secs(2)).open()?;
    let load = |id: u32| {
        let database = Arc::clone(&database);
        products.fill_with(id, move || async move {
            let found = database.product(id).await?;
            let keep = if found.is_some() { Duration::from_secs(600) } else { Duration::from_secs(5) };
            Ok::<_, Away>(Filled::new(found).ttl(keep))
        })
    };

    // A hundred tasks miss the same key: the database is read once.
    let all = futures_util::future::join_all((0..100).map(|_| load(7))).await;
    assert!(all.iter().all(|product| product.as_ref().is_ok_and(|it| it.as_deref() == Some("product 7"))));
    assert_eq!(database.reads.load(Ordering::Relaxed), 1);

    // The answer that a product does not exist is cached as well.
    assert_eq!(load(5_000).await?, None);
    assert_eq!(load(5_000).await?, None);
    assert_eq!(database.reads.load(Ordering::Relaxed), 2);

    // Every waiting task receives the error. It is not cached: the next call tries again.
    assert!(matches!(load(0).await, Err(FillError::Failed(_))));
    assert!(matches!(load(0).await, Err(FillError::Failed(_))));
    assert_eq!(database.reads.load(Ordering::Relaxed), 4);

    // A panic in a filler affects only its own callers and leaves nothing in the cache.
    let panicked =
        products.try_get_with(8, || async { if true { panic!("a bug") } else { Ok::<_, Away>(None) } }).await;
    assert!(matches!(panicked, Err(FillError::Panicked(_))));
    assert_eq!(load(8).await?.as_deref(), Some("product 8"));

    // A slow fill never overwrites a write or a delete that happened while it ran.
    let (slow, ()) = tokio::join!(load(9), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        products.insert(9, Some("renamed".into())).expect("it is small");
    });
    println!("the caller of the fill got {slow:?}, the cache keeps {:?}", products.get(&9));
    assert_eq!(products.get(&9).flatten().as_deref(), Some("renamed"));
    println!("{:?}", products.stats().fills);

    node.shutdown().await;
    Ok(())
}
