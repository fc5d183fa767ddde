//! Runs whole clusters in one thread, one per seed, and looks for broken promises.

use std::collections::BTreeMap;

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
    /// No faults.
    #[arg(long)]
    calm: bool,
    /// Go on after a violation, up to this many.
    #[arg(long, default_value_t = 1)]
    failures: usize,
}

fn settings(args: &Args, seed: u64) -> Settings {
    let mut settings = Settings::from_seed(seed);
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

fn main() {
    let args = Args::parse();
    std::panic::set_hook(Box::new(|_| {}));
    let seeds = args.seed.map_or(args.first..args.first + args.seeds, |seed| seed..seed + 1);
    let mut total = Report::default();
    let mut failures: BTreeMap<u64, String> = BTreeMap::new();
    let mut runs = 0;
    for seed in seeds {
        let mut script = settings(&args, seed).script(seed);
        let mut report = run(&args, seed, &script, args.trace && !args.shrink);
        runs += 1;
        if report.violation.is_some() && args.shrink {
            script = shrink(&args, seed, script);
            report = run(&args, seed, &script, args.trace);
            println!("{:#?}", settings(&args, seed));
            script.iter().for_each(|step| println!("{step}"));
        }
        report.trace.iter().for_each(|line| println!("{line}"));
        total.add(&report);
        if let Some(violation) = report.violation {
            println!("seed {seed}: {violation}");
            failures.insert(seed, violation.what);
            if failures.len() >= args.failures {
                break;
            }
        }
    }
    println!(
        "{runs} runs, {:.1} simulated hours, {} events, {} messages",
        total.simulated as f64 / 3.6e12,
        total.events,
        total.messages
    );
    println!("slowest convergence {:.1} s", total.converged_in as f64 / 1e9);
    for (name, count) in &total.faults {
        print!("{name} {count}; ");
    }
    println!();
    for (name, count) in total.states.each() {
        print!("{name} {count}; ");
    }
    println!("\n{} violations: {:?}", failures.len(), failures.keys().collect::<Vec<_>>());
    std::process::exit(i32::from(!failures.is_empty()));
}
