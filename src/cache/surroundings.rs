//! What a cache has of the node that it is open on: clocks, tasks and an id.

use uuid::Uuid;

use super::TimeSource;
use super::port::Host;
use crate::hlc::Now;
use crate::item::CoreKey;
use crate::replica::{Remains, Replica};
use crate::replica_id::ReplicaId;
use crate::sync::{Arc, Mutex};

/// See the module.
pub(super) struct Surroundings {
    pub(super) node: Uuid,
    pub(super) host: Arc<dyn Host>,
    pub(super) time: Arc<dyn TimeSource>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
    id: Mutex<ReplicaId>,
}

impl Surroundings {
    pub(super) fn new(host: Arc<dyn Host>, time: Arc<dyn TimeSource>, id: ReplicaId) -> Self {
        Self { node: host.node(), time, wake: host.waker(), host, id: Mutex::new(id) }
    }

    /// Returns the id of this opening of the cache, as other nodes know it.
    pub(super) fn id(&self) -> ReplicaId {
        *self.id.lock()
    }

    /// Gives the replica a new id, since another process uses the old one. Returns what is left of it, to be dropped without the
    /// replica's lock.
    pub(super) fn renew<K: CoreKey, V>(&self, now: Now, replica: &mut Replica<K, V>) -> Option<Remains<K, V>> {
        let (uuid, seed) = self.host.entropy();
        let id = ReplicaId::from_uuid(uuid);
        let remains = replica.renew(now, id, seed)?;
        *self.id.lock() = id;
        Some(remains)
    }
}
