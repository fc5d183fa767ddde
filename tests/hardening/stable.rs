//! The stable run: a fixed number of executions of each target, from its seeds.

use std::path::Path;

use fastrand::Rng;

use crate::mutate;
use crate::targets::{ALL, Verdict};

/// Executions of each target, not counting the unchanged seeds. `FUZZ_EXECUTIONS` overrides it.
const EXECUTIONS: &[(&str, u64)] = &[
    ("frame", 4_000),
    ("digest", 1_000),
    ("delta", 1_000),
    ("reconcile", 1_000),
    ("apply", 1_000),
    ("resp", 20_000),
    ("http", 2_000),
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}")).map(|f| f.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seeds for {target}");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn fuzz(target: &str) {
    let (_, run) = *ALL.iter().find(|(name, _)| *name == target).expect("a target");
    let (_, planned) = *EXECUTIONS.iter().find(|(name, _)| *name == target).expect("a number");
    let planned = std::env::var("FUZZ_EXECUTIONS").map_or(planned, |number| number.parse().expect("a number"));
    let start: u64 = std::env::var("FUZZ_SEED").map_or(1, |number| number.parse().expect("a number"));
    let seeds = seeds(target);
    let (mut executions, mut total) = (0_u64, Verdict::default());
    let mut execute = |bytes: &[u8]| {
        let verdict = guarded(target, run, bytes);
        executions += 1;
        total.taken += verdict.taken;
        total.refused += verdict.refused;
    };
    seeds.iter().for_each(|seed| execute(seed));
    let mut rng = Rng::with_seed(start);
    (0..planned).for_each(|_| execute(&mutate::input(&mut rng, &seeds)));
    println!("{target}: {executions} executions, {} parts taken, {} refused", total.taken, total.refused);
    assert_eq!(executions, planned + seeds.len() as u64);
    assert!(total.taken > planned / 50, "hardly anything was understood: {total:?}");
    assert!(total.refused > planned / 50, "hardly anything was refused: {total:?}");
}

/// Runs a target, and stores the input in a file if it panics, so that it can become a seed.
fn guarded(target: &str, run: fn(&[u8]) -> Verdict, bytes: &[u8]) -> Verdict {
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(bytes)));
    ran.unwrap_or_else(|panic| {
        let path = std::env::temp_dir().join(format!("driftless-fuzz-{target}-{}.bin", std::process::id()));
        let _ = std::fs::write(&path, bytes);
        eprintln!("{target} failed on {} bytes, kept in {}", bytes.len(), path.display());
        std::panic::resume_unwind(panic)
    })
}

#[test]
fn frames_of_strangers() {
    fuzz("frame");
}

#[test]
fn digests() {
    fuzz("digest");
}

#[test]
fn deltas() {
    fuzz("delta");
}

#[test]
fn sessions_that_reconcile() {
    fuzz("reconcile");
}

#[test]
fn a_hostile_member() {
    fuzz("apply");
}

#[test]
fn redis_clients() {
    fuzz("resp");
}

#[test]
fn requests_to_the_debug_interface() {
    fuzz("http");
}

/// Runs the file named by `FUZZ_INPUT` through the target named by `FUZZ_TARGET`, to reproduce a failure.
#[test]
#[ignore = "needs FUZZ_TARGET and FUZZ_INPUT"]
fn one_input() {
    let target = std::env::var("FUZZ_TARGET").expect("the name of a target");
    let path = std::env::var("FUZZ_INPUT").expect("the path of a file");
    let (_, run) = *ALL.iter().find(|(name, _)| *name == target).expect("a target");
    println!("{:?}", run(&std::fs::read(path).expect("a file")));
}
