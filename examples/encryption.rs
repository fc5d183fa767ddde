//! An encrypted cluster, and a change of its key while it runs: `cargo run --example encryption`.

use std::error::Error;
use std::time::Duration;

use driftless::{Cache, Members, Node};

const PATIENCE: Duration = Duration::from_secs(20);

/// In production: 32 random bytes from your secret store, the same on every node.
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

    // Without the key nobody gets in, nor does anybody with another one.
    let stranger = Node::builder().cluster("secret").seeds([seed.clone()]).start().await?;
    let nothing: Cache<String, u64> = stranger.cache("secrets").open()?;
    println!("the stranger is {}", nothing.ready(Duration::from_millis(500)).await);
    assert!(nothing.entry_count() == 0 && one.members().len() == 1);
    stranger.shutdown().await;

    // Rotation: each step on every node before the next step on any. Writes go on meanwhile.
    for node in [&one, &two] {
        node.add_encryption_key(NEW)?; // may be read
    }
    write(&here, 2).await?;
    one.use_encryption_key(NEW)?; // is written with; the other still writes with the old one
    write(&here, 3).await?;
    two.use_encryption_key(NEW)?;
    write(&there, 4).await?;
    for node in [&one, &two] {
        node.remove_encryption_key(OLD)?; // is refused from now on
    }
    write(&here, 5).await?;
    assert_eq!(there.get("key"), Some(5));
    assert!(one.remove_encryption_key(NEW).is_err()); // the last key stays: encryption cannot be switched off while running
    println!("rotated, with {} members throughout", one.members().len() + 1);

    one.shutdown().await;
    two.shutdown().await;
    Ok(())
}
