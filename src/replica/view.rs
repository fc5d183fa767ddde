//! Read access to a replica and to its beliefs about its members.

use super::{CaughtUp, Counters, PeerView, RemovalStats, ReplicaConfig, Skew, StableCut};
use crate::crdt::{Dot, Marker, VersionVector};
use crate::env::Env;
use crate::hlc::{Clock, HlcTime, Now, Stamp};
use crate::item::{CoreKey, Key};
use crate::ledger::{Ledger, collect, fill};
use crate::members::{Members, named, skew};
use crate::protocol::Conversations;
use crate::replica_id::ReplicaId;
use crate::store::{Snapshot, Store};
use crate::sync::Arc;

/// The buffers of a replica beside its table, and those of their limits that are not configured.
#[cfg(any(test, feature = "sim"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffers {
    pub(crate) retained_bytes: usize,
    pub(crate) deferred_bytes: usize,
    pub(crate) max_deferred_bytes: usize,
    pub(crate) early: usize,
    pub(crate) max_early: usize,
}

/// A replica at one moment: what it holds, and what it believes of its members.
pub struct View<'a, K, V> {
    pub(super) env: &'a Env,
    pub(super) ledger: &'a Ledger<K, V>,
    pub(super) members: &'a Members,
    pub(super) conversations: &'a Conversations<K, V>,
}

impl<K, V> Clone for View<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for View<'_, K, V> {}

impl<'a, K: CoreKey, V> View<'a, K, V> {
    /// Who this is.
    #[must_use]
    pub fn id(self) -> ReplicaId {
        self.env.id
    }

    /// The settings.
    #[must_use]
    pub fn config(self) -> &'a ReplicaConfig {
        &self.env.config
    }

    /// The clock.
    #[must_use]
    pub fn clock(self) -> &'a Clock {
        &self.env.clock
    }

    /// Monotonic time of the start, in nanoseconds.
    pub(crate) fn opened(self) -> u64 {
        self.env.opened
    }

    /// Counts of what happened.
    #[must_use]
    pub fn counters(self) -> &'a Counters {
        &self.env.counters
    }

    /// Values that are no longer here, by cause.
    pub(crate) fn removals(self) -> RemovalStats {
        self.ledger.removals()
    }

    /// The table that readers share.
    pub(crate) fn store(self) -> &'a Arc<Store<K, V>> {
        self.ledger.table()
    }

    /// The stamp of a register in the table.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn stamp_at(self, meta: &crate::store::Meta) -> Stamp {
        self.ledger.registers().stamp_of(meta)
    }

    /// Stamp, kind and dot of a register in the table.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn marker_at(self, meta: &crate::store::Meta) -> Marker {
        self.ledger.registers().marker_of(meta)
    }

    /// What a key holds.
    pub(crate) fn find_key(self, hash: u64, key: &Key<K>) -> Option<Snapshot<K, V>> {
        self.ledger.find(hash, key)
    }

    /// Stamp, kind and dot of a register seen a moment ago, if it is still as it was.
    pub(crate) fn marker_of_snapshot(self, seen: &Snapshot<K, V>) -> Option<Marker> {
        self.ledger.registers().marker_if_unchanged(seen)
    }

    /// The stamp of a register seen a moment ago, if it is still as it was.
    pub(crate) fn stamp_of_snapshot(self, seen: &Snapshot<K, V>) -> Option<Stamp> {
        self.marker_of_snapshot(seen).map(|marker| marker.stamp)
    }

    /// Returns the sizes of buffers beside the table, for a checker of bounds.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn buffers(self) -> Buffers {
        let (early, max_early) = self.conversations.pushes.buffers();
        let (deferred_bytes, max_deferred_bytes) = self.ledger.quarantine().buffers();
        let retained_bytes = self.ledger.retained_bytes();
        Buffers { retained_bytes, deferred_bytes, max_deferred_bytes, early, max_early }
    }

    /// What has been seen, by origin.
    #[must_use]
    pub fn vector(self) -> &'a VersionVector {
        self.ledger.vector()
    }

    /// Origin -> highest dot time removed without a trace.
    #[must_use]
    pub fn dropped(self) -> &'a VersionVector {
        self.ledger.dropped()
    }

    /// The highest stamp of a tombstone that was removed without a trace.
    #[must_use]
    pub fn floor(self) -> Stamp {
        self.ledger.floor()
    }

    /// The highest stamp of a value that was evicted here without a trace, or by a replica whose state was taken over.
    #[must_use]
    pub fn eviction_floor(self) -> Stamp {
        self.ledger.eviction_floor()
    }

    /// By origin, the last dot that left here without a trace because it was evicted, or did so at a replica whose state was
    /// taken over.
    #[must_use]
    pub fn evicted(self) -> &'a VersionVector {
        self.ledger.evicted()
    }

    /// Whatever is stamped at or below this is gone.
    #[must_use]
    pub fn epoch(self) -> HlcTime {
        self.ledger.epoch()
    }

    /// Number of live values, expired but not yet swept ones included.
    #[must_use]
    pub fn live_len(self) -> u64 {
        self.ledger.registers().values().live
    }

    /// Sum of the weights of live values.
    #[must_use]
    pub fn live_weight(self) -> u64 {
        self.ledger.registers().values().weight
    }

    /// Number of tombstones of any cause.
    #[must_use]
    pub fn tombstone_len(self) -> usize {
        self.ledger.tombstones().len()
    }

    /// Entries of all per-origin logs, stale ones included.
    #[must_use]
    pub fn log_len(self) -> usize {
        self.ledger.logs().len()
    }

    /// Replica ids that registers refer to.
    #[must_use]
    pub fn origin_len(self) -> usize {
        self.ledger.registers().origin_len()
    }

    /// Entries of the expiry index, stale ones included.
    #[must_use]
    pub fn expiry_len(self) -> usize {
        self.ledger.expiry_len()
    }

    /// Registers that wait for their time.
    #[must_use]
    pub fn deferred_len(self) -> usize {
        self.ledger.quarantine().len()
    }

    /// Replicas whose clock was found too far ahead, and the time they claimed.
    pub fn offenders(self) -> impl Iterator<Item = (ReplicaId, HlcTime)> + 'a {
        self.ledger.quarantine().offenders()
    }

    /// Whether values were given up here that others may still hold.
    #[must_use]
    pub fn is_lossy(self) -> bool {
        self.ledger.is_lossy()
    }

    /// Whether a session is coming in.
    #[must_use]
    pub fn is_receiving(self) -> bool {
        self.ledger.receiving().is_some()
    }

    /// Fills that run and hold the watermark.
    #[must_use]
    pub fn fills_running(self) -> usize {
        fill::running(self.ledger)
    }

    /// Whether a fill has lost against something that came after its start. Whoever asks for the key
    /// now must not be given its value. (A fill for which there was no stamp is not stored; that alone
    /// is no reason for another one.)
    #[must_use]
    pub fn is_fill_overtaken(self, ticket: &super::FillTicket, hash: u64, key: &Key<K>) -> bool {
        fill::is_overtaken(self.ledger, self.env, ticket, (hash, key))
    }

    /// What is stable by all that is known now.
    #[must_use]
    pub fn stable_cut(self, now: Now) -> StableCut {
        collect::stable_cut(self.ledger, self.env, self.members, now)
    }

    /// Whether members are expected that this replica has not heard: the node says so, or this replica has begun anew.
    pub(crate) fn may_meet_members(self) -> bool {
        self.members.may_meet_more()
    }

    /// The first member whose whole state this replica has had, if any yet.
    #[must_use]
    pub fn caught_up(self) -> Option<CaughtUp> {
        self.members.caught_up()
    }

    /// The members, and whether each is live.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn members(self) -> impl Iterator<Item = (ReplicaId, bool)> + 'a {
        self.members.iter().map(|(id, peer)| (*id, peer.is_live()))
    }

    /// The members that have spoken to us, by id.
    pub fn peers(self) -> impl Iterator<Item = PeerView> + 'a {
        self.members.views()
    }

    /// How many members there are, dead but not forgotten ones included; without this replica.
    #[must_use]
    pub fn peer_len(self) -> usize {
        self.members.len() - self.unmet_len()
    }

    /// Peers that others name and that have not spoken to us.
    #[must_use]
    pub fn unmet_len(self) -> usize {
        named::count(self.members)
    }

    /// Peers that others name and that have not spoken to us: their watermark, what they are known to have, and who names them.
    #[cfg(feature = "sim")]
    pub(crate) fn unmet(
        self,
    ) -> impl Iterator<Item = (ReplicaId, HlcTime, VersionVector, &'a crate::members::peer::Namers)> + 'a {
        self.members.iter().filter_map(|(id, peer)| {
            Some((*id, peer.stability.watermark, peer.reported.clone(), &peer.unmet.as_ref()?.namers))
        })
    }

    /// The members that the failure detector calls alive.
    #[must_use]
    pub fn live_members(self) -> Vec<ReplicaId> {
        self.members.live().collect()
    }

    /// How far the wall clocks of live members are ahead of ours, by their last digests. A member that has sent none for
    /// long is left out: its clock may have been put right since.
    pub fn skews(self, now: Now) -> impl Iterator<Item = Skew> + 'a {
        skew::skews(self.members, self.env, now)
    }

    /// By how many nanoseconds the time of the members, taken at the start, was ahead of our wall clock.
    #[must_use]
    pub fn taken_time(self) -> u64 {
        self.env.clock.offset()
    }

    /// Whether it is worth waiting to hand over own writes: some are not known to have reached a member, and there is a
    /// member, dead but not forgotten ones included, or one may still appear.
    #[must_use]
    pub fn has_unsent(self) -> bool {
        let unsent = self.members.handed_over(self.env) < self.ledger.last_own();
        unsent && (!self.members.is_empty() || self.may_meet_members())
    }

    /// The lowest dot time of ours that every member is known to have.
    #[must_use]
    pub fn own_seen_by_all(self) -> HlcTime {
        self.members.own_seen_by_all(&self.env.id)
    }

    /// Whether a live member is known to have a write, or something newer for its key. `None` if it is
    /// no live member.
    #[must_use]
    pub fn member_has(self, member: ReplicaId, write: Stamp) -> Option<bool> {
        if self.members.former().was_ours(&write.replica) {
            return Some(false); // Under an id that another process had too: nobody can say.
        }
        let peer = self.members.get(&member).filter(|peer| peer.is_live())?;
        Some(member == write.replica || peer.reported.get(&write.replica) >= write.time)
    }

    /// The dot of our newest own change, as a stamp.
    #[must_use]
    pub fn last_own_stamp(self) -> Option<Stamp> {
        let last = self.ledger.last_own();
        (last > 0).then(|| Stamp::new(last, self.env.id))
    }

    /// The members that are not known to have seen a dot, and when each was last heard.
    pub(crate) fn who_lacks(self, dot: Dot) -> Vec<(ReplicaId, u64)> {
        let lacking = self.members.iter().filter(|(_, peer)| !peer.reported.covers(&dot));
        lacking.map(|(id, peer)| (*id, peer.last_heard)).collect()
    }
}
