//! The services of the node on which a cache is open, and the replica id of that cache.

use uuid::Uuid;

use super::TimeSource;
use super::host::{Executor, Host, NodeServices, Sender};
use super::port::Pace;
use crate::hlc::Now;
use crate::item::CoreKey;
use crate::replica::{FormerState, Replica};
use crate::replica_id::ReplicaId;
use crate::sync::{Arc, Mutex};

/// The services of the node, and the present replica id of the cache.
pub(super) struct CacheServices {
    pub(super) node: Uuid,
    pub(super) node_name: Arc<str>,
    pub(super) host: Arc<dyn Host>,
    pub(super) time: Arc<dyn TimeSource>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
    pub(super) sender: Option<Arc<dyn Sender>>,
    pub(super) pace: Pace,
    pub(super) tasks: Arc<dyn Executor>,
    id: Mutex<ReplicaId>,
}

impl CacheServices {
    pub(super) fn new(host: Arc<dyn Host>, services: NodeServices, id: ReplicaId) -> Self {
        let NodeServices { node, node_name, time, wake, sender, tasks } = services;
        Self { node, node_name, host, time, wake, sender, pace: Pace::default(), tasks, id: Mutex::new(id) }
    }

    /// Returns the id of this replica, as other nodes know it.
    pub(super) fn id(&self) -> ReplicaId {
        *self.id.lock()
    }

    /// Gives the replica a new id, because another process uses the old one. Returns the replica's former state, which
    /// the caller must drop after it has released the replica's lock.
    pub(super) fn renew<K: CoreKey, V>(&self, now: Now, replica: &mut Replica<K, V>) -> Option<FormerState<K, V>> {
        let (id, seed) = self.host.draw_replica();
        let remains = replica.renew(now, id, seed)?;
        *self.id.lock() = id;
        Some(remains)
    }
}
