//! `driftless simulate`, a search for broken promises: runs one simulated cluster per seed, each in one thread.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use driftless::replica::Bugs;
use driftless::sim::{Report, Scenario, Settings, Violation, numbers, run_scenario, shrink};

/// The least number of seeds in which every fault and every rare branch must have been reached.
const BAND: u64 = 4_096;
/// The most failing seeds to shrink, each in at most 1,500 runs. For further seeds only the command is printed.
const SHRUNK: usize = 3;

/// Search for broken promises in simulated clusters, one per seed
#[derive(clap::Args)]
pub struct Args {
    /// Number of seeds to run; ends at the highest possible seed
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// First seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run this seed only
    #[arg(long, conflicts_with_all = ["seeds", "first", "failures", "threads"])]
    seed: Option<u64>,
    /// Print the trace of the run
    #[arg(long, requires = "seed", conflicts_with_all = ["seeds", "first", "failures", "threads"])]
    trace: bool,
    /// Shrink a failing script
    #[arg(long, requires = "seed", conflicts_with_all = ["seeds", "first", "failures", "threads"])]
    shrink: bool,
    /// Number of nodes at the start, instead of the seed's choice
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    replicas: Option<u8>,
    /// Enable a known bug (see `driftless::replica::Bugs`)
    #[arg(long)]
    bug: Option<String>,
    /// Choose settings that lose tombstones more often
    #[arg(long)]
    harsh: bool,
    /// Inject no faults
    #[arg(long, conflicts_with = "harsh")]
    calm: bool,
    /// Number of threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Stop after this many violations
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    failures: u64,
    /// Print a hash of the whole run for each seed instead, to compare two builds
    #[arg(long, conflicts_with_all = ["seed", "failures", "sizes"])]
    fingerprint: bool,
    /// Print convergence time and bytes against cluster size instead, for these sizes
    #[arg(long, value_delimiter = ',', num_args = 0.., default_missing_value = "2,3,5,8,12,20,30", exclusive = true)]
    sizes: Option<Vec<u8>>,
    /// The command that starts this program again, for the lines that say how to run a seed again.
    #[arg(skip)]
    pub again: String,
}

fn scenario(args: &Args, seed: u64) -> Scenario {
    let mut settings = if args.harsh { Settings::harsh(seed) } else { Settings::from_seed(seed) };
    if args.calm {
        settings = settings.calm();
    }
    if let Some(replicas) = args.replicas {
        settings.replicas = replicas;
    }
    if let Some(bug) = &args.bug {
        settings.bugs = Bugs::only(bug).unwrap_or_else(|| panic!("a known bug: one of {:?}", Bugs::NAMES));
    }
    Scenario::with_settings(seed, settings)
}

#[derive(Default)]
struct Outcome {
    total: Report,
    runs: u64,
    failed: BTreeMap<u64, Violation>,
}

/// Returns the number of seeds to run: the range ends at the highest possible seed.
fn count(args: &Args) -> u64 {
    args.seeds.min((u64::MAX - args.first).saturating_add(1))
}

/// Runs each seed on one of `args.threads` threads, until `may_go_on` returns false.
fn for_each_seed(args: &Args, may_go_on: impl Fn() -> bool + Sync, run: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count(args) || !may_go_on() {
            return;
        }
        run(args.first + number);
    };
    std::thread::scope(|scope| {
        for _ in 0..args.threads.max(1) {
            scope.spawn(work);
        }
    });
}

/// Runs all seeds and returns the sums of the reports and the violations by seed.
fn run_all(args: &Args) -> Outcome {
    let shared = Mutex::new(Outcome::default());
    let bar = indicatif::ProgressBar::new(count(args));
    bar.set_style(
        indicatif::ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left")
            .expect("a template"),
    );
    let types = numbers();
    let may_go_on = || (shared.lock().expect("no panics").failed.len() as u64) < args.failures;
    for_each_seed(args, may_go_on, |seed| {
        let report = run_scenario(&types, &scenario(args, seed), false);
        let mut shared = shared.lock().expect("no panics");
        shared.total.add(&report);
        shared.runs += 1;
        bar.inc(1);
        if let Some(violation) = report.violation {
            bar.suspend(|| println!("seed {seed}: {violation}"));
            shared.failed.insert(seed, violation);
        }
    });
    bar.finish_and_clear();
    shared.into_inner().expect("no panics")
}

/// Runs one seed, shrunk and traced as requested.
fn run_one(args: &Args, seed: u64) -> ExitCode {
    let mut scenario = scenario(args, seed);
    if args.shrink {
        let before = scenario.script.len();
        scenario = shrink(&numbers(), scenario);
        println!("shrunk from {before} steps to {}", scenario.script.len());
    }
    let report = run_scenario(&numbers(), &scenario, args.trace);
    report.trace.iter().for_each(|line| println!("{line}"));
    if report.violation.is_some() || args.trace {
        println!("{scenario}");
    }
    println!(
        "seed {seed}: {:.1} simulated seconds, {} events, {} messages, {} bytes",
        report.simulated as f64 / 1e9,
        report.events,
        report.messages,
        report.bytes
    );
    match &report.violation {
        Some(violation) => println!("VIOLATED {violation}"),
        None => println!("clean"),
    }
    ExitCode::from(u8::from(report.violation.is_some()))
}

fn table(title: &str, rows: impl Iterator<Item = (String, u64)>) {
    println!("\n{title}");
    let rows: Vec<_> = rows.collect();
    for row in rows.chunks(3) {
        let cells: Vec<_> = row.iter().map(|(name, count)| format!("{name:<22} {count:>12}")).collect();
        println!("  {}", cells.join("   "));
    }
}

fn summary(args: &Args, outcome: &Outcome, began: Instant) {
    let Outcome { total, runs, failed } = outcome;
    let seconds = began.elapsed().as_secs_f64();
    println!("{runs} runs in {seconds:.0} s ({:.0} per second)", *runs as f64 / seconds);
    println!(
        "{:.1} simulated hours, {} events, {} messages, {} MB through the encoder and decoder",
        total.simulated as f64 / 3.6e12,
        total.events,
        total.messages,
        total.bytes / 1_000_000
    );
    println!("slowest agreement of a healed cluster: {:.1} s", total.converged_in as f64 / 1e9);
    table("faults injected", total.faults.iter().map(|(name, count)| ((*name).to_owned(), *count)));
    table("states reached", total.states.each().map(|(name, count)| (name.to_owned(), count)));
    table("rare branches reached", total.reached.iter().map(|(name, count)| ((*name).to_owned(), *count)));
    println!("\n{} violations", failed.len());
    for (number, (&seed, violation)) in failed.iter().enumerate() {
        if number < SHRUNK {
            let scenario = scenario(args, seed);
            let before = scenario.script.len();
            let shrunk = shrink(&numbers(), scenario);
            println!("seed {seed}: {violation}\nshrunk from {before} steps to {}:\n{shrunk}", shrunk.script.len());
        }
        println!("  {}", replay(args, seed));
    }
}

/// Returns the faults and branches never reached. Empty if fewer than `BAND` seeds ran, or if options changed the
/// settings.
fn unreached(args: &Args, outcome: &Outcome) -> Vec<&'static str> {
    let bent = args.harsh || args.calm || args.replicas.is_some() || args.bug.is_some();
    if bent || outcome.runs < BAND { Vec::new() } else { outcome.total.unreached() }
}

/// Returns the command that runs a seed again.
fn replay(args: &Args, seed: u64) -> String {
    let mut replay = format!("{} --seed {seed} --shrink --trace", args.again);
    for (said, flag) in [(args.harsh, " --harsh"), (args.calm, " --calm")] {
        replay += if said { flag } else { "" };
    }
    replay += &args.replicas.map_or_else(String::new, |replicas| format!(" --replicas {replicas}"));
    replay + &args.bug.as_ref().map_or_else(String::new, |bug| format!(" --bug {bug}"))
}

/// Prints convergence time and traffic against cluster size: 20 clusters of each size, messages that take up to 50 ms,
/// no faults.
fn sizes(sizes: &[u8]) -> ExitCode {
    println!("nodes | agreed after the last write, ms (median, slowest of 20) | messages per write | bytes per write");
    for &replicas in sizes {
        let mut agreed = Vec::new();
        let (mut writes, mut messages, mut bytes) = (0, 0, 0);
        for seed in 0..20 {
            let mut settings = Settings::default();
            (settings.replicas, settings.keys) = (replicas.max(2), 20);
            settings.latency = Duration::from_millis(50);
            let report = run_scenario(&numbers(), &Scenario::with_settings(seed, settings), false);
            if let Some(violation) = &report.violation {
                println!("seed {seed} with {replicas} nodes: {violation}");
                return ExitCode::FAILURE;
            }
            agreed.push(report.converged_in as f64 / 1e6);
            writes += report.states.writes;
            messages += report.messages;
            bytes += report.bytes;
        }
        agreed.sort_by(f64::total_cmp);
        let (median, slowest) = (agreed[agreed.len() / 2], agreed[agreed.len() - 1]);
        let bar = "#".repeat((median / 5.0).ceil() as usize);
        let per_write = |count: u64| count / writes.max(1);
        println!(
            "{replicas:>5} | {median:>8.0} {slowest:>8.0} {bar:<40} | {:>18} | {:>15}",
            per_write(messages),
            per_write(bytes)
        );
    }
    ExitCode::SUCCESS
}

/// Prints for each seed a hash of the trace and a hash of the counters, then one hash of all of them.
fn fingerprint(args: &Args) -> ExitCode {
    let hashes = Mutex::new(BTreeMap::new());
    for_each_seed(
        args,
        || true,
        |seed| {
            let report = run_scenario(&numbers(), &scenario(args, seed), true);
            let counted: Vec<_> = report.states.each().collect();
            hashes.lock().expect("no panics").insert(seed, (hash_of(&report.trace), hash_of(&counted)));
        },
    );
    let hashes = hashes.into_inner().expect("no panics");
    for (seed, (trace, counters)) in &hashes {
        println!("{seed} {trace:016x} {counters:016x}");
    }
    println!("all {:016x}", hash_of(&hashes));
    ExitCode::SUCCESS
}

fn hash_of(value: &impl Hash) -> u64 {
    // SipHash with fixed keys: equal input has an equal hash in every build.
    #[allow(deprecated)]
    let mut hasher = std::hash::SipHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Runs the seeds, and returns a failure if a promise was broken.
pub fn main(args: &Args) -> ExitCode {
    if let Some(bug) = args.bug.as_ref().filter(|bug| Bugs::only(bug).is_none()) {
        eprintln!("the bug {bug:?} does not exist; the bugs are {}", Bugs::NAMES.join(", "));
        return ExitCode::from(2);
    }
    if let Some(given) = &args.sizes {
        return sizes(given);
    }
    if args.fingerprint {
        return fingerprint(args);
    }
    if let Some(seed) = args.seed {
        return run_one(args, seed);
    }
    let began = Instant::now();
    let outcome = run_all(args);
    summary(args, &outcome, began);
    let unreached = unreached(args, &outcome);
    if !unreached.is_empty() {
        println!("never reached in {} seeds: {}", outcome.runs, unreached.join(", "));
    }
    ExitCode::from(u8::from(!outcome.failed.is_empty() || !unreached.is_empty()))
}
