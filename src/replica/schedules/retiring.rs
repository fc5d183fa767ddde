//! Records of departed origins that are dropped at their cap.

use super::promises::must_catch;
use super::*;

/// Returns replicas that keep one record of a departed origin each. The first one keeps `tombstones` tombstones.
fn forgetful(n: usize, tombstones: usize) -> Net {
    Net::new(n, |i| ReplicaConfig {
        max_retired: 1,
        max_tombstones: if i == 0 { tombstones } else { 1_000_000 },
        ..plain(i)
    })
}

/// Lets another replica join and leave, so that there is one record more than the cap.
fn comes_and_goes(net: &mut Net, who: usize) {
    net.meet(0, who);
    net.run(3);
    net.die(who, true);
    net.run(5);
}

fn comes_back(net: &mut Net, who: usize, gone: usize) {
    net.up[who] = true;
    let now = net.now(who);
    net.r[who].handle_member_left(now, id(gone));
    net.meet(0, who);
    net.run(30);
}

/// scenario 31: checks that a returning member keeps no deleted value after a forced drop. z is unreachable and not
/// forgotten. The delete that z has not seen is dropped by force, and then the record of the deleter. z has seen the
/// own time of `a` that all members have seen, but that does not prove that z has seen the delete.
#[test]
fn a_member_that_missed_a_forced_drop_keeps_nothing_deleted_once_the_deleter_is_capped() {
    let (a, z, d, e) = (0, 1, 2, 3);
    let mut net = forgetful(4, 1);
    for (m, n) in [(a, z), (a, d), (z, d)] {
        net.meet(m, n);
    }
    net.put(a, 7, Some(1), 8);
    net.run(5);
    assert_eq!(net.get(z, 7), Some(1));
    net.die(z, false);
    for key in [7, 8, 9] {
        net.put(d, key, None, 8);
        net.run(1);
    }
    assert!(net.held(a, 7).is_none(), "dropped by force");
    net.die(d, true);
    comes_and_goes(&mut net, e);
    comes_back(&mut net, z, d);
    assert_eq!(net.get(z, 7), None, "deleted, as a knew");
}

/// scenario 20: checks that a returning member keeps no deleted value although a newcomer has joined. z is forgotten,
/// and its value is deleted. When `a` drops the record of the deleter, the newcomer has seen nothing of `a` yet. So the
/// own time of `a` that all members have seen is zero, which says nothing about z.
#[test]
fn a_newcomer_hides_no_drop_from_a_member_that_returns() {
    let (a, z, p, x, e) = (0, 1, 2, 3, 4);
    let mut net = forgetful(5, 1_000_000);
    for (m, n) in [(a, z), (a, p), (z, p)] {
        net.meet(m, n);
    }
    net.put(a, 7, Some(1), 8);
    net.run(5);
    assert_eq!(net.get(z, 7), Some(1));
    net.die(z, true);
    net.put(p, 7, None, 8);
    net.run(20);
    assert!(net.held(a, 7).is_none(), "collected");
    net.die(p, true);
    let first = net.digest_of(x);
    net.give(x, id(a), &first);
    net.die(x, false);
    comes_and_goes(&mut net, e);
    comes_back(&mut net, z, p);
    assert_eq!(net.get(z, 7), None, "deleted, as a knew");
}

/// Checks that there are never more than twice as many records as the cap, however long a member is unreachable.
#[test]
fn records_are_bounded_also_while_a_member_is_away() {
    let (a, z) = (0, 1);
    let mut net = forgetful(12, 1);
    net.meet(a, z);
    net.run(2);
    net.die(z, false);
    for who in 2..12 {
        net.meet(a, who);
        for key in [7, 8, 9] {
            net.put(who, key, None, 8);
        }
        net.run(2);
        net.die(who, true);
        net.run(2);
        let records = net.r[a].view().vector().len();
        assert!(records <= 2 + 2, "{records} records, of which two are of members");
    }
    assert!(net.r[a].view().counters().retired_dropped > 0);
}

/// Checks that a record dropped by an unreachable member is not waited for. A newcomer receives what a member has of a
/// departed origin, and then nothing more from that member, which drops the record. No other member had it. The
/// newcomer waits for it only as long as for a dead member.
#[test]
fn a_record_dropped_by_a_silent_member_is_not_waited_for() {
    let (a, b, new, x, y) = (0, 1, 2, 3, 4);
    let forget_after = std::time::Duration::from_secs(60);
    let mut net = Net::new(5, |i| ReplicaConfig { max_retired: 1, forget_after, ..plain(i) });
    net.meet(a, x);
    net.put(x, 7, Some(1), 8);
    net.run(3);
    net.die(x, true);
    net.run(3);
    let told = net.digest_of(a);
    net.give(a, id(new), &told);
    net.cut.insert((a, new));
    comes_and_goes(&mut net, y);
    assert!(net.r[a].view().counters().retired_dropped > 0);
    net.meet(a, b);
    net.meet(b, new);
    net.run(10);
    net.put(new, 9, None, 8);
    net.run(10);
    assert_eq!(net.r[new].view().counters().retired_dropped, 0);
    assert!(net.held(new, 9).is_some(), "for all that it knows, a may still send something older");
    net.run(60);
    assert!(net.held(new, 9).is_none(), "collected");
}

/// Checks that a replica waits for a forgotten member which a third member still reaches. One link is broken, so the
/// replica declared that member dead and forgot it. Writes of that member come late, by way of the third. They must not
/// lie below a floor that was raised without its reports.
#[test]
fn a_member_behind_a_broken_link_is_asked_by_way_of_others() {
    must_catch("reached_stay_forgotten", |bugs| {
        let (a, b, c) = (0, 1, 2);
        let forget_after = std::time::Duration::from_secs(60);
        let mut net = Net::new(3, |i| ReplicaConfig { forget_after, ..plain(i) }).with(bugs);
        net.all_meet();
        net.run(3);
        net.cut.insert((a, b));
        for (i, other) in [(a, b), (b, a)] {
            let now = net.now(i);
            net.r[i].handle_member_down(now, id(other));
        }
        net.run(70);
        assert_eq!(net.r[a].view().counters().forgotten, 1);
        net.put(c, 8, None, 8);
        net.run(20);
        assert!(net.held(a, 8).is_none(), "it holds back nothing that it is known to have seen");
        // Wait until `a` has received, by way of c, all that c has of b.
        let seen_of_b = |net: &Net, i: usize| net.r[i].view().vector().get(&id(b));
        let even = (0..300).any(|_| {
            net.run(1);
            seen_of_b(&net, a) == seen_of_b(&net, c)
        });
        assert!(even);
        net.cut.insert((b, c));
        net.put(b, 7, Some(1), 8);
        net.run(1);
        net.put(c, 9, None, 8);
        net.run(50);
        net.cut.remove(&(b, c));
        net.run(20);
        assert_eq!((net.get(a, 7), net.get(c, 7)), (Some(1), Some(1)), "nothing newer was written");
    });
}
