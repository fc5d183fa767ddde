//! Three nodes of a shop in front of one database, and what their shared cache is worth.
//!
//! ```sh
//! cargo run --release --example storefront                                   # a generated Zipf stream
//! cargo run --release --example storefront -- --trace orm-busy.trace.xz      # a real one: big-endian 32-bit keys, .xz or raw
//! cargo run --release --example storefront -- --mode invalidate --updates 20 --capacity 1000
//! cargo run --release --example storefront --features inspect-http -- --http 127.0.0.1:7980 --rate 2000 --serve  # and look at the page
//! ```
//!
//! Every access of the trace comes to one of the nodes. Most are reads: from the node's own memory, or else from the SQLite row, which is then
//! in the memory of all nodes. A share are updates of the row. See `shop.rs` for how rows and cache are kept together; it is the part to copy.
//!
//! At the end stands a table: what the database had to do without a cache, with a private cache on each node, and with this one; how long
//! a write takes to be visible on the other nodes; and the verdict, for which every value cached anywhere is compared with its row, and the
//! nodes with each other. The exit status is 1 if the verdict fails.
//!
//! All nodes run in this one process on one clock, over real sockets. Nodes on several machines have several clocks: two updates of one row
//! closer together than these clocks differ may end in the cache the wrong way round. Where that matters, use `--mode invalidate`, in which the
//! order of updates does not.

mod baseline;
mod database;
#[path = "../sidecar/debug.rs"]
mod debug;
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

/// How long the nodes get to find each other, and to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);

/// Replays accesses through three nodes in front of SQLite, and judges what is cached in the end.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// What to replay: big-endian 32-bit keys, .xz or raw. Without it, a Zipf stream is generated
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Stop after so many accesses; the length of a generated stream [default: all, or 1000000]
    #[arg(long, value_name = "N")]
    accesses: Option<usize>,
    /// Products of a generated stream
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    products: u32,
    /// Share of the accesses that change the row
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    updates: f64,
    /// What becomes of the cached copy when its row changes
    #[arg(long, value_enum, default_value_t = Mode::WriteThrough)]
    mode: Mode,
    /// How many products each node may hold
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    capacity: usize,
    /// Decides the stream, which node gets an access, and which are updates
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many threads serve customers [default: one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Accesses per second, all nodes together [default: as many as can be]
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU32>,
    /// How long each read of a row for the cache takes beyond its own time: updates race slow fills
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0.0)]
    fill_delay: f64,
    /// How many nodes share the cache
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: usize,
    /// Where the first node serves its debug page, if this was built with the feature `inspect-http`
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
        Ok(report) => {
            report.print();
            if report.verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("storefront: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Report, Box<dyn Error>> {
    check(arguments)?;
    let trace = load(arguments)?;
    let plan = Plan { seed: arguments.seed, nodes: arguments.nodes, updates: arguments.updates };
    let threads = arguments.threads.unwrap_or_else(|| thread::available_parallelism().map_or(2, |count| count.get()));
    introduce(arguments, &trace, threads);

    let folder = tempfile::tempdir()?;
    let database = Database::create(folder.path(), &trace.ids)?;
    let runtime = Runtime::new()?;
    let cluster = runtime.block_on(Cluster::start(arguments.nodes, arguments.capacity))?;
    let _debug = runtime.block_on(debug::serve(&cluster.nodes[0], arguments.http))?;
    let mut prober = Prober::new(&cluster.probes);
    if !prober.all_connected(PATIENCE)? {
        return Err("the nodes did not find each other".into());
    }
    let idle = prober.idle(500)?;

    let before = cluster.traffic();
    let shop = Shop::new(arguments.mode, Duration::from_secs_f64(arguments.fill_delay / 1e3));
    let work =
        Work { trace: &trace, plan, shop: &shop, database: &database, caches: &cluster.products, rate: arguments.rate };
    let (replay, under_load) = replay_and_probe(&work, threads, &mut prober)?;
    let complete = trace.ids.len() <= arguments.capacity;
    let verdict = verdict::judge(&cluster.products, &database.connect()?.all()?, complete, PATIENCE);
    let lost_fills = cluster.products.iter().map(|cache| cache.counters().fills_lost).sum();
    let traffic = cluster.traffic().iter().zip(&before).map(|(after, before)| since(after, before)).collect();
    if arguments.serve {
        eprintln!("the nodes stay until you interrupt this; then comes the report");
        runtime.block_on(tokio::signal::ctrl_c())?;
    }
    runtime.block_on(cluster.shutdown());

    let private = |told| private_caches(&trace, plan, arguments.capacity, arguments.mode, told);
    let without = Outcome { database_reads: replay.outcome.reads, stale_reads: 0, ..replay.outcome };
    Ok(Report {
        without,
        private: private(true),
        private_untold: private(false),
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

fn introduce(arguments: &Arguments, trace: &Trace, threads: usize) {
    let what = arguments.trace.as_ref().map_or("a Zipf stream".to_owned(), |file| file.display().to_string());
    println!(
        "{what}: {} accesses to {} products, {} % updates ({})\n{} nodes with room for {} products each, {threads} threads",
        number(trace.accesses.len() as f64),
        number(trace.ids.len() as f64),
        arguments.updates,
        arguments.mode,
        arguments.nodes,
        number(arguments.capacity as f64),
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

/// Says that the replay is over, also when it panics: the prober must not go on for ever then.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The nodes and their caches, index by index.
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
        // The first one is everybody's seed, and would be missed.
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
