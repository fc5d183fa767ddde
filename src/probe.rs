//! Access to a replica for a model checker, beyond what the driver of a replica has: its registers, and eviction
//! without a capacity. Also its stills, which a node and the simulator exchange for all caches of a process together.

use crate::crdt::Marker;
use crate::hlc::Now;
use crate::item::Key;
use crate::message::Still;
use crate::replica::{CoreKey, Replica, stills};
use crate::replica_id::ReplicaId;
use crate::store::Position;

/// One register of a replica.
#[derive(Clone, Debug)]
pub struct Register<K, V> {
    /// The key, if it is of this cache's type.
    pub key: Option<K>,
    /// Stamp, kind and dot.
    pub marker: Marker,
    /// The value, if there is one.
    pub value: Option<V>,
    /// True if a reader would get the value. Its time to live is not checked.
    pub served: bool,
}

/// Returns all registers of a replica, in the order of its table.
pub fn registers<K: CoreKey, V: Clone>(replica: &Replica<K, V>) -> Vec<Register<K, V>> {
    let mut all = Vec::new();
    let mut next = Some(Position::default());
    while let Some(from) = next {
        let (page, after) = replica.view().store().page(from, 1_024);
        all.extend(page.into_iter().map(|held| {
            let marker = replica.view().marker_at(&held.meta);
            Register {
                key: held.item.key.known().cloned(),
                marker,
                value: held.item.value().cloned(),
                served: marker.kind.is_live() && marker.stamp.time > replica.view().epoch(),
            }
        }));
        next = after;
    }
    all
}

/// Evicts the value of a key, as a cache above its capacity would. Returns true if there was a value.
pub fn evict<K: CoreKey, V>(replica: &mut Replica<K, V>, now: Now, hash: u64, key: &Key<K>) -> bool {
    let held = replica.view().find_key(hash, key).filter(|held| held.meta.kind.is_live());
    held.is_some_and(|held| {
        replica.evict(now, held.slot);
        true
    })
}

/// Returns a still to a member, if the last digest to it still holds.
pub fn still<K: CoreKey, V>(replica: &mut Replica<K, V>, now: Now, to: ReplicaId) -> Option<Still> {
    let since = stills::state(replica, now, &[to]).pop().flatten()?;
    Some(Still { since, wall: now.wall })
}

/// Handles a still of a member. Returns false if it has no effect.
pub fn handle_still<K: CoreKey, V>(replica: &mut Replica<K, V>, now: Now, from: ReplicaId, still: Still) -> bool {
    stills::handle(replica, now, from, still)
}

/// Records that a member has accepted a still that repeats the digest with the clock `since`.
pub fn note_still_accepted<K: CoreKey, V>(replica: &mut Replica<K, V>, now: Now, by: ReplicaId, since: u64) {
    stills::note_accepted(replica, now, by, since);
}
