//! Tests with gaps, replays, extreme numbers and broken links.

use std::time::Duration;

use bytes::Bytes;

use super::stage::{Replica, Stage};
use crate::crdt::{Dot, Kind, Marker};
use crate::hlc::Stamp;
use crate::item::{Body, Item, ItemRef, Key};
use crate::message::{Digest, Entry, Message, Push, Retired};
use crate::replica_id::ReplicaId;
use crate::sim::action::Action;
use crate::sim::inbound;
use crate::sim::process::Payload;
use crate::sim::settle;

/// Scenario 30: replayed traffic restores nothing. Old messages arrive once more, at the nodes that had received them
/// and at nodes that have restarted since.
#[test]
fn replayed_traffic_brings_nothing_back() {
    let mut stage = Stage::new(|settings| settings.config.digest_interval = Duration::from_millis(500));
    stage.cluster.course.copies = Some(Vec::new());
    (0..5).for_each(|key| {
        stage.write(0, key);
    });
    stage.delete(1, 4);
    stage.wait(2_000);
    let yesterday: Vec<_> = (0..3).map(|node| stage.copies_to(node)).collect();
    assert!(yesterday.iter().all(|copies| copies.len() >= 3));
    let today: Vec<_> = (0..3).map(|key| stage.write(2, key)).collect();
    stage.delete(2, 3);
    let again = stage.write(2, 4);
    stage.wait(60_000);

    let right = |stage: &Stage, what: &str| {
        (0..3).for_each(|key| assert_eq!(stage.everywhere(key), Some(today[usize::from(key)]), "{what}"));
        assert_eq!((stage.everywhere(3), stage.everywhere(4)), (None, Some(again)), "{what}");
    };
    (0..3).for_each(|node| stage.replay(node, &yesterday[node]));
    right(&stage, "at once");
    stage.wait(5_000);
    right(&stage, "later");
    stage.at_baseline();

    for _ in 0..2 {
        stage.act(Action::Restart(0)); // Restarts the oldest node each time: at the end two nodes are new.
        stage.wait(10_000);
    }
    let late = stage.cluster.report.faults.get("late message").copied().unwrap_or_default();
    let new: Vec<_> = stage.nodes();
    assert_eq!(new, [2, 3, 4]);
    (0..3).for_each(|at| stage.replay(new[at], &yesterday[stage.cluster.processes[new[at]].address]));
    right(&stage, "restarted, at once");
    assert!(stage.cluster.report.faults["late message"] > late, "late messages of departed processes");
    stage.wait(5_000);
    right(&stage, "restarted, later");
}

/// Scenario 35: overwritten writes are not sent and count as seen. An interval of which nothing is left is answered
/// with an empty interval.
#[test]
fn what_was_overwritten_is_not_sent_and_counts_as_seen() {
    let mut stage = Stage::new(|_| {});
    stage.isolate(2);
    let last = (0..200).map(|_| stage.write(0, 5)).last();
    let id = stage.replica(0).view().id();
    let dot = Dot::new(id, stage.replica(0).view().vector().get(&id));
    stage.wait(500);
    assert!(!stage.replica(2).view().vector().covers(&dot));
    let entries = stage.cluster.report.entries;
    stage.heal();
    stage.wait(3_000);
    assert_eq!(stage.everywhere(5), last);
    assert!(stage.replica(2).view().vector().covers(&dot), "all 200 count as seen");
    let sent = stage.cluster.report.entries - entries;
    assert!((1..=6).contains(&sent), "{sent} registers sent for 200 writes of one key");
}

/// Scenario 36: gaps are filled without a storm of messages. Each peer misses different pushes. (Scenario 37 holds too:
/// all messages here travel as bytes.)
#[test]
fn gaps_are_filled_without_a_storm() {
    let mut stage = Stage::new(|settings| settings.replicas = 5);
    stage.act(Action::Loss(30));
    let bytes = stage.cluster.report.bytes;
    for n in 0..100u16 {
        stage.write(0, n % 20);
        stage.wait(20);
    }
    stage.act(Action::Loss(0));
    stage.wait(3_000);
    assert!((0..20).all(|key| stage.everywhere(key).is_some()));
    let gaps: u64 = stage.nodes().into_iter().map(|node| stage.counters(node).gaps).sum();
    let reconciles: u64 = stage.nodes().into_iter().map(|node| stage.counters(node).reconciles_out).sum();
    assert!(gaps > 10, "{gaps} gaps");
    assert_eq!(reconciles, 0, "no replica sent its whole state");
    let (sent, needed) = (stage.cluster.report.entries, 100 * 4);
    assert!(sent < 4 * needed, "{sent} registers for {needed} that were needed");
    assert!(stage.cluster.report.bytes > bytes, "through the encoder");
}

/// Scenario 37: every hop is encoded and decoded. A message that cannot be decoded is reported.
#[test]
fn a_hop_is_encoded_and_decoded() {
    let mut stage = Stage::new(|_| {});
    stage.cluster.course.copies = Some(Vec::new());
    stage.write(0, 5);
    stage.wait(100);
    let copies = stage.copies_to(1);
    let pushed = copies.iter().find_map(|copy| match copy {
        Payload::Message(bytes) if bytes.len() > 100 => Some(bytes.clone()),
        _ => None,
    });
    let pushed = pushed.expect("a push");
    let told = inbound::arrive(&mut stage.cluster, 1, Payload::Message(pushed.slice(..pushed.len() - 1))).unwrap_err();
    assert!(told.what.contains("cannot decode a message that it received"), "{told}");
}

fn hostile_push(origin: ReplicaId, stamp: u64, from: u64, to: u64) -> Message<u16, String> {
    let marker = Marker { stamp: Stamp::new(stamp, origin), kind: Kind::Live, dot: Dot::new(origin, to) };
    let item = ItemRef::new(Item { key: Key::Known(5), body: Body::Known("0".to_owned()) });
    let entry = Entry { hash: stage_hash(5), item, marker, expires: u64::MAX, size: u32::MAX, weight: 1 };
    Message::Push(Push {
        origin,
        from,
        to,
        epoch: 0,
        entries: vec![entry],
        fills: Vec::new(),
        hops: u8::MAX,
        raw: Bytes::new(),
    })
}

fn stage_hash(key: u16) -> u64 {
    crate::sim::types::hash_of(&key)
}

fn hostile_digest(from: ReplicaId) -> Message<u16, String> {
    Message::Digest(Digest {
        clock: u64::MAX,
        quiet_since: u64::MAX,
        watermark: u64::MAX,
        epoch: u64::MAX,
        vector: [(from, u64::MAX)].into_iter().collect(),
        retired: Retired { count: u32::MAX, hash: u64::MAX },
        full: true,
        ..Digest::default()
    })
}

/// Scenario 38: messages from one peer with every number at its maximum do not move the clock, vector or epoch.
#[test]
fn numbers_at_their_end_move_nothing() {
    let mut stage = Stage::new(|_| {});
    let written = stage.write(0, 5);
    stage.wait(1_000);
    let from = stage.replica(2).view().id();
    let now = stage.cluster.now_at(0);
    let (vector, clock) = (stage.replica(0).view().vector().get(&from), stage.replica(0).view().clock().last());
    let target: &mut Replica = &mut stage.cluster.openings[0].engine.replica;
    let messages = [
        hostile_push(from, u64::MAX, vector, u64::MAX),
        hostile_push(from, u64::MAX - 1, 0, u64::MAX - 1),
        hostile_push(from, 1, u64::MAX - 1, u64::MAX),
        hostile_digest(from),
        Message::Ack(crate::message::Ack { to: None, time: u64::MAX }),
    ];
    messages.into_iter().for_each(|message| target.handle_message(now, from, message));
    settle::opening(&mut stage.cluster, 0).unwrap();
    let replica = stage.replica(0);
    assert_eq!((replica.view().vector().get(&from), replica.view().epoch()), (vector, 0));
    assert!(replica.view().clock().last() < clock + 1_000_000_000, "the receiver's clock did not follow");
    assert!(replica.view().offenders().any(|(who, _)| who == from), "the member with the fast clock is named");
    assert_eq!(stage.get(0, 5), Some(written));
    // The peer's valid writes still count, and so do those of the third node.
    let (honest, other) = (stage.write(2, 6), stage.write(1, 7));
    stage.wait(2_000);
    assert_eq!((stage.everywhere(6), stage.everywhere(7)), (Some(honest), Some(other)));
}

/// Scenario 67: data flows around a link that is cut in one direction.
#[test]
fn data_flows_around_a_link_that_is_dead_one_way() {
    let mut stage = Stage::new(|_| {});
    stage.act(Action::CutOneWay(0, 1));
    stage.wait(5_000);
    let written = stage.write(0, 5);
    stage.wait(3_000);
    assert_eq!(stage.everywhere(5), Some(written));
    let report = &stage.cluster.report;
    assert!(report.faults["refused"] > 0, "the link was tried");
    assert_eq!(report.faults.get("found dead"), None, "and no node is declared dead");
    // Deletes take the same path.
    stage.delete(0, 5);
    stage.wait(3_000);
    assert_eq!(stage.everywhere(5), None);
}
