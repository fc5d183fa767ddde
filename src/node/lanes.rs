//! The choice between datagram and stream for a small push. A datagram arrives soonest. But a burst of datagrams
//! overflows the receiver's socket, and each lost datagram delays everything after it until it is sent again. A
//! datagram can also overtake a stream that has not been read yet. So a member gets a few datagrams at a time, then
//! streams until there is a pause.

use std::collections::BTreeMap;

use crate::replica_id::ReplicaId;

/// Maximum number of datagrams with pushes to one member within [`PAUSE`].
const FEW: u32 = 16;
/// Nanoseconds without a stream to a member after which everything sent to it is assumed to have been read.
const PAUSE: u64 = 10_000_000;

/// The recent datagrams and streams to each member. Times are monotonic, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<ReplicaId, Lane>,
}

#[derive(Debug)]
struct Lane {
    streamed: Option<u64>,
    /// The time at which the count of datagrams began.
    began: u64,
    datagrams: u32,
}

impl Lanes {
    /// Returns true if the next small push to this member goes by datagram, and counts it. Otherwise it goes by stream.
    pub(crate) fn takes_datagram(&mut self, to: ReplicaId, now: u64) -> bool {
        let lane = self.lane(to, now);
        if lane.streamed.is_some_and(|at| now.saturating_sub(at) < PAUSE) {
            return false;
        }
        if now.saturating_sub(lane.began) >= PAUSE {
            (lane.began, lane.datagrams) = (now, 0);
        }
        lane.datagrams += 1;
        lane.datagrams <= FEW
    }

    /// Records that a stream to this member begins, or that the kernel has taken it.
    pub(crate) fn streamed(&mut self, to: ReplicaId, now: u64) {
        self.lane(to, now).streamed = Some(now);
    }

    /// Drops members to which nothing was sent within [`PAUSE`].
    pub(crate) fn tidy(&mut self, now: u64) {
        let last = |lane: &Lane| lane.streamed.map_or(lane.began, |at| at.max(lane.began));
        self.lanes.retain(|_, lane| now.saturating_sub(last(lane)) < PAUSE);
    }

    fn lane(&mut self, to: ReplicaId, now: u64) -> &mut Lane {
        self.lanes.entry(to).or_insert(Lane { streamed: None, began: now, datagrams: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> ReplicaId {
        ReplicaId::from_bytes([7; 16])
    }

    const MICRO: u64 = 1_000;

    #[test]
    fn a_burst_turns_to_streams_until_there_is_a_pause() {
        let (mut lanes, mut by_datagram) = (Lanes::default(), 0);
        for now in (0..100).map(|n| n * 200 * MICRO) {
            if lanes.takes_datagram(member(), now) {
                by_datagram += 1;
            } else {
                lanes.streamed(member(), now);
            }
        }
        assert_eq!(by_datagram, FEW, "a push every 200 us is a burst");
        assert!(lanes.takes_datagram(member(), 100 * 200 * MICRO + PAUSE));
    }

    #[test]
    fn what_comes_now_and_then_never_waits_for_a_stream() {
        let mut lanes = Lanes::default();
        assert!((0..1_000).all(|n| lanes.takes_datagram(member(), n * 1_000 * MICRO)));
    }

    #[test]
    fn nothing_overtakes_a_stream() {
        let mut lanes = Lanes::default();
        lanes.streamed(member(), 0);
        assert!(!lanes.takes_datagram(member(), PAUSE / 2));
        lanes.tidy(PAUSE / 2);
        assert_eq!(lanes.lanes.len(), 1, "it is still of use");
        lanes.tidy(2 * PAUSE);
        assert!(lanes.lanes.is_empty());
    }
}
