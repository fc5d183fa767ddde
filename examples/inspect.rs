//! A command line client of the debug interface of a running node.
//!
//! ```sh
//! cargo run --release --example sidecar --features inspect-http -- --http 127.0.0.1:7980 &
//! cargo run --release --example inspect -- status
//! cargo run --release --example inspect -- explain greeting
//! cargo run --release --example inspect -- diff OTHER-NODE              # or: diff THIS-NODE OTHER-NODE
//! cargo run --release --example inspect -- audit
//! cargo run --release --example inspect -- watch
//! ```
//!
//! The variable DRIFTLESS_HTTP_TOKEN holds the token. These are commands of `driftless`, of `crates/driftless-cli`, from
//! the same source files.

#[path = "../crates/driftless-cli/src"]
mod cli {
    pub mod client;
}
use clap::Parser;

/// Inspects a running node through its debug interface
#[derive(Parser)]
#[command(name = "inspect", version)]
struct Inspect {
    #[command(subcommand)]
    command: cli::client::Command,
}

fn main() -> std::process::ExitCode {
    cli::client::main(&Inspect::parse().command)
}
