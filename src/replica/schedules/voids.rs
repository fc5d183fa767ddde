//! Writes that a void or a floor has overruled, and the fills that must still lose against them.

use super::filling::begin;
use super::promises::{fill, must_catch};
use super::*;
use crate::crdt::{Cause, Kind};

const MS: u64 = 1_000_000;

/// Returns the frames with which `from` answers digests of `to`. It may first try to push.
fn session(net: &mut Net, from: usize, to: usize) -> Vec<Message<u32, u32>> {
    for _ in 0..4 {
        net.at += 200 * MS;
        let asks = net.digest_of(to);
        let frames = net.frames_for(from, to, &asks);
        if !frames.is_empty() {
            return frames;
        }
    }
    panic!("no session");
}

fn config(cap: [usize; 3]) -> impl Fn(usize) -> ReplicaConfig {
    move |i| ReplicaConfig { max_frame_bytes: 1_024, max_tombstones: cap[i], ..plain(i) }
}

/// Lets the fill that began at `a` end and spread. It must not survive.
fn end_fill(net: &mut Net, a: usize, ticket: &FillTicket) {
    assert!(fill(net, a, ticket, 5, 2).is_some());
    net.cut.clear();
    net.run(30);
    let values: Vec<_> = (0..net.r.len()).filter(|i| net.up[*i]).map(|i| net.get(i, 5)).collect();
    assert!(values.iter().all(|value| *value != Some(2)), "written after the fill had begun: {values:?}");
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
}

/// Checks that a void does not stand for a write of the replica in its stamp. While a fill runs, an author writes the
/// key and then deletes another key. A third member receives only the delete, adopts it and drops it by force, so the
/// delete is its floor. Its reconcile then voids the write at that floor, on the author itself. With `author_dies`, the
/// third member receives the void and then the write, and is the only one left that knows of the write.
fn a_void_below_a_delete_of_the_same_replica(bugs: Bugs, author_dies: bool) {
    let (a, w, s) = (0, 1, 2);
    let mut net = Net::new(3, config([1_000, 1_000, 2])).with(bugs);
    net.all_meet();
    net.run(3);
    (net.skew[w], net.skew[s]) = (-100_000_000, -100_000_000);
    net.at += 400 * MS;
    net.cut.extend([(a, w), (a, s)]);
    net.put(a, 5, Some(1), 8);
    let ticket = begin(&mut net, a, 5);
    net.at += 10 * MS;
    net.put(w, 3, Some(1), 8);
    net.intercept(w);
    let written = net.put(w, 5, Some(3), 1_000);
    let late = net.intercept(w);
    // A write of another member has overtaken one of the author, so only a session can bring what follows.
    net.at += MS;
    net.put(s, 3, Some(2), 8);
    let over = net.intercept(s);
    net.give(s, id(w), &over);
    let deleted = net.put(w, 8, None, 8);
    let frames = session(&mut net, w, s);
    assert!(frames.len() > 1, "write and delete are in different frames");
    net.give(w, id(s), frames.last().unwrap());
    assert!(net.held(s, 5).is_none() && net.held(s, 8).is_some());
    net.at += 4 * S;
    let now = net.now(s);
    net.r[s].handle_timeout(now);
    for (key, value) in [(6, None), (7, None), (6, Some(6)), (7, Some(7))] {
        net.put(s, key, value, 8);
    }
    assert_eq!(net.r[s].view().floor(), deleted, "adopted, and dropped by force");
    for frame in session(&mut net, s, w) {
        net.give(s, id(w), &frame);
    }
    let void = net.held(w, 5).unwrap();
    assert_eq!((void.stamp, void.kind), (deleted, Kind::Tombstone(Cause::Void)));
    assert!(written < deleted && deleted < ticket.stamp());
    if author_dies {
        net.run(2);
        assert_eq!(net.held(s, 5).map(|held| held.stamp), Some(deleted));
        net.die(w, false);
        net.give(w, id(s), &late);
    }
    end_fill(&mut net, a, &ticket);
}

#[test]
fn a_void_does_not_stand_for_the_write_that_it_replaces() {
    must_catch("void_stands_for_write", |bugs| a_void_below_a_delete_of_the_same_replica(bugs, false));
}

#[test]
fn a_void_does_not_stand_for_a_write_that_comes_after_it() {
    must_catch("void_stands_for_write", |bugs| a_void_below_a_delete_of_the_same_replica(bugs, true));
}

/// Checks that a floor does not stand for a write of the replica in its stamp. While a fill runs, an author writes the
/// key. The write loses against an earlier delete by a faster clock, and the author then deletes another key. A member
/// claims all that by a session without the write. It drops both tombstones by force, so the author's delete is its
/// floor. Then it receives the write, and the author has died.
#[test]
fn a_floor_does_not_stand_for_a_write_that_comes_after_it() {
    must_catch("void_stands_for_write", |bugs| {
        let (a, w, x) = (0, 1, 2);
        let mut net = Net::new(3, config([1_000, 1_000, 1])).with(bugs);
        net.all_meet();
        net.run(3);
        net.skew[w] = -100_000_000;
        net.at += 400 * MS;
        net.put(a, 5, None, 8);
        let first = net.intercept(a);
        net.at += 40 * MS;
        net.put(a, 5, Some(1), 8);
        let ticket = begin(&mut net, a, 5);
        net.at += 10 * MS;
        let written = net.put(w, 5, Some(3), 8);
        let late = net.intercept(w);
        [w, x].into_iter().for_each(|to| net.give(a, id(to), &first));
        net.cut.extend([(a, w), (a, x)]);
        let deleted = net.put(w, 8, None, 8);
        assert!(written < deleted && deleted < ticket.stamp());
        for frame in session(&mut net, w, x) {
            net.give(w, id(x), &frame);
        }
        net.put(x, 7, None, 8);
        assert!(net.held(x, 5).is_none() && net.held(x, 8).is_none(), "dropped by force");
        assert_eq!(net.r[x].view().floor(), deleted);
        net.die(w, false);
        net.give(w, id(x), &late);
        end_fill(&mut net, a, &ticket);
    });
}

/// Checks that a write is remembered which is voided in place of a register in doubt. A member doubts an old value of
/// the key. A filler drops a delete of another key by force, and the member takes over that floor with a reconcile.
/// While the fill runs, a slower clock deletes the key. Only that member receives this delete, and voids it at the
/// floor.
#[test]
fn a_write_that_is_voided_in_place_of_a_doubt_contests_fills() {
    must_catch("void_stands_for_write", |bugs| {
        let (a, w, x) = (0, 1, 2);
        let mut net = Net::new(3, config([1, 1_000, 1_000])).with(bugs);
        net.skew[w] = -900_000_000;
        net.put(w, 5, Some(1), 8);
        net.meet(a, x);
        net.put(x, 9, Some(9), 8);
        net.run(10);
        net.evict(x, 9);
        assert!(net.held(x, 9).is_none(), "stable: gone without a trace");
        net.meet(w, a);
        net.meet(w, x);
        let doubted = net.held(x, 5).unwrap();
        assert_eq!((net.get(a, 5), doubted.kind), (Some(1), Kind::Tombstone(Cause::Evicted)));
        net.at += 400 * MS;
        net.cut.extend([(a, w), (w, x)]);
        let deleted = net.put(a, 8, None, 8);
        net.put(a, 7, None, 8);
        assert_eq!(net.r[a].view().floor(), deleted, "dropped by force");
        for frame in session(&mut net, a, x) {
            net.give(a, id(x), &frame);
        }
        assert_eq!((net.r[x].view().floor(), net.held(x, 5)), (deleted, Some(doubted)), "still in doubt");
        net.cut.insert((a, x));
        net.put(a, 5, Some(1), 8);
        let ticket = begin(&mut net, a, 5);
        net.at += 10 * MS;
        let written = net.put(w, 5, None, 8);
        assert!(written < deleted && deleted < ticket.stamp());
        let only = net.intercept(w);
        net.cut.remove(&(w, x));
        net.give(w, id(x), &only);
        assert_eq!(net.held(x, 5).map(|held| held.kind), Some(Kind::Tombstone(Cause::Void)));
        net.die(w, false);
        end_fill(&mut net, a, &ticket);
    });
}
