//! A web service whose instances share sessions and products in memory.
//!
//! ```sh
//! cargo run --example web_service -- --listen 127.0.0.1:8001 --bind 127.0.0.1:7001
//! cargo run --example web_service -- --listen 127.0.0.1:8002 --bind 127.0.0.1:7002 --seed 127.0.0.1:7001
//! token=$(curl -s -X POST 127.0.0.1:8001/login/ann)                       # on the first instance
//! curl -s -H "Authorization: Bearer $token" 127.0.0.1:8002/me             # known on the second
//! curl -s 127.0.0.1:8002/products/7
//!
//! cargo run --example web_service -- --demo                               # starts two instances, sends requests, ends
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use driftless::{Cache, FillError, Members, Node};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The time limit for fetching the state of the peers at the start. After it the instance serves in any case: a cold
/// cache is slow, not wrong.
const WARM_UP: Duration = Duration::from_secs(10);
/// The time for which a login waits for its replication, so that the next request may go to any instance.
const HAND_OVER: Duration = Duration::from_millis(500);
const SESSION: Duration = Duration::from_secs(1_800);

#[derive(Parser)]
struct Arguments {
    /// Address for HTTP
    #[arg(long, default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
    /// Address for gossip with other instances
    #[arg(long, default_value = "127.0.0.1:7001")]
    bind: SocketAddr,
    /// Address of another instance; may be repeated
    #[arg(long = "seed")]
    seeds: Vec<String>,
    /// Start two instances, send requests, and end
    #[arg(long)]
    demo: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Session {
    user: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Product {
    name: String,
}

/// A stand-in for the database that all instances use.
#[derive(Default)]
struct Database {
    products: Mutex<BTreeMap<u32, Product>>,
    reads: AtomicU32,
}

/// One instance.
#[derive(Clone)]
struct Service {
    sessions: Cache<String, Session>,
    products: Cache<u32, Product>,
    database: Arc<Database>,
}

impl Service {
    async fn open(node: &Node, database: Arc<Database>) -> Result<Self, Box<dyn Error>> {
        let sessions: Cache<String, Session> = node.cache("sessions").time_to_live(SESSION).open()?;
        let products: Cache<u32, Product> = node.cache("products").max_capacity(100_000).open()?;
        println!("sessions: {}, products: {}", sessions.ready(WARM_UP).await, products.ready(WARM_UP).await);
        Ok(Self { sessions, products, database })
    }

    fn router(self) -> Router {
        Router::new()
            .route("/login/{user}", post(login))
            .route("/logout", post(logout))
            .route("/me", get(me))
            .route("/products/{id}", get(product).put(rename))
            .with_state(self)
    }
}

async fn login(State(service): State<Service>, Path(user): Path<String>) -> Result<String, StatusCode> {
    let token = uuid::Uuid::new_v4().to_string();
    let written = service.sessions.insert(token.clone(), Session { user }).map_err(|_| StatusCode::BAD_REQUEST)?;
    // An instance that misses the deadline receives the session later: no reason to refuse the login.
    let _ = service.sessions.wait_replicated(written, Members::All, HAND_OVER).await;
    Ok(token)
}

fn token(headers: &HeaderMap) -> Result<&str, StatusCode> {
    let header = headers.get("authorization").and_then(|header| header.to_str().ok());
    header.and_then(|header| header.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)
}

async fn me(State(service): State<Service>, headers: HeaderMap) -> Result<String, StatusCode> {
    service.sessions.get(token(&headers)?).map(|session| session.user).ok_or(StatusCode::UNAUTHORIZED)
}

async fn logout(State(service): State<Service>, headers: HeaderMap) -> Result<(), StatusCode> {
    service.sessions.invalidate(token(&headers)?); // on all nodes, also those that have not received the login yet
    Ok(())
}

async fn product(State(service): State<Service>, Path(id): Path<u32>) -> Result<Json<Product>, StatusCode> {
    let database = Arc::clone(&service.database);
    let load = move || async move {
        database.reads.fetch_add(1, Ordering::Relaxed);
        let found = database.products.lock().expect("no thread panics while it holds the lock").get(&id).cloned();
        found.ok_or_else(|| std::io::Error::other("no such product"))
    };
    service.products.try_get_with(id, load).await.map(Json).map_err(|why| match why {
        FillError::Failed(_) => StatusCode::NOT_FOUND,
        // The fill took too long or panicked: the next call may succeed.
        _ => StatusCode::SERVICE_UNAVAILABLE,
    })
}

/// Renames a product: first in the database, then in the cache. A concurrent fill that read the old row loses against
/// the `invalidate`.
async fn rename(State(service): State<Service>, Path(id): Path<u32>, name: String) {
    service.database.products.lock().expect("no thread panics while it holds the lock").insert(id, Product { name });
    service.products.invalidate(&id);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    if arguments.demo {
        return demo().await;
    }
    let node = Node::builder().cluster("web").bind(arguments.bind).seeds(arguments.seeds).start().await?;
    let service = Service::open(&node, Arc::default()).await?;
    service
        .database
        .products
        .lock()
        .expect("no thread panics while it holds the lock")
        .insert(7, Product { name: "tea".into() });
    let stop = async { tokio::signal::ctrl_c().await.expect("signals can be caught") };
    axum::serve(TcpListener::bind(arguments.listen).await?, service.router()).with_graceful_shutdown(stop).await?;
    node.shutdown().await; // hands over writes that no other instance has yet
    Ok(())
}

async fn demo() -> Result<(), Box<dyn Error>> {
    let database = Arc::new(Database::default());
    database
        .products
        .lock()
        .expect("no thread panics while it holds the lock")
        .insert(7, Product { name: "tea".into() });
    let first = Node::builder().cluster("demo").start().await?;
    let second = Node::builder().cluster("demo").seeds([first.local_addr().to_string()]).start().await?;
    let mut at = Vec::new();
    for node in [&first, &second] {
        let service = Service::open(node, Arc::clone(&database)).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        at.push(listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, service.router()).await });
    }

    // A login on the first instance is known on the second, and a logout on the second reaches the first.
    let (_, token) = request(at[0], "POST /login/ann", "", "").await?;
    let bearer = format!("Authorization: Bearer {token}\r\n");
    eventually(at[1], "GET /me", &bearer, (200, "ann")).await?;
    request(at[1], "POST /logout", &bearer, "").await?;
    eventually(at[0], "GET /me", &bearer, (401, "")).await?;

    // The product is read from the database once, then from memory on both instances. Both see a rename.
    eventually(at[0], "GET /products/7", "", (200, r#"{"name":"tea"}"#)).await?;
    eventually(at[1], "GET /products/7", "", (200, r#"{"name":"tea"}"#)).await?;
    request(at[1], "PUT /products/7", "", "green tea").await?;
    for instance in &at {
        eventually(*instance, "GET /products/7", "", (200, r#"{"name":"green tea"}"#)).await?;
    }
    println!("the database was read {} times", database.reads.load(Ordering::Relaxed));
    assert!(database.reads.load(Ordering::Relaxed) <= 4);
    first.shutdown().await;
    second.shutdown().await;
    Ok(())
}

/// Repeats a request until the reply is as expected. The instances agree within milliseconds, not at once.
async fn eventually(at: SocketAddr, what: &str, headers: &str, wanted: (u16, &str)) -> Result<(), Box<dyn Error>> {
    for _ in 0..2_000 {
        let (status, body) = request(at, what, headers, "").await?;
        if (status, body.as_str()) == wanted {
            println!("{at} {what}: {status} {body}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("{at} never answers {what} with {wanted:?}").into())
}

/// Sends one request on one connection, and returns status and body.
async fn request(at: SocketAddr, what: &str, headers: &str, body: &str) -> Result<(u16, String), Box<dyn Error>> {
    let mut stream = TcpStream::connect(at).await?;
    let length = body.len();
    let head =
        format!("{what} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer was cut off")?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok((status, body.to_owned()))
}
