//! scenario 34: two processes with one replica id.

use std::time::Duration;

use super::net::{Net, S, id, plain};
use crate::hlc::Now;
use crate::item::{Body, Item, ItemRef, Key};
use crate::message::Digest;
use crate::replica::{Replica, ReplicaConfig, Write};

/// Returns the visible values of some keys, by replica.
fn views(net: &Net, keys: std::ops::Range<u32>) -> Vec<Vec<Option<u32>>> {
    let view = |i: usize| keys.clone().map(|key| net.get(i, key)).collect();
    (0..net.r.len()).filter(|i| net.up[*i]).map(view).collect()
}

/// Returns replicas of which the first `duplicates` share one id. Writes count as young for half of `gc_grace` seconds.
fn net(replicas: usize, duplicates: usize, gc_grace: u64) -> Net {
    let config = |i| ReplicaConfig { gc_grace: Duration::from_secs(gc_grace), ..plain(i) };
    let mut net = Net::new(replicas, config);
    for duplicate in 1..duplicates {
        net.r[duplicate] = Replica::new(id(0), config(duplicate), duplicate as u64, net.now(duplicate)).unwrap();
    }
    net
}

fn is_valid(net: &mut Net) {
    for replica in &mut net.r {
        assert_eq!(replica.validate(), Ok(()));
    }
}

fn count(net: &Net, of: impl Fn(&crate::replica::Counters) -> u64) -> u64 {
    net.r.iter().map(|replica| of(replica.view().counters())).sum()
}

/// Checks that two replicas that write under one id are detected: each takes a new id, and all replicas agree. Returns
/// the agreed values.
fn two_of_four_are_duplicates(gc_grace: u64) -> Vec<Option<u32>> {
    let mut net = net(4, 2, gc_grace);
    for a in [0, 1, 2] {
        net.meet(a, 3);
    }
    net.meet(0, 2);
    net.meet(1, 2);
    for round in 0..8 {
        for duplicate in [0, 1] {
            net.put(duplicate, round * 2 + duplicate as u32, Some(round), 8);
            net.put(duplicate, 50, Some(100 * duplicate as u32 + round), 8);
        }
        net.step();
    }
    net.put(0, 0, None, 8);
    net.put(1, 1, None, 8);
    net.run(8);
    assert_eq!(net.renewed, 2);
    assert_eq!(count(&net, |counters| counters.new_id), 2);
    assert!(count(&net, |counters| counters.duplicate_id) > 0);
    let views = views(&net, 0..60);
    assert_eq!(views[2], views[3]);
    assert_eq!(views[0], views[2], "the first duplicate");
    assert_eq!(views[1], views[2], "the second duplicate");
    is_valid(&mut net);
    net.run(70);
    assert_eq!((net.renewed, net.r.iter().map(|it| it.view().tombstone_len()).sum::<usize>()), (2, 0));
    views[2].clone()
}

#[test]
fn duplicates_take_new_ids_and_lose_nothing_young() {
    let kept = two_of_four_are_duplicates(10);
    assert_eq!((kept[0], kept[1]), (None, None), "deleted");
    assert_eq!(kept.iter().flatten().count(), 15, "14 keys of one of them, and one of both");
}

/// Checks that replicas agree also on writes that are too old to be written again. Values that a member holds stay, and
/// are the same on all replicas.
#[test]
fn duplicates_take_new_ids_and_agree() {
    for gc_grace in [0, 1] {
        let kept = two_of_four_are_duplicates(gc_grace);
        assert!((1..=15).contains(&kept.iter().flatten().count()), "{kept:?}");
    }
}

/// Checks that a process restored from a snapshot begins anew. The snapshot is older than what the process has since
/// sent. It must bring back nothing that was deleted meanwhile, and must not lose what it wrote itself.
#[test]
fn a_restored_process_begins_anew() {
    let mut net = net(4, 2, 2);
    // The second replica is the snapshot, of a moment when nothing but `put(0, 7, ..)` had happened.
    let early = Now { wall: net.now(1).wall, mono: 0 };
    net.r[1] = Replica::new(id(0), plain(1), 1, early).unwrap();
    net.put(1, 7, Some(1), 8);
    net.up[1] = false;
    net.put(0, 7, Some(1), 8);
    for (a, b) in [(0, 2), (0, 3), (2, 3)] {
        net.meet(a, b);
    }
    net.run(3);
    for key in 10..40 {
        net.put(0, key, Some(key), 8);
    }
    net.put(2, 7, None, 8);
    net.run(20);
    assert_eq!(net.held(3, 7), None, "the delete is collected: every member is assumed to have seen it");
    net.up[0] = false;
    net.up[1] = true;
    assert_eq!(net.get(1, 7), Some(1), "deleted everywhere else");
    net.meet(2, 1);
    net.meet(3, 1);
    net.run(3);
    assert_eq!(net.renewed, 1);
    let views = views(&net, 0..60);
    assert_eq!(views[0], views[1]);
    assert_eq!(views[0], views[2]);
    assert_eq!((net.get(1, 7), net.get(1, 20)), (None, Some(20)));
    assert_eq!(net.r[1].view().removals().void, 1, "voided writes are reported");
    is_valid(&mut net);
}

/// Checks that two duplicates without a third member recover in turn. The one that is behind takes a new id and is
/// filled by the second. Then the second takes a new id and is filled by the first.
#[test]
fn duplicates_without_a_third() {
    let mut net = net(2, 2, 10);
    for key in 10..30 {
        net.put(0, key, Some(key), 8);
        net.put(1, 20 + key, Some(key), 8);
    }
    net.run(10);
    net.put(0, 1, Some(1), 8);
    net.put(1, 2, Some(2), 8);
    for _ in 0..5 {
        net.meet(0, 1);
        net.run(1);
        net.put(1, 3, Some(3), 8);
    }
    assert_eq!(net.renewed, 2);
    assert_eq!(views(&net, 0..9)[0], views(&net, 0..9)[1]);
    assert_eq!((net.get(0, 2), net.get(1, 1)), (Some(2), Some(1)));
    is_valid(&mut net);
}

/// Checks that a faulty member cannot keep a replica empty. It reports a duplicate id every second, and is believed
/// once a minute.
#[test]
fn a_liar_is_believed_once_a_minute() {
    let mut net = net(3, 1, 2);
    net.all_meet();
    net.put(2, 1, Some(1), 8);
    for _ in 0..50 {
        net.run(1);
        let ours = net.r[0].view().id();
        let now = net.now(0);
        let mut lie = Digest { reply: true, greets: false, ..net.r[1].greeting(now) };
        lie.vector.raise(ours, now.wall + S / 10);
        net.give(1, ours, &crate::message::Message::Digest(lie));
    }
    assert_eq!(net.renewed, 1);
    assert_eq!(net.get(0, 1), Some(1));
    assert!(net.r[0].view().counters().duplicate_id > 40);
    net.run(70);
    assert_eq!(net.renewed, 1, "a statement of the last minute does not count later");
    is_valid(&mut net);
}

/// Checks that a delete or expiry which only one side of a partition has seen reaches the second side. Each side has
/// one duplicate. The second side has claims that cover the delete, so the duplicate must write it again under its new
/// id.
#[test]
fn a_delete_that_only_one_duplicates_side_has_seen_reaches_the_other() {
    let mut net = net(4, 2, 2);
    net.up[1] = false; // Not started yet.
    for (a, b) in [(0, 2), (0, 3), (2, 3)] {
        net.meet(a, b);
    }
    for key in [7, 8] {
        net.put(2, key, Some(1), 8);
    }
    net.run(2);
    net.parted = true;
    net.up[1] = true;
    net.meet(1, 3);
    net.run(2);
    assert_eq!(views(&net, 7..9), vec![vec![Some(1); 2]; 4]);
    net.put(0, 7, None, 8);
    net.put_until(0, 8, 2, 3 * S);
    net.run(1);
    net.put(1, 9, Some(1), 8);
    net.run(30);
    assert_eq!((net.get(2, 7), net.get(3, 7), net.get(2, 8), net.get(3, 8)), (None, Some(1), None, Some(1)));
    net.parted = false;
    for (a, b) in [(0, 3), (1, 2), (0, 2), (1, 3), (2, 3)] {
        net.meet(a, b);
    }
    net.run(20);
    assert!(net.renewed > 0);
    assert_eq!(views(&net, 7..9), vec![vec![None; 2]; 4]);
    is_valid(&mut net);
}

/// Checks that operations begun under the old id end without harm. Fills lose, and no member is reported to have a
/// write of the old id.
#[test]
fn what_was_begun_under_the_old_id_ends() {
    let mut net = net(3, 1, 2);
    net.all_meet();
    let written = net.put(0, 1, Some(1), 8);
    let (key, hash, now) = (Key::Known(7), 7 << 48 | 7, net.now(0));
    let ticket = net.r[0].begin_fill(now, hash, &key);
    assert!(!net.r[0].view().is_fill_overtaken(&ticket, hash, &key));
    net.run(1);
    assert_eq!(net.r[0].view().member_has(id(1), written), Some(true));
    let now = net.now(0);
    let (remains, _) = (net.r[0].renew(now, id(50), 0), net.clean(0));
    assert!(remains.is_some() && net.r[0].view().has_unsent(), "no member has the writes that are sent again");
    assert!(net.r[0].view().is_fill_overtaken(&ticket, hash, &key));
    let item = ItemRef::new(Item { key, body: Body::Known(5) });
    let fill = Write { hash, item, expires: 0, size: 8, weight: 1 };
    assert_eq!(net.r[0].finish_fill(now, &ticket, fill), None);
    net.r[1].handle_member_left(now, id(0));
    net.r[2].handle_member_left(now, id(0));
    net.meet(0, 1);
    net.run(2);
    assert_eq!(net.r[0].view().member_has(id(1), written), Some(false));
    assert_eq!(views(&net, 1..2), vec![vec![Some(1)]; 3]);
    assert!(!net.r[0].view().has_unsent());
    is_valid(&mut net);
}
