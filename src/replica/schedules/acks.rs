//! Checks the time at which a writer receives the acknowledgement of its push.

use super::*;

const MS: u64 = 1_000_000;

/// Delivers the pushes of `a`, and returns the number of acknowledgements that `b` has ready at that moment.
fn pushed(net: &mut Net, a: usize, b: usize) -> usize {
    let now = net.now(a);
    while let Some(sent) = net.r[a].poll_transmit(now) {
        sent.to.iter().for_each(|to| net.give(a, *to, &sent.message));
        if sent.bulk {
            sent.to.iter().for_each(|to| net.r[a].handle_sent(now, *to, true));
        }
    }
    acknowledged(net, b, a)
}

/// Delivers the messages of `b`, and returns the number of acknowledgements among them.
fn acknowledged(net: &mut Net, b: usize, a: usize) -> usize {
    let (now, mut acks) = (net.now(b), 0);
    while let Some(sent) = net.r[b].poll_transmit(now) {
        acks += usize::from(matches!(sent.message, Message::Ack(_)));
        sent.to.iter().for_each(|to| net.give(b, *to, &sent.message));
        if sent.bulk {
            sent.to.iter().for_each(|to| net.r[b].handle_sent(now, *to, true));
        }
    }
    assert!(net.r[a].members.is_live(&id(b)));
    acks
}

fn idle_pair() -> Net {
    let mut net = Net::new(2, plain);
    net.all_meet();
    net.run(5);
    net
}

#[test]
fn a_lone_write_is_acknowledged_at_once() {
    let mut net = idle_pair();
    for key in 0..10 {
        let stamp = net.put(0, key, Some(1), 8);
        assert_eq!(pushed(&mut net, 0, 1), 1, "no time has passed");
        assert_eq!(net.r[0].view().member_has(id(1), stamp), Some(true));
        net.at += 20 * MS;
    }
}

/// A caller writes, waits until the member has it, and writes again two milliseconds later.
#[test]
fn small_writes_that_follow_each_other_are_each_acknowledged_at_once() {
    let mut net = idle_pair();
    for key in 0..50 {
        let stamp = net.put(0, key, Some(1), 8);
        assert_eq!(pushed(&mut net, 0, 1), 1, "write {key}");
        assert_eq!(net.r[0].view().member_has(id(1), stamp), Some(true));
        net.at += 2 * MS;
    }
}

/// Writes `writes` keys in each of a thousand pushes, in 100 ms. Returns the number of acknowledgements and the last
/// write.
fn burst(net: &mut Net, writes: u32) -> (usize, crate::hlc::Stamp) {
    let (mut acks, mut last) = (0, crate::hlc::Stamp::ZERO);
    for push in 0..1_000 {
        for key in 0..writes {
            last = net.put(0, push * writes + key, Some(1), 8);
        }
        acks += pushed(net, 0, 1);
        net.at += MS / 10;
    }
    (acks, last)
}

/// Checks that the last write of a burst is acknowledged within `within` after the last push.
fn is_acknowledged_to_its_end(net: &mut Net, last: crate::hlc::Stamp, within: u64) {
    assert_eq!(net.r[0].view().member_has(id(1), last), Some(false), "the last one waits to be sent with a later one");
    let due = net.r[1].poll_timeout(net.now(1));
    assert!(due <= net.at + within, "due {} us after the last push", (due - net.at) / 1_000);
    net.at = due;
    let now = net.now(1);
    net.r[1].handle_timeout(now);
    assert!(net.r[1].may_transmit(), "the driver learns what a timeout made due");
    assert_eq!(acknowledged(net, 1, 0), 1);
    assert_eq!(net.r[0].view().member_has(id(1), last), Some(true));
    assert!(!net.r[1].may_transmit());
}

#[test]
fn a_burst_of_small_pushes_is_acknowledged_once_in_a_millisecond_and_to_its_end() {
    let mut net = idle_pair();
    let (acks, last) = burst(&mut net, 1);
    assert!((90..=102).contains(&acks), "{acks} acknowledgements of 1,000 pushes");
    is_acknowledged_to_its_end(&mut net, last, MS);
}

#[test]
fn a_burst_of_large_pushes_is_acknowledged_once_in_ten_milliseconds_and_to_its_end() {
    let mut net = idle_pair();
    let (acks, last) = burst(&mut net, 17);
    assert!((10..=12).contains(&acks), "{acks} acknowledgements of 1,000 pushes");
    is_acknowledged_to_its_end(&mut net, last, 10 * MS);
}

/// A small push that follows a large one brings the acknowledgement of both forward.
#[test]
fn a_small_push_does_not_wait_for_the_acknowledgement_of_a_large_one() {
    let mut net = idle_pair();
    net.put(0, 1_000, Some(1), 8);
    assert_eq!(pushed(&mut net, 0, 1), 1);
    net.at += MS / 2;
    for key in 0..17 {
        net.put(0, key, Some(1), 8);
    }
    assert_eq!(pushed(&mut net, 0, 1), 0, "it waits for ten milliseconds");
    net.at += MS;
    let last = net.put(0, 1_001, Some(1), 8);
    assert_eq!(pushed(&mut net, 0, 1), 1);
    assert_eq!(net.r[0].view().member_has(id(1), last), Some(true));
}
