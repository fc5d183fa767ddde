//! Promises that a review of the core found broken. Each has a schedule, and a bug switch that breaks it again.

use super::*;
use crate::crdt::{Cause, Kind, Marker};
use crate::message::Push;
use std::time::Duration;

/// Runs a schedule on the code as it is, and then with a mistake reintroduced, which the schedule must detect.
pub(super) fn must_catch(bug: &str, schedule: impl Fn(Bugs) + std::panic::RefUnwindSafe) {
    schedule(Bugs::default());
    let bugs = Bugs::only(bug).expect("a known mistake");
    let caught = std::panic::catch_unwind(|| schedule(bugs));
    assert!(caught.is_err(), "{bug} was put back and nothing broke");
}

fn drain(net: &mut Net, i: usize) -> Vec<(ReplicaId, Message<u32, u32>)> {
    let now = net.now(i);
    let mut all = Vec::new();
    while let Some(t) = net.r[i].poll_transmit(now) {
        for to in &t.to {
            all.push((*to, copy(&t.message)));
            if t.bulk {
                net.r[i].handle_sent(now, *to, true);
            }
        }
    }
    all
}

/// Checks that a reconcile spares the entries of a session that broke off. The source of a newcomer's first session
/// crashes, and the newcomer adopts the entries that arrived. The next source answers its digest before the pushes of
/// the adopted entries arrive. So its reconcile lists each entry under another dot with the same stamp.
#[test]
fn entries_of_a_broken_session_survive_the_next_reconcile() {
    must_catch("reconcile_compares_dots", |bugs| {
        let (s1, s2, n) = (0, 1, 2);
        let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) }).with(bugs);
        net.meet(s1, s2);
        for key in 0..50 {
            net.put(s1, key, Some(key), 100);
        }
        net.run(1);
        net.put(s2, 999, Some(1), 8);
        net.put(s2, 999, None, 8);
        net.run(20);
        assert!(net.held(s1, 999).is_none() && net.held(s2, 999).is_none(), "one delete was collected, as everywhere");
        let asks = net.digest_of(n);
        let frames = net.frames_for(s1, n, &asks);
        let (_, others) = frames.split_last().unwrap();
        others.iter().for_each(|frame| net.give(s1, id(n), frame));
        net.die(s1, false);
        // n receives a digest of s2.
        let hello = net.digest_of(s2);
        net.give(s2, id(n), &hello);
        drain(&mut net, n);
        net.at += 4 * S;
        let now = net.now(n);
        net.r[n].handle_timeout(now);
        assert!(net.r[n].view().counters().adopted > 30, "adopted {}", net.r[n].view().counters().adopted);
        // The messages of n are a digest and pushes. The digest arrives first.
        let said = drain(&mut net, n);
        let (digests, pushes): (Vec<_>, Vec<_>) = said.into_iter().partition(|(_, m)| matches!(m, Message::Digest(_)));
        assert!(!digests.is_empty() && !pushes.is_empty(), "{} digests {} pushes", digests.len(), pushes.len());
        for (to, digest) in &digests {
            net.give(n, *to, digest);
        }
        let answer = drain(&mut net, s2);
        for (to, push) in &pushes {
            net.give(n, *to, push);
        }
        for (to, message) in &answer {
            net.give(s2, *to, message);
        }
        net.run(30);
        for key in 0..50 {
            assert_eq!((net.get(s2, key), net.get(n, key)), (Some(key), Some(key)), "key {key}");
        }
    });
}

/// Checks the same without a crash: only the last frame of the first session is lost.
#[test]
fn entries_survive_a_lost_frame_and_reconciles_from_two_sources() {
    must_catch("reconcile_compares_dots", |bugs| {
        let (s1, s2, n) = (0, 1, 2);
        let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) }).with(bugs);
        net.meet(s1, s2);
        for key in 0..50 {
            net.put(s1, key, Some(key), 100);
        }
        net.run(1);
        net.put(s2, 999, Some(1), 8);
        net.put(s2, 999, None, 8);
        net.run(20);
        let asks = net.digest_of(n);
        let frames = net.frames_for(s1, n, &asks);
        let (_, others) = frames.split_last().unwrap();
        others.iter().for_each(|frame| net.give(s1, id(n), frame));
        for s in [s1, s2] {
            let hello = net.digest_of(s);
            net.give(s, id(n), &hello);
        }
        drain(&mut net, n);
        net.at += 4 * S;
        let now = net.now(n);
        net.r[n].handle_timeout(now);
        let said = drain(&mut net, n);
        let (digests, pushes): (Vec<_>, Vec<_>) = said.into_iter().partition(|(_, m)| matches!(m, Message::Digest(_)));
        for (to, digest) in &digests {
            net.give(n, *to, digest);
        }
        let mut answers = Vec::new();
        for s in [s1, s2] {
            answers.extend(drain(&mut net, s).into_iter().map(|(to, m)| (s, to, m)));
        }
        for (to, push) in &pushes {
            net.give(n, *to, push);
        }
        for (s, to, message) in &answers {
            net.give(*s, *to, message);
        }
        net.run(30);
        for key in 0..50 {
            assert_eq!(
                (net.get(s1, key), net.get(s2, key), net.get(n, key)),
                (Some(key), Some(key), Some(key)),
                "key {key}"
            );
        }
    });
}

/// Checks that a value whose only push was lost still arrives after its writer evicted it, or that its loss is counted.
#[test]
fn a_lost_push_and_an_eviction_on_the_writer_lose_no_value() {
    must_catch("released_when_cut", |bugs| {
        let (a, b) = (0, 1);
        let mut net = Net::new(2, plain).with(bugs);
        net.meet(a, b);
        net.run(1);
        net.put(a, 7, Some(70), 8);
        net.intercept(a); // lost
        net.evict(a, 7);
        net.run(10);
        let c = net.r[a].view().counters();
        assert!(net.get(b, 7) == Some(70) || c.evicted_unsent > 0, "lost everywhere without being counted");
    });
}

/// Checks that a deferred value of a departed process does not return. A clock that is a day ahead writes a value,
/// which the other members defer. The process restarts with a right clock, as the guide asks, and the key is
/// overwritten and deleted. The deferred value must not come back a day later.
#[test]
fn a_value_from_the_future_does_not_return_after_its_writer_was_forgotten() {
    must_catch("quarantine_keeps_departed", |bugs| {
        let (a, b, again) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.meet(a, b);
        net.put(b, 7, Some(1), 8);
        net.run(1);
        net.skew[a] = 86_400 * S as i64;
        net.put(a, 7, Some(2), 8);
        net.run(1);
        net.skew[a] = 0;
        net.run(60);
        net.die(a, true);
        net.meet(again, b);
        net.run(2);
        net.put(again, 7, Some(3), 8);
        net.run(2);
        net.put(b, 7, None, 8);
        net.run(30);
        assert_eq!((net.get(b, 7), net.get(again, 7)), (None, None), "deleted");
        let now = net.now(b);
        net.r[b].invalidate_all(now);
        net.run(5);
        net.at += 86_400 * S;
        net.run(10);
        assert_eq!((net.get(b, 7), net.get(again, 7)), (None, None), "still deleted a day later");
    });
}

/// Checks that an eviction removes no value of a retired origin from other replicas. The record of a departed origin is
/// dropped at its cap, so its registers get new dots. A replica that has evicted one of them must not void it for all.
#[test]
fn an_eviction_takes_no_value_of_a_retired_origin_from_others() {
    must_catch("eviction_voids", |bugs| {
        let (a, b, r, e) = (0, 1, 2, 3);
        let mut net = Net::new(4, |i| ReplicaConfig { max_retired: 1, ..plain(i) }).with(bugs);
        net.meet(a, b);
        net.meet(a, r);
        net.meet(b, r);
        net.put(r, 7, Some(70), 8);
        net.run(20);
        net.evict(a, 7);
        assert!(net.held(a, 7).is_none(), "stable: gone without a trace");
        assert_eq!(net.get(b, 7), Some(70));
        net.die(r, true);
        net.run(5);
        net.meet(a, e);
        net.meet(b, e);
        net.run(3);
        net.die(e, true);
        net.run(20);
        assert_eq!(net.get(b, 7), Some(70), "b has room and evicted nothing");
    });
}

pub(super) fn fill(net: &mut Net, i: usize, ticket: &FillTicket, key: u32, value: u32) -> Option<Stamp> {
    let now = net.now(i);
    let item = ItemRef::new(Item { key: Key::Known(key), body: Body::Known(value) });
    let hash = u64::from(key) << 48 | u64::from(key);
    let stored = net.r[i].finish_fill(now, ticket, Write { hash, item, expires: 0, size: 8, weight: 1 });
    net.clean(i);
    stored
}

/// Checks that a fill above an epoch loses to a later delete. The fill begins just after `invalidate_all`. A replica
/// whose clock is half a second behind deletes the key after that.
#[test]
fn a_fill_above_an_epoch_loses_to_a_later_delete_by_a_slower_clock() {
    must_catch("fill_bound_ignored", |bugs| {
        let (a, w) = (0, 1);
        let mut net = Net::new(2, plain).with(bugs);
        net.skew[w] = -500_000_000;
        net.meet(a, w);
        net.run(3);
        net.up[w] = false;
        net.at += 700_000_000;
        let now = net.now(a);
        net.r[a].invalidate_all(now);
        let ticket = net.r[a].begin_fill(now, 5 << 48 | 5, &Key::Known(5));
        net.at += 10_000_000;
        net.put(w, 5, None, 8);
        net.at += 10_000_000;
        fill(&mut net, a, &ticket, 5, 1);
        net.up[w] = true;
        net.run(30);
        assert_eq!((net.get(a, 5), net.get(w, 5)), (None, None), "deleted after the fill had begun");
    });
}

/// Checks that an eviction removes no adopted value from other replicas. A session breaks off, and its receiver adopts
/// the entries. A third replica that has evicted these values must not void them.
#[test]
fn an_eviction_takes_no_adopted_value_from_others() {
    must_catch("eviction_voids", |bugs| {
        let (s1, s2, n) = (0, 1, 2);
        let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) }).with(bugs);
        net.meet(s1, s2);
        for key in 0..50 {
            net.put(s1, key, Some(key), 100);
        }
        net.run(20);
        for key in 0..50 {
            net.evict(s2, key);
        }
        assert_eq!(net.r[s2].view().tombstone_len(), 0, "stable");
        let asks = net.digest_of(n);
        let frames = net.frames_for(s1, n, &asks);
        let (_, others) = frames.split_last().unwrap();
        others.iter().for_each(|frame| net.give(s1, id(n), frame));
        net.at += 4 * S;
        let now = net.now(n);
        net.r[n].handle_timeout(now);
        net.meet(n, s2);
        net.meet(n, s1);
        net.run(20);
        assert_eq!(net.r[s1].view().live_len(), 50, "s1 has room and evicted nothing");
    });
}

/// Checks that a retained body is kept until its receiver reports it. The connection for the push fails, and the sender
/// is informed. The body of the evicted value must still be there.
#[test]
fn a_retained_body_is_kept_until_its_receivers_report_it() {
    must_catch("released_when_cut", |bugs| {
        let (a, b) = (0, 1);
        let mut net = Net::new(2, plain).with(bugs);
        net.meet(a, b);
        net.run(1);
        net.put(a, 7, Some(70), 8);
        net.evict(a, 7);
        assert_eq!(net.r[a].ledger.retained_bytes(), 8, "kept");
        let now = net.now(a);
        let t = net.r[a].poll_transmit(now).unwrap();
        assert!(matches!(t.message, Message::Push(_)));
        drop(t);
        net.r[a].handle_sent(now, id(b), false);
        net.run(10);
        assert_eq!(net.get(b, 7), Some(70), "it has never been sent");
    });
}

/// Checks that a retained body outlives an evicted copy of its write. A member received the write, evicted it and gave
/// its tombstone a new dot, as it does if the session that brought it breaks off. The third member has received nothing.
#[test]
fn a_retained_body_outlives_an_evicted_copy_of_its_write() {
    must_catch("retained_body_discarded", |bugs| {
        let (a, b, c) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.all_meet();
        net.run(3);
        net.put(a, 7, Some(70), 8);
        let Message::Push(push) = net.intercept(a) else { panic!("a push") };
        net.evict(a, 7);
        assert_eq!(net.r[a].ledger.retained_bytes(), 8, "kept");
        let (seen, dot) = (net.r[a].view().vector().get(&id(c)), Dot::new(id(c), push.to + 16));
        let mut copy = push.entries[0].clone().without_body();
        copy.marker = Marker { kind: Kind::Tombstone(Cause::Evicted), dot, ..copy.marker };
        let copy = Push { origin: id(c), from: seen, to: dot.counter, entries: vec![copy], ..push };
        let now = net.now(a);
        net.r[a].handle_message(now, id(c), Message::Push(copy));
        assert_eq!(net.r[a].ledger.retained_bytes(), 8, "still kept");
        net.run(10);
        assert_eq!((net.get(b, 7), net.get(a, 7)), (Some(70), None), "it was sent at last");
        assert_eq!(net.r[a].ledger.retained_bytes(), 0, "and released");
    });
}

/// Returns the largest number of tombstones on any node after two quiet minutes, and the lag of the third node behind
/// the first in seconds. The link between these two nodes carries nothing, so data passes only through the second node.
fn one_link_is_cut(bugs: Bugs, n: usize) -> (usize, u64) {
    let (o, x) = (0, 2);
    let mut net = Net::new(n, plain).with(bugs);
    net.all_meet();
    net.run(5);
    net.cut.insert((o, x));
    for round in 0..60u32 {
        net.put(o, round % 20, Some(round), 8);
        net.put(x, 100 + round, Some(round), 8);
        net.put(x, 100 + round, None, 8);
        net.run(1);
    }
    net.run(120);
    let behind = net.r[o].view().vector().get(&id(o)).saturating_sub(net.r[x].view().vector().get(&id(o))) / S;
    ((0..n).map(|i| net.r[i].view().tombstone_len()).max().unwrap(), behind)
}

/// Checks that tombstones are collected among three nodes, of which two can never reach each other.
#[test]
fn tombstones_are_collected_among_three_nodes_with_one_link_cut() {
    must_catch("no_facts_among_three", |bugs| {
        let (tombstones, behind) = one_link_is_cut(bugs, 3);
        assert!(behind < 20);
        assert_eq!(tombstones, 0, "after two quiet minutes");
    });
}

/// Checks the same for deletes of a fourth node that has left, so that digests no longer list it.
#[test]
fn tombstones_of_a_node_that_left_are_collected_with_one_link_cut() {
    must_catch("facts_without_retired", |bugs| {
        let (o, x, gone) = (0, 2, 3);
        let mut net = Net::new(4, plain).with(bugs);
        net.all_meet();
        net.run(5);
        net.cut.insert((o, x));
        for key in 0..10 {
            net.put(gone, key, Some(key), 8);
            net.put(gone, key, None, 8);
        }
        net.flush();
        net.die(gone, true);
        net.run(60);
        assert_eq!([o, x].map(|i| net.r[i].view().tombstone_len()), [0, 0], "after a minute without writes");
    });
}

/// Checks the same with four nodes.
#[test]
fn tombstones_are_collected_among_four_nodes_with_one_link_cut() {
    let (tombstones, behind) = one_link_is_cut(Bugs::default(), 4);
    assert!(behind < 20);
    assert_eq!(tombstones, 0, "after two quiet minutes");
}

/// Checks that an acknowledgement for an earlier replica of the process is ignored. It arrives at the replica that
/// reopened the cache. The clock of the earlier replica followed a fast member, and was ahead of the wall clock, from
/// which the new replica starts.
#[test]
fn an_acknowledgement_for_the_predecessor_is_ignored() {
    must_catch("ack_for_any_receiver", |bugs| {
        let (old, b, new) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.skew[b] = 800_000_000;
        net.meet(old, b);
        net.run(1);
        let before = net.put(old, 1, Some(1), 8);
        net.flush();
        // The acknowledgement of b is on its way. The cache is closed and opened again.
        let ack = Message::Ack(crate::message::Ack { to: Some(id(old)), time: before.time });
        net.die(old, true);
        net.at += 1_000_000;
        let hello = net.digest_of(b);
        // The new replica writes before it receives anything. Then the digest of b arrives, and the acknowledgement.
        let written = net.put(new, 7, Some(70), 8);
        assert!(written.time < before.time, "its clock is the wall clock again");
        net.give(b, id(new), &hello);
        let now = net.now(new);
        net.r[new].greeting(now);
        net.give(b, id(new), &ack);
        drain(&mut net, new);
        assert!(
            net.r[new].view().member_has(id(b), written) != Some(true),
            "b has not seen it, and wait_replicated says so"
        );
    });
}

/// Checks that a fill above a tombstone loses to a later delete by a slower clock. Two nodes invalidate one key within
/// a few milliseconds. Their clocks differ by five milliseconds, and a message takes two.
#[test]
fn a_fill_above_a_tombstone_loses_to_a_later_delete_by_a_slower_clock() {
    must_catch("fill_bound_ignored", |bugs| {
        const MS: u64 = 1_000_000;
        let (a, w) = (0, 1);
        let mut net = Net::new(2, plain).with(bugs);
        net.skew[w] = -5 * MS as i64;
        net.meet(a, w);
        net.put(w, 5, Some(1), 8);
        net.run(3);
        // Some time passes without a message (digests come once a second).
        net.at += 100 * MS;
        // a invalidates, and fills at once: its source returns 1.
        net.put(a, 5, None, 8);
        let first = net.intercept(a);
        let now = net.now(a);
        let ticket = net.r[a].begin_fill(now, 5 << 48 | 5, &Key::Known(5));
        // One millisecond later, while the push of a is on its way, w changes the source to 2 and invalidates.
        net.at += MS;
        net.put(w, 5, None, 8);
        let second = net.intercept(w);
        net.at += MS;
        net.give(a, id(w), &first);
        net.at += MS;
        net.give(w, id(a), &second);
        net.at += 5 * MS;
        fill(&mut net, a, &ticket, 5, 1);
        net.run(30);
        assert_eq!((net.get(a, 5), net.get(w, 5)), (None, None), "the source says 2 since before the fill ended");
    });
}

/// Checks that a newcomer collects nothing while an unreachable member is not forgotten. A member has crashed, so the
/// members keep tombstones for it. A newcomer that never met it must keep them as well. If it collected them, its floor
/// would void all that the crashed member wrote, on all replicas.
#[test]
fn a_newcomer_collects_nothing_while_an_unreachable_member_is_not_forgotten() {
    must_catch("unreachable_unnamed", |bugs| {
        let (a, b, x, n) = (0, 1, 2, 3);
        let mut net = Net::new(4, |i| ReplicaConfig { gc_grace: Duration::from_secs(10), ..plain(i) }).with(bugs);
        net.meet(a, b);
        net.meet(a, x);
        net.meet(b, x);
        for key in 0..50 {
            net.put(x, key, Some(key), 100);
        }
        net.put(a, 99, Some(1), 8);
        net.run(30);
        net.die(x, false); // a crash
        net.run(2);
        net.put(a, 99, None, 8);
        net.run(20);
        assert_eq!((net.r[a].view().tombstone_len(), net.r[b].view().tombstone_len()), (1, 1), "kept for x");
        assert!((0..50).all(|key| net.get(a, key) == Some(key) && net.get(b, key) == Some(key)));
        // The replacement n starts. Its first digest arrives; its messages of the next two seconds do not. It receives
        // from a and b.
        for m in [a, b] {
            let now = net.now(n);
            net.r[n].greet(now, id(m));
        }
        for (to, digest) in drain(&mut net, n) {
            net.give(n, to, &digest);
        }
        for _ in 0..40 {
            for m in [a, b] {
                for (to, message) in drain(&mut net, m) {
                    net.give(m, to, &message);
                }
            }
            drain(&mut net, n);
            net.tick();
        }
        net.run(30);
        for key in 0..50 {
            assert_eq!(
                (net.get(a, key), net.get(b, key), net.get(n, key)),
                (Some(key), Some(key), Some(key)),
                "key {key}"
            );
        }
    });
}

/// Checks that an audit of more registers than one slice holds sends all slices.
#[test]
fn an_audit_of_many_suspects_sends_all_slices() {
    must_catch("last_audit_slice_only", |bugs| {
        let (a, b) = (0, 1);
        let mut net = Net::new(2, |i| ReplicaConfig { audit_slice: 8, ..plain(i) }).with(bugs);
        net.meet(a, b);
        for key in 0..50 {
            net.put(a, key, Some(key), 8);
        }
        net.run(1);
        let slot = |key: u32| net.r[a].view().store().get(u64::from(key) << 48 | u64::from(key), &key).unwrap().slot;
        let slots: Vec<_> = (0..50).map(slot).collect();
        assert_eq!(net.r[a].audit_registers(id(b), &slots), 50);
        let sent = drain(&mut net, a);
        let compared = sent.iter().map(|(_, message)| match message {
            Message::Audit(audit) => audit.entries.len(),
            _ => 0,
        });
        assert_eq!(compared.sum::<usize>(), 50);
    });
}
