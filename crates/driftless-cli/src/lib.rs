//! The program `driftless`: a node of a replicated cache as a process of its own, for clients that speak the Redis
//! protocol, and the commands that look at a running cluster.
//!
//! [`main`] is the whole program. The examples `sidecar`, `inspect` and `simulate` of the library include the same
//! source files.

mod bench;
mod client;
mod config;
mod debug;
mod forget;
mod logs;
mod manual;
mod process;
mod serve;
#[cfg(feature = "simulate")]
mod simulate;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A replicated near cache for programs in any language
#[derive(Parser)]
#[command(name = "driftless", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one node of the cache, for clients that speak the Redis protocol
    Serve(process::Arguments),
    #[command(flatten)]
    Client(client::Command),
    /// Declare that a member will not return, so that it no longer holds back the collection of tombstones
    Forget(forget::Arguments),
    /// Put load on a running cluster, and report rates, the time until writes are visible elsewhere, and a verdict
    Bench(bench::Arguments),
    #[cfg(feature = "simulate")]
    /// Search for broken promises in simulated clusters, one per seed
    Simulate(simulate::Args),
    /// Print the completions of a shell
    Completions(manual::Completions),
    /// Print the manual page, or write one for each command
    Man(manual::Man),
}

/// Runs the program with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    match Program::parse().command {
        Command::Serve(arguments) => process::main(&arguments),
        Command::Client(command) => client::main(&command),
        Command::Forget(arguments) => forget::main(&arguments),
        Command::Bench(arguments) => bench::main(&arguments),
        #[cfg(feature = "simulate")]
        Command::Simulate(mut arguments) => {
            "driftless simulate".clone_into(&mut arguments.again);
            simulate::main(&arguments)
        }
        Command::Completions(arguments) => manual::completions::<Program>(&arguments),
        Command::Man(arguments) => manual::man::<Program>(&arguments),
    }
}
