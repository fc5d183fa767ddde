//! The swarm: seeds that every build runs, and seeds that once failed.
//!
//! Unoptimised they take minutes, so this file is empty with the feature `node`. To run more of them:
//! `cargo run --profile sim --no-default-features --features sim --example simulate -- --seeds 200000`.

#![cfg(not(feature = "node"))]

use driftless::sim::{Report, Scenario, Settings, run_numbers};

/// The number of seeds that every build runs.
const SEEDS: u64 = 512;
/// The number of seeds that every build also runs with settings that make lost tombstones likely.
const HARSH_SEEDS: u64 = 256;

const ONCE_FAILED: &str = include_str!("../proptest-regressions/sim-seeds.txt");

fn assert_clean(seed: u64, settings: Settings) -> Report {
    let report = run_numbers(&Scenario::with_settings(seed, settings), false);
    if let Some(violation) = &report.violation {
        panic!(
            "seed {seed}: {violation}\nreplay: simulate --seed {seed} --shrink --trace (see the top of tests/swarm.rs)"
        );
    }
    report
}

/// Checks that no promise is broken, and that every fault and every rare branch occurred.
#[test]
fn no_promise_is_broken_and_the_suite_is_not_vacuous() {
    let mut total = Report::default();
    (0..SEEDS).for_each(|seed| total.add(&assert_clean(seed, Settings::from_seed(seed))));
    assert!(total.events >= 3_000 * SEEDS, "{} events: runs have become short", total.events);
    assert!(total.unreached().is_empty(), "not in {SEEDS} seeds: {:?}", total.unreached());
    assert!(total.unlisted_faults().is_empty(), "in no list: {:?}", total.unlisted_faults());
    // These counters count failures that must not occur. Every remaining counter must be above zero.
    let never = ["conflicts", "audit_conflicts", "audit_missing", "duplicate_id", "new_id"];
    for (name, count) in total.states.each() {
        assert_eq!(count == 0, never.contains(&name), "{name} is {count} after {SEEDS} seeds");
    }
}

#[test]
fn lost_tombstones_are_harmless() {
    for seed in 0..HARSH_SEEDS {
        assert_clean(seed, Settings::harsh(seed));
    }
}

#[test]
fn seeds_that_once_failed_are_clean() {
    let seeds: Vec<u64> = ONCE_FAILED.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok()).collect();
    assert!(seeds.len() > 40);
    for seed in seeds {
        assert_clean(seed, Settings::from_seed(seed));
        // A seed that has a plot now may have failed before plots existed.
        assert_clean(seed, Settings::without_plots(seed));
    }
}
