//! A scrape of the Prometheus metrics of a node: `cargo run --example prometheus --features inspect-http`.
//!
//! The debug interface needs no other setup. An application that already has a recorder for the `metrics` facade
//! enables the feature `metrics` instead. Its recorder then receives these numbers under the same names, except those of
//! the process. `src/docs/operations.md` lists all names.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use driftless::inspect::Inspector;
use driftless::inspect::http::{HttpConfig, HttpServer};
use driftless::{Cache, Node};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let node = Node::builder().cluster("watched").name("shop-1").start().await?;
    let prices: Cache<String, u64> = node.cache("prices").open()?;
    assert!(prices.ready(Duration::from_secs(1)).await.is_ready());
    prices.insert("apple".into(), 120)?;
    assert_eq!((prices.get("apple"), prices.get("pear")), (Some(120), None));

    // On loopback the server needs no token; on any other address it refuses to start without one.
    let server = HttpServer::start(Inspector::new(&node), HttpConfig::new("127.0.0.1:0".parse()?)).await?;
    let text = get(server.local_addr(), "/metrics").await?;
    print!("{text}");
    for line in [
        "# TYPE driftless_hits_total counter",
        "driftless_entries{cache=\"prices\"} 1",
        "driftless_hits_total{cache=\"prices\"} 1",
        "driftless_misses_total{cache=\"prices\",reason=\"absent\"} 1",
        "driftless_replication_events_total{cache=\"prices\",event=\"writes\"} 1",
        "driftless_members 0",
    ] {
        assert!(text.lines().any(|told| told == line), "no line `{line}`");
    }
    println!("\n/health/live:  {}", get(server.local_addr(), "/health/live").await?);
    println!("/health/ready: {}", get(server.local_addr(), "/health/ready").await?);

    node.shutdown().await;
    Ok(())
}

/// Returns the body of a reply with status 200; any other status is an error.
async fn get(at: SocketAddr, path: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer was cut off")?;
    if head.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(head.into()) }
}
