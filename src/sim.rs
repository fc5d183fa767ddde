//! Whole clusters of the production core in one thread, deterministic from a seed: for our tests and for
//! yours.
//!
//! The replicas are real, and so are the cache's eviction around them and the encoder and decoder of every
//! message. Clocks, network and membership are simulated, and everything that can go wrong with them does:
//! loss, duplication, reordering, narrow and slow links, partitions, crashes, restarts under the old name,
//! pauses, clocks that step, drift and stand still, caches that are closed and opened again.
//!
//! After every event every promise of [the guarantees](crate::docs::guarantees) is checked that can be at
//! that time, and once more when everything has healed. A failing run is shrunk, and prints its script and
//! the command that replays it.
//!
//! | you have | you write |
//! | --- | --- |
//! | types of your own | [`check`]`(\|n\| key, \|n\| value)` in a test |
//! | also settings, a weigher, more seeds | a [`Simulation`] |
//! | `proptest` | [`strategy::scenario`] and [`Simulation::run_scenario`] |
//! | a script in mind | a [`Scenario`] of [`Step`]s, and [`run_scenario`] |
//! | time | `cargo run --release --example simulate --features sim -- --seeds 10000` |
//!
//! Needs the feature `sim`; put it into `[dev-dependencies]`.
//!
//! | file | what |
//! | --- | --- |
//! | `run`, `advance`, `agenda` | one run; the order in which things happen |
//! | `act`, `faults`, `plots`, `swarm`, `settings` | what happens: by script, by seed |
//! | `cluster`, `process`, `opening`, `network`, `clock` | what it happens to |
//! | `inbound`, `outbound` | what `node/driver.rs` does, without sockets: a change there is to be made here too |
//! | `membership` | the failure detector. The machine under it is the node's own, `src/membership.rs` |
//! | `check`, `history`, `observed`, `oracle` | the promises, and what is known of a run to judge them |
//! | `scenarios` | failures of real systems, by number |
//! | `types`, `soundness`, `foreign`, `codec` | the user's types, and those of another release |
//! | `report`, `trace`, `shrink`, `failure` | what is said of a run |

mod act;
mod action;
mod advance;
mod agenda;
mod check;
mod clock;
mod cluster;
mod codec;
mod failure;
mod faults;
mod foreign;
mod history;
mod inbound;
mod membership;
mod names;
mod network;
mod observed;
mod opening;
mod oracle;
mod outbound;
mod plots;
mod process;
mod quiet;
mod report;
mod run;
mod scenario;
mod seeds;
mod settings;
mod settle;
mod shrink;
mod simulation;
mod soundness;
pub mod strategy;
mod swarm;
mod trace;
mod types;
mod weights;

pub use action::{Action, Step};
pub use failure::Failure;
pub use plots::Plot;
pub use report::{Report, Violation};
pub use run::{run_numbers, run_scenario, run_seed};
pub use scenario::Scenario;
pub use settings::{Settings, Weights};
pub use shrink::shrink;
pub use simulation::{Simulation, check};
pub use types::{SimKey, SimValue, Types, numbers};

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;
