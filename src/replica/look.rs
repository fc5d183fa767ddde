//! What the machine shows of itself: numbers and ids only, quick to take under the lock.

use super::{CoreKey, Counters, View};
use crate::crdt::{Dot, VersionVector};
use crate::hlc::{HlcTime, Now, Stamp, nanos};
use crate::ledger::collect;
use crate::ledger::log::OriginLog;
use crate::ledger::tombstones::ByCause;
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

/// Clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockLook {
    pub(crate) last: HlcTime,
    pub(crate) disagreement: i64,
    pub(crate) judging: HlcTime,
}

/// What is held at one moment, by number.
#[derive(Clone, Debug)]
pub(crate) struct HeldLook {
    pub(crate) live: u64,
    pub(crate) weight: u64,
    pub(crate) tombstones: usize,
    pub(crate) by_cause: ByCause,
    pub(crate) oldest: Option<Oldest>,
    pub(crate) log_len: usize,
    pub(crate) origins: usize,
    pub(crate) deferred: usize,
}

/// The machine at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) clock: ClockLook,
    pub(crate) held: HeldLook,
    pub(crate) vector: Vec<(ReplicaId, HlcTime)>,
    pub(crate) peers: Vec<PeerLook>,
    pub(crate) watermark: HlcTime,
    pub(crate) floor: Stamp,
    pub(crate) epoch: HlcTime,
    pub(crate) offenders: Vec<(ReplicaId, HlcTime)>,
    pub(crate) receiving: bool,
    pub(crate) sending: usize,
    pub(crate) lossy: bool,
    pub(crate) counters: Counters,
}

impl Look {
    /// Everything about a replica but its registers. Costs what members times origins cost, never
    /// what keys do.
    pub(crate) fn take<K: CoreKey, V>(view: View<'_, K, V>, now: Now) -> Self {
        let View { env, ledger, members, .. } = view;
        Self {
            clock: ClockLook {
                last: env.clock.last(),
                disagreement: env.clock.disagreement(now),
                judging: env.clock.judging(now),
            },
            held: HeldLook::take(view, now),
            vector: of_members(view, ledger.vector()),
            peers: members.met().take(MAX_LISTED).map(|(id, peer)| PeerLook::take(view, now, *id, peer)).collect(),
            watermark: members.cut().watermark,
            floor: ledger.floor(),
            epoch: ledger.epoch(),
            offenders: view.offenders().collect(),
            receiving: view.is_receiving(),
            sending: view.conversations.sessions_out.len(),
            lossy: ledger.is_lossy(),
            counters: env.counters.clone(),
        }
    }
}

impl HeldLook {
    fn take<K: CoreKey, V>(view: View<'_, K, V>, now: Now) -> Self {
        let (values, tombstones) = (view.ledger.registers().values(), view.ledger.tombstones());
        Self {
            live: values.live,
            weight: values.weight,
            tombstones: tombstones.len(),
            by_cause: tombstones.by_cause(),
            oldest: Oldest::find(view, now),
            log_len: view.log_len(),
            origins: view.origin_len(),
            deferred: view.deferred_len(),
        }
    }
}

impl PeerLook {
    fn take<K: CoreKey, V>(view: View<'_, K, V>, now: Now, id: ReplicaId, peer: &Peer) -> Self {
        let (logs, own) = (view.ledger.logs(), &view.env.id);
        let lacking = |(origin, log): (&ReplicaId, &OriginLog)| log.count_after(peer.reported.get(origin)).0;
        let ours = logs.get(own).map(|log| log.count_after(peer.reported.get(own)));
        let (lacks, lacks_since) = ours.unwrap_or((0, None));
        Self {
            id,
            dead_since: peer.dead_since,
            last_heard: peer.last_heard,
            lossy: peer.lossy,
            wall_skew: skew::wall_skew(view.members, view.env, now, peer),
            lacks_since,
            lacks,
            unconfirmed: logs.iter().filter(|(origin, _)| **origin != id).map(lacking).sum(),
            reported: of_members(view, &peer.reported),
        }
    }
}

impl Oldest {
    fn find<K: CoreKey, V>(view: View<'_, K, V>, now: Now) -> Option<Self> {
        let (since, slot) = view.ledger.tombstones().iter().next()?;
        let meta = view.ledger.table().meta(slot)?;
        let marker = view.ledger.registers().marker_of(&meta);
        Some(Self { since, kept_by: what_keeps(view, now, marker.stamp, marker.dot) })
    }
}

fn of_members<K: CoreKey, V>(view: View<'_, K, V>, vector: &VersionVector) -> Vec<(ReplicaId, HlcTime)> {
    let members = view.members.iter().map(|(id, _)| id).take(MAX_LISTED).chain([&view.env.id]);
    members.map(|id| (*id, vector.get(id))).collect()
}

fn what_keeps<K: CoreKey, V>(view: View<'_, K, V>, now: Now, stamp: Stamp, dot: Dot) -> Vec<Keeps> {
    let View { env, ledger, members, .. } = view;
    let mut keeps = Vec::new();
    if dot.counter > env.clock.judging(now).saturating_sub(nanos(env.config.gc_grace)) {
        keeps.push(Keeps::Young);
    }
    if view.is_receiving() || !ledger.vector().covers(&dot) {
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
