//! Read access to a replica and to what it believes of its members.

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

/// The sizes of a replica's buffers besides its table, and those of their limits that are not configured.
#[cfg(any(test, feature = "sim"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffers {
    pub(crate) retained_bytes: usize,
    pub(crate) deferred_bytes: usize,
    pub(crate) max_deferred_bytes: usize,
    pub(crate) early: usize,
    pub(crate) max_early: usize,
}

/// A replica at one moment: the registers it holds, and what it believes of its members.
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
    /// Returns the id of the replica.
    #[must_use]
    pub fn id(self) -> ReplicaId {
        self.env.id
    }

    /// Returns the settings.
    #[must_use]
    pub fn config(self) -> &'a ReplicaConfig {
        &self.env.config
    }

    /// Returns the clock.
    #[must_use]
    pub fn clock(self) -> &'a Clock {
        &self.env.clock
    }

    /// Returns the monotonic time of the start, in nanoseconds.
    pub(crate) fn opened(self) -> u64 {
        self.env.opened
    }

    /// Returns the counters.
    #[must_use]
    pub fn counters(self) -> &'a Counters {
        &self.env.counters
    }

    /// Returns the numbers of removed values, by cause.
    pub(crate) fn removals(self) -> RemovalStats {
        self.ledger.removals()
    }

    /// Returns the table that readers share.
    pub(crate) fn store(self) -> &'a Arc<Store<K, V>> {
        self.ledger.table()
    }

    /// Returns the stamp of a register in the table.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn stamp_at(self, meta: &crate::store::Meta) -> Stamp {
        self.ledger.registers().stamp_of(meta)
    }

    /// Returns the stamp, kind and dot of a register in the table.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn marker_at(self, meta: &crate::store::Meta) -> Marker {
        self.ledger.registers().marker_of(meta)
    }

    /// Returns the register of a key.
    pub(crate) fn find_key(self, hash: u64, key: &Key<K>) -> Option<Snapshot<K, V>> {
        self.ledger.find(hash, key)
    }

    /// Returns the stamp, kind and dot of a register that was read before, if it has not changed since.
    pub(crate) fn marker_of_snapshot(self, seen: &Snapshot<K, V>) -> Option<Marker> {
        self.ledger.registers().marker_if_unchanged(seen)
    }

    /// Returns the stamp of a register that was read before, if it has not changed since.
    pub(crate) fn stamp_of_snapshot(self, seen: &Snapshot<K, V>) -> Option<Stamp> {
        self.marker_of_snapshot(seen).map(|marker| marker.stamp)
    }

    /// Returns the sizes of buffers besides the table, for the checker of bounds.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn buffers(self) -> Buffers {
        let (early, max_early) = self.conversations.pushes.buffers();
        let (deferred_bytes, max_deferred_bytes) = self.ledger.quarantine().buffers();
        let retained_bytes = self.ledger.retained_bytes();
        Buffers { retained_bytes, deferred_bytes, max_deferred_bytes, early, max_early }
    }

    /// Returns the version vector: by origin, the time up to which everything was seen.
    #[must_use]
    pub fn vector(self) -> &'a VersionVector {
        self.ledger.vector()
    }

    /// Returns the dropped vector: by origin, the highest dot time that was removed here without a trace.
    #[must_use]
    pub fn dropped(self) -> &'a VersionVector {
        self.ledger.dropped()
    }

    /// Returns the highest stamp of a tombstone that was removed without a trace.
    #[must_use]
    pub fn floor(self) -> Stamp {
        self.ledger.floor()
    }

    /// Returns the highest stamp of a value that was evicted without a trace, here or on a replica whose state was
    /// taken over.
    #[must_use]
    pub fn eviction_floor(self) -> Stamp {
        self.ledger.eviction_floor()
    }

    /// Returns, by origin, the last dot that was evicted without a trace, here or on a replica whose state was taken
    /// over.
    #[must_use]
    pub fn evicted(self) -> &'a VersionVector {
        self.ledger.evicted()
    }

    /// Returns the epoch. Registers stamped at or below it count as absent.
    #[must_use]
    pub fn epoch(self) -> HlcTime {
        self.ledger.epoch()
    }

    /// Returns the number of live values. Expired values that are not yet swept count.
    #[must_use]
    pub fn live_len(self) -> u64 {
        self.ledger.registers().values().live
    }

    /// Returns the sum of the weights of live values.
    #[must_use]
    pub fn live_weight(self) -> u64 {
        self.ledger.registers().values().weight
    }

    /// Returns the number of live values that expire.
    #[must_use]
    pub fn expiring_len(self) -> u64 {
        self.ledger.registers().values().expiring
    }

    /// Returns the number of tombstones of any cause.
    #[must_use]
    pub fn tombstone_len(self) -> usize {
        self.ledger.tombstones().len()
    }

    /// Returns the number of entries in all logs, stale ones included.
    #[must_use]
    pub fn log_len(self) -> usize {
        self.ledger.logs().len()
    }

    /// Returns the number of replica ids that registers refer to.
    #[must_use]
    pub fn origin_len(self) -> usize {
        self.ledger.registers().origin_len()
    }

    /// Returns the number of entries in the expiry index, stale ones included.
    #[must_use]
    pub fn expiry_len(self) -> usize {
        self.ledger.expiry_len()
    }

    /// Returns the number of deferred registers, which wait in quarantine until they are due.
    #[must_use]
    pub fn deferred_len(self) -> usize {
        self.ledger.quarantine().len()
    }

    /// Returns the replicas whose clock was found too far ahead, each with the time that it claimed.
    pub fn offenders(self) -> impl Iterator<Item = (ReplicaId, HlcTime)> + 'a {
        self.ledger.quarantine().offenders()
    }

    /// Returns true if values were evicted or dropped here that other replicas may still hold.
    #[must_use]
    pub fn is_lossy(self) -> bool {
        self.ledger.is_lossy()
    }

    /// Returns true if a session is coming in.
    #[must_use]
    pub fn is_receiving(self) -> bool {
        self.ledger.receiving().is_some()
    }

    /// Returns the number of running fills that hold back the watermark.
    #[must_use]
    pub fn fills_running(self) -> usize {
        fill::running(self.ledger)
    }

    /// Returns true if a fill has lost against something that came after its start. A caller that asks for the key now
    /// must not get its value. (A fill that got no stamp is not stored. That alone is no reason to fill again.)
    #[must_use]
    pub fn is_fill_overtaken(self, ticket: &super::FillTicket, hash: u64, key: &Key<K>) -> bool {
        fill::is_overtaken(self.ledger, self.env, ticket, (hash, key))
    }

    /// Returns the stable cut, by all that is known now.
    #[must_use]
    pub fn stable_cut(self, now: Now) -> StableCut {
        collect::stable_cut(self.ledger, self.env, self.members, now)
    }

    /// Returns true if members are expected that have sent nothing here: the node says so, or this replica has begun
    /// anew.
    pub(crate) fn may_meet_members(self) -> bool {
        self.members.may_meet_peers()
    }

    /// Returns the first member whose state this replica has fully received, if there is one yet.
    #[must_use]
    pub fn caught_up(self) -> Option<CaughtUp> {
        self.members.caught_up()
    }

    /// Returns the members, each with true if it is live.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn members(self) -> impl Iterator<Item = (ReplicaId, bool)> + 'a {
        self.members.iter().map(|(id, peer)| (*id, peer.is_live()))
    }

    /// Returns the members that have sent something to this replica, by id.
    pub fn peers(self) -> impl Iterator<Item = PeerView> + 'a {
        self.members.views()
    }

    /// Returns the number of members, dead but not forgotten ones included, without unmet ones and without this
    /// replica.
    #[must_use]
    pub fn peer_len(self) -> usize {
        self.members.len() - self.unmet_len()
    }

    /// Returns the number of unmet members: other members name them, but they have sent nothing to this replica.
    #[must_use]
    pub fn unmet_len(self) -> usize {
        named::count(self.members)
    }

    /// Returns the unmet members, each with its watermark, what it is known to have, and the members that name it.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn unmet(
        self,
    ) -> impl Iterator<Item = (ReplicaId, HlcTime, VersionVector, &'a crate::members::peer::Namers)> + 'a {
        self.members.iter().filter_map(|(id, peer)| {
            Some((*id, peer.stability.watermark, peer.reported.clone(), &peer.unmet.as_ref()?.namers))
        })
    }

    /// Returns the members that the failure detector calls alive.
    #[must_use]
    pub fn live_members(self) -> Vec<ReplicaId> {
        self.members.live().collect()
    }

    /// Returns the lead of each live member's wall clock over the local one, by its last digest. A member that has sent
    /// no digest for long is left out: its clock may have been corrected since.
    pub fn skews(self, now: Now) -> impl Iterator<Item = Skew> + 'a {
        skew::skews(self.members, self.env, now)
    }

    /// Returns the nanoseconds by which the members' time, taken at the start, was ahead of the local wall clock.
    #[must_use]
    pub fn taken_time(self) -> u64 {
        self.env.clock.offset()
    }

    /// Returns true if it is worth waiting to hand over own writes. Some are not known to have reached a member, and
    /// there is a member, dead but not forgotten ones included, or one may still appear.
    #[must_use]
    pub fn has_unsent(self) -> bool {
        let unsent = self.members.handed_over(self.env) < self.ledger.last_own();
        unsent && (!self.members.is_empty() || self.may_meet_members())
    }

    /// Returns the time up to which every member is known to have all own dots.
    #[must_use]
    pub fn own_seen_by_all(self) -> HlcTime {
        self.members.own_seen_by_all(&self.env.id)
    }

    /// Returns true if a live member is known to have a write, or something newer for its key. Returns `None` if the
    /// member is not live here.
    #[must_use]
    pub fn member_has(self, member: ReplicaId, write: Stamp) -> Option<bool> {
        if self.members.former().was_ours(&write.replica) {
            return Some(false); // Another process used this id too: the vector entry proves nothing.
        }
        let peer = self.members.get(&member).filter(|peer| peer.is_live())?;
        Some(member == write.replica || peer.reported.get(&write.replica) >= write.time)
    }

    /// Returns the ids of all replicas that this replica knows, in no order: its own, its former one, those whose writes
    /// it has seen, and its members. One id may come several times.
    pub(crate) fn known_ids(self) -> impl Iterator<Item = ReplicaId> + 'a {
        let own = [Some(self.env.id), self.members.former().id()];
        let seen = self.ledger.vector().iter().map(|(origin, _)| origin);
        own.into_iter().flatten().chain(seen).chain(self.members.iter().map(|(id, _)| *id))
    }

    /// Returns true if this replica had an id before it took a new one, because another process uses it too.
    pub(crate) fn is_former_id(self, id: &ReplicaId) -> bool {
        self.members.former().was_ours(id)
    }

    /// Returns the dot of the newest own change, as a stamp.
    #[must_use]
    pub fn last_own_stamp(self) -> Option<Stamp> {
        let last = self.ledger.last_own();
        (last > 0).then(|| Stamp::new(last, self.env.id))
    }

    /// Returns the members that are not known to have seen a dot, each with the monotonic time of its last message.
    pub(crate) fn who_lacks(self, dot: Dot) -> Vec<(ReplicaId, u64)> {
        let lacking = self.members.iter().filter(|(_, peer)| !peer.reported.covers(&dot));
        lacking.map(|(id, peer)| (*id, peer.last_heard)).collect()
    }
}
