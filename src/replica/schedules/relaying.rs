//! Large clusters, in which pushes are relayed.

use std::collections::BTreeSet;

use super::*;

const MEMBERS: usize = 40;

fn cluster(n: usize) -> Net {
    let mut net = Net::new(n, plain);
    let all: Vec<_> = (0..n).map(|i| net.digest_of(i)).collect();
    for i in 0..n {
        let now = net.now(i);
        for (from, digest) in all.iter().enumerate().filter(|(from, _)| *from != i) {
            net.give(from, id(i), digest);
        }
        while net.r[i].poll_transmit(now).is_some() {}
        (0..n).for_each(|j| net.r[i].handle_sent(now, id(j), true));
    }
    net.run(3);
    net
}

fn sum(net: &Net) -> Counters {
    let mut sum = Counters::default();
    net.r.iter().for_each(|replica| sum.add(replica.view().counters()));
    sum
}

/// Checks that each write costs every node a few messages, independent of uptime. Members have claimed different
/// amounts of silence of each other, ever more over time. That must not cause a separate push for each member.
#[test]
fn traffic_per_write_and_node_does_not_grow_with_uptime() {
    let mut net = cluster(MEMBERS);
    let fanout = net.r[0].view().config().fanout as u64;
    let mut key = 0;
    for window in 0..3 {
        let before = sum(&net);
        let began = net.at;
        for _ in 0..150 {
            // Steps of seven: every node writes, after pauses of many lengths.
            net.put(key as usize * 7 % MEMBERS, key, Some(key), 8);
            net.flush();
            key += 1;
            (0..key % 4).for_each(|_| net.step());
        }
        let after = sum(&net);
        let messages = after.pushes_out + after.pushes_relayed - before.pushes_out - before.pushes_relayed;
        assert!(messages >= 150 * (MEMBERS as u64 - 1), "window {window}: every member must have received a push");
        assert!(messages <= 150 * MEMBERS as u64 * fanout, "window {window}: {messages} pushes for 150 writes");
        // At first some members have nothing at all from a few others, and sessions serve them.
        assert!(window == 0 || after.sessions_out == before.sessions_out, "window {window}: sessions");
        assert_eq!(after.gaps, before.gaps, "window {window}: gaps");
        let seconds = (net.at - began).div_ceil(S);
        let digests = after.digests_in - before.digests_in;
        assert!(digests <= 2 * seconds * MEMBERS as u64, "window {window}: {digests} digests in {seconds} s");
        assert!(
            net.r.iter().all(|replica| replica.view().live_len() == u64::from(key)),
            "window {window}: not everywhere"
        );
    }
}

/// Checks that each ring reaches every node: following the first successors leads through all of them.
#[test]
fn each_ring_reaches_every_member() {
    for n in [18, 40] {
        let mut net = cluster(n);
        let mut first = Vec::new();
        for i in 0..n {
            let successors = {
                let replica = &mut net.r[i];
                crate::members::rings::successors(&mut replica.members, &replica.env).to_vec()
            };
            let distinct: BTreeSet<_> = successors.iter().collect();
            assert_eq!(distinct.len(), net.r[i].view().config().fanout);
            assert!(!successors.contains(&id(i)), "its own successor");
            first.push(successors[0]);
        }
        let (mut at, mut reached) = (id(0), BTreeSet::new());
        while reached.insert(at) {
            at = first[(0..n).find(|i| id(*i) == at).unwrap()];
        }
        assert_eq!(reached.len(), n);
    }
}

/// Checks that rings close over dead members: a dead member is no successor, and its own successors are still reached.
#[test]
fn rings_close_over_the_dead() {
    let mut net = cluster(MEMBERS);
    (0..MEMBERS / 2).for_each(|i| net.die(2 * i, false));
    let before = sum(&net);
    for key in 0..20 {
        net.put(2 * key as usize % MEMBERS + 1, key, Some(key), 8);
        net.flush();
        assert!((0..MEMBERS).filter(|i| net.up[*i]).all(|i| net.get(i, key) == Some(key)), "{key} at once");
    }
    assert_eq!(sum(&net).gaps, before.gaps);
}

/// Checks that a write which was overtaken before it was pushed causes few sessions. The writer serves only the ring
/// successors that would have got the push, and not all members, although their reported vectors are old.
#[test]
fn an_overtaken_write_is_no_storm_of_sessions() {
    let (a, b) = (0, 1);
    let mut net = cluster(MEMBERS);
    // The reported vectors of all members become old.
    for key in 100..200 {
        net.put(key as usize % MEMBERS, key, Some(key), 8);
        net.step();
    }
    let before = sum(&net);
    // The successors of a are busy with one push when it writes again. That second write is overtaken.
    net.put(a, 0, Some(1), 8);
    let now = net.now(a);
    let t = net.r[a].poll_transmit(now).unwrap();
    assert!(matches!(t.message, Message::Push(_)) && t.bulk);
    t.to.iter().for_each(|to| net.give(a, *to, &t.message));
    net.put(a, 7, Some(2), 8);
    assert!(net.r[a].poll_transmit(now).is_none(), "its successors are busy");
    net.at += 1_000_000;
    net.put(b, 7, Some(3), 8);
    net.flush();
    assert_eq!(net.get(a, 7), Some(3), "overtaken");
    let now = net.now(a);
    t.to.iter().for_each(|to| net.r[a].handle_sent(now, *to, true));
    net.run(2);
    let after = sum(&net);
    let fanout = net.r[a].view().config().fanout as u64;
    assert!(after.sessions_out > before.sessions_out, "a session there must be");
    assert!(after.sessions_out - before.sessions_out <= 3 * fanout, "{} sessions", after.sessions_out);
    // The next write of a repairs the rest.
    net.put(a, 8, Some(4), 8);
    net.run(3);
    let after = sum(&net);
    assert!((0..MEMBERS).all(|i| net.get(i, 8) == Some(4) && net.get(i, 7) == Some(3)));
    let sessions = after.sessions_out - before.sessions_out;
    assert!(sessions <= 2 * MEMBERS as u64, "{sessions} sessions for one overtaken write");
}

/// Checks that lost pushes are repaired at a bounded cost: at most eight entries per write and member. A third of all
/// pushes is lost, relayed and repairing ones included. Every node must have everything soon after.
#[test]
fn lost_copies_are_mended() {
    let mut net = cluster(MEMBERS);
    let mut random = fastrand::Rng::with_seed(3);
    let before = sum(&net);
    let writes = 100;
    let mut lost = 0;
    for key in 0..writes {
        net.put(key as usize * 7 % MEMBERS, key, Some(key), 8);
        lost += flush_with_loss(&mut net, &mut random);
        net.tick();
        lost += flush_with_loss(&mut net, &mut random);
    }
    for _ in 0..20 * 20 {
        net.tick();
        lost += flush_with_loss(&mut net, &mut random);
    }
    for i in 0..MEMBERS {
        assert!((0..writes).all(|key| net.get(i, key) == Some(key)), "{i} lacks something");
    }
    let after = sum(&net);
    assert!(lost > u64::from(writes), "{lost} copies were lost");
    let sessions = after.sessions_out - before.sessions_out;
    let entries = after.merged + after.seen + after.lost - before.merged - before.seen - before.lost;
    println!("{sessions} sessions, {entries} entries for {writes} writes to {MEMBERS}");
    assert!(entries <= 8 * u64::from(writes) * MEMBERS as u64, "{entries} entries, {sessions} sessions");
}

/// Delivers everything that is due, except one push in three, which its sender believes sent. Returns the number of
/// lost pushes.
fn flush_with_loss(net: &mut Net, random: &mut fastrand::Rng) -> u64 {
    let (mut busy, mut all_lost) = (true, 0);
    while std::mem::take(&mut busy) {
        for i in 0..net.r.len() {
            let now = net.now(i);
            while let Some(t) = net.r[i].poll_transmit(now) {
                busy = true;
                for to in t.to {
                    let lost = matches!(t.message, Message::Push(_)) && random.u8(0..3) == 0;
                    all_lost += u64::from(lost);
                    if !lost {
                        net.give(i, to, &t.message);
                    }
                    if t.bulk {
                        net.r[i].handle_sent(now, to, true);
                    }
                }
            }
        }
    }
    all_lost
}
