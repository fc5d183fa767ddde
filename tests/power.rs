//! The simulator can fail: known mistakes, put back one at a time, are caught, and by whom.
//!
//! All of them: `cargo test --profile sim --features sim --test power -- --ignored --nocapture`

use driftless::replica::Bugs;
use driftless::sim::{Scenario, Settings, Violation, numbers, run_scenario};

/// A known mistake has to be caught by then.
const SEEDS: u64 = 4_096;
/// So many of them at least.
const CAUGHT: usize = 12;

/// What the swarm says of a seed, and then what it says when bent towards lost tombstones.
fn violation(bug: &str, seed: u64) -> Option<Violation> {
    [Settings::from_seed(seed), Settings::harsh(seed)].into_iter().find_map(|mut settings| {
        settings.bugs = Bugs::only(bug).expect("a known mistake");
        run_scenario(&numbers(), &Scenario::with_settings(seed, settings), false).violation
    })
}

/// After how many seeds a mistake is caught, and what is said of it.
fn catch(bug: &str, seeds: u64) -> Option<(u64, Violation)> {
    (0..seeds).find_map(|seed| Some((seed + 1, violation(bug, seed)?)))
}

#[test]
#[ignore = "minutes; in the sim profile, with -- --ignored --nocapture"]
fn known_mistakes_are_caught_within_4_096_seeds() {
    let mut missed = Vec::new();
    println!("| switch | caught after N seeds | by which checker |\n| --- | ---: | --- |");
    for bug in Bugs::NAMES {
        match catch(bug, SEEDS) {
            Some((seeds, violation)) => println!("| {bug} | {seeds} | {} |", violation.checker()),
            None => {
                println!("| {bug} | not in {SEEDS} | |");
                missed.push(*bug);
            }
        }
    }
    let caught = Bugs::NAMES.len() - missed.len();
    assert!(caught >= CAUGHT, "only {caught} caught, missed: {missed:?}");
}

/// Those that need few seeds, in every build.
#[test]
fn the_easy_mistakes_are_caught_at_once() {
    for bug in EASY {
        assert!(catch(bug, 64).is_some(), "{bug} was not caught");
    }
}

const EASY: [&str; 11] = [
    "void_keeps_stamp",
    "claim_per_frame",
    "reconcile_hides_removals",
    "absent_is_deleted",
    "apply_over_gap",
    "evict_without_tombstone",
    "fill_stamped_late",
    "delete_unknown_is_noop",
    "epoch_only_sweeps",
    "partial_reconcile",
    "tombstone_below_floor_merged",
];
