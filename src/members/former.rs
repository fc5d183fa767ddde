//! The id that this replica had before: another process goes by it.

use crate::hlc::Now;
use crate::replica_id::ReplicaId;

/// Who says that we have a twin is believed once in this time, nanoseconds: a liar must not keep us empty.
const RENEW_EVERY: u64 = 60_000_000_000;

/// The id we had before.
#[derive(Debug, Default)]
pub(crate) struct Former {
    /// And when we gave it up by monotonic time.
    left: Option<(ReplicaId, u64)>,
    /// That was so long ago that nobody is waited for any more.
    waited: bool,
}

impl Former {
    /// We have given up this id.
    pub(crate) fn left(id: ReplicaId, now: Now) -> Self {
        Self { left: Some((id, now.mono)), waited: false }
    }

    /// Whether this was our own id.
    pub(crate) fn was_ours(&self, id: &ReplicaId) -> bool {
        self.left.is_some_and(|(left, _)| left == *id)
    }

    /// Whether we had another id before.
    pub(crate) fn is_any(&self) -> bool {
        self.left.is_some()
    }

    /// Whether nobody is waited for any more who knows what we wrote under it.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited
    }

    /// The id that is still gone by, and of which nothing is believed yet.
    pub(crate) fn disputed(&self) -> Option<ReplicaId> {
        self.left.filter(|_| !self.waited).map(|(left, _)| left)
    }

    pub(crate) fn note_time(&mut self, now: Now) {
        self.waited = self.left.is_some_and(|(_, at)| now.mono.saturating_sub(at) >= RENEW_EVERY);
    }

    /// Whether it is long enough ago to begin anew once more.
    pub(crate) fn may_renew(&self, now: Now) -> bool {
        self.left.is_none_or(|(_, at)| now.mono.saturating_sub(at) >= RENEW_EVERY)
    }
}
