//! A cluster of real processes under attack, and the question whether it kept its promises.
//!
//! ```sh
//! cargo run --release --example chaos -- --faults 100            # root: network namespaces, every fault
//! cargo run --release --example chaos -- --faults 20 --loopback  # anybody: no network faults
//! ```
//!
//! It starts sidecar processes with writers and readers on all of them, and injects faults one after another, several at a time:
//! partitions, isolation, one-way loss, 1 to 30 % loss, delay, reordering, duplicates, SIGSTOP, SIGKILL with a restart at the same and at
//! another address, SIGTERM with a restart, clock steps, a full descriptor table, a memory limit. Then everything heals and the
//! judge looks:
//!
//! - every node has the same keys with the same values and stamps;
//! - no key is older than a write or delete that was acknowledged by a process that is still there;
//! - no key that such a process was told to delete is back, and none is gone that nobody deleted;
//! - while it ran, no reader of one process went back to an older value;
//! - every fault is shown to have happened, by what was counted (packets dropped, states of processes, stamps).
//!
//! Processes live in network namespaces, one each. Their gossip passes through TUN devices into this process, which
//! loses, delays, reorders and duplicates packets: the kernel's own netem may be missing, and does not say what it did. Clients come
//! over a second link without faults. Without the rights for that it runs on loopback, with faults of processes only, and says so.
//!
//! The exit code is zero only if nothing was found. `--seed` repeats the choice of faults; timing is the machine's.

mod client;
mod faults;
mod judge;
mod load;
mod net;
mod process;
mod router;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use fastrand::Rng;

/// A cluster of real processes under attack.
#[derive(Parser, Clone)]
pub struct Arguments {
    /// How many faults to inject
    #[arg(long, default_value_t = 100)]
    faults: usize,
    /// Processes
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// The choice of faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keys that are written and deleted
    #[arg(long, default_value_t = 200)]
    keys: usize,
    /// Mean time between two faults, milliseconds
    #[arg(long, default_value_t = 1_200)]
    pace: u64,
    /// Only faults of these kinds, by name, to narrow something down: Kill, Partition, ...
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// No namespaces: faults of processes only
    #[arg(long)]
    loopback: bool,
    /// The sidecar's binary; by default it is built first, or found beside this one
    #[arg(long)]
    sidecar: Option<std::path::PathBuf>,
}

/// How long the healed cluster gets to agree.
const QUIESCENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
    }
}

type Error = Box<dyn std::error::Error>;

fn run(arguments: &Arguments) -> Result<bool, Error> {
    let start = Instant::now();
    let binary = process::sidecar(arguments)?;
    let net = Arc::new(net::Net::new(arguments.nodes, arguments.loopback)?);
    println!(
        "chaos: {} nodes, {} faults, seed {}, {}",
        arguments.nodes,
        arguments.faults,
        arguments.seed,
        net.describe()
    );
    let nodes = process::start_all(arguments, &binary, &net)?;
    let _end = process::End(nodes.clone());
    let history = Arc::new(load::History::new(arguments.nodes));
    let load = load::start(&nodes, &history, arguments.keys);
    let mut faults = faults::Faults::new(Arc::clone(&net), nodes.clone(), Rng::with_seed(arguments.seed), start);
    faults.only(&arguments.only);
    faults.inject(arguments.faults, arguments.pace)?;
    faults.heal()?;
    std::thread::sleep(Duration::from_secs(2));
    load.stop();
    let mut findings = judge::settle(&nodes, &history, arguments.keys, QUIESCENCE);
    findings.extend(history.findings());
    findings.extend(faults.unproven(arguments.faults));
    findings.extend(nodes.iter().flat_map(|node| node.cries()));
    faults.report();
    judge::report(&nodes, &history, &net);
    for finding in findings.iter().take(50) {
        println!("FOUND: {finding}");
    }
    let verdict = if findings.is_empty() { "clean" } else { "BROKEN" };
    println!("chaos: {verdict}, {} findings, {:.0} s", findings.len(), start.elapsed().as_secs_f64());
    Ok(findings.is_empty())
}
