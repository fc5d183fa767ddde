//! Strategies of `proptest` for operations, fault schedules and whole scenarios. They shrink towards fewer steps, fewer
//! nodes, smaller numbers, and a network and clocks without faults.
//!
//! ```
//! use driftless::sim::{Simulation, strategy};
//! use proptest::prelude::*;
//!
//! let users = Simulation::new(|n| format!("user-{n}"), |n| n);
//! proptest!(ProptestConfig::with_cases(8), |(scenario in strategy::scenario())| {
//!     if let Err(failure) = users.run_scenario(&scenario) {
//!         return Err(TestCaseError::fail(failure.to_string()));
//!     }
//! });
//! ```

use std::time::Duration;

use proptest::collection::{SizeRange, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::action::{Action, Step};
use super::scenario::Scenario;
use super::settings::Settings;
use crate::replica::ReplicaConfig;

/// Returns small node numbers: they shrink to a script that is easy to read.
fn node() -> impl Strategy<Value = u8> {
    0u8..6
}

fn key() -> impl Strategy<Value = u16> {
    0u16..8
}

/// Returns the operations of users: writes with and without a time to live, deletes, reads, fills, evictions,
/// `invalidate_all`.
pub fn operations() -> impl Strategy<Value = Action> {
    prop_oneof![
        10 => (node(), key()).prop_map(|(node, key)| Action::Write(node, key, 0)),
        5 => (node(), key()).prop_map(|(node, key)| Action::Delete(node, key)),
        2 => (node(), key(), 1u32..20_000).prop_map(|(node, key, millis)| Action::Write(node, key, millis)),
        2 => (node(), key(), select(vec![1u32, 20, 500, 5_000])).prop_map(|(node, key, millis)| Action::Fill(node, key, millis)),
        2 => (node(), key()).prop_map(|(node, key)| Action::Evict(node, key)),
        1 => (node(), key()).prop_map(|(node, key)| Action::Read(node, key)),
        1 => (node(), 0u8..4).prop_map(|(node, cache)| Action::InvalidateAll(node, cache)),
    ]
}

/// Returns faults: in links, processes and clocks, and caches that are closed and opened.
pub fn faults() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::HealLinks),
        2 => (node(), node()).prop_map(|(a, b)| Action::Cut(a, b)),
        2 => (node(), node()).prop_map(|(a, b)| Action::CutOneWay(a, b)),
        1 => (node(), node()).prop_map(|(a, b)| Action::SlowLink(a, b)),
        2 => node().prop_map(Action::Isolate),
        1 => any::<u8>().prop_map(Action::Split),
        1 => node().prop_map(Action::Crash),
        1 => node().prop_map(Action::Restart),
        1 => Just(Action::Join),
        1 => node().prop_map(Action::Leave),
        1 => (node(), node()).prop_map(|(a, b)| Action::Forget(a, b)),
        1 => node().prop_map(Action::Pause),
        2 => Just(Action::Resume),
        1 => (node(), 0u8..4).prop_map(|(node, cache)| Action::CloseCache(node, cache)),
        1 => (node(), 0u8..4).prop_map(|(node, cache)| Action::OpenCache(node, cache)),
        1 => (node(), -20_000i32..20_000).prop_map(|(node, millis)| Action::StepClock(node, millis)),
        1 => (node(), any::<bool>()).prop_map(|(node, on)| Action::FreezeClock(node, on)),
        1 => (0u8..40).prop_map(Action::Loss),
        1 => (0u8..50).prop_map(Action::Duplicate),
        1 => select(vec![0u32, 50_000, 5_000]).prop_map(Action::Bandwidth),
    ]
}

/// Returns a schedule of actions, up to two seconds apart and mostly much less.
pub fn schedule(
    actions: impl Strategy<Value = Action>,
    steps: impl Into<SizeRange>,
) -> impl Strategy<Value = Vec<Step>> {
    let after = prop_oneof![3 => 0u32..100, 1 => 0u32..2_000];
    vec((after, actions).prop_map(|(millis, action)| Step::after_millis(millis, action)), steps)
}

/// Returns settings of a cluster of two to five replicas, on a network without faults or with faults up to strong ones.
pub fn settings() -> impl Strategy<Value = Settings> {
    let network = (0u8..=30, 0u8..=50, select(vec![1u64, 5, 50, 400]), select(vec![None, Some(50_000), Some(5_000)]));
    let clocks = (select(vec![0u64, 1, 50]), select(vec![0u32, 50, 1_000]));
    let cluster = (2u8..=5, 1u8..=2, 1u16..=5, any::<bool>());
    (cluster, calm_or(network), clocks, replication()).prop_map(|(cluster, network, clocks, config)| {
        let mut settings = Settings { config, ..Settings::default() };
        (settings.replicas, settings.caches, settings.keys, settings.pause_drops) = cluster;
        (settings.loss, settings.duplicate, _, settings.bandwidth) = network;
        settings.latency = Duration::from_millis(network.2);
        settings.skew = Duration::from_millis(clocks.0);
        settings.drift_ppm = clocks.1;
        settings
    })
}

type Network = (u8, u8, u64, Option<u32>);

/// Returns the network without faults in half of the cases.
fn calm_or(network: impl Strategy<Value = Network>) -> impl Strategy<Value = Network> {
    prop_oneof![Just((0, 0, 1, None)), network]
}

fn replication() -> impl Strategy<Value = ReplicaConfig> {
    let tombstones = select(vec![1_000_000usize, 1_000_000, 2, 1]);
    let frames = select(vec![256usize * 1_024, 1_024]);
    let members = (select(vec![16usize, 1]), select(vec![5_000u64, 1_000]));
    (tombstones, frames, members).prop_map(|(max_tombstones, max_frame_bytes, (broadcast_up_to, forget))| {
        ReplicaConfig {
            max_tombstones,
            max_frame_bytes,
            broadcast_up_to,
            forget_after: Duration::from_millis(forget),
            ..Settings::default().config
        }
    })
}

/// Returns whole scenarios: settings, and fewer than 80 steps, of which four in ten are faults.
pub fn scenario() -> impl Strategy<Value = Scenario> {
    let actions = prop_oneof![6 => operations(), 4 => faults()];
    (0u64..1_000, settings(), schedule(actions, 0..80))
        .prop_map(|(seed, settings, script)| Scenario::new(seed, settings, script))
}
