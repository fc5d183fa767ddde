//! What the machine shows of itself: numbers and ids only, quick to take under the lock.

use super::{CoreKey, Counters, Replica};
use crate::crdt::Dot;
use crate::hlc::{HlcTime, Now, Stamp, nanos};
use crate::ledger::collect;
use crate::ledger::log::OriginLog;
use crate::ledger::tombstones::ByCause;
pub(crate) use crate::ledger::tombstones::of_cause;
use crate::members::peer::Peer;
use crate::members::skew;
use crate::replica_id::ReplicaId;

/// Members listed one by one, at most.
const MAX_LISTED: usize = 64;

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
        let Self { env, ledger, members, .. } = self;
        let values = ledger.registers().values();
        Look {
            clock_last: env.clock.last(),
            disagreement: env.clock.disagreement(now),
            judging: env.clock.judging(now),
            live: values.live,
            weight: values.weight,
            vector: self.of_members(ledger.vector()),
            peers: members.met().take(MAX_LISTED).map(|(id, peer)| self.look_at(now, *id, peer)).collect(),
            watermark: members.cut().watermark,
            floor: ledger.floor(),
            epoch: ledger.epoch(),
            tombstones: ledger.tombstones().len(),
            by_cause: ledger.tombstones().by_cause(),
            oldest: self.oldest_tombstone(now),
            log_len: self.log_len(),
            origins: self.origin_len(),
            deferred: self.deferred_len(),
            offenders: self.offenders().collect(),
            receiving: self.is_receiving(),
            sending: self.sessions_out.len(),
            lossy: ledger.is_lossy(),
            counters: env.counters.clone(),
        }
    }

    fn of_members(&self, vector: &crate::crdt::VersionVector) -> Vec<(ReplicaId, HlcTime)> {
        let members = self.members.iter().map(|(id, _)| id).take(MAX_LISTED).chain([&self.env.id]);
        members.map(|id| (*id, vector.get(id))).collect()
    }

    fn look_at(&self, now: Now, id: ReplicaId, peer: &Peer) -> PeerLook {
        let (logs, own) = (self.ledger.logs(), &self.env.id);
        let lacking = |(origin, log): (&ReplicaId, &OriginLog)| log.count_after(peer.reported.get(origin)).0;
        let ours = logs.get(own).map(|log| log.count_after(peer.reported.get(own)));
        let (lacks, lacks_since) = ours.unwrap_or((0, None));
        PeerLook {
            id,
            dead_since: peer.dead_since,
            last_heard: peer.last_heard,
            lossy: peer.lossy,
            wall_skew: skew::wall_skew(&self.members, &self.env, now, peer),
            lacks_since,
            lacks,
            unconfirmed: logs.iter().filter(|(origin, _)| **origin != id).map(lacking).sum(),
            reported: self.of_members(&peer.reported),
        }
    }

    fn oldest_tombstone(&self, now: Now) -> Option<Oldest> {
        let (since, slot) = self.ledger.tombstones().iter().next()?;
        let meta = self.ledger.table().meta(slot)?;
        let marker = self.ledger.registers().marker_of(&meta);
        let kept_by = self.what_keeps(now, marker.stamp, marker.dot);
        Some(Oldest { since, kept_by })
    }

    fn what_keeps(&self, now: Now, stamp: Stamp, dot: Dot) -> Vec<Keeps> {
        let Self { env, ledger, members, .. } = self;
        let mut keeps = Vec::new();
        if dot.counter > env.clock.judging(now).saturating_sub(nanos(env.config.gc_grace)) {
            keeps.push(Keeps::Young);
        }
        if self.is_receiving() || !ledger.vector().covers(&dot) {
            keeps.push(Keeps::Session);
        }
        if collect::watermark_at(ledger, env, env.clock.last().max(now.wall)) < stamp.time {
            keeps.push(Keeps::OwnWatermark);
        }
        for (id, peer) in members.iter().take(MAX_LISTED) {
            if peer.reported.get(&dot.actor) < dot.counter {
                keeps.push(Keeps::Unseen(*id));
            } else if peer.stability.watermark < stamp.time {
                keeps.push(Keeps::Watermark(*id));
            }
        }
        keeps
    }

    /// The members that are not known to have seen a dot, and when each was last heard.
    pub(crate) fn who_lacks(&self, dot: Dot) -> Vec<(ReplicaId, u64)> {
        let lacking = self.members.iter().filter(|(_, peer)| !peer.reported.covers(&dot));
        lacking.map(|(id, peer)| (*id, peer.last_heard)).collect()
    }
}
