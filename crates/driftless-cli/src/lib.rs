//! The program `driftless`: a node of a replicated cache as a process of its own, for clients that speak the Redis
//! protocol.
//!
//! [`main`] is the whole program. `examples/sidecar.rs` of the library includes the same source files.

mod config;
mod debug;
mod logs;
mod process;
mod serve;

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
}

/// Runs the program with the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    match Program::parse().command {
        Command::Serve(arguments) => process::main(&arguments),
    }
}
