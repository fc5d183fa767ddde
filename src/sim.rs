//! Whole clusters of the production core in one thread, deterministic from a seed. They serve the tests of this crate
//! and of its users.
//!
//! The replicas, the cache's eviction around them, and the encoder and decoder of every message are the production
//! code. Clocks, network and membership are simulated, with these faults: loss, duplication, reordering, narrow and
//! slow links, partitions, crashes, restarts under the old name, pauses, clocks that step, drift and stop, caches that
//! are closed and opened again.
//!
//! After every event the simulator checks every promise of [the guarantees](crate::docs::guarantees) that can be
//! checked at that time. It checks them once more when all faults have ended. A failing run is shrunk. Its failure
//! prints the script and the command that replays it.
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
//! | file | contents |
//! | --- | --- |
//! | `run`, `advance`, `agenda` | one run; the order of its events |
//! | `act`, `plots`, `swarm`, `settings` | actions: from a script, drawn from a seed |
//! | `cluster`, `process`, `opening`, `network`, `clock` | the state that actions and faults change |
//! | `inbound`, `outbound` | the work of `node/driver.rs`, without sockets: repeat every change of the driver here |
//! | `faults`, `membership` | faults; the failure detector. Both repeat what `node/driver.rs` does when a process or a cache comes or goes: change them with it. The state machine under them is the node's own, `src/membership.rs` |
//! | `check`, `history`, `observed`, `oracle` | the promises, and the observations of a run by which they are judged |
//! | `scenarios` | failures of real systems, by number |
//! | `types`, `soundness`, `foreign`, `codec` | the user's types, and the types of another release |
//! | `report`, `trace`, `shrink`, `failure` | the results of a run |

mod act;
mod action;
mod advance;
mod agenda;
mod check;
mod clock;
mod cluster;
mod codec;
mod direct;
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
mod stills;
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
