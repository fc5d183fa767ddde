//! Tests with hostile input on stable Rust: the targets of `fuzz/` run over their seeds and over mutations of them,
//! with fixed random seeds.
//!
//! `cargo fuzz` searches by coverage and needs a nightly compiler. This test does not, so it runs wherever the tests
//! run. It calls the same functions with the same corpora. It fails if a target did not run, or if it accepted or
//! refused hardly any input.

mod lone;
mod mutate;
mod resources;
mod shutdown;
mod stable;
mod supervision;
mod targets;
mod versions;

#[path = "../common/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../common/log.rs"]
mod log;

/// The source files of the Redis server; their `crate` is this test.
#[path = "../../crates/driftless-cli/src/serve"]
#[allow(dead_code)]
mod serve {
    pub mod clients;
    pub mod commands;
    pub mod glob;
    pub mod info;
    pub mod pushes;
    pub mod reply;
    pub mod request;
    pub mod session;
    pub mod settings;
    pub mod sync;
    pub mod tracking;
}
