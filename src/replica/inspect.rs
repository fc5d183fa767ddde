//! What the machine shows of itself: numbers and ids only, quick to take under the lock.

use super::log::OriginLog;
use super::peers::Peer;
use super::{CoreKey, Counters, Replica};
use crate::crdt::{Cause, Dot, Kind, Marker};
use crate::hlc::{HlcTime, Now, Stamp, nanos};
use crate::replica_id::ReplicaId;
use crate::store::Snapshot;

/// Members listed one by one, at most.
const MAX_LISTED: usize = 64;

/// Tombstones by [`Cause`]: its number is the place.
pub(super) type ByCause = [u64; 5];

/// What keeps a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    Young,
    Session,
    OwnWatermark,
    Unseen(ReplicaId),
    Watermark(ReplicaId),
}

/// The oldest tombstone and what keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Oldest {
    pub(crate) since: HlcTime,
    pub(crate) kept_by: Vec<Keeps>,
}

/// What is known of a member.
#[derive(Clone, Debug)]
pub(crate) struct PeerLook {
    pub(crate) id: ReplicaId,
    pub(crate) dead_since: Option<u64>,
    pub(crate) last_heard: u64,
    pub(crate) lossy: bool,
    pub(crate) wall_skew: Option<i64>,
    /// The oldest of our dots it is not known to have.
    pub(crate) lacks_since: Option<HlcTime>,
    pub(crate) lacks: usize,
    pub(crate) unconfirmed: usize,
    pub(crate) reported: Vec<(ReplicaId, HlcTime)>,
}

/// The machine at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) clock_last: HlcTime,
    pub(crate) disagreement: i64,
    pub(crate) judging: HlcTime,
    pub(crate) live: u64,
    pub(crate) weight: u64,
    pub(crate) vector: Vec<(ReplicaId, HlcTime)>,
    pub(crate) peers: Vec<PeerLook>,
    pub(crate) watermark: HlcTime,
    pub(crate) floor: Stamp,
    pub(crate) epoch: HlcTime,
    pub(crate) tombstones: usize,
    pub(crate) by_cause: ByCause,
    pub(crate) oldest: Option<Oldest>,
    pub(crate) log_len: usize,
    pub(crate) origins: usize,
    pub(crate) deferred: usize,
    pub(crate) offenders: Vec<(ReplicaId, HlcTime)>,
    pub(crate) receiving: bool,
    pub(crate) sending: usize,
    pub(crate) lossy: bool,
    pub(crate) counters: Counters,
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Everything about this replica but its registers. Costs what members times origins cost, never
    /// what keys do.
    pub(crate) fn look(&self, now: Now) -> Look {
        Look {
            clock_last: self.clock.last(),
            disagreement: self.clock.disagreement(now),
            judging: self.clock.judging(now),
            live: self.held.live,
            weight: self.held.weight,
            vector: self.of_members(&self.vector),
            peers: self.met_peers().take(MAX_LISTED).map(|(id, peer)| self.look_at(now, *id, peer)).collect(),
            watermark: self.timers.cut().watermark,
            floor: self.floor,
            epoch: self.store.epoch(),
            tombstones: self.tombstones.len(),
            by_cause: self.by_cause,
            oldest: self.oldest_tombstone(now),
            log_len: self.log_len(),
            origins: self.origins.len(),
            deferred: self.deferred_len(),
            offenders: self.offenders().collect(),
            receiving: self.incoming.is_some(),
            sending: self.outgoing.len(),
            lossy: self.lossy,
            counters: self.counters.clone(),
        }
    }

    fn met_peers(&self) -> impl Iterator<Item = (&ReplicaId, &Peer)> {
        self.peers.iter().filter(|(_, peer)| peer.unmet.is_none())
    }

    fn of_members(&self, vector: &crate::crdt::VersionVector) -> Vec<(ReplicaId, HlcTime)> {
        let members = self.peers.keys().take(MAX_LISTED).chain([&self.id]);
        members.map(|id| (*id, vector.get(id))).collect()
    }

    fn look_at(&self, now: Now, id: ReplicaId, peer: &Peer) -> PeerLook {
        let lacking = |(origin, log): (&ReplicaId, &OriginLog)| log.count_after(peer.reported.get(origin)).0;
        let own = self.logs.get(&self.id).map(|log| log.count_after(peer.reported.get(&self.id)));
        let (lacks, lacks_since) = own.unwrap_or((0, None));
        PeerLook {
            id,
            dead_since: peer.dead_since,
            last_heard: peer.last_heard,
            lossy: peer.lossy,
            wall_skew: self.wall_skew(now, peer),
            lacks_since,
            lacks,
            unconfirmed: self.logs.iter().filter(|(origin, _)| **origin != id).map(lacking).sum(),
            reported: self.of_members(&peer.reported),
        }
    }

    fn oldest_tombstone(&self, now: Now) -> Option<Oldest> {
        let (since, slot) = *self.tombstones.first()?;
        let meta = self.store.meta(slot)?;
        let kept_by = self.what_keeps(now, self.stamp_of(&meta), self.dot_of(&meta));
        Some(Oldest { since, kept_by })
    }

    fn what_keeps(&self, now: Now, stamp: Stamp, dot: Dot) -> Vec<Keeps> {
        let mut keeps = Vec::new();
        if dot.counter > self.clock.judging(now).saturating_sub(nanos(self.config.gc_grace)) {
            keeps.push(Keeps::Young);
        }
        if self.incoming.is_some() || !self.vector.covers(&dot) {
            keeps.push(Keeps::Session);
        }
        if self.watermark_at(self.clock.last().max(now.wall)) < stamp.time {
            keeps.push(Keeps::OwnWatermark);
        }
        for (id, peer) in self.peers.iter().take(MAX_LISTED) {
            if peer.reported.get(&dot.actor) < dot.counter {
                keeps.push(Keeps::Unseen(*id));
            } else if peer.watermark < stamp.time {
                keeps.push(Keeps::Watermark(*id));
            }
        }
        keeps
    }

    /// The members that are not known to have seen a dot, and when each was last heard.
    pub(crate) fn who_lacks(&self, dot: Dot) -> Vec<(ReplicaId, u64)> {
        let lacking = self.peers.iter().filter(|(_, peer)| !peer.reported.covers(&dot));
        lacking.map(|(id, peer)| (*id, peer.last_heard)).collect()
    }

    /// Stamp, kind and dot of a register seen a moment ago, if it is still as it was.
    pub(crate) fn marker_of_snapshot(&self, seen: &Snapshot<K, V>) -> Option<Marker> {
        let held = self.store.meta(seen.slot)?;
        (held == seen.meta).then(|| self.marker_of(&held))
    }

    pub(super) fn count_tombstone(&mut self, kind: Kind, by: i64) {
        if let Kind::Tombstone(cause) = kind {
            let count = &mut self.by_cause[cause as usize];
            *count = count.saturating_add_signed(by);
        }
    }
}

/// The number of tombstones of one cause.
pub(crate) fn of_cause(by_cause: &[u64; 5], cause: Cause) -> u64 {
    by_cause[cause as usize]
}
