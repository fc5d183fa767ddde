//! Suspicions, as schedules.

use super::*;
use std::time::Duration;

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

/// H1. Nothing is evicted, dropped by force or forgotten, all clocks are exact, nobody deletes these keys. A newcomer's first
/// session breaks off (its source crashes); what it brought is adopted. The next source answers the digest before the
/// pushes of what was adopted arrive (a datagram overtakes a stream). Its reconcile lists every one of these registers,
/// and yet its end voids them, and the voids take them from everybody.
#[test]
fn h1_what_a_broken_session_brought_survives_the_next_reconcile() {
    let (s1, s2, n) = (0, 1, 2);
    let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) });
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
    // n hears of s2.
    let hello = net.digest_of(s2);
    net.give(s2, id(n), &hello);
    drain(&mut net, n);
    net.at += 4 * S;
    let now = net.now(n);
    net.r[n].handle_timeout(now);
    assert!(net.r[n].counters().adopted > 30, "adopted {}", net.r[n].counters().adopted);
    // What n says now: a digest, and pushes. The digest is there first.
    let said = drain(&mut net, n);
    let (digests, pushes): (Vec<_>, Vec<_>) = said.into_iter().partition(|(_, m)| matches!(m, Message::Digest(_)));
    assert!(!digests.is_empty() && !pushes.is_empty(), "{} digests {} pushes", digests.len(), pushes.len());
    for (to, digest) in &digests {
        net.give(n, *to, digest);
    }
    let answer = drain(&mut net, s2);
    let frames = answer.iter().filter(|(_, m)| matches!(m, Message::Frame(_))).count();
    println!("s2 answers with {frames} frames");
    for (to, push) in &pushes {
        net.give(n, *to, push);
    }
    for (to, message) in &answer {
        net.give(s2, *to, message);
    }
    net.run(30);
    let c = net.r[n].counters();
    println!("n: adopted {} reconcile_voided {} voided {}", c.adopted, c.reconcile_voided, c.voided);
    println!("s2: {} live, n: {} live", net.r[s2].live_len(), net.r[n].live_len());
    for key in 0..50 {
        assert_eq!((net.get(s2, key), net.get(n, key)), (Some(key), Some(key)), "key {key}");
    }
}

/// H1b. The same without a crash: only the last frame of the first session is lost.
#[test]
fn h1b_a_lost_frame_and_a_second_source() {
    let (s1, s2, n) = (0, 1, 2);
    let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) });
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
    for i in [s1, s2, n] {
        let c = net.r[i].counters();
        println!(
            "{i}: live {} adopted {} reconcile_voided {} voided {} forgotten {} evicted {} forced {}",
            net.r[i].live_len(),
            c.adopted,
            c.reconcile_voided,
            c.voided,
            c.forgotten,
            c.evicted_stable + c.evicted_unstable,
            c.forced_drops
        );
    }
    for key in 0..50 {
        assert_eq!(
            (net.get(s1, key), net.get(s2, key), net.get(n, key)),
            (Some(key), Some(key), Some(key)),
            "key {key}"
        );
    }
}

/// H4. One lost datagram, and an eviction on the writer: the value is lost for everybody and not counted.
#[test]
fn h4_a_lost_push_and_an_eviction_on_the_writer() {
    let (a, b) = (0, 1);
    let mut net = Net::new(2, plain);
    net.meet(a, b);
    net.run(1);
    net.put(a, 7, Some(70), 8);
    net.intercept(a); // lost
    net.evict(a, 7);
    net.run(10);
    let c = net.r[a].counters();
    println!(
        "evicted_unsent {} evicted_unstable {} retained {}",
        c.evicted_unsent, c.evicted_unstable, net.r[a].retained_bytes
    );
    assert!(net.get(b, 7) == Some(70) || c.evicted_unsent > 0, "lost everywhere, and nobody counts it");
}

/// H5. What a clock of tomorrow wrote, after the restart that the guide asks for, overwritten and deleted by everybody since.
#[test]
fn h5_what_was_overwritten_and_deleted_does_not_come_back_tomorrow() {
    let (a, b, again) = (0, 1, 2);
    let mut net = Net::new(3, plain);
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
    println!("a day later: b {:?}, again {:?}", net.get(b, 7), net.get(again, 7));
    assert_eq!((net.get(b, 7), net.get(again, 7)), (None, None), "still deleted a day later");
}

/// H6. The record of a departed origin is dropped at its cap: what it wrote is given new dots. Whoever has evicted it
/// voids it for everybody.
#[test]
fn h6_a_dropped_record_takes_no_value_that_one_node_has_evicted() {
    let (a, b, r, e) = (0, 1, 2, 3);
    let mut net = Net::new(4, |i| ReplicaConfig { max_retired: 1, ..plain(i) });
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
    println!("retired_dropped {} {}", net.r[a].counters().retired_dropped, net.r[b].counters().retired_dropped);
    println!("voided {} {}", net.r[a].counters().voided, net.r[b].counters().voided);
    assert_eq!(net.get(b, 7), Some(70), "b has room and evicted nothing");
}

fn fill(net: &mut Net, i: usize, ticket: &FillTicket, key: u32, value: u32) -> Option<Stamp> {
    let now = net.now(i);
    let item = ItemRef::new(Item { key: Key::Known(key), body: Body::Known(value) });
    let hash = u64::from(key) << 48 | u64::from(key);
    let stored = net.r[i].finish_fill(now, ticket, Write { hash, item, expires: 0, size: 8, weight: 1 });
    net.clean(i);
    stored
}

/// H7b. The same above an epoch.
#[test]
fn h7b_a_fill_loses_to_a_later_delete_also_just_above_an_epoch() {
    let (a, w) = (0, 1);
    let mut net = Net::new(2, plain);
    net.skew[w] = -500_000_000;
    net.meet(a, w);
    net.run(3);
    net.up[w] = false;
    net.at += 700_000_000;
    let now = net.now(a);
    net.r[a].invalidate_all(now);
    let ticket = net.r[a].begin_fill(now, 5 << 48 | 5, &Key::Known(5));
    net.at += 10_000_000;
    let deleted = net.put(w, 5, None, 8);
    println!("fill {:?} delete {:?} epoch {:?}", ticket.stamp().time, deleted.time, net.r[a].epoch());
    net.at += 10_000_000;
    let stored = fill(&mut net, a, &ticket, 5, 1);
    net.up[w] = true;
    net.run(30);
    println!("stored {stored:?}: a {:?} w {:?}", net.get(a, 5), net.get(w, 5));
    assert_eq!((net.get(a, 5), net.get(w, 5)), (None, None), "deleted after the fill had begun");
}

/// H9. A session breaks off, its receiver adopts, and a third node has evicted these values.
#[test]
fn h9_adopted_values_survive_somebody_who_has_evicted_them() {
    let (s1, s2, n) = (0, 1, 2);
    let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) });
    net.meet(s1, s2);
    for key in 0..50 {
        net.put(s1, key, Some(key), 100);
    }
    net.run(20);
    for key in 0..50 {
        net.evict(s2, key);
    }
    assert_eq!(net.r[s2].tombstone_len(), 0, "stable");
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
    println!(
        "live: s1 {} s2 {} n {}; voided by s2 {}",
        net.r[s1].live_len(),
        net.r[s2].live_len(),
        net.r[n].live_len(),
        net.r[s2].counters().voided
    );
    assert_eq!(net.r[s1].live_len(), 50, "s1 has room and evicted nothing");
    let _ = Duration::ZERO;
}

/// H4b. The connection cannot even be made: the sender is told so. The body was given up when the push was cut, and
/// `wait_replicated` says that all have it.
#[test]
fn h4b_a_body_is_kept_until_it_has_been_sent() {
    let (a, b) = (0, 1);
    let mut net = Net::new(2, plain);
    net.meet(a, b);
    net.run(1);
    let written = net.put(a, 7, Some(70), 8);
    net.evict(a, 7);
    assert_eq!(net.r[a].retained_bytes, 8, "kept");
    let now = net.now(a);
    let t = net.r[a].poll_transmit(now).unwrap();
    assert!(matches!(t.message, Message::Push(_)));
    println!("retained when the push has been cut: {}", net.r[a].retained_bytes);
    drop(t);
    net.r[a].handle_sent(now, id(b), false);
    net.run(10);
    let c = net.r[a].counters();
    println!(
        "b {:?}; evicted_unsent {}; member_has {:?}",
        net.get(b, 7),
        c.evicted_unsent,
        net.r[a].member_has(id(b), written)
    );
    assert_eq!(net.get(b, 7), Some(70), "it has never been sent");
}

/// H13. One link of a small cluster carries nothing, for good; everybody is alive, by way of a third ("messages get through in
/// the end, directly or by way of a third member"). Does a tombstone ever go?
fn one_link_is_cut(n: usize, evict: bool) -> (usize, u64, u64, u64) {
    let (o, s, x) = (0, 1, 2);
    let mut net = Net::new(n, plain);
    net.all_meet();
    net.run(5);
    net.cut.insert((o, x));
    for round in 0..60u32 {
        net.put(o, round % 20, Some(round), 8);
        if evict && round == 5 {
            net.flush();
            net.evict(s, round % 20);
        }
        net.put(x, 100 + round, Some(round), 8);
        net.put(x, 100 + round, None, 8);
        net.run(1);
    }
    net.run(60);
    let before = net.r[s].counters().sessions_out;
    let frames = net.r[s].counters().frames_out;
    net.run(60);
    let (after, c) = (net.r[s].counters().sessions_out, net.r[x].counters());
    let behind = net.r[o].vector().get(&id(o)).saturating_sub(net.r[x].vector().get(&id(o))) / S;
    println!(
        "{n} nodes, evict {evict}: tombstones {:?}; x is {behind} s behind o; s: {} sessions, {} frames in the last quiet minute; x adopted {}",
        (0..n).map(|i| net.r[i].tombstone_len()).collect::<Vec<_>>(),
        after - before,
        net.r[s].counters().frames_out - frames,
        c.adopted
    );
    ((0..n).map(|i| net.r[i].tombstone_len()).max().unwrap(), behind, after - before, c.adopted)
}

#[test]
fn h13a_three_nodes_and_one_link_cut() {
    let (tombstones, behind, ..) = one_link_is_cut(3, false);
    assert!(behind < 20);
    assert_eq!(tombstones, 0, "after two quiet minutes");
}

#[test]
fn h13b_four_nodes_and_one_link_cut() {
    let (tombstones, behind, ..) = one_link_is_cut(4, false);
    assert!(behind < 20);
    assert_eq!(tombstones, 0, "after two quiet minutes");
}

/// H12. An acknowledgement names no receiver: one that was meant for the replica that had this cache open a moment ago is taken
/// by the one that has it open now. The old one's clock had been ahead of the wall (a fast member), the new one's is not.
#[test]
fn h12_an_acknowledgement_for_the_replica_before_is_not_ours() {
    let (old, b, new) = (0, 1, 2);
    let mut net = Net::new(3, plain);
    net.skew[b] = 800_000_000;
    net.meet(old, b);
    net.run(1);
    let before = net.put(old, 1, Some(1), 8);
    net.flush();
    // b's acknowledgement is under way; the cache is closed and opened again.
    let ack = Message::Ack(super::super::message::Ack { to: Some(id(old)), time: before.time });
    net.die(old, true);
    net.at += 1_000_000;
    let hello = net.digest_of(b);
    // The new one writes before it has heard anybody, then hears b, and the acknowledgement comes.
    let written = net.put(new, 7, Some(70), 8);
    assert!(written.time < before.time, "its clock is the wall clock again");
    net.give(b, id(new), &hello);
    let now = net.now(new);
    net.r[new].digest(now, false);
    net.give(b, id(new), &ack);
    println!("member_has {:?}, b holds {:?}", net.r[new].member_has(id(b), written), net.get(b, 7));
    let said = drain(&mut net, new);
    let pushes = said.iter().filter(|(_, m)| matches!(m, Message::Push(_))).count();
    println!("pushes {pushes}");
    assert!(net.r[new].member_has(id(b), written) != Some(true), "b has not seen it, and wait_replicated says so");
}

/// H7c. The same just above the register that the key had: two nodes invalidate one key within a few milliseconds. Clocks differ by
/// five milliseconds, a message takes two.
#[test]
fn h7c_a_fill_loses_to_a_later_delete_also_just_above_a_tombstone() {
    const MS: u64 = 1_000_000;
    let (a, w) = (0, 1);
    let mut net = Net::new(2, plain);
    net.skew[w] = -5 * MS as i64;
    net.meet(a, w);
    net.put(w, 5, Some(1), 8);
    net.run(3);
    // Some time passes without a message (digests come once a second).
    net.at += 100 * MS;
    // a invalidates, and fills at once: the source says 1.
    net.put(a, 5, None, 8);
    let first = net.intercept(a);
    let now = net.now(a);
    let ticket = net.r[a].begin_fill(now, 5 << 48 | 5, &Key::Known(5));
    // One millisecond later, a's push is still under way, w changes the source to 2 and invalidates.
    net.at += MS;
    let deleted = net.put(w, 5, None, 8);
    let second = net.intercept(w);
    net.at += MS;
    net.give(a, id(w), &first);
    net.at += MS;
    net.give(w, id(a), &second);
    net.at += 5 * MS;
    let stored = fill(&mut net, a, &ticket, 5, 1);
    println!("fill {:?} delete {:?} stored {stored:?}", ticket.stamp().time, deleted.time);
    net.run(30);
    println!("a {:?} w {:?}", net.get(a, 5), net.get(w, 5));
    assert_eq!((net.get(a, 5), net.get(w, 5)), (None, None), "the source says 2 since before the fill ended");
}

/// H17. A member has crashed and is not yet forgotten, so everybody keeps tombstones for it. The node that replaces it has never
/// heard of it: it collects what its first pushes bring, and its floor is up before the first session is in. Then it voids what that
/// session lists, and its voids take it from everybody: here all that the crashed member had written and both others hold.
#[test]
fn h17_the_replacement_of_a_crashed_member_voids_nothing() {
    let (a, b, x, n) = (0, 1, 2, 3);
    let mut net = Net::new(4, |i| ReplicaConfig { gc_grace: Duration::from_secs(10), ..plain(i) });
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
    assert_eq!((net.r[a].tombstone_len(), net.r[b].tombstone_len()), (1, 1), "kept for x");
    assert!((0..50).all(|key| net.get(a, key) == Some(key) && net.get(b, key) == Some(key)));
    // The replacement starts: its first digest arrives, what it says in the next two seconds does not. a and b are heard.
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
    println!(
        "n: floor {:?}, collected {}, live {}",
        net.r[n].floor().time,
        net.r[n].counters().collected,
        net.r[n].live_len()
    );
    net.run(30);
    println!(
        "live: a {} b {} n {}; n voided {}; forgotten {}",
        net.r[a].live_len(),
        net.r[b].live_len(),
        net.r[n].live_len(),
        net.r[n].counters().voided,
        net.r[a].counters().forgotten + net.r[b].counters().forgotten
    );
    for key in 0..50 {
        assert_eq!((net.get(a, key), net.get(b, key), net.get(n, key)), (Some(key), Some(key), Some(key)), "key {key}");
    }
}
