//! How what readers see has changed.

use std::collections::VecDeque;

use crate::counters::counters;
use crate::hlc::Stamp;
use crate::item::ItemRef;
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

/// Why a value is no longer there.
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
    /// It may have been overwritten or deleted by something that was collected meanwhile: the
    /// protocol prefers a miss to a stale value.
    Void,
    /// Its deletion was collected while this node was away: a reconcile took it out.
    Reconcile,
}

/// What happened to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A value where there was none.
    Inserted,
    /// A newer value.
    Updated,
    /// No value any more.
    Removed(RemovalCause),
}

/// A change of what readers see, already done.
#[derive(Debug)]
pub struct Change<K, V> {
    pub(crate) slot: SlotRef,
    /// What the value that is there now weighs.
    pub(crate) weight: u32,
    /// What happened.
    pub effect: Effect,
    /// The value that is gone, with its key; nothing if nobody watches. To be dropped outside of locks.
    pub before: Option<ItemRef<K, V>>,
    /// The register as it is now, without a body if the value is gone; nothing if nobody watches.
    pub after: Option<ItemRef<K, V>>,
    /// The stamp of what is there now.
    pub stamp: Stamp,
    /// The replica whose write this is.
    pub origin: ReplicaId,
    /// Whether it was done through this replica.
    pub local: bool,
}

/// Who wants to know of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Nobody: they are only counted.
    Nobody,
    /// Whoever keeps an order of places: changes carry neither keys nor values.
    Places,
    /// Somebody who wants to be told everything.
    #[default]
    Everything,
}

/// What readers see has changed: counted, and kept for whoever wants to know.
pub(crate) struct Changes<K, V> {
    queue: VecDeque<Change<K, V>>,
    pub(crate) watch: Watch,
    pub(super) removals: RemovalStats,
}

impl<K, V> Default for Changes<K, V> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), watch: Watch::default(), removals: RemovalStats::default() }
    }
}

impl<K, V> Changes<K, V> {
    /// Whether keys and values are wanted.
    pub(super) fn is_watched(&self) -> bool {
        self.watch == Watch::Everything
    }

    pub(super) fn note(&mut self, change: Change<K, V>) {
        self.removals.note(change.effect);
        if self.watch != Watch::Nobody {
            self.queue.push_back(change);
        }
    }

    pub(crate) fn next(&mut self) -> Option<Change<K, V>> {
        self.queue.pop_front()
    }
}

counters! {
    /// Values that are no longer here, by cause.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
    pub struct RemovalStats {
        /// Their time to live ended.
        expired,
        /// They were removed, here or on another node.
        explicit,
        /// A newer value took their place.
        replaced,
        /// They were evicted here, to stay within capacity.
        size,
        /// `invalidate_all`, here or on another node.
        invalidated,
        /// A miss was preferred to a value that might have been stale.
        void,
        /// Their deletion was collected while this node was away.
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
