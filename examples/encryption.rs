//! An encrypted cluster, and a rotation of its key without downtime: `cargo run --example encryption`.

use std::error::Error;
use std::time::Duration;

use driftless::{Cache, Members, Node};

const PATIENCE: Duration = Duration::from_secs(20);

/// The old key. In production: 32 random bytes from your secret store, the same on every node.
const OLD: [u8; 32] = [7; 32];
const NEW: [u8; 32] = [8; 32];

async fn write(from: &Cache<String, u64>, value: u64) -> Result<(), Box<dyn Error>> {
    let written = from.insert("key".into(), value)?;
    from.wait_replicated(written, Members::Count(1), PATIENCE).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let start = |seeds: Vec<String>| Node::builder().cluster("secret").seeds(seeds).encryption_key(OLD).start();
    let one = start(vec![]).await?;
    let seed = one.local_addr().to_string();
    let two = start(vec![seed.clone()]).await?;
    let here: Cache<String, u64> = one.cache("secrets").open()?;
    let there: Cache<String, u64> = two.cache("secrets").open()?;
    assert!(there.ready(PATIENCE).await.is_ready());
    while here.members() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    write(&here, 1).await?;

    // A node without the key, or with a wrong key, cannot join.
    let stranger = Node::builder().cluster("secret").seeds([seed.clone()]).start().await?;
    let nothing: Cache<String, u64> = stranger.cache("secrets").open()?;
    println!("the process without the key is {}", nothing.ready(Duration::from_millis(500)).await);
    assert!(nothing.entry_count() == 0 && one.members().len() == 1);
    stranger.shutdown().await;

    // Rotation: complete each step on every node before the next step on any node. Writes continue meanwhile.
    for node in [&one, &two] {
        node.add_encryption_key(NEW)?; // messages under the new key can be read
    }
    write(&here, 2).await?;
    one.use_encryption_key(NEW)?; // `one` now writes with the new key; `two` still writes with the old key
    write(&here, 3).await?;
    two.use_encryption_key(NEW)?;
    write(&there, 4).await?;
    for node in [&one, &two] {
        node.remove_encryption_key(OLD)?; // messages under the old key are refused from now on
    }
    write(&here, 5).await?;
    assert_eq!(there.get("key"), Some(5));
    assert!(one.remove_encryption_key(NEW).is_err()); // the last key stays: a running node cannot switch encryption off
    println!("rotated, with {} members throughout", one.members().len() + 1);

    one.shutdown().await;
    two.shutdown().await;
    Ok(())
}
