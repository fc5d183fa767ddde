//! Runs whole clusters in one thread, one per seed, and looks for broken promises.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use driftless::replica::Bugs;
use driftless::sim::{Numbers, Report, Settings, Step, run_script};

#[derive(Parser)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Print what happened.
    #[arg(long)]
    trace: bool,
    /// Shrink a failing script.
    #[arg(long)]
    shrink: bool,
    /// Nodes at the start, instead of what the seed says.
    #[arg(long)]
    replicas: Option<u8>,
    /// Put a known mistake back.
    #[arg(long)]
    bug: Option<String>,
    /// Bend the swarm towards lost tombstones.
    #[arg(long)]
    harsh: bool,
    /// No faults.
    #[arg(long)]
    calm: bool,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Go on after a violation, up to this many.
    #[arg(long, default_value_t = 1)]
    failures: usize,
}

fn settings(args: &Args, seed: u64) -> Settings {
    let mut settings = if args.harsh { Settings::harsh(seed) } else { Settings::from_seed(seed) };
    if args.calm {
        settings = settings.calm();
    }
    if let Some(replicas) = args.replicas {
        settings.replicas = replicas;
    }
    if let Some(bug) = &args.bug {
        settings.bugs = Bugs::only(bug).expect("a known bug");
    }
    settings
}

fn run(args: &Args, seed: u64, script: &[Step], trace: bool) -> Report {
    run_script(Numbers, settings(args, seed), seed, script, trace)
}

/// Leaves out steps as long as the run still fails the same way.
fn shrink(args: &Args, seed: u64, script: Vec<Step>) -> Vec<Step> {
    let kind = |report: &Report| {
        report.violation.as_ref().map(|violation| violation.what.split(':').next().unwrap_or_default().to_owned())
    };
    let wanted = kind(&run(args, seed, &script, false));
    let mut script = script;
    let mut chunk = script.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < script.len() {
            let mut shorter = script.clone();
            let end = (at + chunk).min(shorter.len());
            let waited: u32 = shorter[at..end].iter().map(|step| step.after).sum();
            shorter.drain(at..end);
            let mut patient = shorter.clone();
            if let Some(next) = patient.get_mut(at) {
                next.after = next.after.saturating_add(waited);
            }
            if kind(&run(args, seed, &patient, false)) == wanted {
                script = patient;
            } else if kind(&run(args, seed, &shorter, false)) == wanted {
                script = shorter;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    script
}

/// Runs the seeds on every core; failing ones come back with their reports.
fn run_all(args: &Args, seeds: std::ops::Range<u64>) -> (Report, u64, BTreeMap<u64, Report>) {
    let next = AtomicU64::new(seeds.start);
    let shared = Mutex::new((Report::default(), 0u64, BTreeMap::new()));
    let bar = indicatif::ProgressBar::new(seeds.end - seeds.start);
    bar.set_style(
        indicatif::ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {eta} left").expect("a template"),
    );
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= seeds.end || shared.lock().expect("no panics").2.len() >= args.failures {
            return;
        }
        let report = run(args, seed, &settings(args, seed).script(seed), false);
        let mut shared = shared.lock().expect("no panics");
        shared.0.add(&report);
        shared.1 += 1;
        bar.inc(1);
        if let Some(violation) = &report.violation {
            bar.suspend(|| println!("seed {seed}: {violation}"));
            shared.2.insert(seed, report);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    shared.into_inner().expect("no panics")
}

/// One seed, with all that is asked for.
fn run_one(args: &Args, seed: u64) -> Report {
    let mut script = settings(args, seed).script(seed);
    let mut report = run(args, seed, &script, args.trace && !args.shrink);
    if report.violation.is_some() && args.shrink {
        script = shrink(args, seed, script);
        report = run(args, seed, &script, args.trace);
    }
    report.trace.iter().for_each(|line| println!("{line}"));
    if let Some(violation) = &report.violation {
        println!("{:#?}", settings(args, seed));
        script.iter().for_each(|step| println!("{step}"));
        println!("seed {seed}: {violation}");
    }
    report
}

fn table(title: &str, rows: impl Iterator<Item = (String, u64)>) {
    println!("\n{title}");
    let rows: Vec<_> = rows.collect();
    for row in rows.chunks(3) {
        let cells: Vec<_> = row.iter().map(|(name, count)| format!("{name:<22} {count:>12}")).collect();
        println!("  {}", cells.join("   "));
    }
}

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    // Panics of the core are violations like any other.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = args.seed {
        let report = run_one(&args, seed);
        println!(
            "{:.1} simulated seconds, {} events, {}",
            report.simulated as f64 / 1e9,
            report.events,
            if report.violation.is_some() { "VIOLATED" } else { "clean" }
        );
        return std::process::ExitCode::from(u8::from(report.violation.is_some()));
    }
    let (total, runs, failures) = run_all(&args, args.first..args.first + args.seeds);
    println!(
        "{runs} runs, {:.1} simulated hours, {} events, {} messages",
        total.simulated as f64 / 3.6e12,
        total.events,
        total.messages
    );
    println!("slowest convergence of a healed cluster: {:.1} s", total.converged_in as f64 / 1e9);
    table("faults injected", total.faults.iter().map(|(name, count)| ((*name).to_owned(), *count)));
    table("states reached", total.states.each().map(|(name, count)| (name.to_owned(), count)));
    println!("\n{} violations", failures.len());
    for seed in failures.keys() {
        let mut replay =
            format!("cargo run --release --example simulate --features sim -- --seed {seed} --shrink --trace");
        if args.harsh {
            replay += " --harsh";
        }
        if let Some(bug) = &args.bug {
            replay += &format!(" --bug {bug}");
        }
        println!("  {replay}");
    }
    std::process::ExitCode::from(u8::from(!failures.is_empty()))
}
