//! Origins that nobody expects to hear of again: a digest stands for them with a count and a hash.

use super::message::{Digest, Retired};
use super::peers::Peer;
use super::{CoreKey, Replica};
use crate::crdt::VersionVector;
use crate::hlc::{HlcTime, Now};
use crate::replica_id::ReplicaId;

/// SplitMix64's finaliser over the sixteen bytes of the id and the time: the same on every node and
/// in every release.
pub(super) fn mix(origin: ReplicaId, time: HlcTime) -> u64 {
    let bits = origin.as_uuid().as_u128();
    let mut hash = (bits as u64) ^ ((bits >> 64) as u64).rotate_left(32) ^ time.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

impl Retired {
    /// Stands for these origins.
    pub(super) fn of(origins: impl Iterator<Item = (ReplicaId, HlcTime)>) -> Self {
        origins.fold(Self::default(), |sum, (origin, time)| Self {
            count: sum.count + 1,
            hash: sum.hash.wrapping_add(mix(origin, time)),
        })
    }
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Whether a digest lists this origin.
    pub(super) fn is_listed(&self, origin: &ReplicaId) -> bool {
        *origin == self.id || self.peers.contains_key(origin)
    }

    /// What a digest lists of our vector, and what stands for the rest. Members and vector are both
    /// sorted and walked side by side.
    pub(super) fn split_vector(&self) -> (VersionVector, Retired) {
        let mut members = self.peers.keys().peekable();
        let (listed, rest): (Vec<_>, Vec<_>) = self.vector.iter().partition(|(origin, _)| {
            while members.next_if(|member| *member < origin).is_some() {}
            *origin == self.id || members.peek() == Some(&origin)
        });
        (listed.into_iter().collect(), Retired::of(rest.into_iter()))
    }

    /// Whether a member is known to have seen all that we have of the retired origins. A digest does not list these, and a
    /// member that its receiver cannot hear would seem to lack their writes for ever.
    pub(super) fn has_our_retired(&self, peer: &Peer) -> bool {
        let mut lacking = self.vector.beside(&peer.reported).filter(|(_, ours, theirs)| theirs < ours);
        lacking.all(|(origin, ..)| self.is_listed(&origin))
    }

    /// The sender's whole vector: what it lists, and for the rest ours if count and hash agree.
    pub(super) fn whole_vector(&self, digest: &Digest) -> Option<VersionVector> {
        if digest.full {
            return Some(digest.vector.clone());
        }
        let listed = self.vector.beside(&digest.vector);
        let unlisted = listed.filter(|(.., theirs)| *theirs == 0).map(|(origin, ours, _)| (origin, ours));
        let unlisted: VersionVector = unlisted.collect();
        if Retired::of(unlisted.iter()) != digest.retired {
            return None;
        }
        let mut whole = digest.vector.clone();
        whole.join(&unlisted);
        Some(whole)
    }

    /// Drops retired origins beyond the cap, the oldest first. What remains of their registers is
    /// given a dot of ours, and whatever could still come from them is below our floor.
    pub(super) fn cap_retired(&mut self, now: Now) {
        let mut retired: Vec<_> = self.vector.iter().filter(|(origin, _)| !self.is_listed(origin)).collect();
        if retired.len() <= self.config.max_retired || self.incoming.is_some() {
            return;
        }
        retired.sort_by_key(|(origin, time)| (*time, *origin));
        let excess = retired.len() - self.config.max_retired;
        let crowded = excess > self.config.max_retired;
        for (origin, _) in retired.into_iter().take(excess) {
            let Some(own) = self.stand_in_for(now, origin, crowded) else { continue };
            self.reissue_all_of(now, origin);
            // A late message of this origin will look unseen. That needs no floor of its own: whatever is missing here left
            // below one of the floors, or with a reconcile, whose sender's floors were taken over.
            self.vector.remove(&origin);
            self.dropped.remove(&origin);
            self.dropped.raise(self.id, own);
            self.forget_evicted_of(&origin, own);
            self.logs.remove(&origin);
            self.counters.retired_dropped += 1;
        }
    }

    /// Whoever has not seen what we dropped of an origin must get a reconcile, also when its record is gone. A
    /// time of our own says so instead, which only those must have seen who need none: the members that
    /// are here, and nobody who was forgotten. While there is no such time the record is kept; once there are
    /// twice as many as there should be, everybody gets a reconcile.
    fn stand_in_for(&mut self, now: Now, origin: ReplicaId, crowded: bool) -> Option<HlcTime> {
        let dropped = self.dropped.get(&origin);
        if dropped == 0 {
            return Some(0);
        }
        let seen = self.own_seen_by_all();
        let everybody_knows = self.peers.values().all(|peer| peer.reported.get(&origin) >= dropped);
        if everybody_knows && seen > self.absent.forgot_at && !self.peers.is_empty() {
            return Some(seen.min(self.vector.get(&self.id)));
        }
        (crowded || self.peers.is_empty()).then(|| {
            let own = self.clock.tick(now);
            self.vector.raise(self.id, own);
            own
        })
    }

    fn reissue_all_of(&mut self, now: Now, origin: ReplicaId) {
        let slots: Vec<_> = self.logs.get_mut(&origin).map(|log| log.after(0).collect()).unwrap_or_default();
        for (time, slot) in slots {
            let held = self.store.resolve(slot);
            let held = held.filter(|held| self.dot_of(&held.meta) == crate::crdt::Dot::new(origin, time));
            if let Some(held) = held {
                self.spread_again(now, &held);
            }
        }
    }

    pub(super) fn forget_empty_logs(&mut self) {
        self.logs.retain(|_, log| log.live() > 0 || log.len() > 0);
    }
}
