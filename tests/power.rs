//! Tests that the simulator can fail: known mistakes are switched on one at a time, and each is caught by a named
//! checker.
//!
//! All of them: `cargo test --profile sim --no-default-features --features sim --test power -- --ignored --nocapture`.
//! Unoptimised they take minutes, so this file is empty with the feature `node`.

#![cfg(not(feature = "node"))]

use driftless::replica::Bugs;
use driftless::sim::{Report, Scenario, Settings, Violation, run_numbers};

/// The number of seeds within which a known mistake must be caught.
const SEEDS: u64 = 4_096;
/// The number of seeds within which an easy mistake must be caught.
const FEW_SEEDS: u64 = 128;

/// The easy mistakes, which every build tests. The remaining mistakes are tested by hand.
const EASY: [&str; 30] = [
    "absorbed_late",
    "absorbed_unused",
    "ack_for_any_receiver",
    "apply_over_gap",
    "caught_up_at_once",
    "claim_per_frame",
    "collect_by_age",
    "delete_unknown_is_noop",
    "direct_below_floor",
    "direct_unobserved",
    "epoch_only_sweeps",
    "evict_without_tombstone",
    "evictions_spared_unseen",
    "fill_stamped_late",
    "former_believed",
    "handed_over_when_cut",
    "last_audit_slice_only",
    "no_deferral",
    "no_facts_among_three",
    "no_final_void",
    "partial_reconcile",
    "push_over_overtaken",
    "quarantine_keeps_departed",
    "reconcile_hides_removals",
    "absent_is_deleted",
    "reinsert_seen",
    "released_when_cut",
    "stale_answers_believed",
    "stale_digest",
    "time_of_the_first",
];

const SCHEDULES: &str = concat!(
    include_str!("../src/replica/schedules/filling.rs"),
    include_str!("../src/replica/schedules/promises.rs"),
    include_str!("../src/replica/schedules/retiring.rs"),
    include_str!("../src/replica/schedules/sparing.rs"),
    include_str!("../src/replica/schedules/stills.rs"),
    include_str!("../src/replica/schedules/voids.rs")
);

/// Mistakes that were real faults once, and that at most one seed in ten thousand finds. Each has a schedule of its own
/// that switches it on.
const BY_SCHEDULE: [&str; 17] = [
    "bounds_dropped_unseen",
    "collected_alone_forgotten",
    "doubtful_orphans_erased",
    "doubts_listed",
    "dropped_beyond_claim_left",
    "fills_left_in_doubt",
    "gone_unwaited",
    "late_words_unname",
    "left_out_taken_for_heard",
    "reached_stay_forgotten",
    "retained_body_discarded",
    "still_after_write",
    "still_leaves_clock",
    "still_over_lost_digest",
    "still_while_behind",
    "unbounded_believed",
    "void_stands_for_write",
];

/// Returns the remaining mistakes: they need many seeds, or slow ones.
fn hard() -> impl Iterator<Item = &'static str> {
    Bugs::NAMES.iter().copied().filter(|bug| !EASY.contains(bug) && !BY_SCHEDULE.contains(bug))
}

/// Returns the violation of a seed with a mistake switched on.
fn violation(bug: &str, seed: u64) -> Option<Violation> {
    let mut settings = Settings::from_seed(seed);
    settings.bugs = Bugs::only(bug).expect("a known mistake");
    run_numbers(&Scenario::with_settings(seed, settings), false).violation
}

/// Returns the number of seeds that catch a mistake, and the violation.
fn catch(bug: &str, seeds: u64) -> Option<(u64, Violation)> {
    (0..seeds).find_map(|seed| Some((seed + 1, violation(bug, seed)?)))
}

#[test]
#[ignore = "ten minutes: -- --ignored --nocapture"]
fn known_mistakes_are_caught_within_4_096_seeds() {
    let mut missed = Vec::new();
    println!("| switch | caught after N seeds | by which checker |\n| --- | ---: | --- |");
    for bug in EASY.into_iter().chain(hard()) {
        match catch(bug, SEEDS) {
            Some((seeds, violation)) => println!("| {bug} | {seeds} | {} |", violation.checker()),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not caught in {SEEDS} seeds: {missed:?}");
}

#[test]
fn the_easy_mistakes_are_caught_at_once() {
    for bug in EASY {
        assert!(catch(bug, FEW_SEEDS).is_some(), "{bug} was not caught");
    }
}

#[test]
fn schedules_put_back_what_seeds_do_not_find() {
    for bug in BY_SCHEDULE {
        assert!(SCHEDULES.contains(&format!("must_catch(\"{bug}\",")), "no schedule puts {bug} back");
    }
}

#[test]
fn the_easy_ones_are_switches() {
    let unknown: Vec<_> = EASY.into_iter().chain(BY_SCHEDULE).filter(|bug| !Bugs::NAMES.contains(bug)).collect();
    assert!(unknown.is_empty(), "no switches: {unknown:?}");
}

/// Checks that a range of seeds reaches every fault and every rare branch, because a branch that is never reached is
/// never tested.
#[test]
#[ignore = "minutes: -- --ignored --nocapture"]
fn the_swarm_reaches_every_branch_within_4_096_seeds() {
    let mut total = Report::default();
    (0..SEEDS).for_each(|seed| total.add(&run_numbers(&Scenario::from_seed(seed), false)));
    assert!(total.unreached().is_empty(), "never reached in {SEEDS} seeds: {:?}", total.unreached());
}
