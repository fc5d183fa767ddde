//! Tests with nodes that join and leave.

use std::time::Duration;

use super::stage::Stage;
use crate::sim::action::Action;

/// Scenario 27: the records of departed origins are dropped, but their writes are not lost. Eight newcomers write and
/// leave, with `max_retired` at 1.
#[test]
fn dropping_a_departed_origin_loses_no_key() {
    let mut stage = Stage::new(|settings| settings.config.max_retired = 1);
    let mut written = Vec::new();
    for key in 0..8 {
        let newest = *stage.nodes().last().unwrap();
        written.push(stage.write(newest, key));
        stage.wait(1_000);
        let leaving = stage.at(newest);
        stage.act(Action::Join);
        stage.act(Action::Leave(leaving));
        stage.wait(3_000);
    }
    stage.wait(10_000);
    let dropped: u64 = stage.nodes().into_iter().map(|node| stage.counters(node).retired_dropped).sum();
    assert!(dropped > 0, "records were dropped");
    for (key, number) in (0..).zip(written) {
        assert_eq!(stage.everywhere(key), Some(number), "key {key}");
    }
}

/// Returns the size in bytes of a digest of node 0.
fn digest_bytes(stage: &mut Stage) -> usize {
    let now = stage.cluster.now_at(0);
    let digest = stage.cluster.openings[0].engine.replica.greeting(now);
    let id = stage.replica(0).view().id();
    let message = crate::message::Message::<u16, String>::Digest(digest);
    crate::sim::codec::encode(0, id, 0, &message).expect("a digest").len()
}

/// Lets nodes join, write and leave, one at a time.
fn churn(stage: &mut Stage, times: u32) {
    for n in 0..times {
        stage.cluster.start(None);
        let newcomer = stage.cluster.processes.len() - 1;
        stage.wait(250);
        stage.write(newcomer, n as u16 % 20);
        stage.wait(50);
        let leaving = stage.at(newcomer);
        stage.act(Action::Leave(leaving));
        // The detector state of a departed node costs time and serves no check.
        let gone = &mut stage.cluster.processes[newcomer];
        gone.views.clear();
        gone.membership = crate::membership::Membership::default();
        stage.cluster.report.events = 0; // A run has a limit of events; this one is long on purpose.
    }
}

fn comes_and_goes(times: u32) {
    let mut stage = Stage::new(|settings| settings.suspect_after = Duration::from_millis(300));
    (0..20).for_each(|key| {
        stage.write(0, key);
    });
    stage.wait(2_000);
    let before = digest_bytes(&mut stage);
    churn(&mut stage, times);
    stage.wait(20_000);
    for node in 0..3 {
        let replica = stage.replica(node);
        assert_eq!(
            (replica.view().peer_len(), replica.view().tombstone_len()),
            (2, 0),
            "n{node} knows no departed replicas"
        );
        assert!(
            replica.view().origin_len() <= 20 && replica.view().log_len() < 40 + 65 * 24,
            "n{node} has {} log entries",
            replica.view().log_len()
        );
    }
    let after = digest_bytes(&mut stage);
    assert!(after <= before + 32, "a digest takes {after} bytes after {times} churned replicas, {before} before");
    assert!((0..20).all(|key| stage.everywhere(key).is_some()));
}

/// Scenario 28: departed replicas leave no members, tombstones or origins behind, and digests stay as small as before.
/// 150 nodes join, write and leave.
#[test]
fn churned_replicas_leave_nothing() {
    comes_and_goes(150);
}

/// Scenario 28 and scenario 69 in full: as above, with ten thousand nodes.
#[test]
#[ignore = "minutes; run with --profile sim -- --ignored"]
fn ten_thousand_churned_replicas_leave_nothing() {
    comes_and_goes(10_000);
}

/// Scenario 68: logs and members stay bounded. For an hour, node 2 is cut off and reconnected every few seconds.
#[test]
fn flapping_for_an_hour_grows_nothing() {
    let mut stage = Stage::new(|settings| {
        settings.keys = 5;
        settings.config.digest_interval = Duration::from_secs(1);
    });
    let (mut logs, mut peers) = (0, 0);
    for n in 0..900u32 {
        stage.isolate(2);
        stage.write((n % 3) as usize, n as u16 % 5);
        stage.wait(2_000);
        stage.heal();
        stage.wait(2_000);
        let most = |count: fn(&super::stage::Replica) -> usize, stage: &Stage| {
            (0..3).map(|node| count(stage.replica(node))).max().unwrap_or_default()
        };
        logs = logs.max(most(|replica| replica.view().log_len(), &stage));
        peers = peers.max(most(|replica| replica.view().peer_len(), &stage));
    }
    assert!(stage.cluster.report.faults["found dead"] > 500, "it flapped");
    assert!(logs <= 3 * (2 * 5 + 65) && peers == 2, "{logs} log entries, {peers} members");
    stage.wait(10_000);
    stage.agree();
    stage.at_baseline();
}
