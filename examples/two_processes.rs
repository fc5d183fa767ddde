//! The program of the README: one cache in two processes. Run it in two terminals:
//! `cargo run --example two_processes -- 127.0.0.1:7946 127.0.0.1:7947`, and the same with the addresses swapped.

use driftless::{Cache, Node};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [me, peer] = [1, 2].map(|n| std::env::args().nth(n).expect("two addresses: this node's and the other's"));
    let node = Node::builder().cluster("shop").bind(me.parse()?).seeds([&peer]).start().await?;
    let prices: Cache<String, u64> =
        node.cache("prices").max_capacity(100_000).time_to_live(Duration::from_secs(600)).open()?;
    node.wait_for_members(1, Duration::from_secs(60)).await?; // start the other process within a minute
    prices.insert(me.clone(), 120)?; // on every node, or overwritten by something newer
    while prices.get(&peer).is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await; // a read is local: it waits for nothing
    }
    println!("{me} reads what {peer} wrote: {:?}", prices.get(&peer));
    println!("pear: {}", prices.get_with("pear".into(), || async { 95 }).await); // a fill never overwrites a newer write
    node.shutdown().await; // hands over what no other node has yet
    Ok(())
}
