//! The thirteen mistakes that the model caught while the protocol was designed (see the list in `bugs.rs`). Each has a
//! schedule that holds without the mistake and fails with it.

use super::*;

/// Runs a schedule on the code as it is, and then with a mistake reintroduced, which the schedule must detect.
fn must_catch(bug: &str, schedule: impl Fn(Bugs) -> Result<(), String>) {
    assert_eq!(schedule(Bugs::default()), Ok(()), "without any mistake");
    let bugs = Bugs::only(bug).expect("a known mistake");
    let caught = schedule(bugs).expect_err(&format!("{bug} was put back and nothing broke"));
    println!("{bug}: {caught}");
}

fn must(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// Returns a network in which replica 0 keeps only one tombstone, and so drops further ones by force.
fn one_forgets(bugs: Bugs, n: usize) -> Net {
    let few = |i| ReplicaConfig { max_tombstones: if i == 0 { 1 } else { 1_000_000 }, ..plain(i) };
    let mut net = Net::new(n, few).with(bugs);
    net.all_meet();
    net
}

/// Checks that a write from before a collected delete is not served. Two writes of a key were pushed and are late.
/// Meanwhile their writers were forgotten, the key was deleted, and the tombstone was collected.
fn two_late_pushes(bugs: Bugs, first: Option<u32>) -> Result<(), String> {
    let (v, d, p, q) = (0, 1, 2, 3);
    let mut net = Net::new(4, plain).with(bugs);
    net.all_meet();
    let mut late = Vec::new();
    for (from, value) in [(p, first), (q, Some(66))] {
        net.put(from, 7, value, 8);
        late.push((from, net.intercept(from)));
        net.die(from, true);
        net.at += S;
    }
    net.put(d, 7, None, 8);
    net.run(20);
    assert!(net.held(v, 7).is_none(), "collected");
    net.die(d, true);
    for (from, push) in late {
        net.give(from, id(v), &push);
        assert!(net.r[v].view().counters().gaps == 0);
    }
    must(net.get(v, 7).is_none(), "a write from before a delete that was seen here is served")
}

#[test]
fn mistake_1_a_void_at_the_stamp_of_what_it_replaces() {
    must_catch("void_keeps_stamp", |bugs| two_late_pushes(bugs, Some(1)));
}

#[test]
fn mistake_2_a_floor_that_rises_while_a_reconcile_removes() {
    must_catch("floor_rises_with_removals", |bugs| {
        // n has seen x of a, and not the older y of b. x is deleted while n is forgotten.
        let (a, b, s, n) = (0, 1, 2, 3);
        let mut net = Net::new(4, plain).with(bugs);
        net.all_meet();
        net.up[n] = false;
        net.put(b, 1, Some(1), 8);
        net.flush();
        net.up[n] = true;
        net.up[b] = false;
        net.at += S;
        net.put(a, 2, Some(2), 8);
        net.flush();
        assert_eq!((net.get(n, 1), net.get(n, 2)), (None, Some(2)));
        net.up[b] = true;
        net.die(n, true);
        net.put(a, 2, None, 8);
        net.run(20);
        assert!(net.held(s, 2).is_none(), "collected");
        net.die(a, false);
        net.die(b, false);
        net.up[n] = true;
        net.meet(n, s);
        net.run(3);
        must(net.get(n, 2).is_none(), "what was deleted is back")?;
        must(net.get(n, 1) == Some(1), "an older value that was never deleted was voided")
    });
}

#[test]
fn mistake_3_a_floor_before_the_state_it_speaks_of() {
    must_catch("early_floor", |bugs| {
        let (s, p, n) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.meet(s, p);
        net.put(p, 1, Some(1), 8);
        net.run(1);
        net.put(s, 2, None, 8);
        net.run(20);
        assert!(net.held(s, 2).is_none() && net.r[s].view().floor() > Stamp::ZERO, "collected");
        net.meet(n, s);
        net.run(3);
        must(net.get(n, 1) == Some(1), "a value that was never deleted was voided")
    });
}

#[test]
fn mistake_4_a_delta_for_a_digest_that_came_twice() {
    must_catch("stale_digest", |bugs| {
        let (a, b) = (0, 1);
        let mut net = Net::new(2, plain).with(bugs);
        net.all_meet();
        net.put(a, 1, Some(1), 8);
        net.run(2);
        let old = net.digest_of(b);
        net.put(a, 1, None, 8);
        net.run(20);
        assert!(net.held(a, 1).is_none(), "collected");
        let before = net.r[a].view().counters().reconciles_out;
        net.give(b, id(a), &old);
        net.flush();
        must(net.r[a].view().counters().reconciles_out == before, "a member that lacks nothing is reconciled")
    });
}

#[test]
fn mistake_5_a_reconcile_of_the_origin_that_was_behind_only() {
    must_catch("partial_reconcile", |bugs| {
        // a wrote the value, and b deleted it while n was forgotten.
        let (a, b, s, n) = (0, 1, 2, 3);
        let mut net = Net::new(4, plain).with(bugs);
        net.all_meet();
        net.put(a, 7, Some(1), 8);
        net.run(2);
        net.die(n, true);
        net.put(b, 7, None, 8);
        net.run(20);
        assert!(net.held(s, 7).is_none(), "collected");
        net.die(a, false);
        net.die(b, false);
        net.up[n] = true;
        net.meet(n, s);
        net.run(3);
        must(net.get(n, 7).is_none(), "what was deleted is served")
    });
}

#[test]
fn mistake_6_a_reconcile_that_voids_nothing_at_its_end() {
    must_catch("no_final_void", |bugs| {
        // p wrote to n alone. d deletes a key that it does not know, and s drops that tombstone by force.
        let (s, n, p, d) = (0, 1, 2, 3);
        let mut net = one_forgets(bugs, 4);
        (net.up[s], net.up[d]) = (false, false);
        net.put(p, 7, Some(66), 8);
        net.flush();
        assert_eq!(net.get(n, 7), Some(66));
        net.at += S;
        (net.up[s], net.up[d], net.up[n], net.up[p]) = (true, true, false, false);
        for key in [7, 8, 9] {
            net.put(d, key, None, 8);
        }
        net.flush();
        assert!(net.held(s, 7).is_none(), "dropped by force");
        net.up[d] = false;
        // s sends n all it has, and dies before it receives anything from n.
        let asks = net.digest_of(n);
        let frames = net.frames_for(s, n, &asks);
        net.die(s, true);
        net.up[n] = true;
        frames.iter().for_each(|frame| net.give(s, id(n), frame));
        net.run(2);
        assert_eq!(net.r[n].view().counters().reconciles_in, 1);
        must(net.get(n, 7).is_none(), "n has seen the delete and serves what was written before it")
    });
}

#[test]
fn mistake_7_a_dot_that_was_seen_is_merged_again() {
    must_catch("reinsert_seen", |bugs| {
        // The answer of s to a newcomer is late: n has received all of it from p, and more.
        let (s, p, n) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.meet(s, p);
        net.put(p, 7, Some(1), 8);
        net.run(2);
        let asks = net.digest_of(n);
        let late = net.frames_for(s, n, &asks);
        assert_eq!(late.len(), 1);
        net.at += S;
        net.meet(n, p);
        net.run(1);
        assert_eq!(net.get(n, 7), Some(1));
        net.put(p, 7, None, 8);
        net.run(1);
        net.die(s, true);
        net.run(20);
        assert!(net.held(n, 7).is_none(), "collected");
        net.give(s, id(n), &late[0]);
        net.run(5);
        assert_eq!(net.r[n].view().counters().frames_ignored, 0, "the late frame was taken");
        must(net.get(n, 7).is_none(), "what was deleted is back")
    });
}

#[test]
fn mistake_8_an_old_tombstone_merged_as_it_is() {
    must_catch("tombstone_below_floor_merged", |bugs| two_late_pushes(bugs, None));
}

#[test]
fn mistake_9_an_old_tombstone_dropped_silently() {
    must_catch("tombstone_below_floor_dropped", |bugs| {
        // v has evicted its copy. p deletes the key. Only v receives that delete, and late.
        let (v, a, t, p) = (0, 1, 2, 3);
        let mut net = one_forgets(bugs, 4);
        net.put(a, 7, Some(1), 8);
        net.run(2);
        net.up[p] = false;
        let deleted = net.put(p, 7, None, 8);
        net.at += S;
        net.evict(v, 7);
        for key in [8, 9] {
            net.put(a, key, None, 8);
        }
        net.flush();
        assert!(net.held(v, 7).is_none() && net.get(t, 7) == Some(1));
        net.at += S;
        (net.up[a], net.up[t]) = (false, false);
        net.up[p] = true;
        net.meet(p, v);
        net.up[t] = true;
        net.die(p, false);
        net.die(a, false);
        net.run(10);
        assert!(net.r[t].view().vector().get(&id(p)) >= deleted.time, "t has seen what p wrote");
        must(net.get(t, 7).is_none(), "t has seen the delete and serves what was written before it")
    });
}

/// Returns a network in which n has only the first of several frames, because the session broke off. Its sender s held
/// the value of b, which had overwritten a value of a.
fn a_session_that_breaks_off(bugs: Bugs) -> Net {
    let (a, b, s, n, m) = (0, 1, 2, 3, 4);
    let mut net = Net::new(5, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) }).with(bugs);
    net.all_meet();
    net.put(b, 7, Some(1), 8);
    net.run(2);
    // The next value reaches m and not n. The value after it reaches neither.
    net.up[n] = false;
    net.at += S;
    net.put(a, 7, Some(2), 8);
    net.flush();
    net.up[m] = false;
    for key in 20..30 {
        net.put(a, key, Some(5), 150);
    }
    net.flush();
    net.at += S;
    net.put(b, 7, Some(3), 8);
    net.flush();
    net.die(a, false);
    net.die(b, false);
    assert_eq!((net.get(s, 7), net.get(n, 7), net.get(m, 7)), (Some(3), Some(1), Some(2)));
    let asks = net.digest_of(n);
    let frames = net.frames_for(s, n, &asks);
    assert!(frames.len() > 1, "several frames");
    net.die(s, false);
    (net.up[n], net.up[m]) = (true, true);
    net.give(s, id(n), &frames[0]);
    for i in [n, m] {
        let now = net.now(i);
        for gone in [a, b, s] {
            net.r[i].handle_member_down(now, id(gone));
        }
    }
    net
}

#[test]
fn mistake_10_a_claim_for_each_frame() {
    must_catch("claim_per_frame", |bugs| {
        let (n, m) = (3, 4);
        let mut net = a_session_that_breaks_off(bugs);
        net.run(20);
        must(net.get(n, 7) == net.get(m, 7), "two survivors disagree, each sure to have seen everything")
    });
}

#[test]
fn mistake_11_frames_in_order_only() {
    must_catch("frames_in_order", |bugs| {
        let (s, p, n) = (0, 1, 2);
        let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) }).with(bugs);
        net.meet(s, p);
        for key in 0..20 {
            net.put(p, key, Some(5), 150);
        }
        net.run(1);
        net.die(p, true);
        let asks = net.digest_of(n);
        let frames = net.frames_for(s, n, &asks);
        assert!(frames.len() > 1, "several frames");
        frames.iter().rev().for_each(|frame| net.give(s, id(n), frame));
        must(net.r[n].view().counters().sessions_completed == 1, "all frames are here and the session is not complete")
    });
}

#[test]
fn mistake_12_a_removal_that_a_later_delta_hides() {
    must_catch("reconcile_hides_removals", |bugs| {
        // n and m were forgotten while their value was deleted. n receives half of the session that removes it.
        let (a, s, n, m) = (0, 1, 2, 3);
        let mut net = Net::new(4, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) }).with(bugs);
        net.all_meet();
        net.put(a, 7, Some(1), 8);
        net.run(2);
        net.die(n, true);
        net.die(m, true);
        for key in 20..30 {
            net.put(s, key, Some(5), 150);
        }
        net.put(a, 7, None, 8);
        net.run(20);
        assert!(net.held(s, 7).is_none(), "collected");
        net.die(a, true);
        let asks = net.digest_of(n);
        let frames = net.frames_for(s, n, &asks);
        assert!(frames.len() > 1, "several frames");
        net.die(s, true);
        (net.up[n], net.up[m]) = (true, true);
        net.give(s, id(n), &frames[0]);
        net.meet(n, m);
        net.run(20);
        must(net.get(n, 7) == net.get(m, 7), "two replicas that have seen the same serve different things")
    });
}

#[test]
fn mistake_13_no_reconcile_for_a_newcomer() {
    must_catch("no_reconcile_for_newcomers", |bugs| {
        let (a, s, n) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.meet(a, s);
        net.put(a, 7, Some(1), 8);
        let pushed = net.intercept(a);
        net.give(a, id(s), &pushed);
        net.run(1);
        net.put(a, 7, None, 8);
        net.run(20);
        assert!(net.held(s, 7).is_none(), "collected");
        net.die(a, true);
        // n asks, then an old push arrives, and then the answer.
        let asks = net.digest_of(n);
        let frames = net.frames_for(s, n, &asks);
        net.give(a, id(n), &pushed);
        frames.iter().for_each(|frame| net.give(s, id(n), frame));
        net.run(5);
        must(net.get(n, 7).is_none(), "what was deleted before the newcomer asked is served by it")
    });
}
