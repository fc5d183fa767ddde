//! The calls of a node about stills: what a replica states, and what it believes and was told of its own. A module of its
//! own, because the node and the simulator call it for all caches of a process together.

use super::{CoreKey, Replica};
use crate::hlc::{HlcTime, Now};
use crate::message::Still;
use crate::protocol::stills;
use crate::replica_id::ReplicaId;

pub(crate) use crate::protocol::stills::RECEIVERS_PER_INTERVAL;
#[cfg(any(test, feature = "sim"))]
pub(crate) use crate::protocol::stills::time_of;

/// Returns, for each of these members, the clock of the last digest to it, if a still of this moment may repeat that
/// digest.
pub(crate) fn state<K: CoreKey, V>(replica: &mut Replica<K, V>, now: Now, to: &[ReplicaId]) -> Vec<Option<HlcTime>> {
    replica.converse(now, |_, cx| stills::state(cx, to))
}

/// Returns the clock of the last digest of a member, if a still may repeat that digest here.
pub(crate) fn repeatable<K: CoreKey, V>(replica: &mut Replica<K, V>, now: Now, from: ReplicaId) -> Option<HlcTime> {
    replica.converse(now, |_, cx| stills::repeatable(cx, &from))
}

/// Handles a still of a member. Returns false if it has no effect, because the member must send a digest.
pub(crate) fn handle<K: CoreKey, V>(replica: &mut Replica<K, V>, now: Now, from: ReplicaId, still: Still) -> bool {
    replica.converse(now, |_, cx| stills::handle(cx, from, still))
}

/// Records that a member has accepted a still, so that stills take the place of digests to it.
pub(crate) fn note_accepted<K: CoreKey, V>(replica: &mut Replica<K, V>, now: Now, by: ReplicaId, since: HlcTime) {
    replica.converse(now, |_, cx| stills::note_accepted(cx.members, cx.env, &by, since));
}
