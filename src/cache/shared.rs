//! What all handles of a cache, and the node that it is open on, have in common.

use super::counters::{BytesByKind, FillCounters, IntakeCounters};
use super::engine::Engine;
use super::listener::Listeners;
use super::{CacheSettings, TimeSource, Weigher, feed, port, readable};
use crate::recency::ReadLog;
use crate::replica_id::ReplicaId;
use crate::store::Store;
use crate::sync::{Arc, AtomicBool, AtomicU64, Event, Mutex};
use crate::wire;

/// What a cache has of the node that it is open on.
pub(crate) struct Surroundings {
    pub(crate) node: uuid::Uuid,
    pub(super) host: Arc<dyn port::Host>,
    pub(super) time: Arc<dyn TimeSource>,
    pub(super) wake: Arc<dyn Fn() + Send + Sync>,
}

/// What the node says of members, and has been told of unsent writes.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Whether there is anybody to send to: a lone writer wakes nobody.
    pub(super) connected: AtomicBool,
    /// The node is down: time passes with writes.
    pub(super) detached: AtomicBool,
    /// Members may be there that this cache has not met.
    pub(super) expecting: AtomicBool,
    /// Unsent writes that the node has taken note of.
    pub(super) unsent_counted: AtomicU64,
}

/// What is counted beside the machine.
#[derive(Default)]
pub(crate) struct Counts {
    pub(super) fills: FillCounters,
    pub(crate) intake: IntakeCounters,
    pub(super) bytes_in: BytesByKind,
    pub(super) bytes_out: BytesByKind,
    #[cfg(feature = "metrics")]
    pub(super) reported: crate::sync::AtomicU64,
}

pub(crate) struct Shared<K, V> {
    pub(crate) name: Arc<str>,
    pub(crate) around: Surroundings,
    pub(super) company: Company,
    pub(crate) counts: Counts,
    pub(super) id: Mutex<ReplicaId>,
    pub(super) store: Arc<Store<K, V>>,
    pub(super) engine: Mutex<Engine<K, V>>,
    pub(super) hasher: foldhash::fast::RandomState,
    pub(super) reads: ReadLog,
    pub(super) weigher: Option<Weigher<K, V>>,
    pub(crate) settings: CacheSettings,
    pub(super) feed: feed::Feed<K, V>,
    /// Notified when members may have got further.
    pub(super) progress: Event,
    pub(super) wire_limits: wire::Limits,
    pub(crate) listeners: Listeners<K, V>,
    pub(super) samples: readable::Samples,
}

impl<K, V> Shared<K, V> {
    /// This opening of this cache, as others know it.
    pub(super) fn id(&self) -> ReplicaId {
        *self.id.lock()
    }
}

/// What all clones of a handle have in common.
pub(crate) struct Handles(pub(super) Arc<dyn port::Port>, pub(super) Arc<dyn port::Host>);

impl Drop for Handles {
    /// The host keeps the cache for a while if no member has what was written just before.
    fn drop(&mut self) {
        self.1.close(&self.0);
    }
}
