//! One node of a replicated cache as a separate process, for clients that speak the Redis protocol.
//!
//! ```sh
//! cargo run --release --example sidecar -- --bind 127.0.0.1:7001 --redis 127.0.0.1:6301
//! cargo run --release --example sidecar -- --bind 127.0.0.1:7002 --redis 127.0.0.1:6302 --seed 127.0.0.1:7001
//! cargo run --release --example sidecar -- --bind 127.0.0.1:7003 --redis 127.0.0.1:6303 --seed 127.0.0.1:7001
//!
//! redis-cli -p 6301 set greeting hello ex 60
//! redis-cli -p 6302 get greeting              # "hello", from the memory of the second process
//! redis-cli -p 6303 del greeting              # gone everywhere
//! redis-cli -p 6301 info driftless
//! # With the debug page: add `--features inspect-http` to cargo, and `--http 127.0.0.1:7980` to the flags
//! redis-benchmark -p 6301 -t ping,get,set,mset -n 1000000 -P 32 -r 100000
//! ```
//!
//! This is `driftless serve` of `crates/driftless-cli`, from the same source files. The crate is the program to install.

#[allow(dead_code)]
#[path = "../crates/driftless-cli/src"]
mod cli {
    pub mod config;
    pub mod debug;
    pub mod logs;
    pub mod process;
    pub mod serve;
}
use clap::Parser;
use cli::{config, debug, logs, process, serve};

#[derive(Parser)]
#[command(name = "sidecar", version)]
struct Sidecar {
    #[command(flatten)]
    arguments: process::Arguments,
}

fn main() -> std::process::ExitCode {
    process::main(&Sidecar::parse().arguments)
}
