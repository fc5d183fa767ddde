//! Three nodes of a shop in front of one database, and a measurement of the benefit of their shared cache.
//!
//! ```sh
//! # One table: where such a cache is worth it, and where it is not. It takes less than a minute.
//! cargo run --release --example storefront
//! # One situation in detail: a generated Zipf stream.
//! cargo run --release --example storefront -- --capacity 10000
//! # A real trace: big-endian 32-bit keys, .xz or raw.
//! cargo run --release --example storefront -- --trace orm-busy.trace.xz
//! cargo run --release --example storefront -- --mode invalidate --updates 20 --capacity 1000
//! # With the debug page; the nodes run until interrupted.
//! cargo run --release --example storefront --features inspect-http -- --http 127.0.0.1:7980 --rate 2000 --serve
//! ```
//!
//! Each access of the trace goes to one of the nodes. Most accesses are reads: from the node's own memory, or else from
//! the SQLite row, which is then cached on all nodes. The rest are updates of the row. `shop.rs` keeps rows and cache
//! consistent; it is the part to copy.
//!
//! At the end the program prints a table: the reads of the database without a cache, with a private cache on each node,
//! and with this cache. Without arguments, or with `--compare`, it does so for two situations: every product fits into
//! each node, and a tenth of them does. A line for each, computed from the counts, says if the cache was worth it.
//!
//! With other arguments it prints one situation in detail, with the time until a write is visible on all nodes.
//!
//! In both cases a verdict compares every value cached on any node with its row, and the nodes with each other. The
//! exit status is 1 if that verdict fails.
//!
//! All nodes run in this process, on one clock, over real sockets. Nodes on several machines have several clocks. Two
//! updates of one row may then reach the cache in the wrong order, if the time between them is shorter than the clocks
//! differ. If that matters, use `--mode invalidate`, which does not depend on the order of updates.

mod baseline;
mod compare;
mod database;
#[path = "../../crates/driftless-cli/src/debug.rs"]
mod debug;
mod gain;
mod probe;
mod replay;
mod report;
mod shop;
mod trace;
mod verdict;

use baseline::{Outcome, private_caches};
use clap::Parser;
use database::{Database, Product};
use driftless::{Cache, Node, Traffic};
use indicatif::{ProgressBar, ProgressStyle};
use probe::{Latencies, Prober};
use replay::{Replay, Work, replay};
use report::{Report, number};
use shop::{Mode, Shop};
use std::{
    error::Error,
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use tokio::runtime::Runtime;
use trace::{Plan, Trace};

/// The time limit for the nodes to find each other, and for their caches to settle.
const PATIENCE: Duration = Duration::from_secs(60);

/// Replays accesses through three nodes in front of SQLite, and checks the final contents of the cache
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Compare two situations: everything fits into a node, and a tenth does [default without arguments]
    #[arg(long, conflicts_with_all = ["capacity", "http", "serve"])]
    compare: bool,
    /// Trace to replay: big-endian 32-bit keys, .xz or raw. Without it, a Zipf stream is generated
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Number of accesses to replay, or to generate [default: all, or 1000000]
    #[arg(long, value_name = "N")]
    accesses: Option<usize>,
    /// Number of products in a generated stream
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    products: u32,
    /// Percentage of the accesses that change the row
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    updates: f64,
    /// Treatment of the cached copy when its row changes [default: write-through, or both with --compare]
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Maximum number of products per node
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    capacity: usize,
    /// Seed for the stream, for the node of each access, and for the choice of updates
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of threads that serve customers [default: one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Accesses per second, all nodes together [default: unlimited]
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// Time added to each read of a row for the cache, so that updates race slow fills
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0.0)]
    fill_delay: f64,
    /// Number of nodes that share the cache
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: usize,
    /// Address for the debug page of the first node, in builds with the feature `inspect-http`
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Keep the nodes running after the verdict, until interrupted
    #[arg(long)]
    serve: bool,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .init();
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("storefront: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints what was asked for. Returns true if the caches and the database agree.
fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    check(arguments)?;
    let trace = load(arguments)?;
    if arguments.compare || std::env::args_os().len() == 1 {
        return compare::run(arguments, &trace);
    }
    introduce(arguments, &trace);
    let report = measure(arguments, &trace, arguments.capacity, arguments.mode())?;
    report.print();
    Ok(report.verdict.holds())
}

/// Replays the trace through new nodes with room for `capacity` products each.
fn measure(arguments: &Arguments, trace: &Trace, capacity: usize, mode: Mode) -> Result<Report, Box<dyn Error>> {
    let plan = Plan { seed: arguments.seed, nodes: arguments.nodes, updates: arguments.updates };
    let folder = tempfile::tempdir()?;
    let database = Database::create(folder.path(), &trace.ids)?;
    let runtime = Runtime::new()?;
    let cluster = runtime.block_on(Cluster::start(arguments.nodes, capacity))?;
    let _debug = runtime.block_on(debug_page(&cluster.nodes[0], arguments.http))?;
    let mut prober = Prober::new(&cluster.probes);
    if !prober.all_connected(PATIENCE)? {
        return Err("the nodes did not find each other".into());
    }
    let idle = prober.idle(500)?;

    let before = cluster.traffic();
    let shop = Shop::new(mode, Duration::from_secs_f64(arguments.fill_delay / 1e3));
    let work = Work { trace, plan, shop: &shop, database: &database, caches: &cluster.products, rate: arguments.rate };
    let (replay, under_load) = replay_and_probe(&work, arguments.threads(), &mut prober)?;
    let complete = trace.ids.len() <= capacity;
    let verdict = verdict::judge(&cluster.products, &database.connect()?.all()?, complete, PATIENCE);
    let lost_fills = cluster.products.iter().map(|cache| cache.counters().fills_lost).sum();
    let traffic = cluster.traffic().iter().zip(&before).map(|(after, before)| since(after, before)).collect();
    if arguments.serve {
        eprintln!("the nodes stay until you interrupt this; then comes the report");
        runtime.block_on(tokio::signal::ctrl_c())?;
    }
    runtime.block_on(cluster.shutdown());

    let private = |told| private_caches(trace, plan, capacity, mode, told);
    let without = Outcome { database_reads: replay.outcome.reads, stale_reads: 0, ..replay.outcome };
    Ok(Report {
        without,
        private: private(true),
        private_without_invalidation: private(false),
        replay,
        under_load,
        idle,
        traffic,
        lost_fills,
        verdict,
    })
}

fn check(arguments: &Arguments) -> Result<(), &'static str> {
    match arguments {
        Arguments { updates, .. } if !(0.0..=100.0).contains(updates) => {
            Err("--updates is a share from 0 to 100 percent")
        }
        Arguments { nodes: ..2, .. } => Err("--nodes: a shared cache takes two"),
        Arguments { products: 0, .. } | Arguments { accesses: Some(0), .. } => {
            Err("--products and --accesses: at least one")
        }
        Arguments { threads: Some(0), .. } | Arguments { capacity: 0, .. } => {
            Err("--threads and --capacity: at least one")
        }
        Arguments { fill_delay, .. } if !(0.0..=60_000.0).contains(fill_delay) => {
            Err("--fill-delay is from 0 to 60000 milliseconds")
        }
        _ => Ok(()),
    }
}

fn load(arguments: &Arguments) -> Result<Trace, Box<dyn Error>> {
    match &arguments.trace {
        Some(file) => Trace::read(file, arguments.accesses.unwrap_or(usize::MAX))
            .map_err(|error| format!("{}: {error}", file.display()).into()),
        None => Ok(Trace::zipf(arguments.products, 0.9, arguments.accesses.unwrap_or(1_000_000), arguments.seed)),
    }
}

impl Arguments {
    /// Returns the number of threads that serve customers.
    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| thread::available_parallelism().map_or(2, |count| count.get()))
    }

    fn mode(&self) -> Mode {
        self.mode.unwrap_or(Mode::WriteThrough)
    }

    /// Returns the name of the accesses.
    fn accesses(&self) -> String {
        self.trace.as_ref().map_or("a Zipf stream".to_owned(), |file| file.display().to_string())
    }
}

fn introduce(arguments: &Arguments, trace: &Trace) {
    println!(
        "{}: {} accesses to {} products, {} % updates ({})\n{} nodes with room for {} products each, {} threads",
        arguments.accesses(),
        number(trace.accesses.len() as f64),
        number(trace.ids.len() as f64),
        arguments.updates,
        arguments.mode(),
        arguments.nodes,
        number(arguments.capacity as f64),
        arguments.threads(),
    );
}

fn replay_and_probe(
    work: &Work<'_>,
    threads: usize,
    prober: &mut Prober<'_>,
) -> Result<(Replay, Latencies), Box<dyn Error>> {
    let style = "{elapsed} {wide_bar} {human_pos}/{human_len} accesses, {per_sec}, {eta} left";
    let progress = ProgressBar::new(work.trace.accesses.len() as u64).with_style(ProgressStyle::with_template(style)?);
    let done = AtomicBool::new(false);
    let (replay, latencies) = thread::scope(|scope| {
        let latencies = scope.spawn(|| prober.until(&done));
        let ends = Ends(&done);
        let replay = replay(work, threads, &progress);
        drop(ends);
        (replay, latencies.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    progress.finish_and_clear();
    Ok((replay?, latencies?))
}

/// A guard that marks the replay as finished, also after a panic: otherwise the prober would never stop.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The nodes and their caches, by index.
struct Cluster {
    nodes: Vec<Node>,
    products: Vec<Cache<u32, Product>>,
    probes: Vec<Cache<u64, u64>>,
}

impl Cluster {
    async fn start(count: usize, capacity: usize) -> Result<Self, Box<dyn Error>> {
        let mut cluster = Self { nodes: Vec::new(), products: Vec::new(), probes: Vec::new() };
        for index in 0..count {
            let seeds = cluster.nodes.first().map(|first| first.local_addr().to_string());
            let builder = Node::builder().cluster("storefront").name(format!("shop-{index}")).seeds(seeds);
            let node = builder.bind("127.0.0.1:0".parse()?).start().await?;
            cluster.products.push(node.cache("products").max_capacity(capacity as u64).open()?);
            cluster.probes.push(node.cache("probes").open()?);
            cluster.nodes.push(node);
        }
        Ok(cluster)
    }

    fn traffic(&self) -> Vec<Traffic> {
        self.nodes.iter().map(Node::traffic).collect()
    }

    async fn shutdown(self) {
        // The first node is the seed of all nodes, so it stops last.
        for node in self.nodes.into_iter().rev() {
            node.shutdown().await;
        }
    }
}

fn since(after: &Traffic, before: &Traffic) -> Traffic {
    let mut traffic = *after;
    traffic.bytes_out -= before.bytes_out;
    traffic.bytes_in -= before.bytes_in;
    traffic
}

/// Starts the debug page if it was requested.
async fn debug_page(node: &Node, at: Option<std::net::SocketAddr>) -> Result<Option<debug::DebugPage>, Box<dyn Error>> {
    let Some(at) = at else { return Ok(None) };
    let token = std::env::var("DRIFTLESS_HTTP_TOKEN").ok();
    let settings = debug::DebugSettings { at: at.to_string(), token, hosts: Vec::new(), show_values: false };
    let page = debug::serve(node, settings).await?;
    eprintln!("debug: http://{}/", page.addr);
    Ok(Some(page))
}
