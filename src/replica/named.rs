//! Members that others name and that have not spoken to us: a newcomer holds back collection for them as well.
//!
//! A member that is unreachable and not yet forgotten may hold writes that no one else has. Everyone who met it keeps
//! tombstones until it has seen them. A newcomer never hears it, and would collect: its floor would rise past those writes,
//! and void them on all replicas once they come. So each digest names the sender's members, and the receiver keeps those
//! it does not know as *unmet* peers. An unmet peer counts for stability only. It becomes a member when its own digest
//! comes, and goes when `forget_after` is over, or when no replica that met it names it any more.

use std::collections::{BTreeMap, BTreeSet};

use super::message::Named;
use super::peers::Peer;
use super::{CoreKey, Replica};
use crate::hlc::{Now, nanos};
use crate::replica_id::ReplicaId;

/// Unmet peers kept at most: a liar could name ids without end.
const MAX_UNMET: usize = 1_024;
/// Forgotten members remembered at most.
const MAX_FORGOTTEN: usize = 4_096;
/// Nanoseconds in the unit of [`Named::dead_for`].
const MILLI: u64 = 1_000_000;

/// Members that were forgotten here, and when by monotonic time. Members that have not heard of it yet name them still.
#[derive(Debug, Default)]
pub(super) struct Forgotten(BTreeMap<ReplicaId, u64>);

impl Forgotten {
    pub(super) fn note(&mut self, id: ReplicaId, now: Now) {
        if self.0.len() >= MAX_FORGOTTEN
            && let Some(oldest) = self.0.iter().min_by_key(|(_, at)| **at).map(|(id, _)| *id)
        {
            self.0.remove(&oldest);
        }
        self.0.insert(id, now.mono);
    }

    pub(super) fn contains(&self, id: &ReplicaId) -> bool {
        self.0.contains_key(id)
    }

    /// A member that was forgotten by mistake has spoken.
    pub(super) fn remove(&mut self, id: &ReplicaId) {
        self.0.remove(id);
    }

    fn expire(&mut self, now: Now, after: u64) {
        self.0.retain(|_, at| now.mono.saturating_sub(*at) < after);
    }
}

/// The replicas that name an unmet peer, and whether they met it.
pub(super) type Namers = BTreeMap<ReplicaId, bool>;

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

    /// Peers that others name and that have not spoken to us.
    #[must_use]
    pub fn unmet_len(&self) -> usize {
        self.peers.values().filter(|peer| peer.unmet.is_some()).count()
    }
}
