use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use serde::{Deserialize, Serialize};

use super::*;
use crate::CacheSettings;
use crate::replica::Bugs;

mod types;

/// Seeds that every build runs.
const CI_SEEDS: u64 = 64;

fn assert_clean(seed: u64) -> Report {
    let report = run_seed(seed);
    if let Some(violation) = &report.violation {
        panic!(
            "seed {seed}: {violation}\nreplay: cargo run --release --example simulate --features sim -- --seed {seed} --shrink --trace"
        );
    }
    report
}

#[test]
fn a_calm_cluster_converges() {
    for seed in 0..16 {
        let settings = Settings::from_seed(seed).calm();
        let report = run_scenario(&numbers(), &Scenario::with_settings(seed, settings), false);
        assert!(report.violation.is_none(), "seed {seed}: {}", report.violation.unwrap());
    }
}

#[test]
fn one_seed_is_one_run() {
    let (first, second) = (run_seed(7), run_seed(7));
    assert_eq!((first.events, first.messages, first.simulated), (second.events, second.messages, second.simulated));
    assert_eq!((first.bytes, first.faults), (second.bytes, second.faults));
    assert_eq!(first.states, second.states);
}

/// What so few seeds need not reach: the band of `tests/power.rs` must.
const RARE: [&str; 14] = [
    "audit of suspects",
    "clock far off",
    "clock wrong from the start",
    "deferred_purged",
    "fill with a time to live",
    "forgotten behind a broken link",
    "link broken",
    "link broken to the end",
    "many keys",
    "many nodes",
    "network changed",
    "restarted for its clock",
    "returned after it was called dead",
    "returned before it was missed",
];

/// Promises hold, and every fault and every interesting state was there.
#[test]
fn no_promise_is_broken_and_the_suite_is_not_vacuous() {
    let mut total = Report::default();
    (0..CI_SEEDS).for_each(|seed| total.add(&assert_clean(seed)));
    assert!(total.events >= 3_000 * CI_SEEDS, "{} events: runs have become short", total.events);
    let unreached: Vec<_> = total.unreached().into_iter().filter(|name| !RARE.contains(name)).collect();
    assert!(unreached.is_empty(), "not in {CI_SEEDS} seeds: {unreached:?}");
    assert!(total.unlisted_faults().is_empty(), "in no list: {:?}", total.unlisted_faults());
    // These say that something went wrong that must not; the rest must have happened.
    let never = ["conflicts", "audit_conflicts", "audit_missing", "cloned_id", "renewed_id"];
    for (name, count) in total.states.each() {
        assert_eq!(count == 0, never.contains(&name), "{name} is {count} after {CI_SEEDS} seeds");
    }
}

#[test]
fn lost_tombstones_are_harmless() {
    for seed in 0..CI_SEEDS / 2 {
        let report = run_scenario(&numbers(), &Scenario::with_settings(seed, Settings::harsh(seed)), false);
        assert!(report.violation.is_none(), "harsh seed {seed}: {}", report.violation.unwrap());
    }
}

#[test]
fn seeds_that_once_failed_are_clean() {
    let seeds = include_str!("../../proptest-regressions/sim-seeds.txt");
    let seeds: Vec<u64> = seeds.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok()).collect();
    assert!(seeds.len() > 40);
    for seed in seeds {
        let settings = Settings::without_plots(seed);
        if Settings::from_seed(seed).plot.is_none() {
            // Those below ran as part of the others.
            (seed >= CI_SEEDS).then(|| assert_clean(seed));
            continue;
        }
        // It has a plot now, and may have failed before there were any.
        assert_clean(seed);
        let report = run_scenario(&numbers(), &Scenario::with_settings(seed, settings), false);
        assert!(report.violation.is_none(), "seed {seed} without plots: {}", report.violation.unwrap());
    }
}

fn cases(cases: u32) -> Config {
    Config { cases, ..crate::testing::proptest_config() }
}

proptest! {
    #![proptest_config(cases(24))]

    /// Whole scenarios from strategies keep every promise.
    #[test]
    fn scenarios_from_strategies_hold(scenario in strategy::scenario()) {
        let report = run_scenario(&numbers(), &scenario, false);
        if let Some(violation) = report.violation {
            return Err(TestCaseError::fail(format!("{violation}\n{scenario}")));
        }
    }
}

/// A mistake put back is found by strategies, and what is left of the scenario is short.
#[test]
fn what_strategies_find_shrinks_to_a_few_steps() {
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 2_000, max_shrink_iters: 4_000, failure_persistence: None, ..Config::default() },
        TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]),
    );
    let found = runner.run(&strategy::scenario(), |mut scenario| {
        scenario.settings.bugs = Bugs::only("delete_unknown_is_noop").unwrap();
        match run_scenario(&numbers(), &scenario, false).violation {
            Some(violation) => Err(TestCaseError::fail(violation.to_string())),
            None => Ok(()),
        }
    });
    let Err(TestError::Fail(why, scenario)) = found else { panic!("the mistake was not found: {found:?}") };
    println!("{why}\n{scenario}");
    assert!(scenario.script.len() <= 8, "{} steps:\n{scenario}", scenario.script.len());
    assert_eq!((scenario.settings.loss, scenario.settings.duplicate), (0, 0), "{scenario}");
}

/// The same for a seed: few steps of hundreds are left, and they still fail, in the same way.
#[test]
fn a_failing_seed_shrinks_to_a_few_steps() {
    let with_bug = |seed| {
        let mut settings = Settings::from_seed(seed);
        settings.bugs = Bugs::only("apply_over_gap").unwrap();
        Scenario::with_settings(seed, settings)
    };
    let failing = (0..64).map(with_bug).find_map(|scenario| {
        Some((run_scenario(&numbers(), &scenario, false).violation?.checker().to_owned(), scenario))
    });
    let (checker, scenario) = failing.expect("a seed that finds it");
    assert!(scenario.script.len() >= 250);
    let shrunk = shrink(&numbers(), scenario);
    println!("{shrunk}");
    assert!(shrunk.script.len() <= 30, "{} steps:\n{shrunk}", shrunk.script.len());
    let again = run_scenario(&numbers(), &shrunk, false).violation.expect("it still fails");
    assert_eq!(again.checker(), checker);
}
