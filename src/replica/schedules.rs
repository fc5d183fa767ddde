//! Schedules of events that a second pair of eyes found to break a promise, kept so that they stay
//! fixed. Each needed a coincidence that random runs seldom meet.

use super::message::Message;
use super::*;
use crate::crdt::Dot;
use crate::item::{Body, Item, ItemRef, Key};
use net::{Net, S, id, plain};

mod mistakes;
mod net;
mod relaying;

/// `a` writes a key that y gets and x does not, then other keys, then `overwrite` writes the key again.
/// x goes back for it, gets a push that the frame size cuts, and `a` dies before the next one.
fn a_cut_push_and_a_death(overwrite: impl Fn(&mut Net, usize)) {
    let (a, x, y) = (0, 1, 2);
    let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) });
    net.meet(a, x);
    net.meet(a, y);
    net.meet(x, y);
    net.put(a, 0, Some(1), 8);
    net.run(5);
    assert_eq!((net.get(x, 0), net.get(y, 0)), (Some(1), Some(1)));
    // The push of the next write leaves; X gets only y's... X's copy is delayed by a full socket.
    net.put(a, 0, Some(2), 8);
    let now = net.now(a);
    let t = net.r[a].poll_transmit(now).unwrap();
    assert!(matches!(t.message, Message::Push(_)));
    net.give(a, id(y), &t.message); // lost to x
    net.r[a].handle_sent(now, id(y), true);
    net.r[a].handle_sent(now, id(x), false);
    // More writes, then the key again.
    net.at += 1_000_000;
    for key in 1..20 {
        net.put(a, key, Some(7), 100);
    }
    overwrite(&mut net, a);
    // x asks: a rewinds and pushes from what x has, cut at the frame size.
    let now = net.now(x);
    net.r[x].greet(now, id(a));
    let d = net.r[x].poll_transmit(now).unwrap();
    net.at += S;
    net.give(x, id(a), &d.message);
    let now = net.now(a);
    let mut pushed = None;
    while let Some(t) = net.r[a].poll_transmit(now) {
        if t.to.contains(&id(x)) && matches!(t.message, Message::Push(_)) {
            pushed = Some(t);
            break;
        }
    }
    // A session instead of a push is as good: nothing is claimed before all of it is in.
    if let Some(pushed) = pushed {
        net.give(a, id(x), &pushed.message);
    }
    net.die(a, false); // a dies before the next push
    net.run(30);
    assert_eq!(net.get(x, 0), net.get(y, 0), "x and y agree");
}

/// A push that is cut at max_frame_bytes must not claim a write whose successor lies beyond the cut.
#[test]
fn a_cut_push_claims_no_write_whose_successor_is_not_in_it() {
    a_cut_push_and_a_death(|net, a| {
        net.put(a, 0, Some(3), 8);
    });
}

/// Nor after the log was compacted, when nothing tells any more that the cut leaves something out.
#[test]
fn a_cut_push_claims_no_write_that_compaction_forgot() {
    a_cut_push_and_a_death(|net, a| {
        let mut before = 0;
        while net.r[a].log_len() >= before {
            before = net.r[a].log_len();
            net.put(a, 0, Some(3), 8);
        }
    });
}

/// a reconcile leaves a tombstone that its sender does not know below the adopted floor: mistake 8.
#[test]
fn a_tombstone_under_an_adopted_floor_lets_an_older_write_in() {
    // 0 = s (drops by force), 1 = a (was away), 2 = d (a late writer), 3 = p
    let (s, a, d, p) = (0, 1, 2, 3);
    let mut net = Net::new(4, |i| ReplicaConfig { max_tombstones: if i == 0 { 1 } else { 1_000_000 }, ..plain(i) });
    for (m, n) in [(s, a), (s, d), (s, p), (a, d), (a, p), (d, p)] {
        net.meet(m, n);
    }
    net.put(p, 50, Some(1), 8);
    net.run(2);
    // a is cut off. It deletes K at 5.
    net.up[a] = false;
    net.at += S;
    net.put(a, 7, None, 8);
    // d writes K at 6, but that is not sent yet; p deletes K at 8 and s hears of that.
    net.at += S;
    net.up[d] = false;
    net.put(d, 7, Some(66), 8);
    net.at += S;
    net.put(p, 7, None, 8);
    net.run(1);
    net.put(p, 8, None, 8);
    net.put(p, 9, None, 8);
    net.run(1); // s drops by force: floor
    assert!(net.held(s, 7).is_none());
    net.up[p] = false;
    for i in [s, a] {
        let now = net.now(i);
        net.r[i].handle_member_down(now, id(p));
    }
    net.up[a] = true;
    // s reconciles a, and goes before it hears a.
    let now = net.now(a);
    net.r[a].greet(now, id(s));
    let dig = net.r[a].poll_transmit(now).unwrap();
    net.give(a, id(s), &dig.message);
    let now = net.now(s);
    while let Some(t) = net.r[s].poll_transmit(now) {
        if t.to.contains(&id(a)) {
            net.give(s, id(a), &t.message);
        }
        if t.bulk {
            for to in t.to {
                net.r[s].handle_sent(now, to, true);
            }
        }
    }
    net.up[s] = false;
    for i in [a, d] {
        let now = net.now(i);
        net.r[i].handle_member_down(now, id(s));
    }
    net.up[d] = true;
    net.run(20);
    let deleted_seen =
        net.r[a].vector().covers(&Dot::new(id(p), net.r[p].vector().get(&id(p)))) || net.r[a].vector().get(&id(p)) > 0;
    assert!(deleted_seen);
    assert_eq!(net.get(a, 7), None, "a has seen the delete at 8 (vector) and serves the write of 6");
}

/// the dropped time of a retired origin is forgotten with it.
#[test]
fn a_returning_member_keeps_what_was_deleted_once_the_deleter_is_capped() {
    let (a, z, p) = (0, 1, 2);
    let mut net = Net::new(4, |i| ReplicaConfig { max_retired: 1, ..plain(i) });
    for (m, n) in [(a, z), (a, p), (z, p)] {
        net.meet(m, n);
    }
    net.put(a, 7, Some(1), 8);
    net.run(5);
    assert_eq!(net.get(z, 7), Some(1));
    // z is cut off and forgotten; p deletes; the tombstone is collected.
    net.up[z] = false;
    for i in [a, p] {
        let now = net.now(i);
        net.r[i].handle_member_left(now, id(z));
    }
    net.put(p, 7, None, 8);
    net.run(20);
    assert!(net.held(a, 7).is_none(), "collected");
    net.die(p, true);
    // another opening comes and goes
    net.meet(a, 3);
    net.run(3);
    net.die(3, true);
    net.run(5);
    net.up[z] = true;
    let now = net.now(z);
    net.r[z].handle_member_left(now, id(p));
    net.meet(a, z);
    net.run(30);
    assert_eq!(net.get(z, 7), None);
}

/// audits look at the oldest registers only.
#[test]
fn audits_reach_recent_registers() {
    let mut net =
        Net::new(2, |_| ReplicaConfig { audit_interval: std::time::Duration::from_secs(1), ..Default::default() });
    net.meet(0, 1);
    for key in 0..1_000 {
        net.at += S / 100;
        net.put(0, key, Some(1), 8);
    }
    net.run(5);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..2_000 {
        let now = net.now(0);
        net.r[0].audit_random_slice(now);
        while let Some(t) = net.r[0].poll_transmit(now) {
            if let Message::Audit(audit) = &t.message {
                seen.extend(audit.entries.iter().filter_map(|e| e.item.key.known().copied()));
            }
        }
    }
    assert!(seen.len() > 500, "only {} of 1000 keys were ever audited, the highest {:?}", seen.len(), seen.last());
}

/// Two replicas made to differ behind the protocol's back: only an audit sees it, and mends it.
#[test]
fn an_audit_of_suspects_finds_and_mends_a_conflict() {
    let quiet = |_| ReplicaConfig { audit_interval: std::time::Duration::ZERO, ..Default::default() };
    let mut net = Net::new(2, quiet);
    net.meet(0, 1);
    net.put(0, 7, Some(1), 8);
    net.run(2);
    let spoilt = net.r[1].store().get(7 << 48 | 7, &7).unwrap();
    let newer = crate::store::Meta { stamp_time: spoilt.meta.stamp_time + 16, ..spoilt.meta };
    let other = ItemRef::new(Item { key: Key::Known(7), body: Body::Known(2) });
    net.r[1].store().replace(spoilt.slot, newer, other);
    net.run(30);
    assert_eq!((net.get(0, 7), net.get(1, 7)), (Some(1), Some(2)), "nothing but an audit compares what both have seen");
    let slot = net.r[0].store().get(7 << 48 | 7, &7).unwrap().slot;
    assert_eq!(net.r[0].audit_registers(id(1), &[slot]), 1);
    net.run(2);
    assert_eq!((net.get(0, 7), net.get(1, 7)), (Some(2), Some(2)), "the greater stamp won under a new dot");
    assert_eq!(net.r[0].counters().audit_conflicts + net.r[1].counters().audit_conflicts, 1);
}

/// the log of an origin that writes no more is never compacted.
#[test]
fn the_log_of_a_departed_origin_returns_to_baseline() {
    let mut net = Net::new(2, plain);
    net.meet(0, 1);
    for key in 0..10_000 {
        net.put(0, key, Some(1), 8);
    }
    net.run(3);
    net.die(0, true);
    for key in 0..10_000 {
        net.put(1, key, Some(2), 8);
    }
    net.run(20);
    assert!(net.r[1].log_len() < 12_000, "{} log entries for {} registers", net.r[1].log_len(), net.r[1].live_len());
}

/// a source whose clock is too far ahead can never be claimed, so everything is adopted.
#[test]
fn a_fast_source_is_no_adoption_storm() {
    let (s, p, x) = (0, 1, 2);
    let mut net = Net::new(3, plain);
    net.meet(s, p);
    for key in 0..1_000 {
        net.put(p, key, Some(key), 50);
    }
    net.run(5);
    net.die(p, true);
    net.skew[s] = 2 * S as i64; // stepped two seconds ahead
    net.run(5);
    net.meet(s, x);
    net.run(30);
    assert!(net.r[x].counters().adopted < 1_000 && net.r[x].counters().sessions_in < 5);
}

/// collection does not keep up with deletes.
#[test]
fn collection_keeps_up() {
    let mut net = Net::new(2, plain);
    net.meet(0, 1);
    for key in 0..60_000 {
        net.put(0, key, None, 8);
    }
    net.run(10);
    assert_eq!((net.r[0].tombstone_len(), net.r[1].tombstone_len()), (0, 0));
}

/// a fill that is past its hold is cached.
#[test]
fn a_fill_past_its_hold_is_not_cached() {
    let mut net = Net::new(2, |i| ReplicaConfig { fill_hold: std::time::Duration::from_secs(1), ..plain(i) });
    net.meet(0, 1);
    let now = net.now(0);
    let ticket = net.r[0].begin_fill(now, 5, &Key::Known(5));
    net.run(10);
    let now = net.now(0);
    let item = ItemRef::new(Item { key: Key::Known(5), body: Body::Known(5) });
    let stored = net.r[0].finish_fill(now, &ticket, Write { hash: 5, item, expires: 0, size: 8, weight: 1 });
    assert_eq!(stored, None, "watermark told to others {:?}", net.r[1].peers().next().unwrap().watermark);
}

/// a bounded source with unstable evictions: what does a newcomer adopt?
#[test]
fn a_capped_claim_is_no_adoption_storm() {
    let (p, s, x) = (0, 1, 2);
    let mut net = Net::new(3, plain);
    net.meet(p, s);
    for key in 0..1_000 {
        net.put(p, key, Some(key), 50);
    }
    net.run(1);
    for key in 0..10 {
        net.evict(s, key);
    }
    net.meet(s, x);
    net.meet(p, x);
    net.run(1);
    assert_eq!(net.r[x].counters().adopted, 0);
    assert_eq!(net.r[x].live_len(), 1_000);
}

/// scenario 10: a clock one day ahead, a write, the clock repaired. Its stamps wait elsewhere, once each
/// however often they are offered; after a restart everybody can overwrite and delete the key.
#[test]
fn what_a_repaired_clock_stamped_waits_until_the_restart() {
    let (a, b, again) = (0, 1, 2);
    let mut net = Net::new(3, plain);
    net.meet(a, b);
    net.put(b, 7, Some(1), 8);
    net.run(1);
    net.skew[a] = 86_400 * S as i64;
    net.put(a, 7, Some(2), 8);
    net.run(1);
    net.skew[a] = 0;
    net.put(a, 8, Some(2), 8);
    net.run(60);
    assert_eq!((net.get(b, 7), net.get(b, 8)), (Some(1), None), "a waits until tomorrow");
    assert_eq!(net.r[b].deferred_len(), 2, "and each write of it once");
    let look = net.r[a].look(net.now(a));
    assert!(look.clock_last > net.now(a).wall + 86_000 * S && look.disagreement < -86_000 * S as i64, "and can tell");
    // A restart is a new replica with the repaired clock.
    net.die(a, true);
    net.meet(again, b);
    net.run(2);
    net.put(again, 7, Some(3), 8);
    net.run(2);
    assert_eq!(net.get(b, 7), Some(3));
    net.put(b, 7, None, 8);
    net.run(2);
    assert_eq!(net.get(again, 7), None);
}
