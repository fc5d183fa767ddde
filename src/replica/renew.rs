//! Begins a replica anew under a fresh id, because another process uses its id.

use super::{CoreKey, Replica};
use crate::hlc::Now;
use crate::ledger::local;
use crate::members::Former;
use crate::protocol::{digests, duplicate_id};
use crate::replica_id::ReplicaId;

/// The state of a replica before it took a new id. Holds users' keys and values: drop it outside of locks.
pub(crate) struct FormerState<K, V>(#[expect(dead_code, reason = "held to be dropped later")] Box<Replica<K, V>>);

/// Replaces a replica by an empty one under the id `id`, which then writes the kept writes again. Clock and counters go
/// on. Returns the state from before.
pub(super) fn renew<K: CoreKey, V>(
    replica: &mut Replica<K, V>,
    now: Now,
    id: ReplicaId,
    seed: u64,
) -> Option<FormerState<K, V>> {
    replica.env.now = now;
    let fresh = Replica::new(id, replica.env.config.clone(), seed, now).ok()?;
    let kept = duplicate_id::writes_to_keep(&mut replica.ledger, &replica.env);
    let members: Vec<_> = replica.members.live().collect();
    // The new replica reuses the table that readers share, so it must be empty first.
    replica.ledger.erase_everything();
    let mut before = Box::new(std::mem::replace(replica, fresh));
    replica.ledger.take_over(&mut before.ledger);
    #[cfg(any(test, feature = "sim"))]
    replica.env.set_bugs(before.env.bugs());
    replica.env.clock = before.env.clock.clone();
    replica.env.opened = before.env.opened;
    std::mem::swap(&mut replica.env.counters, &mut before.env.counters);
    replica.env.counters.new_id += 1;
    // Members exist, even if none answers: until one does, nothing may be removed without a trace.
    replica.members.expect_peers(true);
    *replica.members.former_mut() = Former::left(before.env.id, now);
    tracing::error!(
        replica = %before.env.id, renewed = %id, kept = kept.len(),
        "another process uses the id of this replica, which restarts empty under a new id"
    );
    for write in kept {
        local::write_again(&mut replica.ledger, &mut replica.env, write);
    }
    let (_, mut cx) = replica.parts();
    members.into_iter().for_each(|member| digests::greet(&mut cx, member));
    Some(FormerState(before))
}
