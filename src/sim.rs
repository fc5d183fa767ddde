//! Whole clusters of the production core in one thread, deterministic from a seed.
//!
//! The replicas are real; clocks, network and membership are simulated, and everything that can go
//! wrong with them does. See [`run_seed`].

mod act;
mod action;
mod check;
mod clock;
mod cluster;
mod hop;
mod membership;
mod network;
mod node;
mod oracle;
mod report;
mod run;
mod settings;
mod workload;

pub use action::{Action, Step};
pub use report::{Report, Violation};
pub use run::{run, run_script, run_seed};
pub use settings::{Settings, Weights};
pub use workload::{Numbers, Workload};

#[cfg(test)]
mod tests;
