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

use crate::crdt::{Dot, VersionVector};
use crate::hlc::{HlcTime, Stamp};
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

/// Origins whose evictions are told apart, at most. Beyond that one own time stands for those of retired origins.
const MAX_ORIGINS: usize = 256;

/// The second floor and what lies in doubt below it.
#[derive(Debug, Default)]
pub(super) struct BelowEviction {
    floor: Option<Stamp>,
    /// By origin, the last dot that left this way.
    evicted: VersionVector,
    in_doubt: BTreeSet<SlotRef>,
}

impl BelowEviction {
    pub(super) fn floor(&self) -> Stamp {
        self.floor.unwrap_or(Stamp::ZERO)
    }

    /// By origin, the last dot that left here without a trace because it was evicted, or did so at a replica whose state was
    /// taken over.
    pub(super) fn evicted(&self) -> &VersionVector {
        &self.evicted
    }

    fn raise(&mut self, to: Stamp) {
        self.floor = self.floor.max(Some(to).filter(|to| *to > Stamp::ZERO));
    }

    /// A register is evicted without a trace.
    pub(super) fn note_evicted(&mut self, stamp: Stamp, dot: Dot) {
        self.raise(stamp);
        self.evicted.raise(dot.actor, dot.counter);
    }

    /// Takes over the floor of a replica whose state was taken over. What is held without a value below it, in these places,
    /// is in doubt from now on: it may be so at the sender, and voids and doubts of this reconcile are.
    pub(super) fn take_over(&mut self, floor: Stamp, evicted: &VersionVector, below: impl Iterator<Item = SlotRef>) {
        self.evicted.join(evicted);
        self.raise(floor);
        self.in_doubt.extend(below);
    }

    /// The record of a retired origin is dropped. Whoever has seen this time of `own` needs to know nothing of it.
    pub(super) fn forget_evicted_of(&mut self, origin: &ReplicaId, (own, time): (ReplicaId, HlcTime)) {
        if self.evicted.len() > MAX_ORIGINS && self.evicted.remove(origin).is_some() {
            self.evicted.raise(own, time);
        }
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

    /// What is in this place, with this stamp, is in doubt from now on, and so is what replaces it up to that stamp.
    pub(super) fn doubt(&mut self, slot: SlotRef, stamp: Stamp) {
        self.raise(stamp);
        self.note_doubt(slot);
    }

    pub(super) fn note_doubt(&mut self, slot: SlotRef) {
        self.in_doubt.insert(slot);
    }
}
