//! A report on a replica at one moment, for operators: numbers and ids only, quick to copy under the lock.

use std::time::Duration;

use serde::Serialize;

use super::{CoreKey, Counters, PeerView, View};
use crate::crdt::{Dot, VersionVector};
use crate::histogram::Distribution;
use crate::hlc::{HlcTime, Now, Stamp, nanos};
use crate::ledger::collect;
use crate::ledger::log::OriginLog;
use crate::ledger::tombstones::ByCause;
use crate::members::peer::Peer;
use crate::members::skew;
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

/// The highest number of members that a report lists one by one.
const MAX_LISTED: usize = 64;

/// The lag of a member behind this node's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PeerLag {
    /// The id of the member.
    pub member: ReplicaId,
    /// True if the failure detector calls it alive.
    pub live: bool,
    /// The age of the oldest own write that it is not known to have; zero if there is none.
    pub behind: Duration,
    /// The number of own writes that it is not known to have. Writes that were overwritten since may count until the
    /// log is compacted.
    pub writes: u64,
}

/// A member, its lag, and the difference between its clock and the local one.
#[derive(Clone, Debug)]
pub(crate) struct ReportedPeer {
    /// The state that is believed of it. Its reported vector is limited to listed members.
    pub(crate) view: PeerView,
    pub(crate) lag: PeerLag,
    /// The number of log entries of other origins that it is not known to have.
    pub(crate) unconfirmed: usize,
    pub(crate) wall_skew: Option<i64>,
}

/// A reason why a tombstone is not collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CollectionBlock {
    /// Its dot is younger than `gc_grace`.
    Young,
    /// A session is coming in, or no claim covers its dot yet.
    Session,
    /// Its stamp is above this replica's own watermark.
    OwnWatermark,
    /// The member has not reported its dot.
    Unseen(ReplicaId),
    /// Its stamp is above the member's usable watermark.
    Watermark(ReplicaId),
    /// The member is owing: writes of a departed replica are still expected from it.
    DepartedWrites(ReplicaId),
}

/// An old tombstone, and the reasons why it is not collected.
#[derive(Clone, Debug)]
pub(crate) struct OldTombstone {
    pub(crate) since: HlcTime,
    pub(crate) slot: SlotRef,
    pub(crate) blocked_by: Vec<CollectionBlock>,
}

/// The numbers of registers and log entries of a replica.
#[derive(Clone, Debug)]
pub(crate) struct HeldReport {
    pub(crate) live: u64,
    pub(crate) weight: u64,
    pub(crate) tombstones: usize,
    pub(crate) by_cause: ByCause,
    pub(crate) oldest: Option<OldTombstone>,
    pub(crate) log_len: usize,
    pub(crate) origins: usize,
    pub(crate) deferred: usize,
}

/// A replica at one moment.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaReport {
    /// The last time that its clock issued or observed.
    pub(crate) clock: HlcTime,
    /// The nanoseconds by which the wall clock is ahead of the time that the monotonic clock predicts.
    pub(crate) disagreement: i64,
    /// The time by which it judges ages and the times of other replicas.
    pub(crate) judging: HlcTime,
    pub(crate) held: HeldReport,
    pub(crate) vector: Vec<(ReplicaId, HlcTime)>,
    pub(crate) peers: Vec<ReportedPeer>,
    /// The number of members that have sent something, also of those that are not listed.
    pub(crate) met: usize,
    pub(crate) watermark: HlcTime,
    pub(crate) floor: Stamp,
    pub(crate) epoch: HlcTime,
    pub(crate) offenders: Vec<(ReplicaId, HlcTime)>,
    pub(crate) receiving: bool,
    pub(crate) sending: usize,
    pub(crate) lossy: bool,
    pub(crate) counters: Counters,
    /// The distributions of [`ReplicaTimings`](crate::env::ReplicaTimings): of acknowledgements, and of ages at eviction.
    pub(crate) timings: [Distribution; 2],
}

impl PeerLag {
    /// Returns the lag of one member at a time. An estimate while entries of the own log wait to be sorted.
    fn of<K: CoreKey, V>(view: View<'_, K, V>, at: HlcTime, member: ReplicaId, peer: &Peer) -> Self {
        let own = &view.env.id;
        let lacking = view.ledger.logs().get(own).map(|log| log.count_after(peer.reported.get(own)));
        let (writes, oldest) = lacking.unwrap_or((0, None));
        let behind = Duration::from_nanos(oldest.map_or(0, |oldest| at.saturating_sub(oldest)));
        Self { member, live: peer.is_live(), behind, writes: writes as u64 }
    }

    /// Returns the lag of each member that has sent something to this replica.
    pub(super) fn of_all<K: CoreKey, V>(view: View<'_, K, V>, at: HlcTime) -> Vec<Self> {
        view.members.met().map(|(id, peer)| Self::of(view, at, *id, peer)).collect()
    }
}

impl ReplicaReport {
    /// Copies everything about a replica except its registers. The cost grows with members times origins, never with
    /// keys.
    pub(super) fn of<K: CoreKey, V>(view: View<'_, K, V>, now: Now) -> Self {
        let View { env, ledger, members, .. } = view;
        let listed = members.met().take(MAX_LISTED);
        Self {
            clock: env.clock.last(),
            disagreement: env.clock.disagreement(now),
            judging: env.clock.judging(now),
            held: HeldReport::of(view, now),
            vector: of_members(view, ledger.vector()).collect(),
            peers: listed.map(|(id, peer)| ReportedPeer::of(view, now, *id, peer)).collect(),
            met: members.met().count(),
            watermark: members.cut().watermark,
            floor: ledger.floor(),
            epoch: ledger.epoch(),
            offenders: view.offenders().collect(),
            receiving: view.is_receiving(),
            sending: view.conversations.sessions_out.len(),
            lossy: ledger.is_lossy(),
            counters: env.counters.clone(),
            timings: [env.timings.acknowledged.read(), env.timings.evicted.read()],
        }
    }
}

impl HeldReport {
    fn of<K: CoreKey, V>(view: View<'_, K, V>, now: Now) -> Self {
        let (values, tombstones) = (view.ledger.registers().values(), view.ledger.tombstones());
        Self {
            live: values.live,
            weight: values.weight,
            tombstones: tombstones.len(),
            by_cause: tombstones.by_cause(),
            oldest: OldTombstone::oldest(view, now, 1).pop(),
            log_len: view.log_len(),
            origins: view.origin_len(),
            deferred: view.deferred_len(),
        }
    }
}

impl ReportedPeer {
    fn of<K: CoreKey, V>(view: View<'_, K, V>, now: Now, id: ReplicaId, peer: &Peer) -> Self {
        let lacking = |(origin, log): (&ReplicaId, &OriginLog)| log.count_after(peer.reported.get(origin)).0;
        let others = view.ledger.logs().iter().filter(|(origin, _)| **origin != id);
        Self {
            view: PeerView::of(id, peer, of_members(view, &peer.reported).collect()),
            lag: PeerLag::of(view, view.env.clock.judging(now), id, peer),
            unconfirmed: others.map(lacking).sum(),
            wall_skew: skew::wall_skew(view.members, view.env, now, peer),
        }
    }
}

impl OldTombstone {
    /// Returns the oldest tombstones. The cost grows with their number times members times origins.
    pub(crate) fn oldest<K: CoreKey, V>(view: View<'_, K, V>, now: Now, limit: usize) -> Vec<Self> {
        let described = |(since, slot): (HlcTime, SlotRef)| {
            let marker = view.ledger.registers().marker_of(&view.ledger.table().meta(slot)?);
            Some(Self { since, slot, blocked_by: collection_blocks(view, now, marker.stamp, marker.dot) })
        };
        view.ledger.tombstones().iter().take(limit).filter_map(described).collect()
    }
}

/// Returns the vector entries of listed members and of this replica.
fn of_members<K: CoreKey, V>(
    view: View<'_, K, V>,
    vector: &VersionVector,
) -> impl Iterator<Item = (ReplicaId, HlcTime)> {
    let members = view.members.iter().map(|(id, _)| id).take(MAX_LISTED).chain([&view.env.id]);
    members.map(|id| (*id, vector.get(id)))
}

fn collection_blocks<K: CoreKey, V>(view: View<'_, K, V>, now: Now, stamp: Stamp, dot: Dot) -> Vec<CollectionBlock> {
    let View { env, ledger, members, .. } = view;
    let mut blocks = Vec::new();
    if dot.counter > env.clock.judging(now).saturating_sub(nanos(env.config.gc_grace)) {
        blocks.push(CollectionBlock::Young);
    }
    if view.is_receiving() || !ledger.vector().covers(&dot) {
        blocks.push(CollectionBlock::Session);
    }
    if collect::watermark_at(ledger, env, env.clock.last().max(now.wall)) < stamp.time {
        blocks.push(CollectionBlock::OwnWatermark);
    }
    for (id, peer) in members.iter().take(MAX_LISTED) {
        if peer.reported.get(&dot.actor) < dot.counter {
            blocks.push(CollectionBlock::Unseen(*id));
        } else if peer.stability.watermark < stamp.time {
            blocks.push(CollectionBlock::Watermark(*id));
        }
    }
    blocks.extend(
        collect::owing(ledger, env, members, now).take(MAX_LISTED).copied().map(CollectionBlock::DepartedWrites),
    );
    blocks
}
