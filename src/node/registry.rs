//! The caches that are open on this node.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Notify;
use uuid::Uuid;

use super::clock::{self, SystemClock};
use super::driver::Command;
use super::inquiry::Inquiries;
use super::ready::Waiter;
use crate::cache::TimeSource;
use crate::cache::port::{Host, Port, ReadyFuture, Task};
use crate::hlc::nanos;
use crate::replica_id::ReplicaId;

/// Names of nodes by cache and by the replicas that live there.
pub(crate) type Roll = BTreeMap<String, BTreeMap<ReplicaId, String>>;

/// What a node was started with, for those who look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) cluster: String,
    pub(crate) encrypted: bool,
}

/// How long a cache without a handle may stay.
const LINGER: Duration = Duration::from_secs(5);

/// A cache. Whoever lets go of it last drops users' values: if one panics then, that takes nothing down.
pub(crate) struct Held(Option<Arc<dyn Port>>);

impl Held {
    fn new(port: Arc<dyn Port>) -> Self {
        Self(Some(port))
    }
}

impl std::ops::Deref for Held {
    type Target = Arc<dyn Port>;

    fn deref(&self) -> &Arc<dyn Port> {
        self.0.as_ref().expect("until it is dropped")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        crate::cache::drop_quietly(self.0.take());
    }
}

/// An open cache.
struct Opened {
    port: Weak<dyn Port>,
    /// How many handles have it open; none while it lingers.
    handles: usize,
}

impl Opened {
    fn is(&self, port: &Arc<dyn Port>) -> bool {
        std::ptr::addr_eq(self.port.as_ptr(), Arc::as_ptr(port))
    }
}

/// Shared by the node's handles, its caches and its driver.
pub(crate) struct Registry {
    pub(crate) incarnation: Uuid,
    pub(crate) clock: Arc<SystemClock>,
    /// For drills: what is given out before ids are drawn.
    pub(super) first_replica_id: Mutex<Option<Uuid>>,
    pub(crate) wake: Arc<Notify>,
    ports: Mutex<BTreeMap<String, Opened>>,
    /// No handle of the node is left: it ends with the last cache, and none lingers.
    unowned: AtomicBool,
    /// Caches without a handle that have something to tell, and until when, by monotonic time.
    lingering: Mutex<Vec<(Held, u64)>>,
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
            first_replica_id: Mutex::new(None),
            wake: Arc::new(Notify::new()),
            ports: Mutex::new(BTreeMap::new()),
            unowned: AtomicBool::new(false),
            lingering: Mutex::new(Vec::new()),
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
    pub(crate) fn ports(&self) -> Vec<Held> {
        let mut ports = self.ports.lock();
        ports.retain(|_, opened| opened.port.strong_count() > 0);
        ports.values().filter_map(|opened| opened.port.upgrade()).map(Held::new).collect()
    }

    fn linger(&self, port: Arc<dyn Port>) {
        if self.down.load(Ordering::Acquire) || self.unowned.load(Ordering::Acquire) {
            return;
        }
        let until = self.clock.now().mono.saturating_add(nanos(LINGER));
        self.lingering.lock().push((Held::new(port), until));
        self.wake.notify_one();
        if self.stopped.load(Ordering::Acquire) || self.unowned.load(Ordering::Acquire) {
            self.close_lingering(u64::MAX); // Nobody will look again.
        }
    }

    /// The last handle of the node is gone.
    pub(super) fn disown(&self) {
        self.unowned.store(true, Ordering::Release);
        self.close_lingering(u64::MAX);
    }

    /// Closes caches without a handle that have told what they had to, or whose time is up.
    pub(crate) fn close_lingering(&self, now: u64) {
        let lingering = std::mem::take(&mut *self.lingering.lock());
        let (stay, go): (Vec<_>, _) =
            lingering.into_iter().partition(|(port, until)| *until > now && port.has_unsent());
        for (port, _) in go.iter().filter(|(port, _)| port.has_unsent()) {
            tracing::warn!(cache = %port.name(), "closed with writes that no other member has");
        }
        self.lingering.lock().extend(stay);
        go.iter().for_each(|(port, _)| self.unlist(port));
    }

    /// One handle less.
    fn close(&self, port: &Arc<dyn Port>) {
        if let Some(opened) = self.ports.lock().get_mut(&**port.name())
            && opened.is(port)
        {
            opened.handles = opened.handles.saturating_sub(1);
        }
        self.unlist(port);
    }

    /// Whoever opens a cache again that nobody has open, and that does not linger, gets another one: also while the driver
    /// still has its hands on it.
    fn unlist(&self, port: &Arc<dyn Port>) {
        let mut ports = self.ports.lock();
        let lingers = self.lingering.lock().iter().any(|(held, _)| Arc::ptr_eq(held, port));
        if !lingers && ports.get(&**port.name()).is_some_and(|opened| opened.handles == 0 && opened.is(port)) {
            ports.remove(&**port.name());
        }
    }

    pub(crate) fn port(&self, name: &str) -> Option<Held> {
        self.ports.lock().get(name).and_then(|opened| opened.port.upgrade()).map(Held::new)
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

    /// The driver ends: all caches are on their own.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        for port in &self.ports() {
            let told = catch_unwind(AssertUnwindSafe(|| port.detach()));
            crate::cache::drop_quietly(told.err());
        }
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
        let (uuid, seed) = clock::entropy();
        (self.registry.first_replica_id.lock().take().unwrap_or(uuid), seed)
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
        if let Some(opened) = ports.get_mut(name)
            && let Some(open) = opened.port.upgrade()
        {
            opened.handles += 1;
            return Some(open);
        }
        let port = make()?;
        port.set_connected(self.registry.connected.load(Ordering::Acquire));
        ports.insert(name.to_owned(), Opened { port: Arc::downgrade(&port), handles: 1 });
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
        let spare = || self.alive.spare.fills().cloned();
        let Some(runtime) = Handle::try_current().ok().or_else(spare) else { return false };
        runtime.spawn(task);
        true
    }

    fn is_sole_driver(&self) -> bool {
        Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread)
    }

    fn spawn_apart(&self, task: Task) -> bool {
        self.alive.spare.timers().map(|runtime| runtime.spawn(task)).is_some()
    }

    fn spawn_alone(&self, task: Task) -> bool {
        self.alive.spare.run_alone(task)
    }

    fn linger(&self, port: Arc<dyn Port>) {
        self.registry.linger(port);
    }

    fn close(&self, port: &Arc<dyn Port>) {
        self.registry.close(port);
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
