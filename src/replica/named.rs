//! Members that others name and that have not spoken to us: a newcomer holds back collection for them as well.
//!
//! A member that is unreachable and not yet forgotten may hold writes that no one else has. Everyone who met it keeps
//! tombstones until it has seen them. A newcomer never hears it, and would collect: its floor would rise past those writes,
//! and void them on all replicas once they come. So each digest names the sender's members, and the receiver keeps those
//! it does not know as *unmet* peers. An unmet peer counts for stability only. It becomes a member when its own digest
//! comes, and goes when `forget_after` is over, or when no replica that met it names it any more.

use std::collections::BTreeSet;

use super::message::Named;
use super::peers::{Namers, Peer};
use super::{CoreKey, Replica};
#[cfg(feature = "sim")]
use crate::crdt::VersionVector;
#[cfg(feature = "sim")]
use crate::hlc::HlcTime;
use crate::hlc::{Now, nanos};
use crate::replica_id::ReplicaId;

/// Unmet peers kept at most: a liar could name ids without end.
const MAX_UNMET: usize = 1_024;
/// Nanoseconds in the unit of [`Named::dead_for`].
const MILLI: u64 = 1_000_000;

impl<K: CoreKey, V> Replica<K, V> {
    /// The members as a digest names them.
    pub(super) fn named_members(&self, now: Now) -> Vec<Named> {
        if self.bugs.unreachable_unnamed {
            return Vec::new();
        }
        let named = |(id, peer): (&ReplicaId, &Peer)| Named {
            member: *id,
            // At least one: zero is alive.
            dead_for: peer.dead_since.map_or(0, |since| (now.mono.saturating_sub(since) / MILLI).max(1)),
            met: peer.unmet.is_none(),
        };
        // Hearsay of hearsay is not passed on: two newcomers would keep a member alive for each other.
        let is_known = |namers: &Namers| namers.values().any(|met| *met);
        self.peers.iter().filter(|(_, peer)| peer.unmet.as_ref().is_none_or(is_known)).map(named).collect()
    }

    /// Takes in whom a member names.
    pub(super) fn take_named(&mut self, now: Now, from: ReplicaId, named: &[Named]) {
        for Named { member, dead_for, met } in named {
            let stranger = *member != self.id && !self.was_ours(member) && !self.absent.forgotten.contains(member);
            let dead_for = dead_for.saturating_mul(MILLI);
            if stranger && dead_for < nanos(self.config.forget_after) {
                self.note_named(now, from, *member, (dead_for, *met));
            }
        }
        self.note_unnamed(now, from, named);
    }

    fn note_named(&mut self, now: Now, from: ReplicaId, member: ReplicaId, (dead_for, met): (u64, bool)) {
        let since = now.mono.saturating_sub(dead_for);
        if let Some(peer) = self.peers.get_mut(&member) {
            let Some(namers) = &mut peer.unmet else { return };
            namers.insert(from, met);
            peer.named_alive = dead_for == 0;
            if met {
                // A replica that met it knows best for how long it has been unreachable.
                peer.dead_since = peer.dead_since.max(Some(since));
            }
            return;
        }
        if self.peers.values().filter(|peer| peer.unmet.is_some()).count() < MAX_UNMET {
            let namers = Namers::from([(from, met)]);
            let peer = Peer { named_alive: dead_for == 0, ..Peer::unmet(now, since, namers) };
            self.peers.insert(member, peer);
        }
    }

    /// Forgets unmet peers that this member does not name any more, if no other that met them does.
    fn note_unnamed(&mut self, now: Now, from: ReplicaId, named: &[Named]) {
        let still: BTreeSet<_> = named.iter().map(|named| named.member).collect();
        self.forget_unnamed(now, from, |id| !still.contains(id));
    }

    /// Forgets unmet peers that only this member, which is forgotten, had named: they go with all else that it alone knew.
    pub(super) fn forget_named_by(&mut self, now: Now, from: ReplicaId) {
        self.forget_unnamed(now, from, |_| true);
    }

    fn forget_unnamed(&mut self, now: Now, from: ReplicaId, is_unnamed: impl Fn(&ReplicaId) -> bool) {
        let mut gone = Vec::new();
        for (id, peer) in &mut self.peers {
            let Some(namers) = peer.unmet.as_mut().filter(|_| is_unnamed(id)) else { continue };
            let removed = namers.remove(&from);
            let others_met = namers.values().any(|met| *met);
            if removed.is_some() && (namers.is_empty() || (removed == Some(true) && !others_met)) {
                gone.push(*id);
            }
        }
        for id in gone {
            self.handle_member_left(now, id);
        }
    }

    pub(super) fn expire_forgotten(&mut self, now: Now) {
        self.absent.forgotten.expire(now, nanos(self.config.forget_after));
    }

    /// Peers that others name and that have not spoken to us: their watermark, what they are known to have, and who names them.
    #[cfg(feature = "sim")]
    pub(crate) fn unmet(&self) -> impl Iterator<Item = (ReplicaId, HlcTime, VersionVector, &Namers)> + '_ {
        let unmet = |(id, peer)| {
            let (id, peer): (&ReplicaId, &Peer) = (id, peer);
            Some((*id, peer.watermark, peer.reported.clone(), peer.unmet.as_ref()?))
        };
        self.peers.iter().filter_map(unmet)
    }

    /// Peers that others name and that have not spoken to us.
    #[must_use]
    pub fn unmet_len(&self) -> usize {
        self.peers.values().filter(|peer| peer.unmet.is_some()).count()
    }
}
