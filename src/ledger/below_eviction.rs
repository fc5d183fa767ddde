//! The eviction floor, and the registers that are in doubt below it.
//!
//! A stable value that is evicted leaves nothing: the replica forgets even its key. An older register can still arrive
//! for that key under another dot. For instance, a replica adopts registers of an interrupted session, or registers of
//! a retired origin get new dots. Such a register must not be served here, because the evicted value may have been
//! newer. Nor must it be voided for all replicas. For most keys that arrive, no value was evicted at all. For the
//! remaining keys, the arriving register usually *is* the evicted value.
//!
//! So the highest stamp that was evicted without a trace is kept apart from the gc floor, as the **eviction floor**. A
//! value that arrives at or below it, for a key that holds nothing, becomes an `Evicted` tombstone **in doubt**. That
//! is a miss on this replica and decides nothing for other replicas. A register in doubt
//!
//! - passes the doubt on to a register at or below the eviction floor that replaces it, because the evicted value may
//!   be newer than both;
//! - is not listed in a reconcile. To list it would state "the newest write that I know", and would vouch for the
//!   receiver's copy, which this replica cannot judge. The sender reports the dot of the register as dropped and as
//!   evicted instead;
//! - is collected like any tombstone.
//!
//! A replica that takes a reconcile also claims the dots that its sender has evicted. So the sender reports, per
//! origin, up to which dot it has evicted without a trace. A receiver that has seen all these dots holds the evicted
//! values, or newer ones, or has lost them for a reason of its own. It can ignore the sender's evictions. It keeps the
//! registers that are missing from the reconcile only because the sender has evicted them. Any other receiver takes
//! over the eviction floor, and drops the registers that the sender does not list.

use std::collections::BTreeSet;

use crate::crdt::{Dot, VersionVector};
use crate::hlc::{HlcTime, Stamp};
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

/// The highest number of origins whose evictions are recorded separately. If there are more, a retired origin loses its
/// entry when its record is dropped: see `BelowEviction::forget_evicted_of`.
const MAX_ORIGINS: usize = 256;

/// The eviction floor and the registers in doubt below it.
#[derive(Debug, Default)]
pub(super) struct BelowEviction {
    floor: Option<Stamp>,
    /// Per origin, the last dot that was evicted without a trace.
    evicted: VersionVector,
    in_doubt: BTreeSet<SlotRef>,
}

impl BelowEviction {
    pub(super) fn floor(&self) -> Stamp {
        self.floor.unwrap_or(Stamp::ZERO)
    }

    /// Returns, per origin, the last dot that was evicted without a trace, here or on a replica whose state was taken
    /// over.
    pub(super) fn evicted(&self) -> &VersionVector {
        &self.evicted
    }

    fn raise(&mut self, to: Stamp) {
        self.floor = self.floor.max(Some(to).filter(|to| *to > Stamp::ZERO));
    }

    /// Notes that a register is evicted without a trace.
    pub(super) fn note_evicted(&mut self, stamp: Stamp, dot: Dot) {
        self.raise(stamp);
        self.evicted.raise(dot.actor, dot.counter);
    }

    /// Takes over the eviction floor and evicted dots of a replica whose state is taken over. The places `below` hold
    /// registers without a value at or below that floor. These registers are in doubt from now on, because their keys
    /// may be in doubt at the sender. They include the voids and `Evicted` tombstones that this reconcile has left
    /// here.
    pub(super) fn take_over(&mut self, floor: Stamp, evicted: &VersionVector, below: impl Iterator<Item = SlotRef>) {
        self.evicted.join(evicted);
        self.raise(floor);
        self.in_doubt.extend(below);
    }

    /// Drops the entry of a retired origin from the evicted vector if the vector has more than `MAX_ORIGINS` entries.
    /// Raises the entry of `own`, which is this replica, to `time` in its place. A receiver that has seen this replica
    /// up to `time` has also seen what was dropped of the origin, or has received a reconcile since. `ledger/retire.rs`
    /// chooses `time` accordingly.
    pub(super) fn forget_evicted_of(&mut self, origin: &ReplicaId, (own, time): (ReplicaId, HlcTime)) {
        if self.evicted.len() > MAX_ORIGINS && self.evicted.remove(origin).is_some() {
            self.evicted.raise(own, time);
        }
    }

    /// Notes that the register in this place is replaced or removed.
    pub(super) fn forget(&mut self, slot: SlotRef) {
        if !self.in_doubt.is_empty() {
            self.in_doubt.remove(&slot);
        }
    }

    pub(super) fn is_in_doubt(&self, slot: SlotRef) -> bool {
        !self.in_doubt.is_empty() && self.in_doubt.contains(&slot)
    }

    /// Marks the register in this place, which has this stamp, as in doubt. Raises the eviction floor to the stamp, so
    /// that a register at or below the stamp is in doubt too if it replaces this one.
    pub(super) fn doubt(&mut self, slot: SlotRef, stamp: Stamp) {
        self.raise(stamp);
        self.note_doubt(slot);
    }

    /// Marks the register in this place as in doubt. The eviction floor covers its stamp already.
    pub(super) fn note_doubt(&mut self, slot: SlotRef) {
        self.in_doubt.insert(slot);
    }
}
