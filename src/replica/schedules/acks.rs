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

#[test]
fn a_burst_is_acknowledged_once_in_ten_milliseconds_and_to_its_end() {
    let mut net = idle_pair();
    let mut acks = 0;
    let mut last = crate::hlc::Stamp::ZERO;
    // A thousand pushes in 100 ms.
    for key in 0..1_000 {
        last = net.put(0, key, Some(1), 8);
        acks += pushed(&mut net, 0, 1);
        net.at += MS / 10;
    }
    assert!((10..=12).contains(&acks), "{acks} acknowledgements of 1,000 pushes");
    assert_eq!(net.r[0].view().member_has(id(1), last), Some(false), "the last one waits to be sent with a later one");
    let due = net.r[1].poll_timeout(net.now(1));
    assert!(due <= net.at + 10 * MS, "due {} ms after the last push", (due - net.at) / MS);
    net.at = due;
    let now = net.now(1);
    net.r[1].handle_timeout(now);
    assert!(net.r[1].may_transmit(), "the driver learns what a timeout made due");
    assert_eq!(acknowledged(&mut net, 1, 0), 1);
    assert_eq!(net.r[0].view().member_has(id(1), last), Some(true));
    assert!(!net.r[1].may_transmit());
}
