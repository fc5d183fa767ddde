//! Registers that the end of a reconcile must leave alone, and state that a newcomer waits for.

use super::filling::begin;
use super::promises::{fill, must_catch};
use super::*;

/// Returns a network in which s has evicted 50 keys that r holds. The three members that wrote the keys leave, and s
/// drops their records above its cap while r is unreachable. So r gets a reconcile. With `was_there`, r has seen
/// everything that was evicted, and must lose nothing.
fn evicter_reconciles(bugs: Bugs, was_there: bool) -> Net {
    let (s, r, leaving) = (0, 1, [2, 3, 4]);
    let config = |i| ReplicaConfig { max_retired: if i == 0 { 1 } else { 4_096 }, ..plain(i) };
    let mut net = Net::new(5, config).with(bugs);
    if was_there {
        net.all_meet();
    } else {
        net.up[r] = false;
        for (a, b) in [(s, 2), (s, 3), (s, 4), (2, 3), (2, 4), (3, 4)] {
            net.meet(a, b);
        }
    }
    for key in 0..50 {
        net.put(leaving[key as usize % 3], key, Some(key), 100);
    }
    net.run(20);
    for key in 0..50 {
        net.evict(s, key);
    }
    assert_eq!((net.r[s].view().live_len(), net.r[s].view().tombstone_len()), (0, 0), "evicted without a trace");
    net.cut.insert((s, r));
    leaving.into_iter().for_each(|i| net.die(i, true));
    net.run(20);
    net.cut.clear();
    net.up[r] = true;
    net
}

#[test]
fn a_reconcile_of_an_evicter_takes_nothing_from_a_member_that_knew_what_was_evicted() {
    let (s, r) = (0, 1);
    let mut net = evicter_reconciles(Bugs::default(), true);
    net.run(20);
    assert!(net.r[r].view().counters().reconciles_in > 0, "it got a reconcile");
    assert_eq!(net.r[r].view().counters().evictions_taken, 0);
    assert_eq!(
        (net.r[r].view().live_len(), net.r[s].view().live_len()),
        (50, 0),
        "the cost stays where it was evicted"
    );
}

/// Checks that a newcomer does not serve an older value after a reconcile. The newest value of the key was evicted by
/// the sender. The newcomer claims that newest value from now on.
#[test]
fn a_reconcile_of_an_evicter_takes_what_may_be_older_than_what_was_evicted() {
    must_catch("evictions_spared_unseen", |bugs| {
        let (s, w, n) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.meet(s, w);
        // The newcomer writes before it has any member, with a clock that is behind.
        net.skew[n] = -500_000_000;
        net.put(n, 7, Some(1), 8);
        net.put(w, 7, Some(2), 8);
        net.run(20);
        net.evict(s, 7);
        net.evict(w, 7);
        assert!(net.held(s, 7).is_none() && net.held(w, 7).is_none(), "stable: gone without a trace");
        net.meet(n, s);
        net.run(20);
        assert_eq!(net.get(n, 7), None, "2 was written after 1");
    });
}

/// Checks that a receiver of a reconcile serves nothing older than a register that the reconcile hides. A replica
/// without members evicted something, so its eviction floor is recent. A second replica takes that floor over, and
/// doubts its newest value of a key, of which the first holds an older value. The reconcile from the second does not
/// list the register in doubt.
#[test]
fn who_claims_what_a_reconcile_hides_serves_nothing_older() {
    must_catch("hidden_untold", |bugs| {
        let (alone, other, third) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.meet(other, third);
        net.put(other, 20, Some(0), 8);
        net.put(other, 20, None, 8);
        net.run(20);
        assert!(net.held(other, 20).is_none(), "collected, so a newcomer gets a reconcile");
        net.put(alone, 7, Some(1), 8);
        net.at += 100_000_000;
        net.put(other, 7, Some(2), 8);
        net.at += 100_000_000;
        net.put(alone, 9, Some(3), 8);
        net.evict(alone, 9);
        assert!(net.held(alone, 9).is_none(), "there is no other member: removed without a trace");
        net.at += 100_000_000;
        net.cut.insert((alone, third));
        net.meet(alone, other);
        net.run(20);
        assert_ne!(net.get(alone, 7), Some(1), "2 was written after 1");
        assert_eq!(net.get(alone, 7), net.get(other, 7));
    });
}

/// Checks that a later reconcile does not void a register in doubt. A replica holds the older value of a key in doubt,
/// because it took a reconcile of a replica that had evicted the newer value. Then it takes the reconcile of a member
/// that still holds the newer value. A void would be greater than that value.
#[test]
fn a_doubt_is_not_voided_by_a_later_reconcile() {
    must_catch("doubts_voided", |bugs| {
        let (w, e, h, p) = (0, 1, 2, 3);
        let mut net = Net::new(4, plain).with(bugs);
        net.up[p] = false;
        for (a, b) in [(w, e), (w, h), (e, h)] {
            net.meet(a, b);
        }
        net.skew[p] = -500_000_000;
        net.put(p, 7, Some(1), 8);
        net.put(w, 7, Some(2), 8);
        net.run(2);
        net.put(w, 9, Some(3), 8);
        net.put(w, 9, None, 8);
        net.run(20);
        net.evict(e, 7);
        assert!(net.held(e, 7).is_none() && net.held(e, 9).is_none(), "evicted and collected");
        // e and h have known p for some time, and have not seen what it wrote.
        net.up[p] = true;
        let asks = net.digest_of(p);
        net.give(p, id(e), &asks);
        net.give(p, id(h), &asks);
        net.cut.extend([(w, p), (h, p), (e, p), (w, e), (e, h)]);
        net.run(8);
        net.cut.remove(&(e, p));
        let frames = net.frames_for(e, p, &asks);
        frames.iter().for_each(|frame| net.give(e, id(p), frame));
        assert_eq!(net.get(p, 7), None, "in doubt");
        net.up[e] = false;
        net.cut.remove(&(h, p));
        let frames = net.frames_for(h, p, &asks);
        frames.iter().for_each(|frame| net.give(h, id(p), frame));
        net.cut.clear();
        net.meet(p, w);
        net.run(20);
        assert_eq!((net.get(h, 7), net.get(w, 7)), (Some(2), Some(2)), "they evicted nothing");
    });
}

/// Checks that a register in doubt is not passed on as the newest known. The sender of a reconcile has evicted
/// something that its receiver has seen, and has dropped a younger delete by force. It never saw the value that was
/// deleted. The receiver doubts that value. If it passed the value on as the newest, its own receivers would serve it
/// and claim the delete.
#[test]
fn a_doubt_is_not_passed_on_as_the_newest_that_is_known() {
    must_catch("doubts_listed", |bugs| {
        let (s, r, d, p, t) = (0, 1, 2, 3, 4);
        let few = |i| ReplicaConfig { max_tombstones: if i == 0 { 1 } else { 1_000_000 }, ..plain(i) };
        let mut net = Net::new(5, few).with(bugs);
        net.all_meet();
        net.run(3);
        net.cut.insert((s, p));
        net.put(p, 7, Some(1), 8);
        net.flush();
        net.up[p] = false;
        net.at += 10_000_000;
        net.put(d, 9, Some(2), 8);
        net.flush();
        net.evict(s, 9);
        net.cut.extend([(r, d), (d, t)]);
        net.at += 10_000_000;
        net.put(d, 7, None, 8);
        net.put(d, 8, None, 8);
        net.flush();
        assert!(net.held(s, 7).is_none() && net.held(s, 9).is_none(), "dropped by force");
        assert!(net.r[s].view().eviction_floor() > Stamp::ZERO && net.r[s].view().floor() > Stamp::ZERO);
        assert_eq!((net.get(r, 7), net.get(t, 7)), (Some(1), Some(1)));
        let asks = net.digest_of(r);
        let frames = net.frames_for(s, r, &asks);
        (net.up[s], net.up[d]) = (false, false);
        frames.iter().for_each(|frame| net.give(s, id(r), frame));
        assert_eq!((net.r[r].view().counters().reconciles_in, net.get(r, 7)), (1, None));
        net.run(20);
        assert_eq!(net.get(t, 7), None, "deleted, and it has seen that");
    });
}

/// Checks that a dropped time above a partial claim is passed on. The sender of a reconcile claims an origin only up to
/// a recent write, and has dropped by force writes before and after it. Its receiver claims a delete of which nothing
/// is left. A member that lacks the delete must get a reconcile from the receiver too.
#[test]
fn what_is_claimed_in_part_and_was_dropped_is_not_passed_on_as_nothing() {
    must_catch("dropped_beyond_claim_left", |bugs| {
        let (s, o, t, new) = (0, 1, 2, 3);
        let few = |i| ReplicaConfig { max_tombstones: if i == 0 { 1 } else { 1_000_000 }, ..plain(i) };
        let mut net = Net::new(4, few).with(bugs);
        for (a, b) in [(s, o), (s, t), (o, t)] {
            net.meet(a, b);
        }
        net.put(o, 7, Some(1), 8);
        net.put(o, 9, Some(1), 8);
        net.run(3);
        net.up[t] = false;
        net.put(o, 7, None, 8);
        let deleted = net.held(o, 7).unwrap().dot;
        net.put(o, 8, Some(1), 8);
        let young = net.held(o, 8).unwrap().dot;
        let ticket = begin(&mut net, o, 9);
        assert!(fill(&mut net, o, &ticket, 9, 2).is_some());
        net.flush();
        net.evict(s, 8);
        net.evict(s, 9);
        let dropped = net.r[s].view().dropped().get(&id(o));
        assert!(
            net.held(s, 7).is_none() && net.held(s, 8).is_some() && dropped > young.counter,
            "the oldest stamps first"
        );
        let asks = net.digest_of(new);
        let frames = net.frames_for(s, new, &asks);
        frames.iter().for_each(|frame| net.give(s, id(new), frame));
        let claimed = net.r[new].view().vector().clone();
        assert!(claimed.covers(&deleted) && !claimed.covers(&young), "in part");
        (net.up[s], net.up[o], net.up[t]) = (false, false, true);
        let asks = net.digest_of(t);
        let frames = net.frames_for(new, t, &asks);
        frames.iter().for_each(|frame| net.give(new, id(t), frame));
        assert!(net.r[t].view().vector().covers(&deleted));
        assert_eq!(net.get(t, 7), None, "deleted, and it has seen that");
    });
}

/// Checks that an orphan in doubt is adopted if the session that brought it is claimed in part. Two members write a key
/// twice while they are separated from two other members. The first write is claimed with the session, because the
/// second overtook it. The second is claimed by no session yet: it is evicted at the sender, and young. At the receiver
/// it is in doubt. A member that holds an older value then gets a delta from the receiver.
#[test]
fn an_orphan_in_doubt_is_not_claimed_over_and_left_out() {
    must_catch("doubtful_orphans_erased", |bugs| {
        let (o, s, b, t) = (0, 1, 2, 3);
        let mut net = Net::new(4, plain).with(bugs);
        net.meet(o, s);
        net.meet(b, t);
        net.put(t, 7, Some(1), 8);
        net.run(5);
        net.evict(b, 7);
        assert!(net.held(b, 7).is_none() && net.get(t, 7) == Some(1), "gone without a trace, and not on t");
        net.put(o, 7, Some(2), 8);
        let overtaken = net.held(o, 7).unwrap().dot;
        net.flush();
        net.at += 10_000_000;
        net.put(o, 7, Some(3), 8);
        let young = net.held(o, 7).unwrap().dot;
        net.flush();
        net.evict(s, 7);
        // s meets b. s is lossy, so it would leave the newcomer b to o for three digest intervals, and these pass here.
        // s receives nothing meanwhile, so it keeps its tombstone.
        net.cut.extend([(o, s), (o, b), (o, t), (s, t)]);
        let hello = net.digest_of(b);
        net.give(b, id(s), &hello);
        net.cut.insert((s, b));
        net.at += 10_000_000;
        net.put(b, 9, Some(4), 8);
        net.run(5);
        net.evict(b, 9);
        assert!(net.held(b, 9).is_none() && net.held(s, 7).is_some());
        net.cut.remove(&(s, b));
        let asks = net.digest_of(b);
        let frames = net.frames_for(s, b, &asks);
        frames.iter().for_each(|frame| net.give(s, id(b), frame));
        let claimed = net.r[b].view().vector().clone();
        assert!(claimed.covers(&overtaken) && !claimed.covers(&young), "in part");
        (net.up[o], net.up[s]) = (false, false);
        let asks = net.digest_of(t);
        let frames = net.frames_for(b, t, &asks);
        frames.iter().for_each(|frame| net.give(b, id(t), frame));
        assert!(net.r[t].view().vector().covers(&overtaken));
        assert_eq!(net.get(t, 7), None, "2 and 3 were written after 1, and it has seen 2");
    });
}

/// Checks that a value that a reconcile removed is not voided when it comes again. A member was forgotten, and lost a
/// value to the reconcile of a replica that had evicted it. The value comes again under another dot. It may have been
/// deleted or evicted: that is no reason to void it for all replicas.
#[test]
fn what_a_reconcile_removed_is_not_voided_when_it_comes_again() {
    must_catch("removals_void", |bugs| {
        let (a, e, h, m) = (0, 1, 2, 3);
        let mut net = Net::new(4, plain).with(bugs);
        net.all_meet();
        net.put(a, 7, Some(2), 8);
        net.run(5);
        net.cut.extend([(a, m), (e, m), (h, m)]);
        for i in [a, e, h] {
            let now = net.now(i);
            net.r[i].handle_member_left(now, id(m));
        }
        net.put(a, 9, Some(3), 8);
        net.put(a, 9, None, 8);
        net.run(20);
        net.evict(e, 7);
        assert!(net.held(e, 7).is_none() && net.held(e, 9).is_none(), "evicted and collected");
        net.cut.extend([(a, e), (e, h)]);
        let held = net.r[h].view().store().get(7 << 48 | 7, &7).unwrap();
        let now = net.now(h);
        net.r[h].call(now, |it| it.ledger.spread_again(&mut it.env, &held));
        assert!(net.r[h].poll_change().is_none(), "readers see the same write under its new dot");
        net.flush();
        net.cut.remove(&(e, m));
        net.meet(m, e);
        net.run(8);
        assert_eq!(net.get(m, 7), None, "deleted or evicted: e does not know");
        net.cut.clear();
        net.meet(m, h);
        net.meet(m, a);
        net.run(20);
        assert_eq!((net.get(h, 7), net.get(a, 7)), (Some(2), Some(2)), "they evicted nothing");
    });
}

/// Checks that a newcomer collects nothing before it has all that is known of a departed member. Only one remaining
/// member has the last writes of the departed one. It sends the newcomer a delete before it sends those writes.
#[test]
fn a_newcomer_waits_for_what_is_known_of_one_that_left() {
    must_catch("gone_unwaited", |bugs| {
        let (left, has, new) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.meet(left, has);
        net.run(3);
        net.put(left, 7, Some(1), 8);
        net.at += 100_000_000;
        net.put(has, 9, None, 8);
        let deleted = net.intercept(has);
        net.flush();
        assert_eq!(net.get(has, 7), Some(1));
        net.die(left, true);
        net.give(has, id(new), &deleted);
        for _ in 0..30 {
            // Digests pass, and nothing else does.
            net.cut.clear();
            for (from, to) in [(has, new), (new, has)] {
                let hello = net.digest_of(from);
                net.give(from, id(to), &hello);
            }
            net.cut.insert((has, new));
            net.run(1);
        }
        net.cut.clear();
        net.meet(has, new);
        net.run(30);
        assert_eq!((net.get(has, 7), net.get(new, 7)), (Some(1), Some(1)), "it was never deleted");
    });
}

/// Checks that a late digest does not retract the name of a member. A newcomer learns of a member by a digest. Then an
/// older digest of the same sender arrives, from before it met that member. The newcomer must go on waiting for that
/// member.
#[test]
fn a_late_digest_takes_no_name_back() {
    must_catch("late_words_unname", |bugs| {
        let (source, other, new) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.put(source, 1, Some(1), 8);
        let before = net.digest_of(source);
        net.meet(source, other);
        net.put(other, 7, Some(1), 8);
        net.run(3);
        let after = net.digest_of(source);
        net.give(source, id(new), &after);
        net.give(source, id(new), &before);
        assert!(net.r[new].view().unmet().any(|(who, ..)| who == id(other)), "named by one that met it");
        let again = net.digest_of(source);
        net.give(source, id(new), &again);
        assert!(net.r[new].view().unmet().any(|(who, ..)| who == id(other)));
    });
}
