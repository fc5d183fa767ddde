//! A value with its stamp and its deadline.

use std::time::Duration;

use super::TimeSource;
use crate::hlc::{HlcTime, Stamp};
use crate::replica_id::ReplicaId;
use crate::sync::Arc;

/// A value with its stamp, its age and its remaining time, from [`Cache::entry`](super::Cache::entry).
///
/// The look-up takes the replica's lock for a moment, because the value and its stamp have to belong together. So it
/// waits for a write or merge that is being applied, and holds up the next one. Code that needs the value alone calls
/// [`get`](super::Cache::get), which takes no such lock.
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
    /// Returns the value.
    pub fn value(&self) -> &V {
        &self.value
    }

    /// Returns the value, and consumes the entry.
    pub fn into_value(self) -> V {
        self.value
    }

    /// Returns the stamp of the write.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns the replica that wrote the value.
    pub fn origin(&self) -> ReplicaId {
        self.stamp.replica
    }

    /// Returns the time from the write to this look-up, by this node's clock. The age of a filled value counts from a
    /// little before the start of its fill.
    pub fn age(&self) -> Duration {
        Duration::from_nanos(self.now.saturating_sub(self.stamp.time))
    }

    /// Returns true if the time to live has not ended by now. An `EntryInfo` may be kept for longer than its value
    /// lives.
    pub fn is_fresh(&self) -> bool {
        self.expires == 0 || self.expires > self.time.wall()
    }

    /// Returns the time from this look-up until the value expires; `None` if it never expires.
    pub fn expires_in(&self) -> Option<Duration> {
        (self.expires != 0).then(|| Duration::from_nanos(self.expires.saturating_sub(self.now)))
    }

    /// Returns the time at which the value expires, counted from 1970 (UTC). Its writer set it, so it is the same on
    /// every node. `None` if it never expires.
    pub fn expires_at(&self) -> Option<Duration> {
        (self.expires != 0).then(|| Duration::from_nanos(self.expires))
    }
}
