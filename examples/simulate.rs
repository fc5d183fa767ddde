//! A search for broken promises: runs one simulated cluster per seed, each in one thread.
//!
//! `cargo run --release --example simulate --features sim -- --seeds 10000`
//!
//! This is `driftless simulate` of `crates/driftless-cli`, from the same source file.

#[path = "../crates/driftless-cli/src/simulate.rs"]
mod simulate;
use clap::Parser;

#[derive(Parser)]
struct Simulate {
    #[command(flatten)]
    arguments: simulate::Args,
}

fn main() -> std::process::ExitCode {
    let mut arguments = Simulate::parse().arguments;
    let profile = if cfg!(debug_assertions) { "--profile sim" } else { "--release" };
    arguments.again = format!("cargo run {profile} --example simulate --features sim --");
    simulate::main(&arguments)
}
