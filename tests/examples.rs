//! A run of each example to its end. An example asserts the behaviour it shows, so its exit status is the test.
//!
#![cfg(feature = "node")]

#[path = "common/addresses.rs"]
mod addresses;
#[path = "../examples/storefront/gain.rs"]
mod gain;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The time limit for one example. On a quiet machine none takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns the path of an example's binary. A missing binary was not built, and the test fails.
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let binary = profile.join("examples").join(name);
    let shown = binary.display();
    assert!(
        binary.is_file(),
        "{shown} is missing: run `cargo build --examples --all-features` (`cargo test` does it, too)"
    );
    binary
}

/// Waits for the end of a process. Returns `None` if the process did not end in time and was killed.
fn ended(child: &mut Child) -> Option<std::process::ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().expect("it was started here") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Runs an example to its end, and returns its exit status and its output. Panics with the output if it does not end.
fn outcome(name: &str, arguments: &[&str]) -> (std::process::ExitStatus, String) {
    let output = tempfile::NamedTempFile::new().expect("a file for its output");
    let append = || {
        let file = std::fs::OpenOptions::new().append(true).open(output.path());
        Stdio::from(file.expect("the file is there"))
    };
    let mut command = Command::new(binary(name));
    // Few seeds suffice: the simulator's own tests run more.
    let command =
        command.args(arguments).env("DRIFTLESS_SEEDS", "8").stdin(Stdio::null()).stdout(append()).stderr(append());
    let status = ended(&mut command.spawn().expect("an example that was built starts"));
    let told = std::fs::read_to_string(output.path()).expect("its output");
    let status = status.unwrap_or_else(|| panic!("{name} did not end within {PATIENCE:?}:\n{told}"));
    (status, told)
}

/// Runs an example, and returns its output. Panics with the output if the example fails.
fn run(name: &str, arguments: &[&str]) -> String {
    let (status, told) = outcome(name, arguments);
    assert!(status.success(), "{name}: {status}\n{told}");
    told
}

/// The examples that have tests of their own.
const ELSEWHERE: &[&str] = &["sidecar", "inspect", "chaos", "two_processes", "postgres_feed"];
/// The examples that measure for minutes, and are run by hand.
const BY_HAND: &[&str] = &["soak"];

macro_rules! examples {
    ($($name:ident $(if $feature:literal)?: $($argument:literal)*;)*) => {
        $(
            $(#[cfg(feature = $feature)])?
            #[test]
            fn $name() {
                run(stringify!($name), &[$($argument),*]);
            }
        )*

        const HERE: &[&str] = &[$(stringify!($name)),*];
    };
}

examples! {
    quickstart: ;
    three_nodes: ;
    fills: ;
    invalidate_all: ;
    change_stream: ;
    encryption: ;
    web_service: "--demo";
    prometheus if "inspect-http": ;
    book_links: "supports" "html";
    storefront: "--accesses" "5000" "--products" "500" "--capacity" "100";
    simulate if "sim": "--seeds" "3";
    ci_convergence if "sim": ;
    scale if "sim": "--replicas" "3" "--loss" "0" "--writes" "3" "--warm-up" "1";
}

/// Checks that the simulator refuses arguments under which it would run nothing, or something else than requested.
/// Valid combinations run.
#[cfg(feature = "sim")]
#[test]
fn the_simulator_refuses_what_it_would_not_do() {
    let status = |arguments: &str| {
        let mut command = Command::new(binary("simulate"));
        let command = command.args(arguments.split(' ')).stdin(Stdio::null()).stdout(Stdio::null());
        ended(&mut command.stderr(Stdio::null()).spawn().expect("it was built")).expect("it ends").code()
    };
    for refused in [
        "--seeds 0",
        "--failures 0",
        "--replicas 0",
        "--seed 1 --seeds 2",
        "--seed 1 --first 2",
        "--shrink",
        "--seeds 2 --trace",
        "--seed 1 --harsh --calm",
    ] {
        assert_eq!(status(refused), Some(2), "{refused}");
    }
    assert_eq!(status("--first 18446744073709551615 --seeds 10"), Some(0), "the last seed, and no more");
    let bug = "--seed 0 --trace --shrink --calm --bug delete_unknown_is_noop --replicas 3";
    assert!(matches!(status(bug), Some(0 | 1)), "clean or not, it runs");
}

/// Checks the short form of the chaos example: every kind of fault once. Without the rights for network namespaces it
/// runs process faults only, and must print that.
#[cfg(all(target_os = "linux", feature = "inspect-http"))]
#[test]
fn a_little_chaos() {
    let sidecar = binary("sidecar");
    let sidecar = sidecar.to_str().expect("a plain path");
    let told =
        run("chaos", &["--faults", "14", "--nodes", "4", "--keys", "100", "--pace", "600", "--sidecar", sidecar]);
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("chaos: ")).collect();
    println!("{}", lines.join("\n"));
    let bitten = told.lines().filter(|line| line.starts_with("fault ") && !line.ends_with("effect 0 times")).count();
    let everywhere = told.contains("in network namespaces");
    assert!(everywhere || told.contains("chaos: no namespaces here ("), "neither network faults nor a reason:\n{told}");
    assert!(bitten >= if everywhere { 12 } else { 6 }, "{bitten} kinds of faults had a visible effect:\n{told}");
}

/// Runs the feed against a PostgreSQL of its own, if its programs are on this machine.
#[test]
fn postgres_feed() {
    let (status, told) = outcome("postgres_feed", &[]);
    if status.code() == Some(2) {
        println!("skipped: {told}");
        return;
    }
    assert!(status.success(), "postgres_feed: {status}\n{told}");
    for claim in ["both return version 3: RIGHT", "both return version 4: STALE"] {
        assert!(told.contains(claim), "`{claim}` is missing:\n{told}");
    }
}

/// Checks that the feed names what is missing, and where it was searched.
#[test]
fn postgres_feed_without_its_programs() {
    let folder = tempfile::tempdir().expect("a folder without programs");
    let mut command = Command::new(binary("postgres_feed"));
    let output = command.env("POSTGRES_BIN", folder.path()).output().expect("an example that was built starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    for part in ["`initdb`", "package `postgresql`", "POSTGRES_BIN", &folder.path().display().to_string()] {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
}

/// Checks that the comparison of the storefront has a verdict for each situation, computed from its counts.
#[test]
fn the_storefront_compares_situations() {
    let told = run("storefront", &["--compare", "--accesses", "20000", "--products", "500"]);
    let verdicts: Vec<_> = told.lines().filter(|line| line.contains("database reads than private caches")).collect();
    assert_eq!(verdicts.len(), 3, "everything fits in both modes, and a tenth fits:\n{told}");
    assert!(verdicts[1].contains("SHINES: ") && told.contains("HOLDS: each of"), "{told}");
    // Without a single read each count is zero, and nothing is gained.
    let only_updates = ["--accesses", "300", "--products", "50", "--updates", "100", "--mode", "invalidate"];
    let told = run("storefront", &[&["--compare"], &only_updates[..]].concat());
    assert_eq!(told.matches("NO GAIN: 0 % fewer").count(), 2, "{told}");
}

#[test]
fn the_verdict_on_the_storefront_can_be_negative() {
    let verdict = |private, shared| gain::Gain::of(private, shared).to_string();
    let than = "database reads than private caches";
    assert_eq!(verdict(300, 100), format!("SHINES: 3.0 times fewer {than}"));
    assert_eq!(verdict(150, 100), format!("SHINES: 1.5 times fewer {than}"));
    assert_eq!(verdict(149, 100), format!("HELPS: 33 % fewer {than}"));
    assert_eq!(verdict(100, 90), format!("HELPS: 10 % fewer {than}"));
    assert_eq!(verdict(100, 91), format!("NO GAIN: 9 % fewer {than}"));
    assert_eq!(verdict(100, 109), format!("NO GAIN: 9 % more {than}"));
    assert_eq!(verdict(100, 110), format!("LOSES: 10 % more {than}"));
    assert_eq!(verdict(0, 0), format!("NO GAIN: 0 % fewer {than}"));
    assert_eq!(verdict(0, 5), format!("LOSES: 400 % more {than}"));
    assert_eq!((gain::bar(1, 1_000, 40).len(), gain::bar(0, 1_000, 40).len()), (1, 0));
    assert_eq!((gain::bar(500, 1_000, 40).len(), gain::bar(9, 0, 40).len()), (20, 40));
}

#[test]
fn every_example_is_run() {
    let listed = std::fs::read_dir("examples").expect("the package's folder");
    let names =
        listed.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_none_or(|it| it == "rs"));
    let table = std::fs::read_to_string("examples/README.md").expect("the table of examples");
    for path in names {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a plain name").to_owned();
        let known = [HERE, ELSEWHERE, BY_HAND].concat();
        assert!(known.contains(&name.as_str()), "examples/{name} is never run: give it a line here");
        assert!(table.contains(&format!("`{name}`")), "examples/README.md does not say what `{name}` is for");
    }
}

#[test]
#[should_panic(expected = "no_such_example is missing")]
fn an_example_that_was_not_built_is_a_failure() {
    run("no_such_example", &[]);
}

/// Runs the program of the README, as printed there, in two processes. Each reads what the other process wrote.
#[test]
fn two_processes() {
    let [one, two] = [0; 2].map(|_| addresses::unused().to_string());
    let [first, second] = [[one.clone(), two.clone()], [two.clone(), one.clone()]]
        .map(|arguments| thread::spawn(move || run("two_processes", &[&arguments[0], &arguments[1]])));
    for (output, me, peer) in [(first, &one, &two), (second, &two, &one)] {
        let output = output.join().expect("the process ends well");
        assert!(output.contains(&format!("{me} reads what {peer} wrote: Some(120)")), "{output}");
    }
}
