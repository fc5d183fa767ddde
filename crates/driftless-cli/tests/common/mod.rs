//! Helpers: processes of `driftless`, and a client of them.
#![allow(dead_code)]

pub mod client;
pub mod process;
pub mod program;
