#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cookie;
mod extract;
mod layer;
mod service;
mod watched;

pub use extract::{Freshness, MissingLayer, Writes};
pub use layer::ReadYourWrites;
pub use service::ReadYourWritesService;
