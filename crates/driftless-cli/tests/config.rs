//! Tests of the settings from outside: files, variables, flags, secrets, signals and the log.
#![cfg(unix)]

mod common;

use common::{
    client::{Client, Reply},
    process::eventually,
    program::{Running, run, write},
};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const KEY_A: &str = "aa0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const KEY_B: &str = "bb0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Returns the settings in force.
fn check(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let outcome = run(&[&["serve", "--check"], arguments].concat(), variables);
    assert!(outcome.is_success, "{arguments:?}: {}", outcome.error);
    outcome.out
}

/// Returns the error of settings that must be refused, by the check and by the start.
fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let checked = run(&[&["serve", "--check"], arguments].concat(), variables);
    let started = run(&[&["serve", "--redis", "127.0.0.1:0", "--bind", "127.0.0.1:0"], arguments].concat(), variables);
    assert!(!checked.is_success && !started.is_success, "{arguments:?} must be refused");
    assert_eq!(checked.error, started.error);
    checked.error
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = write(folder.path(), "a.toml", "[redis]\nmax_clients = 11\nwait = '1s'\n[node]\nseeds = ['file:1']\n");
    let file = ["--config", file.as_str()];
    assert!(check(&[], &[]).contains("max_clients = 1000"));
    let in_file = check(&file, &[]);
    assert!(in_file.contains("max_clients = 11\n") && in_file.contains("seeds = [\"file:1\"]"), "{in_file}");
    let variables = [("DRIFTLESS_MAX_CLIENTS", "12"), ("DRIFTLESS_SEED", "var:1,var:2"), ("DRIFTLESS_WAIT", "")];
    let by_variable = check(&file, &variables);
    assert!(by_variable.contains("max_clients = 12\n") && by_variable.contains("seeds = [\"var:1\", \"var:2\"]"));
    assert!(by_variable.contains("wait = \"1s\""), "an empty variable counts as none: {by_variable}");
    let by_flag = check(&[&file[..], &["--max-clients", "13", "--wait", "9"]].concat(), &variables);
    assert!(by_flag.contains("max_clients = 13\n") && by_flag.contains("wait = \"9s\""), "{by_flag}");
    let by_variable = check(&[], &[("DRIFTLESS_CONFIG", file[1])]);
    assert_eq!(by_variable, in_file);
}

#[test]
fn what_can_not_be_honoured_is_refused_with_the_place_and_the_fix() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |text: &str| write(folder.path(), "a.toml", text);
    let of_file = |text: &str| refused(&["--config", &file(text)], &[]);
    for (error, expected) in [
        (of_file("[redis]\nmaxclients = 1\n"), &["a.toml", "redis.maxclients", "redis.max_clients"][..]),
        (of_file("[redis]\nmax_clients = 'x'\n"), &["redis", "max_clients"]),
        (of_file("[redis]\nmax_clients = \n"), &["a.toml", "line 2"]),
        (of_file("[cache]\nreplication.gc_grace = '2h'\n"), &["gc_grace", "at most 1 h"]),
        (of_file("[cache]\ntime_to_live = 5\n"), &["time_to_live", "\"5s\""]),
        (refused(&["--config", "/does/not/exist"], &[]), &["/does/not/exist", "No such file"]),
        (refused(&["--max-clients", "x"], &[]), &["--max-clients", "a whole number"]),
        (refused(&[], &[("DRIFTLESS_MAX_CLIENTS", "x")]), &["DRIFTLESS_MAX_CLIENTS", "a whole number"]),
        (refused(&[], &[("DRIFTLESS_MAX_CLIENT", "1")]), &["DRIFTLESS_MAX_CLIENT", "DRIFTLESS_MAX_CLIENTS"]),
        (refused(&["--advertise", "7946"], &[]), &["7946", "advertise", "host:port"]),
        (refused(&["--key", KEY_A, "--key-file", "x"], &[]), &["node.key", "node.key_files", "remove one"]),
        (refused(&["--key-file", "/does/not/exist"], &[]), &["/does/not/exist"]),
        (refused(&["--key-file", &file("too short")], &[]), &["a.toml", "64 hexadecimal digits"]),
        (refused(&["--password-file", &file("\n")], &[]), &["a.toml", "empty"]),
    ] {
        for part in expected {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }
    let flag = run(&["serve", "--max-client", "1"], &[]);
    assert!(!flag.is_success && flag.error.contains("--max-clients"), "{}", flag.error);
}

#[test]
fn secrets_are_never_printed() {
    let secrets = ["--key", KEY_A, "--password", "password-of-a-test", "--http-token", "token-of-a-test-only"];
    let shown = check(&secrets, &[]);
    assert_eq!(shown.matches("(not shown)").count(), 3, "{shown}");
    let refused = refused(&["--key", "0123456789-not-a-key"], &[]);
    let node = Running::serve(&[&secrets[..], &["--log-level", "trace"]].concat(), &[]);
    let help = run(&["serve", "--help"], &[("DRIFTLESS_PASSWORD", "password-of-a-test")]);
    assert!(help.out.contains("DRIFTLESS_PASSWORD"), "the variable is in the help");
    for output in [shown, refused, node.out(), node.error(), help.out] {
        for secret in [KEY_A, "password-of-a-test", "token-of-a-test-only", "0123456789-not-a-key"] {
            assert!(!output.contains(secret), "{secret} is in {output}");
        }
    }
}

#[test]
fn host_names_are_addresses() {
    let node = Running::start(
        &[
            "serve",
            "--bind",
            "localhost:0",
            "--redis",
            "localhost:0",
            "--http",
            "localhost:0",
            "--advertise",
            "localhost:7001",
        ],
        &[],
    );
    eventually(SOON, || if node.out().contains("ready") { Ok(()) } else { Err(node.error()) });
    Client::connect(node.address("redis")).expect(&["PING"], Reply::Simple("PONG".into()));
    let asked = run(&["status", "--node", &format!("localhost:{}", node.address("debug").port())], &[]);
    assert!(asked.is_success && asked.out.contains("redis"), "{}{}", asked.out, asked.error);
}

#[test]
fn weight_may_be_bytes() {
    let node = Running::serve(&["--max-capacity", "1000", "--weigh-by", "bytes"], &[]);
    let mut client = Client::connect(node.address("redis"));
    for key in 0..100 {
        client.expect(&["SET", &format!("{key:10}"), &"v".repeat(90)], Reply::ok());
    }
    eventually(SOON, || match client.call(&["DBSIZE"]) {
        Reply::Integer(1..=10) => Ok(()),
        other => Err(format!("{other:?} entries of 100 bytes in 1,000")),
    });
}

#[test]
fn a_log_of_json_is_json_in_every_line_and_has_no_colours() {
    let taken = Running::serve(&["--log-format", "json", "--log-level", "debug"], &[]);
    let refused =
        run(&["serve", "--log-format", "json", "--bind", "127.0.0.1:0", "--redis", &taken.address_json("redis")], &[]);
    assert!(!refused.is_success);
    let text = Running::serve(&["--log-level", "debug"], &[]);
    assert!(!text.error().contains('\u{1b}'), "colours in a pipe: {}", text.error());
    let mut lines = 0;
    for line in [taken.out(), taken.error(), refused.error].iter().flat_map(|output| output.lines()) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(value.is_object(), "{line}");
        lines += 1;
    }
    assert!(lines >= 3, "{lines} lines of JSON");
}

/// The promise of a rotation: each step on every node before the next one, and writes pass all the time.
#[test]
fn keys_rotate_at_a_hangup_while_the_cluster_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = (write(folder.path(), "a.key", KEY_A), write(folder.path(), "b.key", &format!("{KEY_B}\n")));
    let settings = |keys: &[&str]| write(folder.path(), "a.toml", &format!("[node]\nkey_files = {keys:?}\n"));
    let file = settings(&[&a]);
    let one = Running::serve(&["--config", &file], &[]);
    let seed = one.address("gossip").to_string();
    let two = Running::serve(&["--config", &file, "--seed", &seed], &[]);
    let mut clients = [&one, &two].map(|node| Client::connect(node.address("redis")));
    let mut passes = |value: &str| {
        clients[0].expect(&["SET", "key", value], Reply::ok());
        eventually(SOON, || clients[1].wants(&["GET", "key"], &Reply::bulk(value)));
    };
    passes("1");
    for (step, keys) in [&[&a, &b][..], &[&b, &a], &[&b]].iter().enumerate() {
        settings(&keys.iter().map(|key| key.as_str()).collect::<Vec<_>>());
        for node in [&one, &two] {
            node.signal("-HUP");
            let times = step + 1;
            eventually(SOON, || match node.error().matches("read the settings again").count() {
                read if read == times => Ok(()),
                _ => Err(node.error()),
            });
        }
        passes(&format!("after step {step}"));
    }
    // It reads both keys, and writes under the old one: it would join if that were still accepted.
    let late = Running::serve(&["--key-file", &a, "--key-file", &b, "--seed", &seed, "--wait", "1s"], &[]);
    let member = Running::serve(&["--key-file", &b, "--seed", &seed], &[]);
    eventually(SOON, || Client::connect(member.address("redis")).wants(&["GET", "key"], &Reply::bulk("after step 2")));
    Client::connect(late.address("redis")).expect(&["GET", "key"], Reply::Null);
    // What it writes under the old key is refused.
    Client::connect(late.address("redis")).expect(&["SET", "intruder", "v"], Reply::ok());
    std::thread::sleep(Duration::from_secs(2));
    Client::connect(one.address("redis")).expect(&["GET", "intruder"], Reply::Null);
}

#[test]
fn a_hangup_changes_the_level_and_a_broken_file_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = |text: &str| write(folder.path(), "a.toml", text);
    let file = settings("[log]\nlevel = 'error'\n");
    let mut node = Running::serve(&["--config", &file], &[]);
    let says = |text: &str| eventually(SOON, || if node.error().contains(text) { Ok(()) } else { Err(node.error()) });
    assert!(!node.error().contains("DEBUG"));
    settings("[log]\nlevel = 'debug'\n[redis]\nmax_clients = 5\n");
    node.signal("-HUP");
    says("redis.max_clients has changed: the process must be restarted");
    Client::connect(node.address("redis")).expect(&["PING"], Reply::Simple("PONG".into()));
    says("DEBUG");
    settings("[log]\nlevle = 'error'\n");
    node.signal("-HUP");
    says("Did you mean log.level?");
    settings(&format!("[node]\nkey = '{KEY_A}'\n"));
    node.signal("-HUP");
    says("cannot switch encryption on or off");
    Client::connect(node.address("redis")).expect(&["PING"], Reply::Simple("PONG".into()));
    node.signal("-TERM");
    assert!(node.ends(SOON), "{}", node.error());
}
