//! `driftless bench`: load on a running cluster through its Redis ports, and a verdict.

mod judge;
mod load;
mod probe;
mod times;

use crate::forget::Password;
use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};
use times::Times;

/// The arguments of `driftless bench`.
#[derive(clap::Args, Clone)]
pub struct Arguments {
    /// Address of the Redis port of a node; repeat it for each node
    #[arg(long, value_name = "HOST:PORT", required = true, value_delimiter = ',')]
    redis: Vec<String>,
    #[command(flatten)]
    password: Password,
    /// Duration of the load
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    /// Connections to each node
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: u16,
    /// Commands that a connection sends before it reads the replies
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pipeline: u16,
    /// Number of keys. They start with `driftless-bench:`, and are deleted at the end
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: u32,
    /// Bytes of a value
    #[arg(long, value_name = "N", default_value_t = 100)]
    value_bytes: usize,
    /// Share of reads, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 90, value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: u8,
    /// Fail if a write takes longer than this until it is visible on every node, at the 99th percentile
    #[arg(long, value_name = "MS")]
    visible_within: Option<u64>,
}

/// The prefix of all keys of the bench.
const PREFIX: &str = "driftless-bench:";

/// The time to live of what the bench writes, beyond its duration: a bench that is killed leaves nothing for ever.
const LEFTOVER: Duration = Duration::from_secs(60);

impl Arguments {
    /// Returns the time to live of the keys in milliseconds.
    fn time_to_live(&self) -> u128 {
        (Duration::from_secs(self.seconds) + LEFTOVER).as_millis()
    }
}

/// Runs the load, prints the report, and returns a failure if the verdict is bad.
pub fn main(arguments: &Arguments) -> ExitCode {
    match run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("driftless: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let mut nodes = arguments.redis.iter().map(|at| arguments.password.connect(at)).collect::<Result<Vec<_>, _>>()?;
    let started = Instant::now();
    let (loads, visible) = under_load(arguments);
    let elapsed = started.elapsed();
    let mut errors = Vec::new();
    let mut done = vec![load::Load::default(); arguments.redis.len()];
    for (index, load) in loads {
        match load {
            Ok(load) => done[index].add(&load),
            Err(error) => errors.push(error),
        }
    }
    for (at, load) in arguments.redis.iter().zip(&done) {
        load.print(at, elapsed, arguments.pipeline);
    }
    // A cluster that could not carry the load is not asked further.
    let is_carried = errors.is_empty();
    let visible = visible.inspect_err(|error| errors.push(error.clone())).unwrap_or_default();
    let differing = if is_carried { judge::differing(arguments, &mut nodes)? } else { 0 };
    if is_carried {
        judge::clean(arguments, &mut nodes[0])?;
    }
    errors.sort();
    errors.dedup();
    Ok(verdict(arguments, &visible, differing, &errors))
}

/// The load of each connection, with the number of its node.
type Loads = Vec<(usize, Result<load::Load, String>)>;

/// Runs the load and the probe, and returns what they did.
fn under_load(arguments: &Arguments) -> (Loads, Result<Times, String>) {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for (index, at) in arguments.redis.iter().enumerate() {
            for client in 0..arguments.clients {
                workers.push((index, scope.spawn(move || load::run(arguments, at, u64::from(client), stop))));
            }
        }
        let probe = scope.spawn(|| probe::run(arguments, stop));
        thread::sleep(Duration::from_secs(arguments.seconds));
        stop.store(true, Relaxed);
        let loads = workers.into_iter().map(|(index, worker)| (index, joined(worker))).collect();
        (loads, joined(probe))
    })
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T, String>>) -> Result<T, String> {
    thread.join().unwrap_or_else(|_| Err("a thread of the bench has panicked".to_owned()))
}

fn verdict(arguments: &Arguments, visible: &Times, differing: usize, errors: &[String]) -> bool {
    if arguments.redis.len() > 1 {
        println!("write until visible on every node: {visible}");
    }
    let mut bad: Vec<String> = errors.to_vec();
    if differing > 0 {
        bad.push(format!("{differing} of {} keys differ between the nodes 10 s after the load", arguments.keys));
    }
    if let Some(limit) = arguments.visible_within
        && visible.percentile(99) > Duration::from_millis(limit)
    {
        bad.push(format!("{:?} until a write is visible is more than {limit} ms", visible.percentile(99)));
    }
    match bad.is_empty() {
        true => println!("verdict: good. {} nodes agree on {} keys", arguments.redis.len(), arguments.keys),
        false => println!("verdict: BAD. {}", bad.join("; ")),
    }
    bad.is_empty()
}
