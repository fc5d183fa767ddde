//! Bursts of writes to two members, one of which is slower.

use std::collections::VecDeque;

use super::net::{Net, S, id, plain};
use crate::message::Message;
use crate::replica::ReplicaConfig;

const WRITER: usize = 0;
const OTHER: usize = 1;
const SLOW: usize = 2;

/// A time after which a write no longer counts as on its way.
const A_WHILE: u64 = S / 10;

/// A writer whose pushes have reached one member, and wait on their way to a slow member.
struct Burst {
    net: Net,
    on_the_way: VecDeque<Message<u32, u32>>,
}

impl Burst {
    fn of(writes: u32) -> Self {
        let mut net = Net::new(3, |i| ReplicaConfig { max_frame_bytes: 1_024, ..plain(i) });
        net.all_meet();
        net.run(1);
        for key in 0..writes {
            net.at += 1_000;
            net.put(WRITER, key, Some(1), 100);
        }
        let mut burst = Self { net, on_the_way: VecDeque::new() };
        while burst.push() {}
        assert!(burst.on_the_way.len() > 20, "one push is no burst");
        burst
    }

    fn push(&mut self) -> bool {
        let now = self.net.now(WRITER);
        let Some(sent) = self.net.r[WRITER].poll_transmit(now) else { return false };
        for to in sent.to {
            match to == id(OTHER) {
                true => self.net.give(WRITER, to, &sent.message),
                false => self.on_the_way.push_back(super::net::copy(&sent.message)),
            }
            if sent.bulk {
                self.net.r[WRITER].handle_sent(now, to, true);
            }
        }
        true
    }

    fn arrives(&mut self) {
        if let Some(push) = self.on_the_way.pop_front() {
            self.net.give(WRITER, id(SLOW), &push);
        }
    }

    /// Delivers a digest of the slow member after [`A_WHILE`]. Its receiver may answer.
    fn says(&mut self, to: usize) {
        self.net.at += A_WHILE;
        let digest = self.net.digest_of(SLOW);
        self.net.give(SLOW, id(to), &digest);
    }

    /// Returns the number of messages with registers that a replica sends now.
    fn sends(&mut self, from: usize) -> usize {
        let now = self.net.now(from);
        let mut sent = 0;
        while let Some(transmit) = self.net.r[from].poll_transmit(now) {
            if transmit.bulk {
                sent += 1;
                transmit.to.iter().for_each(|to| self.net.r[from].handle_sent(now, *to, true));
            }
        }
        sent
    }
}

/// Checks that no second copy is sent to a slow member whose pushes keep arriving.
#[test]
fn a_member_that_gets_on_is_sent_nothing_twice() {
    for helper in [WRITER, OTHER] {
        let mut burst = Burst::of(400);
        let mut looks = 0;
        while burst.on_the_way.len() > 10 {
            burst.arrives();
            burst.says(helper);
            assert_eq!(burst.sends(helper), 0, "{} are on their way", burst.on_the_way.len());
            looks += 1;
        }
        assert!(looks > 20, "{looks} checks of it");
    }
}

/// Checks that a member whose pushes were lost is sent everything it lacks.
#[test]
fn a_member_to_whom_nothing_comes_is_sent_all_of_it() {
    for helper in [WRITER, OTHER] {
        let mut burst = Burst::of(400);
        burst.arrives();
        burst.on_the_way.clear();
        burst.says(helper);
        burst.says(helper);
        assert!(burst.sends(helper) > 20, "the rest was lost");
    }
}

/// Checks that a member that lacks little is sent it at once: that costs less than waiting.
#[test]
fn a_member_that_lacks_little_is_sent_it_at_once() {
    for helper in [WRITER, OTHER] {
        let mut burst = Burst::of(400);
        while burst.on_the_way.len() > 3 {
            burst.arrives();
        }
        burst.says(helper);
        assert!(burst.sends(helper) > 0);
    }
}
