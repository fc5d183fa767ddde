//! Fills, and the writes that they must lose against.

use std::time::Duration;

use super::promises::{fill, must_catch};
use super::*;

/// Checks that a fill does not hide the delete before it. A replica deletes a key and fills it again at once. A fill of
/// another replica began before the delete and is stamped above both. It must lose against the delete, although the
/// newer fill has replaced it.
#[test]
fn a_fill_does_not_hide_the_delete_before_it() {
    must_catch("fill_bound_ignored", |bugs| {
        let (a, w) = (0, 1);
        let mut net = Net::new(2, plain).with(bugs);
        net.meet(a, w);
        net.run(3);
        net.cut.insert((a, w));
        net.skew[w] = -300_000_000;
        net.run(1);
        net.put(a, 5, Some(1), 8);
        let before = begin(&mut net, a, 5);
        net.at += 10_000_000;
        net.put(w, 5, None, 8);
        let after = begin(&mut net, w, 5);
        fill(&mut net, w, &after, 5, 3);
        fill(&mut net, a, &before, 5, 2);
        assert_eq!((net.get(a, 5), net.get(w, 5)), (Some(2), Some(3)));
        net.cut.clear();
        net.run(30);
        assert_ne!(net.get(a, 5), Some(2), "deleted after that fill had begun");
        assert_eq!(net.get(a, 5), net.get(w, 5));
    });
}

/// Checks that a fill lies above every watermark that its replica has stated before, whatever the remainder of
/// `max_drift` by a tick of the clock.
#[test]
fn a_fill_lies_above_earlier_watermarks_for_any_drift() {
    for odd in 0..crate::hlc::GRAIN {
        let drift = Duration::from_secs(1) + Duration::from_nanos(odd);
        let mut net = Net::new(2, |i| ReplicaConfig { max_drift: drift, ..plain(i) });
        net.all_meet();
        net.at += 7;
        let now = net.now(0);
        let stated = net.r[0].greeting(now).watermark;
        let ticket = begin(&mut net, 0, 5);
        assert!(ticket.stamp().time > stated, "{odd} ns: {} is not above {stated}", ticket.stamp().time);
    }
}

/// Checks that nothing contests the second of two fills of one replica. A second replica writes the key between the
/// fills, and the filling replica receives that write. A replica that knows the first fill knows also what the filling
/// replica wrote before it.
#[test]
fn a_second_fill_knows_what_its_own_replica_wrote_before_the_first() {
    let (a, w) = (0, 1);
    let mut net = Net::new(2, plain);
    net.meet(a, w);
    net.run(3);
    net.put(a, 5, Some(1), 8);
    let first = net.intercept(a);
    let ticket = begin(&mut net, a, 5);
    fill(&mut net, a, &ticket, 5, 1);
    net.at += 1_000_000;
    net.put(w, 5, Some(2), 8);
    let written = net.intercept(w);
    net.give(w, id(a), &written);
    let ticket = begin(&mut net, a, 5);
    assert!(fill(&mut net, a, &ticket, 5, 2).is_some());
    // The first write arrives where the second stands already.
    net.give(a, id(w), &first);
    net.run(30);
    assert_eq!((net.get(a, 5), net.get(w, 5)), (Some(2), Some(2)), "nothing was written after the second fill began");
    assert_eq!(net.r[w].view().counters().fills_contested, 0);
}

/// Checks that a fill is not believed if the delete that contests it may be forgotten. A write and a fill above it come
/// long after their replica was forgotten. A delete by a slower clock, issued after the fill began, has lost against
/// the write, and is forgotten as well. With `comes_back`, the replica becomes a member again before its fill arrives.
fn a_fill_of_the_forgotten(bugs: Bugs, comes_back: bool) {
    let (a, w, other) = (0, 1, 2);
    let mut net = Net::new(3, plain).with(bugs);
    net.all_meet();
    net.run(3);
    net.skew[w] = -500_000_000;
    net.at += 400_000_000;
    net.put(a, 5, Some(1), 8);
    let write = net.intercept(a);
    let ticket = begin(&mut net, a, 5);
    net.at += 10_000_000;
    net.put(w, 5, None, 8);
    assert!(fill(&mut net, a, &ticket, 5, 2).is_some());
    let filled = net.intercept(a);
    let hello = net.digest_of(a);
    net.die(a, true);
    net.give(a, id(w), &write);
    assert_eq!(net.get(w, 5), Some(1), "its clock is ahead");
    net.run(10);
    if comes_back {
        [w, other].into_iter().for_each(|i| net.give(a, id(i), &hello));
        assert!(net.r[w].view().peers().any(|peer| peer.id == id(a)), "it is a member again");
    }
    net.give(a, id(w), &filled);
    net.run(10);
    assert_ne!(net.get(w, 5), Some(2), "deleted after the fill had begun");
    assert_eq!(net.get(w, 5), net.get(other, 5));
}

#[test]
fn a_fill_that_comes_after_its_replica_was_forgotten_is_not_believed() {
    must_catch("late_fills_uncontested", |bugs| a_fill_of_the_forgotten(bugs, false));
}

#[test]
fn a_fill_of_a_replica_that_came_back_is_not_believed_if_it_began_before() {
    must_catch("returned_fills_believed", |bugs| a_fill_of_the_forgotten(bugs, true));
}

/// Checks that a fill is not believed if it began before its replica had any member. While the fill of this newcomer
/// ran, the members deleted the key, and have since forgotten the delete.
#[test]
fn a_fill_that_began_before_its_replica_met_a_member_is_not_trusted() {
    must_catch("returned_fills_believed", |bugs| {
        let (new, w, other) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.meet(w, other);
        net.run(3);
        net.skew[w] = -500_000_000;
        net.put(new, 5, Some(1), 8);
        let ticket = begin(&mut net, new, 5);
        net.at += 10_000_000;
        net.put(w, 5, None, 8);
        assert!(fill(&mut net, new, &ticket, 5, 2).is_some());
        net.run(10);
        assert!(net.held(w, 5).is_none(), "collected");
        net.meet(new, w);
        net.meet(new, other);
        net.run(10);
        assert_ne!(net.get(w, 5), Some(2), "deleted after the fill had begun");
        assert_eq!(net.get(w, 5), net.get(new, 5));
    });
}

/// Checks that a delete that was collected without members contests the fill of a replica that comes later. Two
/// replicas have not met. While one fills a key, the second deletes it and collects the tombstone. It must remember the
/// delete for some time.
#[test]
fn what_was_collected_alone_contests_the_fill_of_an_unmet_replica() {
    must_catch("collected_alone_forgotten", |bugs| {
        let (new, w) = (0, 1);
        let mut net = Net::new(2, plain).with(bugs);
        net.skew[w] = -100_000_000;
        net.put(new, 5, Some(1), 8);
        let ticket = begin(&mut net, new, 5);
        net.at += 10_000_000;
        net.put(w, 5, None, 8);
        assert!(fill(&mut net, new, &ticket, 5, 2).is_some());
        net.run(15);
        assert!(net.held(w, 5).is_none(), "collected");
        net.meet(new, w);
        net.run(10);
        assert_ne!(net.get(w, 5), Some(2), "deleted after the fill had begun");
        assert_eq!(net.get(w, 5), net.get(new, 5));
    });
}

/// Checks that a fill keeps its bound until every member has seen it. A fill waits to be sent while its filling replica
/// receives from all members, so that nothing can contest it there any more. But one write has lost at its receiver,
/// and only its author knows it. The fill must go out with its bound.
#[test]
fn a_fill_keeps_its_bound_until_every_member_has_seen_it() {
    must_catch("bounds_dropped_unseen", |bugs| {
        let (a, w, s) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.all_meet();
        net.run(3);
        net.skew[w] = -300_000_000;
        net.at += 400_000_000;
        net.cut.insert((a, w));
        net.put(a, 5, None, 8);
        net.flush();
        let ticket = begin(&mut net, a, 5);
        net.at += 10_000_000;
        net.put(w, 5, Some(3), 8);
        net.flush();
        assert!(net.get(s, 5).is_none(), "the delete is stamped above it");
        assert!(fill(&mut net, a, &ticket, 5, 2).is_some());
        net.cut.clear();
        // A live replica delivers its own writes: other members pass on a claim of them only after a lag of four digest
        // intervals for each member.
        for _ in 0..30 {
            net.at += S;
            let hello = net.digest_of(w);
            net.give(w, id(s), &hello);
            // The filling replica receives digests, but nothing that it sends arrives.
            let asks = net.digest_of(a);
            let frames = net.frames_for(s, a, &asks);
            frames.iter().for_each(|frame| net.give(s, id(a), frame));
            for other in [w, s] {
                let hello = net.digest_of(other);
                net.give(other, id(a), &hello);
            }
            let now = net.now(a);
            net.r[a].handle_timeout(now);
        }
        net.run(10);
        assert_eq!(net.get(w, 5), net.get(s, 5));
        assert_ne!(net.get(w, 5), Some(2), "written after the fill had begun");
    });
}

/// Checks that a write which was received and not merged does not cover an older write of its replica. The later write
/// came without its predecessors, and then one of these is merged. A fill that began before both must lose.
#[test]
fn an_unmerged_write_counts_for_itself_only() {
    must_catch("heard_stands_for_lost", |bugs| {
        let (a, w) = (0, 1);
        let mut net = Net::new(2, plain).with(bugs);
        net.meet(a, w);
        net.run(3);
        net.skew[w] = -100_000_000;
        net.at += 400_000_000;
        net.put(a, 5, Some(1), 8);
        net.intercept(a);
        let ticket = begin(&mut net, a, 5);
        net.at += 10_000_000;
        net.put(w, 5, None, 8);
        let delete = net.intercept(w);
        net.put(w, 6, None, 8);
        net.intercept(w);
        net.at += 200_000_000;
        net.put(w, 5, Some(3), 8);
        let late = net.intercept(w);
        net.cut.insert((0, 1));
        for message in [&delete, &late] {
            let now = net.now(a);
            net.r[a].handle_message(now, id(w), copy(message));
        }
        net.at += 100_000_000;
        let now = net.now(a);
        net.r[a].handle_timeout(now);
        assert_eq!(net.get(a, 5), Some(1), "the last write waited for the one before it, and was dropped");
        assert_eq!(fill(&mut net, a, &ticket, 5, 2), None, "deleted after the fill had begun");
        net.cut.clear();
        net.run(10);
        assert_eq!((net.get(a, 5), net.get(w, 5)), (Some(3), Some(3)));
    });
}

pub(super) fn begin(net: &mut Net, i: usize, key: u32) -> FillTicket {
    let now = net.now(i);
    net.r[i].begin_fill(now, u64::from(key) << 48 | u64::from(key), &Key::Known(key))
}

/// Checks that a fill loses where two groups meet that had no common member. In one group a key is filled. While the
/// fill runs, the key is written or deleted in the second group, by a clock that is a little behind. Each group forgets
/// the bounds and stamps that its own members no longer need.
fn a_fill_among_strangers(bugs: Bugs, other: Option<u32>) {
    let (a, b, w, x) = (0, 1, 2, 3);
    let mut net = Net::new(4, plain).with(bugs);
    net.meet(a, b);
    net.meet(w, x);
    net.run(3);
    net.skew[w] = -100_000_000;
    net.at += 400_000_000;
    net.put(a, 5, Some(1), 8);
    let ticket = begin(&mut net, a, 5);
    net.at += 10_000_000;
    net.put(w, 5, other, 8);
    assert!(fill(&mut net, a, &ticket, 5, 2).is_some());
    net.run(15);
    let remembered = |i: usize| net.r[i].ledger.registers().contested_len();
    assert_eq!((remembered(a), remembered(x)), (0, 0), "nothing is remembered");
    net.all_meet();
    net.run(15);
    assert!((0..4).all(|i| net.get(i, 5) != Some(2)), "it came after the fill had begun");
    assert!((0..4).all(|i| net.get(i, 5) == net.get(a, 5)));
}

#[test]
fn a_fill_whose_bound_was_forgotten_loses_against_the_write_of_an_unmet_replica() {
    must_catch("unbounded_believed", |bugs| a_fill_among_strangers(bugs, Some(3)));
}

#[test]
fn a_fill_whose_bound_was_forgotten_loses_against_a_delete_that_strangers_have_collected() {
    must_catch("unbounded_believed", |bugs| a_fill_among_strangers(bugs, None));
}

/// Checks that a push does not cover the write below a fill. A replica fills a key above its own write. A later push
/// leaves the write out, and the write arrives afterwards in a push of its own. A fill that began before the write must
/// lose against it.
#[test]
fn a_push_does_not_speak_for_the_write_below_a_fill() {
    must_catch("left_out_taken_for_heard", |bugs| {
        let (a, w) = (0, 1);
        let mut net = Net::new(2, plain).with(bugs);
        net.meet(a, w);
        net.run(3);
        net.skew[w] = -100_000_000;
        net.at += 400_000_000;
        net.put(a, 5, Some(1), 8);
        net.intercept(a);
        let before = begin(&mut net, a, 5);
        net.at += 10_000_000;
        net.put(w, 5, Some(3), 8);
        let written = net.intercept(w);
        let after = begin(&mut net, w, 5);
        assert!(fill(&mut net, w, &after, 5, 4).is_some());
        net.intercept(w);
        net.at += 500_000_000;
        let hello = net.digest_of(a);
        let now = net.now(w);
        net.r[w].handle_message(now, id(a), hello);
        let again = std::iter::from_fn(|| net.r[w].poll_transmit(now)).map(|transmit| transmit.message);
        let again: Vec<_> = again.filter(|message| matches!(message, Message::Push(_))).collect();
        assert_eq!(again.len(), 1, "it goes back to what its member reports");
        let now = net.now(a);
        for message in again.into_iter().chain([written]) {
            net.r[a].handle_message(now, id(w), message);
        }
        assert_eq!(fill(&mut net, a, &before, 5, 2), None, "written after the fill had begun");
    });
}

/// Checks that a contested fill is voided even where it would be in doubt. A replica deletes a key while a fill of the
/// key runs elsewhere, and drops the tombstone by force. It then evicts newer values, so its eviction floor is above
/// the fill. If the fill were only in doubt there, it would stay on the other replicas, which know nothing of the
/// delete.
#[test]
fn a_contested_fill_is_voided_also_where_it_is_in_doubt() {
    must_catch("fills_left_in_doubt", |bugs| {
        let (a, w, s) = (0, 1, 2);
        let config = |i| ReplicaConfig { max_tombstones: if i == 1 { 1 } else { 1_000 }, ..plain(i) };
        let mut net = Net::new(3, config).with(bugs);
        net.all_meet();
        net.run(3);
        net.skew[w] = -100_000_000;
        net.at += 400_000_000;
        net.put(a, 5, Some(1), 8);
        net.intercept(a);
        let ticket = begin(&mut net, a, 5);
        net.at += 10_000_000;
        net.put(w, 5, None, 8);
        net.intercept(w);
        assert!(fill(&mut net, a, &ticket, 5, 2).is_some());
        net.intercept(a);
        net.at += 10_000_000;
        for key in [6, 8] {
            net.put(s, key, Some(key), 8);
            let written = net.intercept(s);
            [a, w].into_iter().for_each(|to| net.give(s, id(to), &written));
            net.evict(w, key);
        }
        assert!(net.held(w, 5).is_none() && net.held(w, 6).is_none(), "dropped by force");
        net.run(10);
        assert_ne!(net.get(a, 5), Some(2), "deleted after the fill had begun");
        assert_eq!((net.get(a, 5), net.get(s, 5)), (net.get(w, 5), net.get(w, 5)));
    });
}
