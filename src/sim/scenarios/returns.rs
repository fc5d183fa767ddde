//! Tests of tombstones and of members that are unreachable and return.

use std::time::Duration;

use super::stage::Stage;
use crate::sim::action::Action;

/// Scenario 19: collection waits for an unreachable member that is not forgotten.
#[test]
fn tombstones_wait_for_the_silent() {
    let mut stage = Stage::new(|settings| settings.config.forget_after = Duration::from_secs(60));
    stage.write(0, 5);
    stage.wait(2_000);
    stage.isolate(2);
    stage.delete(0, 5);
    stage.wait(30_000);
    assert!(stage.cluster.report.faults["found dead"] > 0, "it is declared dead");
    assert_eq!((stage.replica(0).view().tombstone_len(), stage.replica(1).view().tombstone_len()), (1, 1));
    stage.heal();
    stage.wait(10_000);
    assert_eq!(stage.everywhere(5), None);
    assert_eq!(stage.counters(2).reconciles_in, 0, "a delta was enough");
    stage.at_baseline();
}

/// Scenario 21: a reconcile that breaks off leaves nothing stale. Its sender crashes half-way, and a third node takes
/// over.
#[test]
fn a_reconcile_that_breaks_off_leaves_nothing_stale() {
    let mut stage = Stage::new(|settings| {
        settings.config.max_frame_bytes = 1_024;
        settings.config.forget_after = Duration::from_millis(2_000);
        settings.sending = Duration::from_millis(20);
    });
    (0..20).for_each(|key| {
        stage.write(0, key);
    });
    stage.wait(2_000);
    stage.isolate(2);
    (0..10).for_each(|key| stage.delete(1, key));
    (10..20).for_each(|key| {
        stage.write(1, key);
    });
    stage.wait(10_000);
    assert_eq!(stage.replica(0).view().tombstone_len(), 0, "collected without it");
    stage.heal();
    stage.act(Action::Cut(1, 2)); // Makes node 0 the sender.
    let frames = stage.counters(2).frames_in;
    stage.wait_for("a session half-way in", |stage| {
        stage.replica(2).view().is_receiving() && stage.counters(2).frames_in > frames + 1
    });
    let seen = stage.replica(2).view().vector().get(&stage.replica(1).view().id());
    assert!(
        seen < stage.replica(1).view().vector().get(&stage.replica(1).view().id()),
        "scenario 26: nothing is claimed half-way"
    );
    assert!(stage.counters(0).reconciles_out > 0);
    stage.crash(0);
    stage.heal();
    stage.wait(10_000);
    assert!(stage.counters(2).sessions_abandoned > 0 && stage.counters(2).reconciles_in > 0);
    (0..10).for_each(|key| assert_eq!(stage.everywhere(key), None, "key {key}"));
    assert!((10..20).all(|key| stage.everywhere(key).is_some()));
    stage.agree();
}

/// Scenario 22: late frames have no effect. The frames of a reconcile and of a delta arrive once more, after newer
/// writes.
#[test]
fn late_frames_have_no_effect() {
    let mut stage = Stage::new(|settings| settings.config.forget_after = Duration::from_millis(2_000));
    (0..6).for_each(|key| {
        stage.write(0, key);
    });
    stage.wait(1_000);
    stage.isolate(2);
    (0..3).for_each(|key| stage.delete(1, key));
    stage.wait(6_000);
    stage.cluster.course.copies = Some(Vec::new());
    stage.heal();
    stage.wait_for("a reconcile", |stage| stage.counters(2).reconciles_in > 0);
    stage.wait(500);
    let copies = stage.copies_to(2);
    let newer: Vec<_> = (0..6).map(|key| stage.write(2, key)).collect();
    stage.delete(2, 5);
    stage.wait(5_000);
    let (ignored, merged) = (stage.counters(2).frames_ignored, stage.counters(2).merged);
    stage.replay(2, &copies);
    stage.wait(5_000);
    assert!(stage.counters(2).frames_ignored > ignored, "frames were among them");
    assert_eq!(stage.counters(2).merged, merged);
    (0..5).for_each(|key| assert_eq!(stage.everywhere(key), Some(newer[usize::from(key)])));
    assert_eq!(stage.everywhere(5), None);
}

/// Scenario 23: a collected tombstone is not sent back and forth between a replica that has collected it and one that
/// still holds it.
#[test]
fn collected_tombstones_are_not_handed_back_and_forth() {
    let mut stage = Stage::new(|settings| settings.replicas = 4);
    (0..10).for_each(|key| {
        stage.write(0, key);
    });
    stage.wait(500);
    (0..10).for_each(|key| stage.delete(1, key));
    let count = |stage: &Stage| {
        stage.nodes().into_iter().map(|node| stage.replica(node).view().tombstone_len()).collect::<Vec<_>>()
    };
    stage.wait_for("one that has collected and one that has not", |stage| {
        count(stage).contains(&0) && count(stage).iter().any(|count| *count > 0)
    });
    stage.wait_for("all have", |stage| count(stage).iter().all(|count| *count == 0));
    let sent = stage.cluster.report.entries;
    for _ in 0..100 {
        stage.wait(100);
        assert_eq!(count(&stage), [0; 4], "it stays gone");
    }
    assert_eq!(stage.cluster.report.entries, sent, "and no replica sends it");
}

/// Scenario 29: the records of a crashed node and its tombstones go when the node is forgotten.
#[test]
fn a_failed_node_is_forgotten_with_its_tombstones() {
    let mut stage = Stage::new(|_| {});
    stage.write(2, 5);
    stage.wait(500);
    stage.delete(2, 5);
    stage.wait(20);
    stage.crash(2);
    stage.wait(3_000);
    assert_eq!(
        (stage.replica(0).view().peer_len(), stage.replica(0).view().tombstone_len()),
        (2, 1),
        "it may come back"
    );
    stage.wait(10_000);
    for node in [0, 1] {
        assert_eq!((stage.replica(node).view().peer_len(), stage.replica(node).view().tombstone_len()), (1, 0));
        assert_eq!(stage.replica(node).view().origin_len(), 0, "no register refers to any replica");
        assert_eq!(stage.counters(node).forgotten, 1);
    }
}

/// Scenario 31: tombstones beyond the cap cost a reconcile and never agreement. Node 2 misses more deletes than
/// `max_tombstones`.
#[test]
fn tombstones_beyond_the_cap_cost_an_entry_and_never_an_agreement() {
    let mut stage = Stage::new(|settings| settings.config.max_tombstones = 2);
    (0..12).for_each(|key| {
        stage.write(0, key);
    });
    stage.wait(1_000);
    stage.isolate(2);
    (0..8).for_each(|key| stage.delete(0, key));
    stage.wait(500);
    assert!(stage.counters(0).forced_drops >= 6 && stage.replica(0).view().tombstone_len() <= 2);
    stage.heal();
    stage.wait(5_000);
    assert!(stage.counters(2).reconciles_in > 0, "the lagging member was reconciled");
    (0..8).for_each(|key| assert_eq!(stage.everywhere(key), None, "key {key}"));
    stage.agree();
}

/// Scenario 63: two halves become one cluster. Three and three nodes are separated until they have forgotten each
/// other, and both sides write and delete.
#[test]
fn two_halves_become_one_cluster() {
    let mut stage = Stage::new(|settings| {
        settings.replicas = 6;
        settings.config.forget_after = Duration::from_millis(2_000);
    });
    (0..12).for_each(|key| {
        stage.write(0, key);
    });
    stage.wait(1_000);
    stage.act(Action::Split(0b111));
    stage.wait(1_500);
    let left: Vec<_> = (0..4).map(|key| stage.write(0, key)).collect();
    let right: Vec<_> = (4..8).map(|key| stage.write(5, key)).collect();
    (8..10).for_each(|key| stage.delete(1, key));
    (10..12).for_each(|key| stage.delete(4, key));
    stage.wait(10_000);
    assert!(stage.counters(0).forgotten >= 3 && stage.counters(5).forgotten >= 3, "each declared the other dead");
    stage.heal();
    stage.wait(20_000);
    for node in 0..6 {
        assert_eq!(stage.replica(node).view().live_members().len(), 5, "n{node} has met every member again");
    }
    for key in 0..8 {
        let written = if key < 4 { left[usize::from(key)] } else { right[usize::from(key) - 4] };
        let found = stage.everywhere(key);
        assert!(found.is_none() || found == Some(written), "key {key} is {found:?}, written was {written}");
    }
    (8..12).for_each(|key| assert_eq!(stage.everywhere(key), None, "key {key} was deleted"));
    stage.agree();
    let last = stage.write(3, 0);
    stage.wait(1_000);
    assert_eq!(stage.everywhere(0), Some(last));
}
