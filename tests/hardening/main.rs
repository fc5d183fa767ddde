//! Hostile bytes, on stable Rust: the targets of `fuzz/` over their seeds, mutated from fixed seeds.
//!
//! `cargo fuzz` finds its way by coverage and needs a nightly compiler; this does not, and so runs wherever the tests do. What it
//! runs are the same functions over the same corpora, and it fails if they were not run, or if nothing was ever accepted or refused.

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

/// The sidecar's own files: what they call `crate` is this one.
#[path = "../../examples/sidecar"]
#[allow(dead_code)]
mod sidecar {
    pub mod commands;
    pub mod glob;
    pub mod info;
    pub mod request;
    pub mod session;
}
use sidecar::{commands, glob, info, request, session};
