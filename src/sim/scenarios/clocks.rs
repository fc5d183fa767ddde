//! Tests with wrong clocks.

use super::stage::Stage;
use crate::sim::act;
use crate::sim::action::Action;

/// Scenario 4: a write wins over a tombstone that a peer derived from the previous write. Node 1 expires the value, so
/// its tombstone has the writer's stamp. The writer writes again within the same tick of its clock.
#[test]
fn a_write_after_anothers_expiry_of_the_same_key_wins() {
    let mut stage = Stage::new(|_| {});
    stage.act(Action::StepClock(1, 150));
    stage.write_for(0, 5, 500);
    stage.wait(400);
    assert!(stage.get(0, 5).is_some() && stage.get(1, 5).is_none(), "expired by the fast clock alone");
    stage.act(Action::FreezeClock(0, true));
    let again = stage.write(0, 5);
    stage.wait(1_000);
    assert_eq!(stage.everywhere(5), Some(again));
    assert!(stage.counters(1).expired > 0);
}

/// Scenario 4, by eviction: the tombstone of an evicted value has the writer's stamp as well.
#[test]
fn a_write_after_anothers_eviction_of_the_same_key_wins() {
    let mut stage = Stage::new(|_| {});
    stage.act(Action::FreezeClock(0, true));
    stage.write(0, 5);
    stage.wait(20);
    stage.act(Action::Evict(1, 5));
    assert_eq!((stage.get(1, 5), stage.counters(1).evicted_unstable), (None, 1));
    let again = stage.write(0, 5);
    stage.wait(1_000);
    assert_eq!(stage.everywhere(5), Some(again));
}

/// Scenario 10: a write from the future does not block its key. Node 0 is an hour ahead and writes; then its clock is
/// repaired and the node restarts.
#[test]
fn a_write_from_the_future_does_not_lock_its_key() {
    const HOUR: i32 = 3_600_000;
    let mut stage = Stage::new(|settings| settings.config.digest_interval = std::time::Duration::from_secs(5));
    stage.wait(20_000);
    stage.act(Action::StepClock(0, HOUR));
    stage.write(0, 5);
    stage.wait(200);
    assert_eq!((stage.get(1, 5), stage.get(2, 5)), (None, None), "deferred");
    assert!(stage.counters(1).deferred > 0);
    stage.act(Action::StepClock(0, -HOUR));
    stage.act(Action::Restart(0));
    stage.wait(20_000);
    let written = stage.write(1, 5);
    stage.wait(20_000);
    assert_eq!(stage.everywhere(5), Some(written), "others can overwrite it");
    stage.delete(2, 5);
    stage.wait(20_000);
    assert_eq!(stage.everywhere(5), None, "and delete it");
    // Once the early write's time has come, all replicas decide alike.
    stage.wait(HOUR as u64);
    stage.everywhere(5);
    stage.agree();
}

/// Scenario 12: replicas agree on an early stamp once its time has come. One replica defers the write; another, whose
/// clock is ahead as well, accepts it.
#[test]
fn an_early_stamp_is_agreed_upon_once_its_time_has_come() {
    let mut stage = Stage::new(|_| {});
    stage.act(Action::StepClock(2, 180));
    stage.act(Action::StepClock(0, 300));
    let written = stage.write(0, 5);
    stage.wait(20);
    assert_eq!((stage.get(1, 5), stage.get(2, 5)), (None, Some(written)));
    assert!(stage.counters(1).deferred > 0);
    stage.wait(2_000);
    assert_eq!(stage.everywhere(5), Some(written));
    assert!(stage.nodes().into_iter().all(|node| stage.replica(node).view().deferred_len() == 0));
}

/// Scenario 14: a stale clock does not bring a deleted key back. Node 0 pauses for ten minutes with a stopped clock. It
/// then writes the key before it receives anything.
#[test]
fn what_was_deleted_meanwhile_stays_deleted() {
    let mut stage = Stage::new(|settings| settings.config.digest_interval = std::time::Duration::from_secs(1));
    stage.wait(10_000);
    let (kept, deleted) = (3, 5);
    let before = stage.write(0, kept);
    stage.write(0, deleted);
    stage.wait(5_000);
    stage.act(Action::FreezeClock(0, true));
    stage.act(Action::Pause(0));
    let paused = stage.cluster.running()[0];
    act::perform(&mut stage.cluster, Action::Delete(0, deleted)).unwrap();
    stage.wait(600_000);
    assert_eq!(stage.replica(1).view().tombstone_len(), 0, "collected: no replica remembers the delete");
    stage.cluster.processes[paused].state = crate::sim::process::State::Up;
    stage.write(0, deleted);
    stage.wait(60_000);
    assert_eq!(stage.everywhere(deleted), None, "a stale clock does not bring it back");
    assert_eq!(stage.everywhere(kept), Some(before));
}

/// Scenario 16: a replica whose clock is two seconds behind can replace a value that it has just read.
#[test]
fn who_read_a_value_can_replace_it() {
    let mut stage = Stage::new(|_| {});
    stage.act(Action::StepClock(1, -2_000));
    let read = stage.write(0, 5);
    stage.wait(100);
    assert_eq!(stage.get(1, 5), Some(read));
    let rewritten = stage.write(1, 5);
    assert_eq!(stage.get(1, 5), Some(rewritten));
    stage.wait(1_000);
    assert_eq!(stage.everywhere(5), Some(rewritten));
}

/// Scenario 17: a restart with a clock behind the last stamp makes a new replica. It stamps above everything that it
/// has seen. (Every write checks that no dot is used twice.)
#[test]
fn a_restart_with_an_older_clock_is_a_new_replica() {
    let mut stage = Stage::new(|_| {});
    let before = stage.write(0, 5);
    let (id, last) = (stage.replica(0).view().id(), stage.replica(0).view().clock().last());
    stage.wait(20);
    stage.act(Action::StepClock(0, -900));
    stage.act(Action::Restart(0));
    let again = 3;
    assert_ne!(stage.replica(again).view().id(), id);
    // The failure detectors decide the time at which the peers find the restarted node.
    stage.wait_for("it catches up", |stage| stage.get(again, 5) == Some(before));
    assert!(stage.cluster.now_at(3).wall < last, "its clock is still behind what it stamped");
    assert_eq!(stage.everywhere(5), Some(before));
    let after = stage.write(again, 5);
    stage.wait(1_000);
    assert_eq!(stage.everywhere(5), Some(after), "it is past what it has seen");
}

/// Scenario 24: a time to live is a deadline. A value that is relayed from node to node does not live longer for that.
#[test]
fn lifetimes_are_deadlines() {
    let mut stage = Stage::new(|settings| settings.replicas = 4);
    for (a, b) in [(0, 2), (0, 3), (1, 3)] {
        stage.act(Action::Cut(a, b));
    }
    stage.write_for(0, 5, 10_000);
    stage.wait(8_000);
    let deadline = stage.expires(0, 5);
    assert!(deadline.is_some_and(|at| at > 0));
    for node in 0..4 {
        assert_eq!(stage.expires(node, 5), deadline, "of n{node}");
        assert!(stage.get(node, 5).is_some(), "it has come to n{node}");
    }
    stage.wait(2_001);
    assert_eq!(stage.everywhere(5), None);
}
