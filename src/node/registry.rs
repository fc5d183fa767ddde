//! The caches that are open on this node.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use uuid::Uuid;

use super::clock::{self, SystemClock};
use super::driver::Command;
use super::inquiry::Inquiries;
use super::ready::Waiter;
use crate::cache::TimeSource;
use crate::cache::port::{Host, Port, ReadyFuture, Task};
use crate::replica_id::ReplicaId;

/// Names of nodes by cache and by the replicas that live there.
pub(crate) type Roll = BTreeMap<String, BTreeMap<ReplicaId, String>>;

/// What a node was started with, for those who look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) cluster: String,
    pub(crate) encrypted: bool,
}

/// Shared by the node's handles, its caches and its driver.
pub(crate) struct Registry {
    pub(crate) incarnation: Uuid,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) wake: Arc<Notify>,
    ports: Mutex<BTreeMap<String, Weak<dyn Port>>>,
    /// Caches opened since the driver last looked.
    opened: AtomicBool,
    /// No cache is opened any more.
    pub(crate) down: AtomicBool,
    /// The node went down although nobody shut it down.
    pub(crate) died: AtomicBool,
    /// The driver has ended.
    pub(crate) stopped: AtomicBool,
    connected: AtomicBool,
    /// When the driver last went round, by monotonic time.
    pub(crate) pulse: AtomicU64,
    pub(crate) seeds_unreachable: AtomicBool,
    /// Panics of users' types on the driver's thread.
    pub(crate) contained_panics: AtomicU64,
    /// Messages that are not for us: of a newer release, of a cache that is not open here, of a process that has left.
    pub(crate) ignored: AtomicU64,
    pub(crate) inquiries: Inquiries,
    facts: Facts,
    roll: Mutex<Arc<Roll>>,
}

impl Registry {
    pub(crate) fn new(incarnation: Uuid, facts: Facts, clock: SystemClock) -> Self {
        Self {
            incarnation,
            clock: Arc::new(clock),
            wake: Arc::new(Notify::new()),
            ports: Mutex::new(BTreeMap::new()),
            opened: AtomicBool::new(false),
            down: AtomicBool::new(false),
            died: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            pulse: AtomicU64::new(0),
            seeds_unreachable: AtomicBool::new(false),
            contained_panics: AtomicU64::new(0),
            ignored: AtomicU64::new(0),
            inquiries: Inquiries::default(),
            facts,
            roll: Mutex::default(),
        }
    }

    /// The open caches, by name.
    pub(crate) fn ports(&self) -> Vec<Arc<dyn Port>> {
        let mut ports = self.ports.lock();
        ports.retain(|_, port| port.strong_count() > 0);
        ports.values().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn port(&self, name: &str) -> Option<Arc<dyn Port>> {
        self.ports.lock().get(name).and_then(Weak::upgrade)
    }

    pub(crate) fn facts(&self) -> Facts {
        self.facts.clone()
    }

    /// The driver has gone round.
    pub(crate) fn beat(&self) {
        self.pulse.store(self.clock.now().mono, Ordering::Relaxed);
    }

    /// Makes known which replica lives where.
    pub(crate) fn publish(&self, roll: Roll) {
        *self.roll.lock() = Arc::new(roll);
    }

    /// Whether a cache was opened since the last call.
    pub(crate) fn take_opened(&self) -> bool {
        self.opened.swap(false, Ordering::AcqRel)
    }

    /// Tells all caches whether there is anybody to send to.
    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
        self.ports().iter().for_each(|port| port.set_connected(connected));
    }
}

/// What caches see of their node; keeps it running while a cache is open.
pub(crate) struct NodeHost {
    pub(crate) registry: Arc<Registry>,
    /// The node stops when the last handle and the last cache are gone.
    pub(crate) alive: Arc<super::Alive>,
}

impl Host for NodeHost {
    fn node(&self) -> Uuid {
        self.registry.incarnation
    }

    fn node_name(&self) -> String {
        self.alive.mesh.name().to_owned()
    }

    fn names(&self, cache: &str) -> BTreeMap<ReplicaId, String> {
        let roll = Arc::clone(&self.registry.roll.lock());
        roll.get(cache).cloned().unwrap_or_default()
    }

    fn time(&self) -> Arc<dyn TimeSource> {
        Arc::clone(&self.registry.clock) as Arc<dyn TimeSource>
    }

    fn entropy(&self) -> (Uuid, u64) {
        clock::entropy()
    }

    fn waker(&self) -> Arc<dyn Fn() + Send + Sync> {
        let wake = Arc::clone(&self.registry.wake);
        Arc::new(move || wake.notify_one())
    }

    fn open(&self, name: &str, make: &mut dyn FnMut() -> Option<Arc<dyn Port>>) -> Option<Arc<dyn Port>> {
        if self.registry.down.load(Ordering::Acquire) {
            return None;
        }
        let mut ports = self.registry.ports.lock();
        if let Some(open) = ports.get(name).and_then(Weak::upgrade) {
            return Some(open);
        }
        let port = make()?;
        port.set_connected(self.registry.connected.load(Ordering::Acquire));
        ports.insert(name.to_owned(), Arc::downgrade(&port));
        drop(ports);
        self.registry.opened.store(true, Ordering::Release);
        self.registry.wake.notify_one();
        Some(port)
    }

    fn ready(&self, cache: &str, timeout: Duration) -> ReadyFuture {
        let (waiter, answer) = Waiter::new(cache, timeout);
        let asked = self.alive.commands.send(Command::Ready(waiter));
        Box::pin(async move { if asked.is_ok() { answer.await.ok() } else { None } })
    }

    fn spawn(&self, task: Task) -> bool {
        let spare = || self.alive.spare.handle().cloned();
        let Some(runtime) = Handle::try_current().ok().or_else(spare) else { return false };
        runtime.spawn(task);
        true
    }

    fn sleep(&self, duration: Duration) -> Task {
        let spare = Arc::clone(&self.alive.spare);
        Box::pin(async move {
            // The timer needs its runtime until it is done. Without one the time is up at once.
            if let Some(sleep) = spare.sleep(duration) {
                sleep.await;
            }
        })
    }
}
