//! The process of `driftless serve`: one node, its Redis server and its debug interface, from start to signal.

use crate::{
    debug,
    serve::{server, session::Shared, settings::Settings},
};
use bytes::Bytes;
use driftless::{Cache, Node, OpenError, StartError};
use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// The number of changes that `CLIENT TRACKING` may be behind before clients have to drop all that they hold.
const CHANGE_BUFFER: usize = 65_536;

/// One node of a replicated cache, for clients that speak the Redis protocol
#[derive(clap::Parser)]
#[command(version)]
pub struct Arguments {
    /// Address for gossip with other nodes; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7946")]
    bind: SocketAddr,
    /// Address of another node; may be repeated
    #[arg(long = "seed", value_name = "HOST:PORT")]
    seeds: Vec<String>,
    /// Address for Redis clients; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6379")]
    redis: SocketAddr,
    /// Name of the cluster; nodes of other clusters are ignored
    #[arg(long, default_value = "sidecar")]
    cluster: String,
    /// Name of this node among its peers; unique by default
    #[arg(long)]
    name: Option<String>,
    /// Encrypt gossip with this key, the same on every node; 64 hexadecimal digits. Other users of this machine can see
    /// it in the process list: set the variable DRIFTLESS_KEY instead
    #[arg(long, value_name = "HEX", value_parser = parse_key)]
    key: Option<Key>,
    /// Maximum number of entries; unlimited by default
    #[arg(long, value_name = "ENTRIES")]
    max_capacity: Option<u64>,
    /// Maximum number of connections at a time
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_clients: usize,
    /// Seconds to fetch the state of the cluster before serving; 0 serves at once
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    wait: u64,
    /// Address for the debug page and its JSON, in builds with the feature `inspect-http`. An address that other
    /// machines can reach requires a token, in the variable DRIFTLESS_HTTP_TOKEN
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Accept the command DRILL, which sets the offset of this node's clock: for `examples/chaos`
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

/// Runs until a signal, and returns the exit status.
pub fn main(arguments: Arguments) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(io::stderr)
        .init();
    let started = tokio::runtime::Runtime::new().map_err(Into::into);
    match started.and_then(|runtime| runtime.block_on(run(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("driftless: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    // Signal handlers first, so that a signal during the start is not lost.
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
    // Open connections finish their requests first. Then the node sends its peers the writes they lack. A second signal
    // ends the process at once.
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

/// The two signals that end this process.
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
    let mut builder = node.cache::<Bytes, Bytes>("redis").change_buffer(CHANGE_BUFFER);
    if let Some(entries) = arguments.max_capacity {
        builder = builder.max_capacity(entries);
    }
    let cache: Cache<Bytes, Bytes> = builder.open()?;
    let settings = Settings { max_clients: arguments.max_clients, ..Settings::default() };
    let shared = Shared::new(node, vec![cache], arguments.cluster.clone(), redis, settings);
    Ok(Shared { drill, ..shared })
}

/// Fetches the state of the cluster, for at most `wait` seconds, then prints the `ready` line. Clients may connect
/// earlier, but are served only afterwards.
async fn announce(shared: &Shared, wait: u64) -> io::Result<()> {
    let ready = shared.cache().ready(Duration::from_secs(wait)).await;
    let mut out = io::stdout();
    let (redis, gossip, cluster) = (shared.redis, shared.node.local_addr(), &shared.cluster);
    writeln!(out, "ready: redis {redis}, gossip {gossip}, cluster {cluster}, {ready}")?;
    out.flush()
}
