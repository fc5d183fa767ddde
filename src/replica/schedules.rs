//! Schedules of events that a review found to break a promise, kept as regression tests. Each needs a coincidence that
//! random runs seldom meet.

use super::*;
use crate::crdt::Dot;
use crate::item::{Body, Item, ItemRef, Key};
use crate::message::Message;
use net::{Net, S, copy, id, plain};

mod acks;
mod bursts;
mod duplicate_ids;
mod filling;
mod mistakes;
mod net;
mod promises;
mod relaying;
mod retiring;
mod skewed;
mod sparing;
mod stills;
mod voids;

/// Checks that x and y agree after a push that the frame size cuts. `a` writes a key, and only y receives it. `a`
/// writes other keys, and `overwrite` writes the key again. `a` goes back for x and sends x a cut push, then dies
/// before the next push.
fn a_cut_push_and_a_death(overwrite: impl Fn(&mut Net, usize)) {
    let (a, x, y) = (0, 1, 2);
    let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) });
    net.meet(a, x);
    net.meet(a, y);
    net.meet(x, y);
    net.put(a, 0, Some(1), 8);
    net.run(5);
    assert_eq!((net.get(x, 0), net.get(y, 0)), (Some(1), Some(1)));
    // The push of the next write leaves and reaches only y: the socket to x is full.
    net.put(a, 0, Some(2), 8);
    let now = net.now(a);
    let t = net.r[a].poll_transmit(now).unwrap();
    assert!(matches!(t.message, Message::Push(_)));
    net.give(a, id(y), &t.message); // lost on the way to x
    net.r[a].handle_sent(now, id(y), true);
    net.r[a].handle_sent(now, id(x), false);
    // More writes, and then the key again.
    net.at += 1_000_000;
    for key in 1..20 {
        net.put(a, key, Some(7), 100);
    }
    overwrite(&mut net, a);
    // x asks. `a` goes back to what x has and pushes from there, cut at the frame size.
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
    // A session instead of a push is as good: nothing is claimed before all of it has arrived.
    if let Some(pushed) = pushed {
        net.give(a, id(x), &pushed.message);
    }
    net.die(a, false); // `a` dies before the next push
    net.run(30);
    assert_eq!(net.get(x, 0), net.get(y, 0), "x and y agree");
}

/// Checks that a push cut at `max_frame_bytes` claims no write whose successor lies beyond the cut.
#[test]
fn a_cut_push_claims_no_write_whose_successor_is_not_in_it() {
    a_cut_push_and_a_death(|net, a| {
        net.put(a, 0, Some(3), 8);
    });
}

/// Checks the same after compaction, when the log no longer shows that the cut leaves something out.
#[test]
fn a_cut_push_claims_no_write_that_compaction_forgot() {
    a_cut_push_and_a_death(|net, a| {
        let mut before = 0;
        while net.r[a].view().log_len() >= before {
            before = net.r[a].view().log_len();
            net.put(a, 0, Some(3), 8);
        }
    });
}

/// Checks the same for a push that is cut at a write which another replica overtook. (Found by the simulator, seeds
/// 6449 and 27403.)
#[test]
fn a_push_cut_at_an_overtaken_write_claims_no_write_that_compaction_forgot() {
    let (a, x) = (0, 1);
    let mut net = Net::new(2, plain);
    net.meet(a, x);
    net.put(a, 0, Some(1), 8);
    net.run(2);
    assert_eq!(net.get(x, 0), Some(1));
    // x receives none of these: key 0 many times, 5 and 2 once, then 0 again until compaction has removed its first
    // entries.
    for number in 10..60 {
        net.put(a, 0, Some(number), 8);
    }
    let forgotten = net.r[a].ledger.last_own();
    net.put(a, 5, Some(1), 8);
    net.put(a, 2, Some(1), 8);
    let mut before = 0;
    while net.r[a].view().log_len() >= before {
        before = net.r[a].view().log_len();
        net.put(a, 0, Some(100), 8);
    }
    assert!(net.r[a].ledger.logs().followed() >= forgotten, "compacted");
    net.at += S;
    net.put(x, 2, Some(9), 8);
    let overtaking = net.intercept(x);
    net.give(x, id(a), &overtaking);
    assert_eq!(net.get(a, 2), Some(9));
    // `a` sends what it can by pushes alone, and dies.
    let now = net.now(a);
    while let Some(t) = net.r[a].poll_transmit(now) {
        if matches!(t.message, Message::Push(_)) {
            net.give(a, id(x), &t.message);
            net.r[a].handle_sent(now, id(x), true);
        }
    }
    let claimed = net.r[x].view().vector().get(&id(a));
    assert!(claimed < forgotten || net.get(x, 0) == Some(100), "{claimed} is claimed, and 0 is {:?}", net.get(x, 0));
}

/// Checks against mistake 8 of `bugs.rs`. After a reconcile, a tombstone that its sender does not know must not stay
/// below the adopted floor: a write stamped between the tombstone and the floor could replace it.
#[test]
fn a_tombstone_under_an_adopted_floor_lets_an_older_write_in() {
    // 0 = s (drops by force), 1 = a (unreachable for a time), 2 = d (a late writer), 3 = p
    let (s, a, d, p) = (0, 1, 2, 3);
    let mut net = Net::new(4, |i| ReplicaConfig { max_tombstones: if i == 0 { 1 } else { 1_000_000 }, ..plain(i) });
    for (m, n) in [(s, a), (s, d), (s, p), (a, d), (a, p), (d, p)] {
        net.meet(m, n);
    }
    net.put(p, 50, Some(1), 8);
    net.run(2);
    // a is cut off and deletes the key at time 5.
    net.up[a] = false;
    net.at += S;
    net.put(a, 7, None, 8);
    // d writes the key at time 6, but that is not sent yet. p deletes the key at time 8, and s receives the delete.
    net.at += S;
    net.up[d] = false;
    net.put(d, 7, Some(66), 8);
    net.at += S;
    net.put(p, 7, None, 8);
    net.run(1);
    net.put(p, 8, None, 8);
    net.put(p, 9, None, 8);
    net.run(1); // s drops tombstones by force, which raises its floor
    assert!(net.held(s, 7).is_none());
    net.up[p] = false;
    for i in [s, a] {
        let now = net.now(i);
        net.r[i].handle_member_down(now, id(p));
    }
    net.up[a] = true;
    // s sends a reconcile to a, and dies before it receives anything from a.
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
    let deleted_seen = net.r[a].view().vector().covers(&Dot::new(id(p), net.r[p].view().vector().get(&id(p))))
        || net.r[a].view().vector().get(&id(p)) > 0;
    assert!(deleted_seen);
    assert_eq!(net.get(a, 7), None, "a has seen the delete at 8 (vector) and serves the write of 6");
}

/// Checks that a deleted value does not survive on a member that returns after the deleter's record was dropped at
/// `max_retired`. The dropped time of the retired origin must not be lost with its record.
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
    // z is cut off and forgotten. p deletes the key, and the tombstone is collected.
    net.up[z] = false;
    for i in [a, p] {
        let now = net.now(i);
        net.r[i].handle_member_left(now, id(z));
    }
    net.put(p, 7, None, 8);
    net.run(20);
    assert!(net.held(a, 7).is_none(), "collected");
    net.die(p, true);
    // Another replica comes and goes, so that there is one record more than the cap.
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

/// Checks that audits reach all registers, not only the oldest ones.
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
        net.r[0].converse(now, |conversations, cx| {
            conversations.audits.make_due();
            conversations.audits.handle_timeout(cx);
        });
        while let Some(t) = net.r[0].poll_transmit(now) {
            if let Message::Audit(audit) = &t.message {
                seen.extend(audit.entries.iter().filter_map(|e| e.item.key.known().copied()));
            }
        }
    }
    assert!(seen.len() > 500, "only {} of 1000 keys were ever audited, the highest {:?}", seen.len(), seen.last());
}

/// Returns two replicas that hold different values for key 7 although both have seen both dots. Neither starts audits
/// itself.
fn two_that_differ() -> Net {
    let quiet = |_| ReplicaConfig { audit_interval: std::time::Duration::ZERO, ..Default::default() };
    let mut net = Net::new(2, quiet);
    net.meet(0, 1);
    net.put(0, 7, Some(1), 8);
    net.run(2);
    let spoilt = net.r[1].view().store().get(7 << 48 | 7, &7).unwrap();
    let newer = crate::store::Meta { stamp_time: spoilt.meta.stamp_time + 16, ..spoilt.meta };
    let other = ItemRef::new(Item { key: Key::Known(7), body: Body::Known(2) });
    net.r[1].view().store().replace(spoilt.slot, newer, other);
    net
}

/// Checks that an audit of suspects finds and repairs a conflict. The two replicas were changed without the protocol,
/// so only an audit can find it.
#[test]
fn an_audit_of_suspects_finds_and_mends_a_conflict() {
    let mut net = two_that_differ();
    net.run(30);
    assert_eq!((net.get(0, 7), net.get(1, 7)), (Some(1), Some(2)), "nothing but an audit compares what both have seen");
    let slot = net.r[0].view().store().get(7 << 48 | 7, &7).unwrap().slot;
    assert_eq!(net.r[0].audit_registers(id(1), &[slot]), 1);
    net.run(2);
    assert_eq!((net.get(0, 7), net.get(1, 7)), (Some(2), Some(2)), "the greater stamp won under a new dot");
    assert_eq!(net.r[0].view().counters().audit_conflicts + net.r[1].view().counters().audit_conflicts, 1);
}

/// Checks that the log of a departed origin is compacted, although that origin writes no more.
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
    assert!(
        net.r[1].view().log_len() < 12_000,
        "{} log entries for {} registers",
        net.r[1].view().log_len(),
        net.r[1].view().live_len()
    );
}

/// Checks that a newcomer does not adopt everything again and again from a source whose clock is too far ahead to be
/// claimed.
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
    assert!(net.r[x].view().counters().adopted < 1_000 && net.r[x].view().counters().sessions_in < 5);
}

/// Checks that collection keeps up with 60,000 deletes.
#[test]
fn collection_keeps_up() {
    let mut net = Net::new(2, plain);
    net.meet(0, 1);
    for key in 0..60_000 {
        net.put(0, key, None, 8);
    }
    net.run(10);
    assert_eq!((net.r[0].view().tombstone_len(), net.r[1].view().tombstone_len()), (0, 0));
}

/// Checks that a fill which outlives `fill_hold` is not cached, because it no longer holds back the watermark.
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
    assert_eq!(
        stored,
        None,
        "watermark sent to other replicas {:?}",
        net.r[1].view().peers().next().unwrap().watermark
    );
}

/// Checks that a newcomer adopts nothing from a source with unstable evictions, which caps its claim.
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
    assert_eq!(net.r[x].view().counters().adopted, 0);
    assert_eq!(net.r[x].view().live_len(), 1_000);
}

/// scenario 10: checks that stamps of a clock one day ahead are deferred, each write once, however often it is offered.
/// The clock is repaired, and after a restart all members can overwrite and delete the key.
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
    assert_eq!(net.r[b].view().deferred_len(), 2, "and each write of it once");
    let report = net.r[a].report(net.now(a));
    assert!(report.clock > net.now(a).wall + 86_000 * S && report.disagreement < -86_000 * S as i64, "and reports it");
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

/// Checks that a write during the repair of a conflict survives. The replica with the winner gives it a new dot; a
/// write on either side in between is newer than both values and stays.
#[test]
fn an_audit_that_races_a_write_keeps_the_write() {
    for (writer, sees_the_mending_first) in [(0, false), (1, false), (0, true), (1, true)] {
        let mut net = two_that_differ();
        let slot = net.r[0].view().store().get(7 << 48 | 7, &7).unwrap().slot;
        assert_eq!(net.r[0].audit_registers(id(1), &[slot]), 1);
        let now = net.now(0);
        let audit = net.r[0].poll_transmit(now).unwrap();
        assert!(matches!(audit.message, Message::Audit(_)));
        if sees_the_mending_first {
            net.give(0, id(1), &audit.message);
            net.put(writer, 7, Some(3), 8);
        } else {
            net.put(writer, 7, Some(3), 8);
            net.give(0, id(1), &audit.message);
        }
        net.run(2);
        assert_eq!((net.get(0, 7), net.get(1, 7)), (Some(3), Some(3)), "written by {writer}");
    }
}

/// Checks that an epoch from the future, and everything that comes with it, has no effect before its time. When its
/// time has come, all members have it.
#[test]
fn an_epoch_of_tomorrow_waits_until_tomorrow() {
    let (a, b, c) = (0, 1, 2);
    let mut net = Net::new(3, plain);
    net.all_meet();
    net.put(b, 7, Some(1), 8);
    net.run(1);
    net.skew[a] = 86_400 * S as i64;
    let now = net.now(a);
    let epoch = net.r[a].invalidate_all(now);
    net.put(a, 8, Some(2), 8);
    net.run(5);
    net.skew[a] = 0;
    net.run(30);
    for i in [b, c] {
        assert_eq!((net.r[i].view().epoch(), net.get(i, 7), net.get(i, 8)), (0, Some(1), None));
    }
    net.put(b, 9, Some(3), 8);
    net.run(2);
    assert_eq!(net.get(c, 9), Some(3), "other replicas continue");
    net.at += 86_400 * S;
    net.run(10);
    for i in [a, b, c] {
        assert_eq!(
            (net.r[i].view().epoch(), net.get(i, 7), net.get(i, 8), net.get(i, 9)),
            (epoch, None, Some(2), None)
        );
    }
}

/// Checks that a write wins against a fill that began before it, whichever arrives first. The fill is on the fastest
/// node. The writer's clock is almost `max_drift` behind, and it has received nothing for 10 seconds.
#[test]
fn a_fill_loses_to_a_writer_whose_clock_is_behind() {
    let (fast, slow) = (0, 1);
    for filled_first in [true, false] {
        let mut net = Net::new(2, plain);
        net.skew[slow] = -900_000_000;
        net.all_meet();
        net.run(3);
        net.up[slow] = false;
        net.run(10);
        let now = net.now(fast);
        let ticket = net.r[fast].begin_fill(now, 5 << 48 | 5, &Key::Known(5));
        net.at += 10_000_000;
        let written = net.put(slow, 5, Some(2), 8);
        assert!(written > ticket.stamp());
        if !filled_first {
            net.up[slow] = true;
            net.run(2);
        }
        let now = net.now(fast);
        let item = ItemRef::new(Item { key: Key::Known(5), body: Body::Known(1) });
        let fill = Write { hash: 5 << 48 | 5, item, expires: 0, size: 8, weight: 1 };
        assert_eq!(net.r[fast].finish_fill(now, &ticket, fill).is_some(), filled_first);
        net.clean(fast);
        net.up[slow] = true;
        net.run(5);
        assert_eq!((net.get(fast, 5), net.get(slow, 5)), (Some(2), Some(2)));
    }
}

/// scenario 85: checks that bodies retained for a slow member do not accumulate. A message to that member never
/// completes, while one key is written and evicted again and again.
#[test]
fn overwritten_bodies_that_wait_for_a_slow_member_leave_nothing() {
    let mut net = Net::new(2, plain);
    net.meet(0, 1);
    net.run(1);
    net.put(0, 1, Some(1), 8);
    let now = net.now(0);
    assert!(net.r[0].poll_transmit(now).unwrap().bulk, "and no message about it follows");
    for _ in 0..20 {
        for _ in 0..500 {
            net.at += 1_000;
            net.put(0, 7, Some(1), 8);
            net.evict(0, 7);
        }
        net.at += 2 * S;
        let now = net.now(0);
        net.r[0].handle_timeout(now);
    }
    assert!(net.r[0].ledger.retained_len() <= 600, "{} notes of one body", net.r[0].ledger.retained_len());
}

/// Checks that a session that breaks off spreads nothing that an epoch has invalidated. Half of the session is merged
/// when the epoch comes, and then its source dies. Listeners receive one removal for each value.
#[test]
fn what_an_epoch_made_absent_is_not_adopted() {
    let (s, p, n) = (0, 1, 2);
    let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) });
    net.meet(s, p);
    for key in 0..20 {
        net.put(p, key, Some(1), 150);
    }
    net.run(1);
    net.die(p, true);
    let asks = net.digest_of(n);
    let frames = net.frames_for(s, n, &asks);
    assert!(frames.len() > 1, "several frames");
    net.at += S;
    let now = net.now(n);
    net.r[n].handle_message(now, id(s), copy(&frames[0]));
    let mut balance = 0;
    let mut listen = |replica: &mut Replica<u32, u32>| {
        while let Some(change) = replica.poll_change() {
            balance += match change.effect {
                Effect::Inserted => 1,
                Effect::Updated => 0,
                Effect::Removed(_) => -1,
            };
        }
        balance
    };
    assert!(listen(&mut net.r[n]) > 0, "readable at once");
    net.r[n].invalidate_all(now);
    net.at += 200 * S;
    let now = net.now(n);
    // Only the incoming session times out here: no other due work runs.
    net.r[n].converse(now, |conversations, cx| conversations.session_in.handle_timeout(cx));
    assert_eq!((net.r[n].view().counters().sessions_abandoned, net.r[n].view().counters().adopted), (1, 0));
    net.r[n].run_pending(now);
    assert_eq!(listen(&mut net.r[n]), 0, "each removal was reported once");
    assert_eq!(net.r[n].validate(), Ok(()));
}

/// Checks that a retained body is released once its last member has received the write from a third member. The writer
/// cannot reach that member and sends it nothing more.
#[test]
fn a_body_goes_once_its_last_member_has_it_from_others() {
    let mut net = Net::new(3, plain);
    net.all_meet();
    net.run(1);
    net.cut.insert((0, 1));
    net.put(0, 7, Some(1), 8);
    net.evict(0, 7);
    net.flush();
    assert_eq!((net.r[0].ledger.retained_bytes(), net.get(1, 7)), (8, None), "kept");
    net.run(60);
    assert_eq!((net.r[0].ledger.retained_bytes(), net.get(1, 7)), (0, Some(1)));
}

/// Checks that the cap of tombstones holds around an open session. The session brings many more tombstones than the cap
/// and does not end, while this replica deletes as well. Own tombstones are dropped, those of the session stay, and
/// once they are claimed the cap holds again.
#[test]
fn the_cap_holds_around_what_a_session_brought() {
    let (s, n, writer, cap) = (0, 1, 2, 100);
    let mut net = Net::new(3, |i| ReplicaConfig {
        max_frame_bytes: 1_024,
        max_tombstones: if i == n { cap } else { 1_000_000 },
        ..plain(i)
    });
    net.meet(s, writer);
    for key in 0..2_000 {
        net.put(writer, key, None, 8);
    }
    net.run(1);
    net.die(writer, true);
    let asks = net.digest_of(n);
    let frames = net.frames_for(s, n, &asks);
    let (last, others) = frames.split_last().unwrap();
    others.iter().for_each(|frame| net.give(s, id(n), frame));
    let brought = net.r[n].view().tombstone_len();
    assert!(brought > 10 * cap, "only {brought} were brought");
    for key in 10_000..12_000 {
        net.put(n, key, None, 8);
        let held = net.r[n].view().tombstone_len();
        assert!(held <= brought + cap + brought / 64 + 1, "{held} tombstones, {brought} of them of the session");
    }
    assert!(net.r[n].view().counters().forced_drops > 1_800);
    net.give(s, id(n), last);
    net.put(n, 20_000, None, 8);
    assert!(net.r[n].view().tombstone_len() <= cap);
}

/// Checks that a replica which claims a write only because a dropped write overtook it passes on the dropped time, too.
/// A writer has overtaken a write of a member, and evicted its own value without a trace. Then its clock steps ahead. A
/// newcomer claims the member's write without having received it, and cannot claim times of the fast clock. A third
/// member returns with the value from before both writes, and must not keep it.
#[test]
fn a_claim_that_rests_on_a_dropped_write_of_a_clock_ahead_is_not_passed_on_alone() {
    let (ahead, other, away, new) = (0, 1, 2, 3);
    let mut net = Net::new(4, plain);
    for (a, b) in [(ahead, other), (ahead, away), (other, away)] {
        net.meet(a, b);
    }
    net.put(ahead, 7, Some(1), 8);
    net.run(3);
    assert_eq!(net.get(away, 7), Some(1));
    net.die(away, true);
    net.put(other, 7, Some(2), 8);
    net.run(3);
    let overtaken = net.held(other, 7).unwrap().dot;
    net.put(ahead, 7, Some(3), 8);
    net.run(30);
    net.evict(ahead, 7);
    assert!(net.held(ahead, 7).is_none(), "gone without a trace");
    net.die(other, false);
    net.skew[ahead] = 2 * S as i64;
    net.meet(new, ahead);
    net.run(1);
    assert!(net.r[new].view().vector().covers(&overtaken), "the newcomer knows of it");
    net.up[away] = true;
    let asks = net.digest_of(away);
    for frame in net.frames_for(new, away, &asks) {
        net.give(new, id(away), &frame);
    }
    assert!(net.r[away].view().vector().covers(&overtaken));
    assert_eq!(net.get(away, 7), None, "the value from before both");
}
