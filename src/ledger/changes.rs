//! Changes of what readers see.

use std::collections::VecDeque;

use crate::counters::counters;
use crate::hlc::{HlcTime, Stamp};
use crate::item::ItemRef;
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

/// The reason for which a value was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum RemovalCause {
    /// Its time to live ended.
    Expired,
    /// It was removed, here or on another node.
    Explicit,
    /// A newer value took its place.
    Replaced,
    /// It was evicted here to stay within capacity. Other nodes keep theirs.
    Size,
    /// `invalidate_all`, here or on another node.
    Invalidated,
    /// It may have been overwritten or deleted by a register that was collected meanwhile. The protocol prefers a miss
    /// to a stale value.
    Void,
    /// Its deletion was collected while this node was unreachable: a reconcile removed it.
    Reconcile,
}

/// The effect of a change on one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A value was added where there was none.
    Inserted,
    /// A newer value replaced the value.
    Updated,
    /// The value was removed.
    Removed(RemovalCause),
}

/// A completed change of what readers see.
#[derive(Debug)]
pub struct Change<K, V> {
    pub(crate) slot: SlotRef,
    /// The weight of the value that is there now.
    pub(crate) weight: u32,
    /// The effect on the key.
    pub effect: Effect,
    /// The removed or replaced value with its key. `None` if there was none, or if the consumer does not watch keys and
    /// values. Must be dropped outside of locks.
    pub before: Option<ItemRef<K, V>>,
    /// The register as it is now. `None` if the value was removed, or if the consumer does not watch keys and values.
    pub after: Option<ItemRef<K, V>>,
    /// The stamp of the register that is there now, or of the removed one.
    pub stamp: Stamp,
    /// The replica that issued the register's dot.
    pub origin: ReplicaId,
    /// True if this replica issued the register's dot.
    pub local: bool,
}

/// The parts of each change that are kept for a consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Nothing is kept: changes are only counted.
    CountsOnly,
    /// Places only, for a consumer that orders places by recency: changes carry neither keys nor values.
    Places,
    /// Keys and values are kept as well.
    #[default]
    Everything,
}

/// The changes of what readers see: counted, and queued for the consumer.
pub(crate) struct Changes<K, V> {
    queue: VecDeque<Change<K, V>>,
    pub(crate) watch: Watch,
    /// The wall time of the call that makes the changes.
    pub(crate) wall: HlcTime,
    pub(super) removals: RemovalStats,
}

impl<K, V> Default for Changes<K, V> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), watch: Watch::default(), wall: 0, removals: RemovalStats::default() }
    }
}

impl<K, V> Changes<K, V> {
    /// Returns true if the consumer wants keys and values.
    pub(super) fn is_watched(&self) -> bool {
        self.watch == Watch::Everything
    }

    pub(super) fn note(&mut self, change: Change<K, V>) {
        self.removals.note(change.effect);
        if self.watch != Watch::CountsOnly {
            self.queue.push_back(change);
        }
    }

    pub(crate) fn next(&mut self) -> Option<Change<K, V>> {
        self.queue.pop_front()
    }
}

counters! {
    /// Numbers of values that were removed, by cause.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
    pub struct RemovalStats {
        /// Values whose time to live ended.
        expired,
        /// Values removed, here or on another node.
        explicit,
        /// Values replaced by a newer value.
        replaced,
        /// Values evicted here to stay within capacity.
        size,
        /// Values removed by `invalidate_all`, here or on another node.
        invalidated,
        /// Values that might have been stale: a miss was preferred.
        void,
        /// Values whose deletion was collected while this node was unreachable.
        reconcile,
    }
}

impl RemovalStats {
    pub(super) fn note(&mut self, effect: Effect) {
        match effect {
            Effect::Inserted => {}
            Effect::Updated => self.replaced += 1,
            Effect::Removed(cause) => *self.of(cause) += 1,
        }
    }

    fn of(&mut self, cause: RemovalCause) -> &mut u64 {
        match cause {
            RemovalCause::Expired => &mut self.expired,
            RemovalCause::Explicit => &mut self.explicit,
            RemovalCause::Replaced => &mut self.replaced,
            RemovalCause::Size => &mut self.size,
            RemovalCause::Invalidated => &mut self.invalidated,
            RemovalCause::Void => &mut self.void,
            RemovalCause::Reconcile => &mut self.reconcile,
        }
    }
}
