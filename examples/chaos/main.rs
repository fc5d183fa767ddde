//! A cluster of real processes under injected faults, and a check of its promises.
//!
//! ```sh
//! cargo run --release --example chaos -- --faults 100            # root: network namespaces, every fault
//! cargo run --release --example chaos -- --faults 20 --loopback  # any user: no network faults
//! ```
//!
//! The program starts sidecar processes with a writer and a reader on each, and injects faults one after another,
//! several active at a time. Network faults: partitions, isolation, one-way cuts, 1 to 30 % loss, delay, reordering,
//! duplicates. Process faults: SIGSTOP, SIGKILL with a restart at the same and at a new address, SIGTERM with a
//! restart, clock steps, a full descriptor table, a memory limit. Then all faults end, and the judge checks:
//!
//! - every node has the same keys with the same values and stamps;
//! - no key is older than a write or delete that was acknowledged by a process that still runs;
//! - no key is back that such a process has deleted, and no key is gone without a delete;
//! - during the run, no reader of one process received an older value after a newer one;
//! - every kind of fault is proven to have happened, by counts of dropped packets, states of processes, or stamps.
//!
//! Each process has its own network namespace. Its gossip passes through a TUN device into this process, which loses,
//! delays, reorders and duplicates packets. The kernel's netem is not used: it may be missing, and it does not report
//! its effects. Clients use a second link without faults. Without the rights to create namespaces the program runs on
//! loopback, with process faults only, and prints that.
//!
//! The exit code is zero only without findings. `--seed` repeats the choice of faults, but not their timing.

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

/// A cluster of real processes under injected faults
#[derive(Parser, Clone)]
pub struct Arguments {
    /// Number of faults to inject
    #[arg(long, default_value_t = 100)]
    faults: usize,
    /// Number of nodes, one process each
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// Seed for the choice of faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of keys that are written and deleted
    #[arg(long, default_value_t = 200)]
    keys: usize,
    /// Mean time between two faults, in milliseconds
    #[arg(long, default_value_t = 1_200)]
    pace: u64,
    /// Only faults of these kinds, by name, to narrow down a finding: Kill, Partition, ...
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Run on loopback without namespaces: process faults only
    #[arg(long)]
    loopback: bool,
    /// Path of the sidecar binary; by default cargo builds it first, or it is taken from the folder of this binary
    #[arg(long)]
    sidecar: Option<std::path::PathBuf>,
}

/// The time limit for the nodes to agree after all faults have ended.
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
