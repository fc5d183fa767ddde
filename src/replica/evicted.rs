//! What is not known below an eviction: the second floor.
//!
//! A stable value that is evicted leaves nothing, not even the memory of its key. Something older can still arrive for that
//! key under another dot: a replica adopts what it got of a broken session, or a retired origin's registers get new
//! dots. It must not be served here, because the evicted value may have been newer. But it must not be voided either: for
//! most keys nothing was evicted at all, and for the others the arrival usually *is* the evicted value.
//!
//! So the highest stamp that left this way is kept apart from the gc floor, as the **eviction floor**. What arrives for an
//! empty place at or below it is kept as an `Evicted` tombstone that is **in doubt**: a miss here, and nothing more
//! anywhere else. A register in doubt
//!
//! - stays in doubt when something at or below the eviction floor replaces it, because the evicted value may be newer
//!   than that too;
//! - is not listed in a reconcile: "the newest I know" would vouch for the receiver's copy, and that this replica does
//!   not know. For the receiver its dot counts as dropped;
//! - is collected like any tombstone.
//!
//! A replica that takes a reconcile claims what its sender has evicted. So the sender says, by origin, up to which dot it
//! has evicted without a trace. A receiver that has seen all of that holds what was evicted, or something newer, or has
//! lost it for a reason of its own: the sender's evictions are nothing to it, and it keeps what they alone can explain.
//! Any other receiver takes the eviction floor over, and drops what the sender does not list.

use std::collections::BTreeSet;

use super::message::Last;
use super::{CoreKey, Replica};
use crate::crdt::{Cause, Dot, Kind, VersionVector};
use crate::hlc::{HlcTime, Stamp};
use crate::replica_id::ReplicaId;
use crate::store::{SlotRef, Snapshot};

/// Origins whose evictions are told apart, at most. Beyond that one own time stands for those of retired origins.
const MAX_ORIGINS: usize = 256;

/// The second floor and what lies in doubt below it.
#[derive(Debug, Default)]
pub(super) struct BelowEviction {
    pub(super) floor: Option<Stamp>,
    /// By origin, the last dot that left this way.
    evicted: VersionVector,
    in_doubt: BTreeSet<SlotRef>,
}

impl BelowEviction {
    pub(super) fn floor(&self) -> Stamp {
        self.floor.unwrap_or(Stamp::ZERO)
    }

    pub(super) fn raise(&mut self, to: Stamp) {
        self.floor = self.floor.max(Some(to).filter(|to| *to > Stamp::ZERO));
    }

    /// The register in this place is replaced or removed.
    pub(super) fn forget(&mut self, slot: SlotRef) {
        if !self.in_doubt.is_empty() {
            self.in_doubt.remove(&slot);
        }
    }

    pub(super) fn is_in_doubt(&self, slot: SlotRef) -> bool {
        !self.in_doubt.is_empty() && self.in_doubt.contains(&slot)
    }

    pub(super) fn note_doubt(&mut self, slot: SlotRef) {
        self.in_doubt.insert(slot);
    }
}

impl<K: CoreKey, V> Replica<K, V> {
    /// The highest stamp of a value that was evicted here without a trace, or by a replica whose state was taken over.
    #[must_use]
    pub fn eviction_floor(&self) -> Stamp {
        self.below_eviction.floor()
    }

    /// The highest stamp that left without a trace, for whatever reason.
    pub(super) fn highest_floor(&self) -> Stamp {
        self.floor.max(self.below_eviction.floor())
    }

    /// Raises the floor that speaks of a register which leaves without a trace.
    pub(super) fn raise_floor_for(&mut self, kind: Kind, stamp: Stamp, dot: Dot) {
        if !kind.ranks_live() || self.bugs.eviction_voids {
            self.floor = self.floor.max(stamp);
            return;
        }
        self.below_eviction.raise(stamp);
        self.below_eviction.evicted.raise(dot.actor, dot.counter);
    }

    /// By origin, the last dot that left here without a trace because it was evicted, or did so at a replica whose state was
    /// taken over.
    #[must_use]
    pub fn evicted(&self) -> &VersionVector {
        &self.below_eviction.evicted
    }

    /// Whether everything that the sender of a reconcile has evicted without a trace has been seen here.
    pub(super) fn knew_what_was_evicted(&self, last: &Last) -> bool {
        let told = last.eviction_floor == Stamp::ZERO || !last.evicted.is_empty();
        told && (self.vector.dominates(&last.evicted) || self.bugs.evictions_spared_unseen)
    }

    /// The record of a retired origin is dropped. Whoever has seen this own time needs to know nothing of it.
    pub(super) fn forget_evicted_of(&mut self, origin: &ReplicaId, own: HlcTime) {
        let evicted = &mut self.below_eviction.evicted;
        if evicted.len() > MAX_ORIGINS && evicted.remove(origin).is_some() {
            evicted.raise(self.id, own);
        }
    }

    /// Takes over the eviction floor of a replica whose state was taken over. What is held without a value below it is in
    /// doubt from now on: it may be so at the sender, and voids and doubts of this reconcile are.
    pub(super) fn take_eviction_floor(&mut self, floor: Stamp, evicted: &VersionVector) {
        if floor > Stamp::ZERO {
            self.counters.evictions_taken += 1;
        }
        self.below_eviction.evicted.join(evicted);
        self.below_eviction.raise(floor);
        for (_, slot) in self.tombstones.iter().take_while(|(time, _)| *time <= floor.time) {
            self.below_eviction.note_doubt(*slot);
        }
    }

    /// Whether what comes to this place with this stamp may be older than something evicted here.
    pub(super) fn may_be_older_than_evicted(&self, held: Option<&Snapshot<K, V>>, stamp: Stamp) -> bool {
        stamp <= self.below_eviction.floor() && held.is_none_or(|held| self.below_eviction.is_in_doubt(held.slot))
    }

    /// Whether a register is in doubt and has no value and no tombstone to spread either.
    pub(super) fn is_miss_in_doubt(&self, held: &Snapshot<K, V>) -> bool {
        held.meta.kind == Kind::Tombstone(Cause::Evicted)
            && !held.meta.retained
            && self.below_eviction.is_in_doubt(held.slot)
    }

    /// Whether a register says nothing about what is newest, so that a reconcile must not list it.
    pub(super) fn is_unlistable(&self, held: &Snapshot<K, V>) -> bool {
        self.below_eviction.is_in_doubt(held.slot)
    }
}
