#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod builder;
mod saved;
mod store;

pub use builder::{Builder, OpenStoreError};
pub use store::DriftlessStore;
