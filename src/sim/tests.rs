//! Tests of the simulator itself: a calm cluster converges, one seed is one run, and known mistakes that were put back
//! are found and shrunk.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use serde::{Deserialize, Serialize};

use super::*;
use crate::CacheSettings;
use crate::replica::Bugs;

mod types;

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

fn cases(cases: u32) -> Config {
    Config { cases, ..crate::testing::proptest_config() }
}

proptest! {
    #![proptest_config(cases(24))]

    /// Checks that whole scenarios from strategies keep every promise.
    #[test]
    fn scenarios_from_strategies_hold(scenario in strategy::scenario()) {
        let report = run_scenario(&numbers(), &scenario, false);
        if let Some(violation) = report.violation {
            return Err(TestCaseError::fail(format!("{violation}\n{scenario}")));
        }
    }
}

/// Checks that strategies find a known mistake, and shrink the scenario to a few steps.
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

/// Checks that a failing seed shrinks from hundreds of steps to a few, which still fail in the same way.
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
