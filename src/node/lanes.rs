//! Which way a small push takes. A datagram is soonest there, but a burst of them overflows the receiver's socket, and each
//! that is lost holds up everything after it until it is sent again; and it overtakes a stream that has not been read
//! yet. So a member gets a few datagrams at a time, and streams for as long as there is no pause.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::replica_id::ReplicaId;

/// Datagrams with pushes for one member within [`PAUSE`], at most.
const FEW: u32 = 16;
/// After this long without a stream to a member, what was sent is taken to have been read.
const PAUSE: Duration = Duration::from_millis(10);

/// The ways to all members.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<ReplicaId, Lane>,
}

#[derive(Debug)]
struct Lane {
    streamed: Option<Instant>,
    /// When the count of datagrams began.
    began: Instant,
    datagrams: u32,
}

impl Lanes {
    /// Whether the next small push to this member goes by datagram; if not, it goes by stream.
    pub(crate) fn takes_datagram(&mut self, to: ReplicaId, now: Instant) -> bool {
        let lane = self.lane(to, now);
        if lane.streamed.is_some_and(|at| now.saturating_duration_since(at) < PAUSE) {
            return false;
        }
        if now.saturating_duration_since(lane.began) >= PAUSE {
            (lane.began, lane.datagrams) = (now, 0);
        }
        lane.datagrams += 1;
        lane.datagrams <= FEW
    }

    /// A stream to this member begins or has been taken by its kernel.
    pub(crate) fn streamed(&mut self, to: ReplicaId, now: Instant) {
        self.lane(to, now).streamed = Some(now);
    }

    /// Forgets members that were sent nothing for a while.
    pub(crate) fn tidy(&mut self, now: Instant) {
        let last = |lane: &Lane| lane.streamed.map_or(lane.began, |at| at.max(lane.began));
        self.lanes.retain(|_, lane| now.saturating_duration_since(last(lane)) < PAUSE);
    }

    fn lane(&mut self, to: ReplicaId, now: Instant) -> &mut Lane {
        self.lanes.entry(to).or_insert(Lane { streamed: None, began: now, datagrams: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> ReplicaId {
        ReplicaId::from_bytes([7; 16])
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_turns_to_streams_until_there_is_a_pause() {
        let mut lanes = Lanes::default();
        let mut by_datagram = 0;
        for _ in 0..100 {
            let now = Instant::now();
            if lanes.takes_datagram(member(), now) {
                by_datagram += 1;
            } else {
                lanes.streamed(member(), now);
            }
            tokio::time::advance(Duration::from_micros(200)).await;
        }
        assert_eq!(by_datagram, FEW, "a push every 200 us is a burst");
        tokio::time::advance(PAUSE).await;
        assert!(lanes.takes_datagram(member(), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_now_and_then_never_waits_for_a_stream() {
        let mut lanes = Lanes::default();
        for _ in 0..1_000 {
            assert!(lanes.takes_datagram(member(), Instant::now()));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_overtakes_a_stream() {
        let mut lanes = Lanes::default();
        lanes.streamed(member(), Instant::now());
        tokio::time::advance(PAUSE / 2).await;
        assert!(!lanes.takes_datagram(member(), Instant::now()));
        lanes.tidy(Instant::now());
        assert_eq!(lanes.lanes.len(), 1, "it is still of use");
        tokio::time::advance(PAUSE).await;
        lanes.tidy(Instant::now());
        assert!(lanes.lanes.is_empty());
    }
}
