//! A user who writes on one node and reads on a second one, with the layer and without it.
//!
//! ```sh
//! cargo run -p driftless-axum --example own_writes
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use driftless::{Cache, Node};
use driftless_axum::ReadYourWrites;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type AnyError = Box<dyn Error + Send + Sync>;
type Names = Cache<u64, String>;

async fn show(State(names): State<Names>, Path(id): Path<u64>) -> String {
    names.get(&id).unwrap_or_default()
}

async fn rename(State(names): State<Names>, Path((id, name)): Path<(u64, String)>) -> Result<(), StatusCode> {
    names.insert(id, name).map(drop).map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)
}

/// Starts the web service of one node, with the layer and without it. Returns the two addresses.
async fn serve(node: &Node) -> Result<[SocketAddr; 2], AnyError> {
    let names: Names = node.cache("names").open()?;
    println!("names: {}", names.ready(Duration::from_secs(10)).await);
    let routes = || Router::new().route("/{id}", get(show)).route("/{id}/{name}", get(show).put(rename));
    let layer = ReadYourWrites::new().cache(&names).secure(false); // the example has no TLS
    let apps = [routes().layer(layer).with_state(names.clone()), routes().with_state(names)];
    let mut addresses = Vec::new();
    for app in apps {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, app).await });
    }
    Ok([addresses[0], addresses[1]])
}

/// Runs the example.
#[tokio::main]
pub async fn main() -> Result<(), AnyError> {
    let first = Node::builder().cluster("demo").start().await?;
    let second = Node::builder().cluster("demo").seeds([first.local_addr().to_string()]).start().await?;
    second.wait_for_members(1, Duration::from_secs(10)).await?;
    let [here, there] = [serve(&first).await?, serve(&second).await?];
    for (with, what) in [(0, "with the layer"), (1, "without it")] {
        let mut missed = 0;
        for round in 0..200 {
            let (cookie, _) = request(here[with], &format!("PUT /1/name-{what:.1}-{round}"), None).await?;
            let (_, name) = request(there[with], "GET /1", cookie.as_deref()).await?;
            missed += usize::from(name != format!("name-{what:.1}-{round}"));
        }
        println!("{what}: {missed} of 200 reads missed the user's own write");
        assert!(with == 1 || missed == 0);
    }
    second.shutdown().await;
    first.shutdown().await;
    Ok(())
}

/// Sends one request on one connection. Returns the cookie that was set, and the body.
async fn request(at: SocketAddr, what: &str, cookie: Option<&str>) -> Result<(Option<String>, String), AnyError> {
    let mut stream = TcpStream::connect(at).await?;
    let cookie = cookie.map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
    let head = format!("{what} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: 0\r\n{cookie}\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer was cut off")?;
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next().map(str::to_owned));
    Ok((cookie, body.to_owned()))
}
