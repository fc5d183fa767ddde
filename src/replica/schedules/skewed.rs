//! Clocks that are wrong from the start.

use super::*;

/// Returns the number of frames and pushes that a replica has sent.
fn sent(net: &Net, i: usize) -> u64 {
    net.r[i].view().counters().frames_out + net.r[i].view().counters().pushes_out
}

/// Returns two members with right clocks and 2,000 entries, and a newcomer whose clock is `skew` nanoseconds ahead.
fn join_with_skew(skew: i64, bugs: Bugs) -> Net {
    let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 8_192, ..plain(i) }).with(bugs);
    net.meet(0, 1);
    for key in 0..2_000 {
        net.put(0, key, Some(key), 100);
    }
    net.run(5);
    net.skew[2] = skew;
    net.meet(2, 0);
    net.meet(2, 1);
    net
}

/// Checks that a newcomer whose clock is behind takes the time of its members. It has merged nothing, so it has no
/// reason to trust its own clock more than the clocks of all members.
#[test]
fn a_newcomer_that_is_behind_takes_the_time_of_its_members() {
    for behind in [2, 5, 60, 3_600] {
        let mut net = join_with_skew(-behind * S as i64, Bugs::default());
        net.run(2);
        assert_eq!(net.r[2].view().live_len(), 2_000, "{behind} s behind");
        let written = net.put(0, 5, Some(77), 100);
        net.run(1);
        assert_eq!((net.get(2, 5), net.r[2].view().member_has(id(0), written)), (Some(77), Some(true)));
        // Its own writes are stamped by that time, so they are not older than what they replace.
        net.put(2, 5, Some(78), 100);
        net.run(1);
        assert_eq!(net.get(0, 5), Some(78));
        let right = join_with_skew(0, Bugs::default());
        let healthy = sent(&right, 0) + sent(&right, 1);
        let skewed = sent(&net, 0) + sent(&net, 1);
        assert!(
            skewed < 2 * healthy + 10,
            "{behind} s behind: {skewed} messages with registers, {healthy} with right clocks"
        );
    }
}

/// Checks that a newcomer keeps its own clock if its members disagree: the first member that it receives from may have
/// the wrong clock.
#[test]
fn a_newcomer_does_not_take_the_time_of_a_member_that_others_contradict() {
    let (fast, right, new) = (0, 1, 2);
    let mut net = Net::new(3, plain);
    net.meet(fast, right);
    net.put(right, 1, Some(1), 8);
    net.put(fast, 2, Some(1), 8);
    net.run(1);
    net.skew[fast] = 60 * S as i64;
    net.run(1);
    net.meet(new, fast);
    net.meet(new, right);
    net.run(5);
    assert_eq!(net.r[new].view().taken_time(), 0);
    assert!(net.r[new].view().offenders().any(|(who, _)| who == id(fast)));
    assert_eq!(net.r[new].view().counters().time_taken, 0);
}

/// Checks that a newcomer waits for a second member before it takes the time of one. The first member has the wrong
/// clock, and the second answers a moment later. If the newcomer took the wrong time, its writes would be deferred for
/// an hour, because a clock does not go back.
#[test]
fn a_newcomer_waits_for_a_second_member_before_it_takes_anybodys_time() {
    super::promises::must_catch("time_of_the_first", |bugs| {
        let (fast, right, new) = (0, 1, 2);
        let mut net = Net::new(3, plain).with(bugs);
        net.skew[fast] = 3_600 * S as i64;
        net.meet(new, fast);
        net.step();
        net.meet(new, right);
        net.run(5);
        net.put(new, 1, Some(1), 8);
        net.run(2);
        assert_eq!(net.get(right, 1), Some(1), "written by the newcomer");
    });
}

/// Checks that deferred entries are not sent again and again before they are due, and that they are merged then.
#[test]
fn what_is_deferred_is_not_sent_again_until_it_is_due() {
    let storm = |bugs: Bugs| {
        let (fast, other) = (0, 1);
        let mut net = Net::new(2, |i| ReplicaConfig { max_frame_bytes: 8_192, ..plain(i) }).with(bugs);
        net.meet(fast, other);
        net.put(other, 9_999, Some(1), 8);
        net.run(3);
        net.skew[fast] = 10 * S as i64;
        for key in 0..2_000 {
            net.put(fast, key, Some(key), 100);
        }
        net.run(8);
        let while_deferred = sent(&net, fast);
        assert_eq!(net.r[other].view().live_len(), 1, "deferred");
        net.run(20);
        assert_eq!(net.r[other].view().live_len(), 2_001, "its time has come");
        (while_deferred, net.r[fast].view().counters().digests_out)
    };
    let (calm, digests) = storm(Bugs::default());
    let (many, _) = storm(Bugs::only("deferral_storm").unwrap());
    println!("messages with registers in 8 s: {calm}, without the rule {many}; digests in 28 s: {digests}");
    // All 2,000 entries take 30 messages.
    assert!(calm <= 60 && many > 2 * calm, "{calm} messages with registers, {many} without the rule");
    assert!(digests < 100, "{digests} digests in half a minute");
}

/// Checks that the time taken from a member is given back once that member is unreachable. A newcomer takes the time of
/// the only member, whose clock is ahead. Then it loses the link to it, and a second member contradicts the last clock
/// of the first.
#[test]
fn the_time_taken_from_a_silent_member_is_given_back() {
    let (fast, new, right) = (0, 1, 2);
    let mut net = Net::new(3, plain);
    net.skew[fast] = 7 * S as i64;
    net.put(fast, 1, Some(1), 8);
    net.meet(new, fast);
    net.run(3);
    assert!(net.r[new].view().taken_time() > 6 * S, "it takes the time of its only member");
    net.cut.insert((fast, new));
    net.meet(new, right);
    net.run(120);
    assert_eq!(net.r[new].view().taken_time(), 0);
    assert_eq!(net.r[new].view().skews(net.now(new)).map(|skew| skew.member).collect::<Vec<_>>(), [id(right)]);
}
