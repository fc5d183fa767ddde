//! One node of a replicated cache as a process of its own, for clients that speak the Redis protocol.
//!
//! ```sh
//! cargo run --release --example sidecar -- --bind 127.0.0.1:7001 --redis 127.0.0.1:6301
//! cargo run --release --example sidecar -- --bind 127.0.0.1:7002 --redis 127.0.0.1:6302 --seed 127.0.0.1:7001
//! cargo run --release --example sidecar -- --bind 127.0.0.1:7003 --redis 127.0.0.1:6303 --seed 127.0.0.1:7001
//!
//! redis-cli -p 6301 set greeting hello ex 60
//! redis-cli -p 6302 get greeting              # "hello", from the memory of the second process
//! redis-cli -p 6303 del greeting              # gone everywhere
//! redis-cli -p 6301 info driftless
//! # With the debug page: add `--features inspect-http` to cargo, and `--http 127.0.0.1:7980` to the flags
//! redis-benchmark -p 6301 -t ping,get,set,mset -n 1000000 -P 32 -r 100000
//! ```
//!
//! It looks like Redis and is a cache with a copy in every process, so a few things mean something else:
//!
//! - **Every node answers from its own memory and takes writes.** No command waits for the network. A write is visible here at once
//!   and elsewhere soon after.
//! - **The last writer wins, by stamp.** Two nodes that set one key at the same time agree on one of the two values, the same
//!   everywhere. For that reason there is nothing here that reads, changes and writes back (`INCR`, `APPEND`, `EXPIRE`): another node's
//!   write in between would be lost without a word.
//! - **`SET .. NX`, `XX`, `GET`, `KEEPTTL` and `SETNX` look at this node only.** Two nodes may both say yes. It is no lock.
//! - **`KEYS`, `SCAN`, `DBSIZE`, `EXISTS` and `TTL` tell what this node holds now.** `SCAN` returns everything in one page.
//! - **`DEL` counts what was here, but deletes everywhere**, also keys that have not arrived here yet.
//! - **`FLUSHALL` is one replicated mark**: whatever was written before it is gone everywhere.
//! - **`MSET` is not atomic**, and `SELECT` knows database 0 only. Nothing is saved to disk.
//! - There is **no password**: bind `--redis` to an address that only friends can reach. `--key` encrypts what nodes tell each other, not
//!   what clients say.
//!
//! Commands: PING ECHO GET SET (EX PX EXAT PXAT NX XX GET KEEPTTL) SETEX PSETEX SETNX GETDEL STRLEN MGET MSET DEL UNLINK EXISTS TOUCH TTL PTTL
//! TYPE DBSIZE KEYS SCAN FLUSHALL FLUSHDB INFO HELLO (2) SELECT CLIENT CONFIG COMMAND RESET QUIT. One may also type them: `nc 127.0.0.1 6301`.
//!
//! Limits: a request has at most 8 MiB and 131,072 arguments, and there are at most `--max-clients` connections; the memory that clients can
//! claim is the product of the first and the last, on top of the cache. What is no request gets an error, and the connection is closed.

mod commands;
mod debug;
mod glob;
mod info;
mod request;
mod server;
mod session;

use bytes::Bytes;
use clap::Parser;
use driftless::{Cache, Node, OpenError, StartError};
use session::{Shared, Stats};
use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, atomic::AtomicI64},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, watch},
};

/// One node of a replicated cache, for clients that speak the Redis protocol.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where to gossip with the other nodes; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7946")]
    bind: SocketAddr,
    /// Where other nodes may be found; may be given several times
    #[arg(long = "seed", value_name = "HOST:PORT")]
    seeds: Vec<String>,
    /// Where to listen for Redis clients; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6379")]
    redis: SocketAddr,
    /// Nodes of other clusters are ignored
    #[arg(long, default_value = "sidecar")]
    cluster: String,
    /// What this node is called among its peers; by default something unique
    #[arg(long)]
    name: Option<String>,
    /// Encrypt gossip with this key, the same on every node; 64 hexadecimal digits. Other users of this machine can see it in the
    /// process list: the variable DRIFTLESS_KEY does the same
    #[arg(long, value_name = "HEX", value_parser = parse_key)]
    key: Option<Key>,
    /// Most entries to hold; without it, whatever is written is held
    #[arg(long, value_name = "ENTRIES")]
    max_capacity: Option<u64>,
    /// Most connections at a time
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_clients: usize,
    /// How long to fetch what the cluster has before serving; 0 serves at once
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    wait: u64,
    /// Where to serve the debug page and its JSON, if this was built with the feature `inspect-http`. An address that
    /// other machines can reach takes a token, in the variable DRIFTLESS_HTTP_TOKEN
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Take the command DRILL, which bends this node's clock: for `examples/chaos`
    #[arg(long, hide = true)]
    drill: bool,
}

#[derive(Clone)]
struct Key([u8; 32]);

fn parse_key(text: &str) -> Result<Key, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err("want 64 hexadecimal digits".to_owned()) };
    let bytes: Option<Vec<u8>> = pairs.iter().map(|&[high, low]| Some(digit(high)? * 16 + digit(low)?)).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).map(Key).ok_or_else(|| "want 64 hexadecimal digits".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(io::stderr)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sidecar: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    // Before anything else, so that a signal during the start is not lost.
    let mut signals = Signals::new()?;
    let listener =
        TcpListener::bind(arguments.redis).await.map_err(|error| format!("--redis {}: {error}", arguments.redis))?;
    let drill = arguments.drill.then(Arc::<AtomicI64>::default);
    let node = start_node(&arguments, drill.clone()).await?;
    let _debug = debug::serve(&node, arguments.http).await?;
    let shared = Arc::new(share(&arguments, node.clone(), listener.local_addr()?, drill)?);
    let told = tokio::select! {
        told = announce(&shared, arguments.wait) => told,
        () = signals.next() => {
            node.shutdown().await;
            return Ok(());
        }
    };
    told?;

    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server::serve(listener, shared, stopped));
    signals.next().await;
    // Connections finish what they do, then peers get what they do not have yet. A second signal does not wait.
    stop.send_replace(true);
    let ending = async {
        let _ = serving.await;
        node.shutdown().await;
    };
    tokio::select! {
        () = ending => {}
        () = signals.next() => {}
    }
    Ok(())
}

/// The two ways to ask this process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn start_node(arguments: &Arguments, drill: Option<Arc<AtomicI64>>) -> Result<Node, Box<dyn Error>> {
    let mut builder = Node::builder().cluster(&arguments.cluster).bind(arguments.bind).seeds(arguments.seeds.clone());
    if let Some(offset) = drill {
        builder = builder.clock_offset(offset);
    }
    if let Some(name) = &arguments.name {
        builder = builder.name(name);
    }
    if let Some(Key(key)) = key_from_environment(arguments)? {
        builder = builder.encryption_key(key);
    }
    builder.start().await.map_err(|error: StartError| error.into())
}

fn key_from_environment(arguments: &Arguments) -> Result<Option<Key>, String> {
    match (&arguments.key, std::env::var("DRIFTLESS_KEY")) {
        (Some(key), _) => Ok(Some(key.clone())),
        (None, Ok(text)) => parse_key(&text).map(Some).map_err(|error| format!("DRIFTLESS_KEY: {error}")),
        (None, Err(_)) => Ok(None),
    }
}

fn share(
    arguments: &Arguments,
    node: Node,
    redis: SocketAddr,
    drill: Option<Arc<AtomicI64>>,
) -> Result<Shared, OpenError> {
    let mut builder = node.cache::<Bytes, Bytes>("redis");
    if let Some(entries) = arguments.max_capacity {
        builder = builder.max_capacity(entries);
    }
    let cache: Cache<Bytes, Bytes> = builder.open()?;
    Ok(Shared {
        node,
        cache,
        cluster: arguments.cluster.clone(),
        redis,
        max_clients: arguments.max_clients,
        places: Arc::new(Semaphore::new(arguments.max_clients)),
        started: Instant::now(),
        stats: Stats::default(),
        drill,
    })
}

/// Fetches what the cluster has, within limits, and says that this node is there. Clients may connect before; they wait in line.
async fn announce(shared: &Shared, wait: u64) -> io::Result<()> {
    let ready = shared.cache.ready(Duration::from_secs(wait)).await;
    let mut out = io::stdout();
    let (redis, gossip, cluster) = (shared.redis, shared.node.local_addr(), &shared.cluster);
    writeln!(out, "ready: redis {redis}, gossip {gossip}, cluster {cluster}, {ready}")?;
    out.flush()
}
