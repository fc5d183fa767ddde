//! The former id of this replica, which another process uses.

use crate::hlc::Now;
use crate::replica_id::ReplicaId;

/// The shortest time between two new ids, in nanoseconds. Reports of a duplicate id are believed once in this time, so
/// that a dishonest member cannot keep this replica empty.
const RENEW_EVERY: u64 = 60_000_000_000;

/// The former id of this replica, if it has one.
#[derive(Debug, Default)]
pub(crate) struct Former {
    /// The former id, and the monotonic time at which it was abandoned.
    left: Option<(ReplicaId, u64)>,
    /// True if that was so long ago that this replica no longer waits for members that know its former writes.
    waited: bool,
}

impl Former {
    /// Returns the record of an id that this replica abandons now.
    pub(crate) fn left(id: ReplicaId, now: Now) -> Self {
        Self { left: Some((id, now.mono)), waited: false }
    }

    /// Returns true if this is the former id of this replica.
    pub(crate) fn was_ours(&self, id: &ReplicaId) -> bool {
        self.left.is_some_and(|(left, _)| left == *id)
    }

    /// Returns the former id, if there is one.
    pub(crate) fn id(&self) -> Option<ReplicaId> {
        self.left.map(|(left, _)| left)
    }

    /// Returns true if this replica has a former id.
    pub(crate) fn is_any(&self) -> bool {
        self.left.is_some()
    }

    /// Returns true if this replica no longer waits for a member that knows what it wrote under its former id.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited
    }

    /// Returns the former id while a claim to cover its writes must not be believed. Such a claim comes from the
    /// process that still uses the id, and that process does not know what this replica wrote under it.
    pub(crate) fn unbelieved_id(&self) -> Option<ReplicaId> {
        self.left.filter(|_| !self.waited).map(|(left, _)| left)
    }

    pub(crate) fn note_time(&mut self, now: Now) {
        self.waited = self.left.is_some_and(|(_, at)| now.mono.saturating_sub(at) >= RENEW_EVERY);
    }

    /// Returns true if enough time has passed to take another new id.
    pub(crate) fn may_renew(&self, now: Now) -> bool {
        self.left.is_none_or(|(_, at)| now.mono.saturating_sub(at) >= RENEW_EVERY)
    }
}
