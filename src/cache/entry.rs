//! A value with what is known of it.

use std::time::Duration;

use super::TimeSource;
use crate::hlc::{HlcTime, Stamp};
use crate::replica_id::ReplicaId;
use crate::sync::Arc;

/// A value with what is known of it.
#[derive(Clone)]
pub struct EntryInfo<V> {
    pub(super) value: V,
    pub(super) stamp: Stamp,
    pub(super) expires: HlcTime,
    pub(super) now: HlcTime,
    pub(super) time: Arc<dyn TimeSource>,
}

impl<V: std::fmt::Debug> std::fmt::Debug for EntryInfo<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("EntryInfo");
        shown.field("value", &self.value).field("stamp", &self.stamp).field("expires_in", &self.expires_in());
        shown.finish_non_exhaustive()
    }
}

impl<V> EntryInfo<V> {
    /// The value.
    pub fn value(&self) -> &V {
        &self.value
    }

    /// The value, by value.
    pub fn into_value(self) -> V {
        self.value
    }

    /// The stamp of its write.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The replica that wrote it.
    pub fn origin(&self) -> ReplicaId {
        self.stamp.replica
    }

    /// Time from its write to this look-up, by this node's clock. A filled value counts from a little
    /// before the start of its fill.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(self.now.saturating_sub(self.stamp.time))
    }

    /// Whether its time to live has not ended since it was looked up: an `EntryInfo` may be kept.
    pub fn is_fresh(&self) -> bool {
        self.expires == 0 || self.expires > self.time.wall()
    }

    /// Time from this look-up until it expires; `None` is never.
    pub fn expires_in(&self) -> Option<Duration> {
        (self.expires != 0).then(|| Duration::from_nanos(self.expires.saturating_sub(self.now)))
    }
}
