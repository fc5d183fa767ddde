use super::*;
use crate::replica::Bugs;

/// Seeds that every build runs.
const CI_SEEDS: u64 = 64;
/// A known mistake has to be caught by then.
const POWER_SEEDS: u64 = 4_096;

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
        let report = run(Numbers, Settings::from_seed(seed).calm(), seed, false);
        assert!(report.violation.is_none(), "seed {seed}: {}", report.violation.unwrap());
    }
}

#[test]
fn one_seed_is_one_run() {
    let (first, second) = (run_seed(7), run_seed(7));
    assert_eq!((first.events, first.messages, first.simulated), (second.events, second.messages, second.simulated));
    assert_eq!(first.states, second.states);
}

/// Promises hold, and every fault and every interesting state was there.
#[test]
fn no_promise_is_broken_and_the_suite_is_not_vacuous() {
    let mut total = Report::default();
    (0..CI_SEEDS).for_each(|seed| total.add(&assert_clean(seed)));
    let faults = [
        "lost",
        "duplicated",
        "found down",
        "crash",
        "restart",
        "join",
        "leave",
        "pause",
        "link cut",
        "link cut one way",
        "isolated",
        "split",
        "clock back",
        "clock ahead",
        "clock frozen",
        "invalidate all",
    ];
    for fault in faults {
        assert!(total.faults.get(fault).is_some_and(|count| *count > 0), "no {fault} in {CI_SEEDS} seeds");
    }
    // These say that something went wrong that must not; the rest must have happened.
    let never = ["conflicts", "cloned_id", "audit_conflicts", "audit_missing", "malformed"];
    // Counted at the edges, not in the core, or rare.
    let elsewhere = ["digests_out"];
    for (name, count) in total.states.each().filter(|(name, _)| !elsewhere.contains(name)) {
        assert_eq!(count == 0, never.contains(&name), "{name} is {count} after {CI_SEEDS} seeds");
    }
}

#[test]
fn lost_tombstones_are_harmless() {
    for seed in 0..CI_SEEDS {
        let report = run(Numbers, Settings::harsh(seed), seed, false);
        assert!(report.violation.is_none(), "harsh seed {seed}: {}", report.violation.unwrap());
    }
}

#[test]
fn seeds_that_once_failed_are_clean() {
    let seeds = include_str!("../../proptest-regressions/sim-seeds.txt");
    let seeds = seeds.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    seeds.for_each(|seed| {
        assert_clean(seed);
    });
}

/// The checkers can fail: each known mistake, put back, is caught.
#[test]
#[ignore = "minutes; run with --release -- --ignored"]
fn known_mistakes_are_caught() {
    let mut missed = Vec::new();
    for name in Bugs::NAMES {
        match (0..POWER_SEEDS).find(|seed| is_caught(name, *seed)) {
            Some(seed) => println!("{name}: caught after {} seeds", seed + 1),
            None => missed.push(*name),
        }
    }
    assert!(missed.is_empty(), "not caught within {POWER_SEEDS} seeds: {missed:?}");
}

/// Each of the mistakes that need few seeds, in every build.
#[test]
fn the_easy_mistakes_are_caught_at_once() {
    let easy = [
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
        "frames_in_order",
    ];
    for name in easy {
        assert!((0..128).any(|seed| is_caught(name, seed)), "{name} was not caught");
    }
}

fn is_caught(name: &str, seed: u64) -> bool {
    let caught = |mut settings: Settings| {
        settings.bugs = Bugs::only(name).expect("a known mistake");
        run(Numbers, settings, seed, false).violation.is_some()
    };
    caught(Settings::from_seed(seed)) || caught(Settings::harsh(seed))
}
