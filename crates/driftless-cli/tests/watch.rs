//! Tests of `driftless watch`: it prints one status after another until it is ended, whatever happens to the nodes.
#![cfg(unix)]

mod common;

use common::{
    client::{Client, Reply},
    process::{BINARY, eventually},
    program::{Running, TOKEN, cluster, run},
};
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_secs(20);

/// Starts `watch` on a node.
fn watch(node: &Running, variables: &[(&str, &str)]) -> Running {
    Running::start(&["watch", "--node", &node.address("debug").to_string()], variables)
}

/// Returns the complete statuses that were printed so far: all but the last, each without its header.
fn statuses(watch: &Running) -> Vec<String> {
    let out = watch.out();
    let mut parts: Vec<_> = out.split("node                     cache  ").skip(1).map(str::to_owned).collect();
    parts.pop();
    parts
}

/// Waits until a status that begins after this call holds.
#[track_caller]
fn next(watch: &Running, what: &str, holds: impl Fn(&str) -> bool) {
    let before = statuses(watch).len() + 1;
    eventually(SOON, || {
        let seen = statuses(watch);
        let is_there = seen.iter().skip(before).any(|status| holds(status));
        if is_there { Ok(()) } else { Err(format!("no status with {what}: {}{}", watch.out(), watch.error())) }
    });
}

/// Waits until `watch` prints a text that it had not printed before this call.
#[track_caller]
fn prints(watch: &Running, text: &str) {
    let before = watch.out().matches(text).count();
    eventually(SOON, || match watch.out() {
        out if out.matches(text).count() > before => Ok(()),
        out => Err(format!("no {text:?} in {out}{}", watch.error())),
    });
}

/// Returns the entries and tombstones of a node in a status.
fn counts(status: &str, node: &str) -> Option<(u64, u64)> {
    let row = status.lines().find(|line| line.starts_with(&format!("{node} ")))?;
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!((cells.len(), cells[1]), (6, "redis"), "{row}");
    Some((cells[2].parse().ok()?, cells[3].parse().ok()?))
}

fn all(status: &str, counted: (u64, u64)) -> bool {
    ["n0", "n1", "n2"].iter().all(|node| counts(status, node) == Some(counted))
}

#[test]
fn each_status_shows_what_is_there_at_its_time() {
    let nodes = cluster(3);
    let mut watch = watch(&nodes[0], TOKEN);
    let mut client = Client::connect(nodes[1].address("redis"));
    next(&watch, "three empty nodes", |status| all(status, (0, 0)));
    client.expect(&["MSET", "a", "1", "b", "2"], Reply::ok());
    next(&watch, "two entries", |status| all(status, (2, 0)));
    client.expect(&["DEL", "a"], Reply::Integer(1));
    next(&watch, "one entry and one tombstone", |status| all(status, (1, 1)));
    assert!(!watch.out().contains('\u{1b}'), "a pipe gets every status, and nothing clears a screen");
    assert_eq!(watch.error(), "");
    watch.signal("-INT");
    assert!(!watch.ends(SOON), "it ends by the signal alone");
}

/// The time between two statuses: not less than the documented second. The upper limit is for a loaded machine.
#[test]
fn a_status_is_printed_once_a_second() {
    let nodes = cluster(1);
    let (watch, began) = (watch(&nodes[0], TOKEN), Instant::now());
    eventually(SOON, || match statuses(&watch).len() {
        4.. => Ok(()),
        few => Err(format!("{few} complete statuses")),
    });
    let (printed, took) = (statuses(&watch).len(), began.elapsed());
    assert!(printed as u64 <= took.as_secs(), "{printed} complete statuses, and one more, in {took:?}");
}

#[test]
fn a_node_that_is_paused_or_gone_is_reported_and_the_next_status_comes() {
    let mut nodes = cluster(3);
    let mut watch = watch(&nodes[0], TOKEN);
    next(&watch, "three nodes", |status| all(status, (0, 0)));
    nodes[2].signal("-STOP");
    next(&watch, "a silent member", |status| status.contains("n2: does not answer"));
    nodes[2].signal("-CONT");
    next(&watch, "three nodes and no complaint", |status| all(status, (0, 0)) && !status.contains("does not answer"));
    // The node that is asked does not answer itself.
    nodes[0].signal("-STOP");
    prints(&watch, "it is paused (state T in `ps`)");
    prints(&watch, "it is paused (state T in `ps`)");
    nodes[0].signal("-CONT");
    next(&watch, "three nodes again", |status| all(status, (0, 0)));
    drop(nodes.remove(0));
    prints(&watch, "no debug interface listens there");
    prints(&watch, "no debug interface listens there");
    assert_eq!(watch.error(), "");
    watch.signal("-TERM");
    assert!(!watch.ends(SOON), "it ends by the signal alone");
}

#[test]
fn what_can_not_be_answered_is_said_each_time_and_a_bad_setting_once() {
    let nodes = cluster(1);
    let redis = nodes[0].address("redis").to_string();
    let at = nodes[0].address("debug").to_string();
    for (watch, part) in [
        (watch(&nodes[0], &[]), "token"),
        (watch(&nodes[0], &[("DRIFTLESS_HTTP_TOKEN", "another token")]), "token"),
        (Running::start(&["watch", "--node", &redis], TOKEN), "debug interface"),
        (Running::start(&["watch", "--node", "no-such-host.invalid:1"], TOKEN), "no-such-host.invalid:1"),
    ] {
        prints(&watch, part);
        prints(&watch, part);
        assert!(statuses(&watch).is_empty(), "{}", watch.out());
    }
    let unread = run(&["watch", "--node", &at, "--token-file", "/does/not/exist"], &[]);
    assert!(!unread.is_success && unread.error.contains("/does/not/exist"), "{}{}", unread.out, unread.error);
}

/// Runs a line of shell with the program as `$0` and the node as `$1`, and returns its output and its errors.
fn shell(line: &str, node: &Running) -> (String, String) {
    let at = node.address("debug").to_string();
    let mut command = Command::new("sh");
    command.args(["-c", line, BINARY, &at]).envs(TOKEN.iter().copied()).stdin(Stdio::null());
    let output = command.output().expect("a shell");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// `watch | head` and the like: the reader leaves. That is no failure of this program, and nothing is left to do.
#[test]
fn it_ends_without_a_word_when_its_reader_leaves() {
    let nodes = cluster(1);
    for command in ["watch", "status"] {
        let line = format!("{{ timeout 20 \"$0\" {command} --node \"$1\"; echo \"ended: $?\" >&2; }} | head -n 0");
        let (_, error) = shell(&line, &nodes[0]);
        assert!(error == "ended: 0\n" || (command == "status" && error == "ended: 1\n"), "{command}: {error}");
    }
}

/// On a terminal, each status replaces the one before. `script` gives the program a terminal.
#[test]
fn a_terminal_is_cleared_before_each_status() {
    let nodes = cluster(1);
    let line = "timeout 3 script -qec \"$0 watch --node $1\" /dev/null";
    let (out, error) = shell(line, &nodes[0]);
    if error.contains("not found") || error.contains("No such file") {
        println!("skipped: no `script` on this machine");
        return;
    }
    let screens: Vec<_> = out.split("\u{1b}[2J\u{1b}[H").collect();
    assert!(screens.len() > 2 && screens[0].is_empty(), "{out:?}");
    assert!(screens[1..].iter().all(|screen| screen.starts_with("node")), "{out:?}");
}
