//! Three nodes that agree: `cargo run --example three_nodes`.
//!
//! They run in one process here, over real sockets on loopback. In production each node is a process of its own.

use std::error::Error;
use std::time::Duration;

use driftless::{Cache, Members, Node};

const PATIENCE: Duration = Duration::from_secs(20);

async fn start(name: &str, seeds: &[String]) -> Result<(Node, Cache<String, String>), Box<dyn Error>> {
    let node = Node::builder().cluster("three").name(name).seeds(seeds).start().await?;
    let cache: Cache<String, String> = node.cache("sessions").open()?;
    println!("{name}: {}", cache.ready(PATIENCE).await); // prints the meaning of a miss from now on
    Ok((node, cache))
}

/// Waits until a cache holds this value for the key, or no value.
async fn until(cache: &Cache<String, String>, key: &str, value: Option<&str>) {
    let arrives = async {
        while cache.get(key).as_deref() != value {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrives).await.expect("gossip takes milliseconds");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (ann, on_ann) = start("ann", &[]).await?;
    let seeds = [ann.local_addr().to_string()];
    let (bob, on_bob) = start("bob", &seeds).await?;
    let (eve, on_eve) = start("eve", &seeds).await?;
    while on_ann.members() < 2 || on_bob.members() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    // A write is visible on this node at once, and on its peers soon after. A caller that depends on that waits for it.
    let written = on_ann.insert("alice".into(), "logged in".into())?;
    on_ann.wait_replicated(written, Members::All, PATIENCE).await?;
    assert_eq!(on_bob.get("alice").as_deref(), Some("logged in"));
    assert_eq!(on_eve.get("alice").as_deref(), Some("logged in"));

    // Two concurrent writers: the greater stamp wins, on every node.
    let one = on_ann.insert("basket".into(), "from ann".into())?;
    let two = on_bob.insert("basket".into(), "from bob".into())?;
    let winner = if one > two { "from ann" } else { "from bob" };
    for cache in [&on_ann, &on_bob, &on_eve] {
        until(cache, "basket", Some(winner)).await;
    }
    println!("all nodes have the basket {winner}");

    // A delete reaches all nodes, and works for a key that the deleting node has never read.
    on_eve.remove("alice");
    for cache in [&on_ann, &on_bob] {
        until(cache, "alice", None).await;
    }

    // Nodes leave and join. A joining node receives the state of its peers.
    ann.shutdown().await;
    let (dan, on_dan) = start("dan", &[bob.local_addr().to_string()]).await?;
    assert_eq!(on_dan.get("basket").as_deref(), Some(winner));
    assert_eq!(on_dan.get("alice"), None);

    for node in [bob, eve, dan] {
        node.shutdown().await;
    }
    Ok(())
}
