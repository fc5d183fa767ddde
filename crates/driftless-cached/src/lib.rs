#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod compute;
mod leases;
mod store;

pub use store::{DriftlessCache, StoreError};
