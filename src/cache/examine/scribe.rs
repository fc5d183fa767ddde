//! Writes what a replica knows in words: names for replicas, ages for times.

use std::collections::BTreeMap;

use crate::cache::shared::Shared;
use crate::cache::{CacheKey, CacheValue};
use crate::crdt::Cause;
use crate::hlc::{HlcTime, Now};
use crate::ledger::tombstones::of_cause;
use crate::replica::look::{Keeps, Look, PeerLook};
use crate::replica_id::ReplicaId;
use crate::report::{Blocker, Offender, PeerReport, Seen, TombstoneReport, readable};

/// Names for replicas, and the clocks to judge by.
pub(super) struct Scribe {
    names: BTreeMap<ReplicaId, String>,
    now: Now,
    judging: HlcTime,
}

/// Returns whole milliseconds.
pub(super) fn ms(nanos: u64) -> u64 {
    nanos / 1_000_000
}

/// Returns a difference of nanoseconds in milliseconds.
pub(super) fn signed_ms(of: u64, less: u64) -> i64 {
    i64::try_from((i128::from(of) - i128::from(less)) / 1_000_000).unwrap_or(i64::MAX)
}

impl Scribe {
    /// Returns one for a cache at a moment. `judging`: the time by which the replica judges others' clocks.
    pub(super) fn of<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, now: Now, judging: HlcTime) -> Self {
        let mut names = shared.around.host.names(&shared.name);
        names.insert(shared.around.id(), shared.around.host.node_name());
        Self { names, now, judging }
    }

    fn name(&self, id: &ReplicaId) -> Option<String> {
        self.names.get(id).cloned()
    }

    pub(super) fn seen(&self, (id, time): &(ReplicaId, HlcTime)) -> Seen {
        let age_ms = ms(self.judging.saturating_sub(*time));
        Seen { replica: id.to_string(), node: self.name(id), time: readable(*time), age_ms }
    }

    pub(super) fn peer(&self, look: &Look, peer: &PeerLook) -> PeerReport {
        let seen = look.vector.iter().find(|(id, time)| *id == peer.id && *time > 0);
        PeerReport {
            replica: peer.id.to_string(),
            node: self.name(&peer.id),
            live: peer.dead_since.is_none(),
            dead_ms: peer.dead_since.map(|since| ms(self.now.mono.saturating_sub(since))),
            silent_ms: ms(self.now.mono.saturating_sub(peer.last_heard)),
            lossy: peer.lossy,
            clock_skew_ms: peer.wall_skew.map(|skew| skew / 1_000_000),
            lag_ms: peer.lacks_since.map_or(0, |since| ms(self.judging.saturating_sub(since))),
            lag_entries: peer.lacks as u64,
            unconfirmed_entries: peer.unconfirmed as u64,
            staleness_ms: seen.map(|(_, time)| ms(self.judging.saturating_sub(*time))),
            reported: peer.reported.iter().map(|seen| self.seen(seen)).collect(),
        }
    }

    fn blocker(&self, look: &Look, keeps: Keeps) -> Blocker {
        let silent = |id: ReplicaId| {
            let heard = look.peers.iter().find(|peer| peer.id == id).map_or(0, |peer| peer.last_heard);
            ms(self.now.mono.saturating_sub(heard))
        };
        match keeps {
            Keeps::Young => Blocker::Young,
            Keeps::Session => Blocker::Session,
            Keeps::OwnWatermark => Blocker::OwnWatermark,
            Keeps::Unseen(id) => {
                Blocker::Unseen { replica: id.to_string(), node: self.name(&id), silent_ms: silent(id) }
            }
            Keeps::Watermark(id) => {
                Blocker::Watermark { replica: id.to_string(), node: self.name(&id), silent_ms: silent(id) }
            }
        }
    }

    pub(super) fn tombstones(&self, look: &Look, cap: usize) -> TombstoneReport {
        let count = |cause| of_cause(&look.held.by_cause, cause);
        let oldest = look.held.oldest.as_ref();
        TombstoneReport {
            total: look.held.tombstones as u64,
            cap: cap as u64,
            deleted: count(Cause::Deleted),
            expired: count(Cause::Expired),
            evicted: count(Cause::Evicted),
            void: count(Cause::Void),
            oldest_ms: oldest.map(|oldest| ms(self.judging.saturating_sub(oldest.since))),
            blocked_by: oldest.map_or_else(Vec::new, |oldest| {
                oldest.kept_by.iter().map(|keeps| self.blocker(look, *keeps)).collect()
            }),
        }
    }

    pub(super) fn offender(&self, (id, claimed): &(ReplicaId, HlcTime)) -> Offender {
        Offender { replica: id.to_string(), node: self.name(id), ahead_ms: signed_ms(*claimed, self.now.wall) }
    }
}
