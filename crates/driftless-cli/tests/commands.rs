//! Tests of the commands that look at a running cluster, and of those that print.
#![cfg(unix)]

mod common;

use common::{
    client::{Client, Reply},
    process::eventually,
    program::{Outcome, Running, ask, cluster, run},
};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn every_command_reports_a_healthy_cluster() {
    let nodes = cluster(3);
    Client::connect(nodes[0].address("redis")).expect(&["SET", "greeting", "hello"], Reply::ok());
    let held =
        |node: &Running| Client::connect(node.address("redis")).wants(&["GET", "greeting"], &Reply::bulk("hello"));
    nodes.iter().for_each(|node| eventually(SOON, || held(node)));
    for (arguments, parts) in [
        (&["status"][..], &["n0", "n1", "n2", "redis"][..]),
        (&["explain", "greeting"], &["n0", "n1", "n2", "agree"]),
        (&["diff", "n1"], &["keys examined", "0 differences without a reason"]),
        (&["diff", "n2", "n0"], &["keys examined", "0 differences without a reason"]),
        (&["audit"], &["n1", "n2", "clean"]),
        (&["audit", "--cache", "redis"], &["clean"]),
    ] {
        let outcome = ask(&nodes[0], arguments);
        assert!(outcome.is_success, "{arguments:?}: {}{}", outcome.out, outcome.error);
        for part in parts {
            assert!(outcome.out.contains(part), "{arguments:?}: {part} is not in {}", outcome.out);
        }
    }
    let no_escape = ask(&nodes[0], &["status"]);
    assert!(!no_escape.out.contains('\u{1b}'));
}

#[test]
fn what_can_not_be_answered_is_said() {
    let nodes = cluster(2);
    let at = nodes[0].address("debug").to_string();
    let redis = nodes[0].address("redis").to_string();
    for (outcome, part) in [
        (run(&["status", "--node", &at], &[]), "token"),
        (run(&["status", "--node", "127.0.0.1:1"], &[]), "no debug interface listens there"),
        (run(&["status", "--node", &redis], &[]), "debug interface"),
        (run(&["status", "--node", "no-such-host.invalid:1"], &[]), "no-such-host.invalid:1"),
        (ask(&nodes[0], &["diff", "n1", "n7"]), "connect to n1 or n7"),
        (ask(&nodes[0], &["diff", "n7"]), "n7"),
        (ask(&nodes[0], &["audit", "--cache", "other"]), "other"),
        (ask(&nodes[0], &["status", "--token-file", "/does/not/exist"]), "/does/not/exist"),
    ] {
        assert!(!outcome.is_success && outcome.error.contains(part), "{part}: {}{}", outcome.out, outcome.error);
    }
}

/// O7: the commands hung for half a minute, and then said "os error 11".
#[test]
fn a_paused_node_is_reported_within_seconds() {
    let nodes = cluster(2);
    nodes[0].signal("-STOP");
    for arguments in [&["status"][..], &["explain", "key"], &["diff", "n1"], &["audit"]] {
        let outcome = ask(&nodes[0], arguments);
        assert!(!outcome.is_success && outcome.error.contains("paused"), "{arguments:?}: {}", outcome.error);
        assert!(outcome.took < Duration::from_secs(5), "{arguments:?} took {:?}", outcome.took);
    }
    nodes[0].signal("-CONT");
    eventually(SOON, || match ask(&nodes[0], &["explain", "key"]) {
        Outcome { is_success: true, .. } => Ok(()),
        Outcome { error, .. } => Err(error),
    });
}

#[test]
fn a_member_that_will_not_return_is_forgotten() {
    let mut nodes = cluster(3);
    let dead = nodes.pop().expect("three nodes");
    let redis = nodes[0].address("redis").to_string();
    eventually(SOON, || match ask(&nodes[0], &["status"]).out {
        out if out.contains("n2") => Ok(()),
        out => Err(out),
    });
    dead.signal("-KILL");
    drop(dead);
    let forget = |member: &str| run(&["forget", member, "--redis", &redis], &[]);
    let forgotten = forget("n2");
    assert!(forgotten.is_success && forgotten.out.contains("n2 is forgotten"), "{}", forgotten.error);
    let unknown = forget("n7");
    assert!(!unknown.is_success && unknown.error.contains("no member"), "{}{}", unknown.out, unknown.error);
    let nowhere = run(&["forget", "n2", "--redis", "127.0.0.1:1"], &[]);
    assert!(!nowhere.is_success && nowhere.error.contains("127.0.0.1:1"), "{}", nowhere.error);
}

/// A port with a password: the commands that use it send it, and say what is wrong without it.
#[test]
fn commands_of_the_redis_port_send_its_password() {
    let node = Running::serve(&["--password", "password-of-a-test"], &[]);
    let redis = node.address("redis").to_string();
    let bench = ["bench", "--seconds", "1", "--clients", "1", "--keys", "10", "--redis", &redis];
    let right = run(&bench, &[("DRIFTLESS_PASSWORD", "password-of-a-test")]);
    assert!(right.is_success, "{}{}", right.out, right.error);
    for (variables, said) in [(&[][..], "NOAUTH"), (&[("DRIFTLESS_PASSWORD", "wrong")], "uthenticat")] {
        let wrong = run(&bench, variables);
        let output = wrong.out + &wrong.error;
        assert!(!wrong.is_success && output.contains(&redis) && output.contains(said), "{output}");
    }
}

#[test]
fn a_bench_judges_a_cluster() {
    let nodes = cluster(2);
    let at = |node: &Running| node.address("redis").to_string();
    let bench = |other: &Running, more: &[&str]| {
        let load = ["--seconds", "1", "--clients", "2", "--keys", "100", "--redis"];
        run(&[&["bench"], &load[..], &[&at(&nodes[0]), "--redis", &at(other)], more].concat(), &[])
    };
    let good = bench(&nodes[1], &[]);
    assert!(good.is_success && good.out.contains("verdict: good"), "{}{}", good.out, good.error);
    assert!(good.out.contains("reads/s") && good.out.contains("until visible"), "{}", good.out);
    Client::connect(nodes[0].address("redis")).expect(&["DBSIZE"], Reply::Integer(0));
    let slow = bench(&nodes[1], &["--visible-within", "0"]);
    assert!(!slow.is_success && slow.out.contains("verdict: BAD"), "{}", slow.out);
    // Two nodes that do not know each other hold different values.
    let stranger = Running::serve(&["--cluster", "another"], &[]);
    let bad = bench(&stranger, &[]);
    assert!(!bad.is_success && bad.out.contains("verdict: BAD"), "{}{}", bad.out, bad.error);
    assert!(bad.out.contains("keys differ") && bad.out.contains("nodes of one cluster"), "{}", bad.out);
}

/// The commands of the program.
const COMMANDS: &[&str] =
    &["serve", "status", "explain", "diff", "watch", "audit", "forget", "bench", "simulate", "completions", "man"];

#[test]
fn completions_and_manual_have_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = run(&["completions", shell], &[]);
        assert!(outcome.is_success, "{}", outcome.error);
        for word in COMMANDS.iter().chain(&["max-capacity", "gc-grace"]) {
            assert!(outcome.out.contains(word), "{word} is not completed in {shell}");
        }
    }
    assert!(!run(&["completions", "abacus"], &[]).is_success);
    let folder = tempfile::tempdir().expect("a folder");
    let pages = run(&["man", "--out", folder.path().to_str().expect("a plain path")], &[]);
    assert!(pages.is_success, "{}", pages.error);
    let first = run(&["man"], &[]);
    for command in COMMANDS {
        assert!(first.out.contains(&format!("driftless\\-{command}(1)")), "{command} is not in {}", first.out);
        let page = std::fs::read_to_string(folder.path().join(format!("driftless-{command}.1"))).expect(command);
        assert!(page.contains(".SH DESCRIPTION"), "{command}");
    }
    assert!(!run(&["man", "--out", "/does/not/exist"], &[]).is_success);
}

#[test]
fn the_simulator_is_part_of_the_program() {
    let clean = run(&["simulate", "--seeds", "3"], &[]);
    assert!(clean.is_success && clean.out.contains("0 violations"), "{}{}", clean.out, clean.error);
    let unknown = run(&["simulate", "--seed", "1", "--bug", "no_such_bug"], &[]);
    assert!(!unknown.is_success && unknown.error.contains("does not exist"), "{}", unknown.error);
}
