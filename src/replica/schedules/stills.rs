//! Stills in place of digests, and the mistakes that would make a replica claim a write that it does not have.

use super::promises::must_catch;
use super::*;
use crate::message::Still;
use crate::replica::stills;

/// Returns the still of a replica to another at this moment, if there is one.
fn still(net: &mut Net, from: usize, to: usize) -> Option<Still> {
    let now = net.now(from);
    let since = stills::state(&mut net.r[from], now, &[id(to)]).pop().flatten()?;
    Some(Still { since, wall: now.wall })
}

fn believes(net: &mut Net, to: usize, from: usize, still: Still) -> bool {
    let now = net.now(to);
    stills::handle(&mut net.r[to], now, id(from), still)
}

/// Exchanges stills and answers between all replicas. Returns the number that were believed.
fn exchange(net: &mut Net) -> usize {
    let mut believed = 0;
    for from in 0..net.r.len() {
        for to in (0..net.r.len()).filter(|to| *to != from) {
            let works = net.up[from] && net.up[to] && !net.cut.contains(&(from.min(to), from.max(to)));
            let Some(still) = still(net, from, to).filter(|_| works) else { continue };
            if believes(net, to, from, still) {
                let now = net.now(from);
                stills::note_accepted(&mut net.r[from], now, id(to), still.since);
                believed += 1;
            }
        }
    }
    believed
}

/// Returns the number of digests that were sent so far.
fn digests(net: &Net) -> u64 {
    net.r.iter().map(|replica| replica.view().counters().digests_out).sum()
}

/// Lets seconds pass, with stills in each. Returns the number of digests that were sent.
fn idle(net: &mut Net, seconds: u64) -> u64 {
    let before = digests(net);
    for _ in 0..seconds {
        net.run(1);
        exchange(net);
    }
    digests(net) - before
}

/// Returns three replicas at rest, which believe each other's stills. All hold a value, and have collected a delete.
fn at_rest(config: impl Fn(usize) -> ReplicaConfig, bugs: Bugs) -> Net {
    let mut net = Net::new(3, config).with(bugs);
    net.all_meet();
    net.put(0, 1, Some(1), 8);
    net.put(1, 2, None, 8);
    idle(&mut net, 20);
    assert_eq!(exchange(&mut net), 6);
    net
}

fn relaying(i: usize) -> ReplicaConfig {
    ReplicaConfig { broadcast_up_to: 1, fanout: 1, ..plain(i) }
}

/// Takes all messages out of a replica. They are lost, except those that `arrives` accepts.
fn lose(net: &mut Net, from: usize, arrives: impl Fn(usize, &Message<u32, u32>) -> bool) {
    let now = net.now(from);
    while let Some(t) = net.r[from].poll_transmit(now) {
        for to in t.to {
            if (0..net.r.len()).any(|j| id(j) == to && arrives(j, &t.message)) {
                net.give(from, to, &t.message);
            }
            if t.bulk {
                net.r[from].handle_sent(now, to, true);
            }
        }
    }
}

#[test]
fn replicas_at_rest_send_no_digests_and_learn_as_much() {
    let mut net = at_rest(plain, Bugs::default());
    assert_eq!(idle(&mut net, 60), 0);
    for replica in &net.r {
        for peer in replica.view().peers() {
            let drift = S; // `max_drift`, by which a watermark lags its clock.
            assert!(peer.watermark + drift + S / 10 >= net.now(0).wall, "the watermark rises");
            assert!(peer.last_heard + S / 10 >= net.at);
            assert!(replica.view().vector().get(&peer.id) + S / 10 >= net.now(0).wall);
        }
    }
    net.put(0, 3, Some(3), 8);
    assert_eq!((still(&mut net, 0, 1), still(&mut net, 0, 2)), (None, None));
    net.flush();
    assert_eq!((net.get(1, 3), net.get(2, 3)), (Some(3), Some(3)));
    assert!(idle(&mut net, 10) > 0);
    assert_eq!(idle(&mut net, 60), 0);
    // Without stills, digests begin again within a few intervals.
    let before = digests(&net);
    net.run(10);
    assert!(digests(&net) - before > 15);
}

#[test]
fn a_still_speaks_for_no_write_before_it() {
    must_catch("still_after_write", |bugs| {
        let mut net = at_rest(plain, bugs);
        net.put(0, 3, Some(3), 8);
        net.at += S;
        if let Some(still) = still(&mut net, 0, 1) {
            believes(&mut net, 1, 0, still);
        }
        net.run(10);
        assert_eq!(net.get(1, 3), Some(3));
    });
}

#[test]
fn a_still_speaks_for_no_write_after_it() {
    must_catch("still_leaves_clock", |bugs| {
        let mut net = at_rest(plain, bugs);
        net.at += 1_000_000;
        let still = still(&mut net, 0, 1).unwrap();
        assert!(believes(&mut net, 1, 0, still));
        net.put(0, 3, Some(3), 8);
        net.run(10);
        assert_eq!(net.get(1, 3), Some(3));
    });
}

/// A write of which only one digest reports, to replica 2. All other messages of its author are lost.
fn written_and_lost(bugs: Bugs, digest_arrives: bool) {
    let mut net = at_rest(relaying, bugs);
    net.put(0, 3, Some(3), 8);
    lose(&mut net, 0, |_, _| false);
    let mut told = None;
    while told.is_none() {
        net.at += S / 20;
        let now = net.now(0);
        net.r[0].handle_timeout(now);
        lose(&mut net, 0, |to, message| to == 2 && digest_arrives && matches!(message, Message::Digest(_)));
        told = still(&mut net, 0, 2);
    }
    assert_eq!(net.get(2, 3), None);
    believes(&mut net, 2, 0, told.unwrap());
    net.run(20);
    assert_eq!(net.get(2, 3), Some(3));
}

#[test]
fn a_still_over_a_lost_digest_is_not_believed() {
    must_catch("still_over_lost_digest", |bugs| written_and_lost(bugs, false));
}

#[test]
fn a_still_of_a_member_that_has_more_is_not_believed() {
    must_catch("still_while_behind", |bugs| written_and_lost(bugs, true));
}

#[test]
fn late_stills_change_nothing() {
    let mut net = at_rest(plain, Bugs::default());
    net.at += S / 10;
    let early = still(&mut net, 0, 1).unwrap();
    net.at += S / 10;
    let later = still(&mut net, 0, 1).unwrap();
    assert!(early.since == later.since && believes(&mut net, 1, 0, later));
    let seen = net.r[1].view().vector().clone();
    assert!(believes(&mut net, 1, 0, early) && believes(&mut net, 1, 0, later));
    assert_eq!(*net.r[1].view().vector(), seen);
    // A write is known here that a still of before denies.
    net.put(0, 3, Some(3), 8);
    net.flush();
    assert_eq!(net.get(1, 3), Some(3));
    assert!(!believes(&mut net, 1, 0, early) && !believes(&mut net, 1, 0, later));
    idle(&mut net, 20);
    assert!(!believes(&mut net, 1, 0, later), "there are newer digests");
}

#[test]
fn no_replica_is_at_rest_while_a_member_comes_or_goes() {
    let mut net = at_rest(plain, Bugs::default());
    let early = still(&mut net, 0, 1).unwrap();
    net.die(2, false);
    assert_eq!((exchange(&mut net), still(&mut net, 0, 1)), (0, None));
    assert!(!believes(&mut net, 1, 0, early));
    net.die(2, true);
    assert!(!believes(&mut net, 1, 0, early), "0 must say again whom it knows");
    idle(&mut net, 10);
    assert_eq!(exchange(&mut net), 2, "two are left");
    net.up[2] = true;
    net.meet(0, 2);
    assert!(exchange(&mut net) < 6);
    net.meet(1, 2);
    idle(&mut net, 20);
    assert_eq!(exchange(&mut net), 6);
}

/// Digests go on where a link is broken: their facts are all that one end learns of the other.
#[test]
fn facts_go_on_beside_a_broken_link() {
    let mut net = at_rest(plain, Bugs::default());
    net.cut.insert((1, 2));
    idle(&mut net, 10);
    assert_eq!(exchange(&mut net), 0, "neither end is at rest");
    net.put(1, 3, Some(3), 8);
    net.put(1, 3, None, 8);
    idle(&mut net, 40);
    assert_eq!([0, 1, 2].map(|i| net.held(i, 3)), [None; 3], "collected everywhere");
    net.cut.clear();
    idle(&mut net, 20);
    assert_eq!((exchange(&mut net), idle(&mut net, 20)), (6, 0));
}
