//! Helpers: processes of `driftless`, and a client of them.
#![allow(dead_code)]

#[path = "../../../../tests/common/addresses.rs"]
pub mod addresses;
pub mod client;
pub mod process;
pub mod program;
