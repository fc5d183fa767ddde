//! A check for leaks: three nodes under steady load for any length of time.
//!
//! ```sh
//! cargo run --release --example soak -- --minutes 20 --rate 50000
//! ```
//!
//! Every node has a writer, which writes new and old keys. One operation in ten is a delete, and one in five is a write
//! with a time to live. Every minute one node is restarted, alternately after a `shutdown` and by dropping it. It then
//! fetches the whole state from its peers. Every few seconds a sample is taken and written to a CSV file: memory,
//! descriptors, threads, tasks, entries, tombstones, log entries, deferred entries and members, summed over the nodes.
//!
//! The verdict is `flat` if every series passes this test: the median of the last quarter of the samples is at most a
//! tenth and a small constant above the median of the second quarter. The first quarter is the warm-up. If the verdict
//! is not `flat`, the exit code is not zero. The run also fails if it reaches less than nine tenths of the requested
//! rate.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use driftless::inspect::Inspector;
use driftless::{Cache, Node};

/// Three nodes under steady load, and a check that nothing grows
#[derive(Parser, Clone)]
struct Arguments {
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Writes and deletes per second, all nodes together
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// Number of different keys
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Seconds between two restarts of a node
    #[arg(long, default_value_t = 60.0)]
    restart: f64,
    /// Seconds between two samples
    #[arg(long, default_value_t = 5.0)]
    sample: f64,
    /// File for the samples
    #[arg(long, default_value = "soak.csv")]
    csv: std::path::PathBuf,
}

const NODES: usize = 3;
const VALUE: usize = 100;
/// The share of the requested rate that a valid run must reach.
const ENOUGH: f64 = 0.9;

/// The sampled series, and the growth of each that is allowed beyond a tenth.
const SERIES: [(&str, f64); 9] = [
    ("resident_mib", 16.0),
    ("descriptors", 8.0),
    ("threads", 2.0),
    ("tasks", 4.0),
    ("entries", 1_000.0),
    ("tombstones", 5_000.0),
    ("log_entries", 20_000.0),
    ("deferred", 100.0),
    ("members", 0.0),
];

type Sample = [f64; SERIES.len()];
type Values = Cache<u64, Vec<u8>>;

/// A node, and its cache for the writers.
struct Place {
    node: Node,
    cache: Values,
}

/// The nodes by number; `None` while a node restarts.
type Places = Arc<Vec<Mutex<Option<Place>>>>;

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::new("warn,memberlist_core=off");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    if let Some(code) = with_one_arena() {
        return code;
    }
    match soak(arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs this program again with one malloc arena, and returns its exit code; `None` if that is already the case. glibc
/// keeps the memory freed by ended threads in up to eight arenas per core, and the threads of each restarted node fill
/// new ones. Resident memory would rise for an hour without a leak. With one arena it shows the memory in use.
fn with_one_arena() -> Option<ExitCode> {
    const ARENAS: &str = "MALLOC_ARENA_MAX";
    if std::env::var_os(ARENAS).is_some() {
        return None;
    }
    let mut again = std::process::Command::new(std::env::current_exe().ok()?);
    let status = again.args(std::env::args_os().skip(1)).env(ARENAS, "1").status().ok()?;
    Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Error = Box<dyn std::error::Error>;

async fn soak(arguments: Arguments) -> Result<bool, Error> {
    let mut places = Vec::new();
    let mut seeds = Vec::new();
    for number in 0..NODES {
        // A restarted node binds its old port. At 127.0.0.1, a connection of another program could take it meanwhile.
        let place = open(number, &seeds, ([127, 0, 7, 1 + number as u8], 0).into()).await?;
        seeds.push(place.node.local_addr().to_string());
        places.push(Mutex::new(Some(place)));
    }
    let places: Places = Arc::new(places);
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..NODES)
        .map(|number| {
            let (arguments, places) = (arguments.clone(), Arc::clone(&places));
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            std::thread::spawn(move || write(number, &arguments, &places, &stop, &written))
        })
        .collect();
    let start = Instant::now();
    let samples = watch(&arguments, &places, &seeds, start).await?;
    let rate = written.load(Relaxed) as f64 / start.elapsed().as_secs_f64();
    stop.store(true, Relaxed);
    writers.into_iter().for_each(|writer| drop(writer.join()));
    let verdict = judge(&samples, rate, arguments.rate as f64);
    for number in 0..NODES {
        let node = place(&places, number).as_ref().map(|place| place.node.clone());
        if let Some(node) = node {
            node.shutdown().await;
        }
    }
    Ok(verdict)
}

fn place(places: &Places, number: usize) -> std::sync::MutexGuard<'_, Option<Place>> {
    places[number].lock().unwrap_or_else(PoisonError::into_inner)
}

async fn open(number: usize, seeds: &[String], bind: std::net::SocketAddr) -> Result<Place, Error> {
    let builder = Node::builder().cluster("soak").name(format!("soak-{number}")).bind(bind).seeds(seeds.to_vec());
    let node = builder.start().await?;
    let cache = node.cache("soak").max_capacity(10_000_000).open()?;
    Ok(Place { node, cache })
}

/// Writes at an even pace. A writer that falls behind catches up, by at most a second's worth of writes.
fn write(number: usize, arguments: &Arguments, places: &Places, stop: &AtomicBool, written: &AtomicU64) {
    let mut rng = fastrand::Rng::with_seed(number as u64);
    let rate = arguments.rate as f64 / NODES as f64;
    let mut due = Instant::now();
    while !stop.load(Relaxed) {
        let cache = place(places, number).as_ref().map(|place| place.cache.clone());
        let Some(cache) = cache else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        let batch = (rate / 500.0).ceil() as u64;
        for _ in 0..batch {
            let key = rng.u64(0..arguments.keys);
            match rng.u8(0..10) {
                0 => cache.invalidate(&key),
                1 | 2 => {
                    let ttl = Duration::from_millis(rng.u64(1_000..30_000));
                    let _ = cache.insert_with_ttl(key, vec![number as u8; VALUE], ttl);
                }
                _ => drop(cache.insert(key, vec![number as u8; rng.usize(0..2 * VALUE)]).map(|_| ())),
            }
        }
        drop(cache);
        written.fetch_add(batch, Relaxed);
        due = (due + Duration::from_secs_f64(batch as f64 / rate)).max(Instant::now() - Duration::from_secs(1));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Takes samples and restarts nodes until the time is up.
async fn watch(arguments: &Arguments, places: &Places, seeds: &[String], start: Instant) -> Result<Vec<Sample>, Error> {
    let names: Vec<_> = SERIES.iter().map(|(name, _)| *name).collect();
    let mut csv = format!("seconds,{}\n", names.join(","));
    let (mut samples, mut restarts, mut restart_at) = (Vec::new(), 0, arguments.restart);
    let mut sample_at = arguments.sample;
    while start.elapsed().as_secs_f64() < arguments.minutes * 60.0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = start.elapsed().as_secs_f64();
        if now >= restart_at {
            restart(restarts, places, seeds).await?;
            restarts += 1;
            // No sample is taken during a restart or shortly after it.
            restart_at = start.elapsed().as_secs_f64() + arguments.restart;
            sample_at = sample_at.max(start.elapsed().as_secs_f64() + arguments.restart / 4.0);
        } else if now >= sample_at {
            sample_at = now + arguments.sample;
            let sample = sample(places);
            let cells: Vec<_> = sample.iter().map(|number| format!("{number:.1}")).collect();
            let _ = writeln!(csv, "{now:.0},{}", cells.join(","));
            samples.push(sample);
            std::fs::write(&arguments.csv, &csv)?;
        }
    }
    println!("{} samples in {}, {restarts} restarts", samples.len(), arguments.csv.display());
    Ok(samples)
}

/// Restarts a node. Every second restart drops the node without `shutdown`.
async fn restart(count: usize, places: &Places, seeds: &[String]) -> Result<(), Error> {
    let number = count % NODES;
    let Some(old) = place(places, number).take() else { return Ok(()) };
    let bind = old.node.local_addr();
    if count.is_multiple_of(2) {
        old.node.shutdown().await;
    }
    drop(old);
    let others: Vec<_> = seeds.iter().filter(|seed| **seed != bind.to_string()).cloned().collect();
    for attempt in 0.. {
        match open(number, &others, bind).await {
            Ok(fresh) => {
                *place(places, number) = Some(fresh);
                return Ok(());
            }
            // A dropped node frees its port only after it has stopped in the background.
            Err(error) if attempt == 100 => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    Ok(())
}

fn sample(places: &Places) -> Sample {
    let mut sums = [0_u64; 5];
    for number in 0..NODES {
        let Some(node) = place(places, number).as_ref().map(|place| place.node.clone()) else { continue };
        let report = Inspector::new(&node).node();
        sums[4] += report.members.len() as u64;
        for cache in report.caches {
            let counts = [cache.entries, cache.tombstones.total, cache.log_entries, cache.deferred];
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }
    let own = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = own.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    let count = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count) as f64;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks() as f64;
    let [entries, tombstones, log, deferred, members] = sums.map(|sum| sum as f64);
    [
        pages * 4_096.0 / f64::from(1 << 20),
        count("/proc/self/fd"),
        count("/proc/self/task"),
        tasks,
        entries,
        tombstones,
        log,
        deferred,
        members,
    ]
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

fn judge(samples: &[Sample], rate: f64, wanted: f64) -> bool {
    let quarter = samples.len() / 4;
    if quarter < 3 {
        println!("verdict: none, {} samples are too few", samples.len());
        return false;
    }
    println!("{rate:.0} writes/s of {wanted:.0}");
    let mut flat = rate >= wanted * ENOUGH;
    if !flat {
        println!("the rate was not reached");
    }
    for (index, (name, slack)) in SERIES.iter().enumerate() {
        let of = |range: &[Sample]| median(range.iter().map(|sample| sample[index]).collect());
        let (early, late) = (of(&samples[quarter..2 * quarter]), of(&samples[3 * quarter..]));
        let grows = late > early * 1.1 + slack;
        flat &= !grows;
        println!("{name:>13}: second quarter {early:.1}, last quarter {late:.1}{}", if grows { "  GROWS" } else { "" });
    }
    plot("resident MiB", samples.iter().map(|sample| sample[0]).collect());
    plot("tombstones", samples.iter().map(|sample| sample[5]).collect());
    plot("log entries", samples.iter().map(|sample| sample[6]).collect());
    println!("verdict: {}", if flat { "flat" } else { "NOT FLAT" });
    flat
}

/// Prints a chart of ten rows and at most 72 columns.
fn plot(name: &str, series: Vec<f64>) {
    let most = series.iter().copied().fold(1.0, f64::max);
    let columns = series.len().min(72);
    let at = |column: usize| series[column * series.len() / columns];
    println!("{name}, most {most:.0}");
    for row in (1..=10).rev() {
        let line: String = (0..columns)
            .map(|column| if at(column) >= most * (f64::from(row) - 0.5) / 10.0 { '#' } else { ' ' })
            .collect();
        println!("  |{line}");
    }
    println!("  +{}", "-".repeat(columns));
}
