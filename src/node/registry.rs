//! The caches that are open on this node.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::clock::{self, SystemClock};
use super::command::Command;
use super::history::History;
use super::questions::Inquiries;
use super::ready::Waiter;
use super::spare::Runtimes;
use super::unsent::{Ledger, Unsent};
use super::woken::Woken;
use crate::cache::TimeSource;
use crate::cache::host::{Host, NodeServices, ReadyFuture};
use crate::cache::port::{NodeEvent, Port};
use crate::counters::Counter;
use crate::hlc::nanos;
use crate::membership::next_id;
use crate::replica_id::ReplicaId;
use crate::report::{EventKind, PastEvent, WarningLog};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};

/// The names of nodes, by cache and by the replicas that are open there.
pub(crate) type NodeNames = BTreeMap<String, BTreeMap<ReplicaId, String>>;

/// The cluster of a node, for its report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) cluster: String,
    pub(crate) encrypted: bool,
}

/// The time that a cache without a handle may stay, to hand over its writes.
const LINGER: Duration = Duration::from_secs(5);

/// A reference to a cache. Dropping the last reference drops the user's values; a panic of one of them is contained.
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
        crate::garbage::drop_quietly(self.0.take());
    }
}

/// An open cache.
struct Opened {
    port: Weak<dyn Port>,
    /// The number of handles that have it open; zero while it lingers.
    handles: usize,
}

impl Opened {
    fn is(&self, port: &Arc<dyn Port>) -> bool {
        std::ptr::addr_eq(self.port.as_ptr(), Arc::as_ptr(port))
    }
}

/// The way in which a cache ends.
#[derive(Clone, Copy)]
enum Ending {
    Closed,
    ShutDown,
}

/// The phase of a node between its start and its end.
#[derive(Debug, Default)]
pub(crate) struct Phase {
    /// True once no handle of the node is left: it ends with its last cache.
    pub(crate) unowned: AtomicBool,
    /// True once no cache can be opened any more.
    pub(crate) down: AtomicBool,
    /// True if the node went down without a shutdown.
    pub(crate) died: AtomicBool,
    /// True once the driver has ended.
    pub(crate) stopped: AtomicBool,
    /// True while another process of the cluster is a live member.
    pub(crate) connected: AtomicBool,
    /// True if a seed besides this node is configured: without live members, it may lead to one.
    pub(crate) awaits_seeds: AtomicBool,
    /// True once everything that could not be handed over has been counted.
    pub(crate) settled: AtomicBool,
}

/// The state of a node's own threads and messages.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// The monotonic time of the driver's last turn.
    pub(crate) pulse: AtomicU64,
    /// Panics of users' types while messages were handled.
    pub(crate) contained_panics: Counter,
    /// Messages that are not for this node: of a newer release, of a cache that is not open here, of a process that has
    /// left.
    pub(crate) ignored: Counter,
    /// The warnings about the node itself.
    pub(crate) warnings: Mutex<WarningLog>,
}

/// The ids of the replicas that are opened here.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// For drills: the id of the first replica, used before any id is generated.
    first: Option<Uuid>,
    /// The id that was issued last.
    last: Option<Uuid>,
}

/// The open caches and the state of a node, shared by its handles, its caches and its driver.
pub(crate) struct Registry {
    pub(crate) incarnation: Uuid,
    /// The number of the process that started the node.
    process: u32,
    pub(crate) clock: Arc<SystemClock>,
    ids: Mutex<Ids>,
    pub(crate) phase: Phase,
    pub(crate) health: Health,
    pub(crate) wake: Arc<Notify>,
    /// The caches that wait for a visit of the driver.
    pub(crate) woken: Arc<Woken>,
    ports: Mutex<BTreeMap<String, Opened>>,
    /// Caches without a handle that have unsent writes, each with the monotonic time up to which it is kept.
    lingering: Mutex<Vec<(Held, u64)>>,
    /// Caches opened since the driver's last turn.
    opened: Mutex<Vec<String>>,
    /// The writes that could not be handed over.
    unsent: Mutex<Ledger>,
    pub(crate) inquiries: Inquiries,
    identity: Identity,
    node_names: Mutex<Arc<NodeNames>>,
    /// The last 15 minutes, for operators.
    pub(crate) history: History,
}

/// Returns the cache of this name, if it is open.
fn held(ports: &BTreeMap<String, Opened>, name: &str) -> Option<Held> {
    ports.get(name).and_then(|opened| opened.port.upgrade()).map(Held::new)
}

impl Registry {
    pub(crate) fn new(incarnation: Uuid, identity: Identity, clock: SystemClock) -> Self {
        let wake = Arc::new(Notify::new());
        let driver = Arc::clone(&wake);
        Self {
            incarnation,
            process: std::process::id(),
            clock: Arc::new(clock),
            ids: Mutex::default(),
            phase: Phase::default(),
            health: Health::default(),
            wake,
            woken: Arc::new(Woken::new(Box::new(move || driver.notify_one()))),
            ports: Mutex::new(BTreeMap::new()),
            lingering: Mutex::new(Vec::new()),
            opened: Mutex::default(),
            unsent: Mutex::default(),
            inquiries: Inquiries::default(),
            identity,
            node_names: Mutex::default(),
            history: History::default(),
        }
    }

    /// Returns true if this process was forked from the one that started the node. Its copy of the node has no threads,
    /// so nothing would answer, and a lock that one of them held stays locked.
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Sets the id of the first replica that is opened here, for drills.
    pub(crate) fn set_first_id(&self, id: Option<Uuid>) {
        self.ids.lock().first = id;
    }

    /// Returns the open caches, sorted by name.
    pub(crate) fn ports(&self) -> Vec<Held> {
        let mut ports = self.ports.lock();
        ports.retain(|_, opened| opened.port.strong_count() > 0);
        ports.values().filter_map(|opened| opened.port.upgrade()).map(Held::new).collect()
    }

    /// Reports to a new cache what the node knows of members.
    fn introduce(&self, port: &Arc<dyn Port>) {
        let connected = self.phase.connected.load(Ordering::Acquire);
        let expects = connected || self.phase.awaits_seeds.load(Ordering::Acquire);
        port.handle_event(NodeEvent::Connected(connected));
        port.handle_event(NodeEvent::AwaitsPeers(expects));
        port.handle_event(NodeEvent::ExpectsMembers(expects));
    }

    /// Lets a cache linger after its last handle was dropped: until a member has its writes, for [`LINGER`] at most. If
    /// all writes are handed over, or no member may take them, the cache ends at once.
    fn linger(&self, port: &Arc<dyn Port>) {
        // The end of the node has already counted the unsent writes of all caches, this one included.
        if self.phase.settled.load(Ordering::Acquire) {
            return;
        }
        if !port.has_unsent() {
            return self.note_lost(port, Ending::Closed);
        }
        let until = self.clock.now().mono.saturating_add(nanos(LINGER));
        let mut lingering = self.lingering.lock();
        if !lingering.iter().any(|(held, _)| Arc::ptr_eq(held, port)) {
            lingering.push((Held::new(Arc::clone(port)), until));
        }
        drop(lingering);
        self.wake.notify_one();
        if self.phase.unowned.load(Ordering::Acquire) {
            self.warn_of_the_end();
        }
        if self.phase.stopped.load(Ordering::Acquire) {
            // The driver, which would close it, has ended.
            self.close_lingering(u64::MAX);
        }
    }

    /// Marks the node as unowned, because its last handle is dropped.
    pub(super) fn mark_unowned(&self) {
        self.phase.unowned.store(true, Ordering::Release);
        if !self.lingering.lock().is_empty() {
            self.warn_of_the_end();
        }
    }

    fn warn_of_the_end(&self) {
        let caches: Vec<_> = self.lingering.lock().iter().map(|(port, _)| port.name().to_string()).collect();
        tracing::warn!(
            ?caches,
            "the last handle of the node was dropped with writes that no other member has yet: call shutdown first"
        );
    }

    /// Closes caches without a handle that have handed over their writes, or whose time is up.
    pub(crate) fn close_lingering(&self, now: u64) {
        let go: Vec<_> = {
            // The list changes under one lock, because `lingers` treats a cache that is not in it as closed.
            let mut lingering = self.lingering.lock();
            let all = std::mem::take(&mut *lingering).into_iter();
            let (stay, go) = all.partition(|(port, until)| *until > now && port.has_unsent());
            *lingering = stay;
            go
        };
        // A cache that was opened again meanwhile stays, and loses nothing.
        for (port, _) in go.iter().filter(|(port, _)| !self.is_wanted(port)) {
            if !self.phase.settled.load(Ordering::Acquire) {
                self.note_lost(port, Ending::Closed);
            }
            self.unlist(port);
        }
    }

    /// Returns true if a cache was opened again, or lingers again.
    fn is_wanted(&self, port: &Held) -> bool {
        let open = self.ports.lock().get(&**port.name()).is_some_and(|opened| opened.is(port) && opened.handles > 0);
        open || self.lingers(port)
    }

    fn lingers(&self, port: &Arc<dyn Port>) -> bool {
        self.lingering.lock().iter().any(|(held, _)| Arc::ptr_eq(held, port))
    }

    /// Records the writes that no member has, at the end of the node.
    pub(crate) fn note_unsent(&self) {
        self.close_lingering(u64::MAX);
        let ports = self.ports();
        if !self.phase.settled.swap(true, Ordering::AcqRel) {
            ports.iter().for_each(|port| self.note_lost(port, Ending::ShutDown));
        }
    }

    /// Records a cache whose writes are lost, and logs a warning. A node that has met no member and looks for none has
    /// no cluster, so nothing is missing there.
    fn note_lost(&self, port: &Arc<dyn Port>, ending: Ending) {
        let in_cluster =
            self.phase.connected.load(Ordering::Acquire) || self.phase.awaits_seeds.load(Ordering::Acquire);
        let writes = if in_cluster || port.has_unsent() { port.count_unsent() } else { 0 };
        if writes == 0 {
            return;
        }
        let cache = port.name();
        match ending {
            Ending::Closed => tracing::warn!(%cache, writes, "closed with writes that no other member has"),
            Ending::ShutDown => tracing::warn!(%cache, writes, "shut down with writes that no other member has"),
        }
        self.unsent.lock().add(cache, writes);
    }

    /// Returns the writes that could not be handed over.
    pub(crate) fn unsent(&self) -> Unsent {
        self.unsent.lock().report()
    }

    /// Removes one handle of a cache. The cache lingers after the last one.
    fn close(&self, port: &Arc<dyn Port>) {
        let last = self.ports.lock().get_mut(&**port.name()).is_some_and(|opened| {
            let open = opened.is(port) && opened.handles > 0;
            opened.handles -= usize::from(open);
            open && opened.handles == 0
        });
        if last {
            self.linger(port);
        }
        self.unlist(port);
    }

    /// Removes a cache that no handle has open and that does not linger. Opening the name again then creates a new
    /// cache, even while the driver still holds a reference to this one.
    fn unlist(&self, port: &Arc<dyn Port>) {
        let mut ports = self.ports.lock();
        if !self.lingers(port) && ports.get(&**port.name()).is_some_and(|opened| opened.handles == 0 && opened.is(port))
        {
            ports.remove(&**port.name());
        }
    }

    pub(crate) fn port(&self, name: &str) -> Option<Held> {
        held(&self.ports.lock(), name)
    }

    /// Returns the cache of this name. If it is not open, returns the greatest replica that was opened here so far.
    /// Both are read under the lock under which a cache is opened and its replica gets its id.
    pub(crate) fn port_or_last(&self, name: &str) -> Result<Held, ReplicaId> {
        let ports = self.ports.lock();
        held(&ports, name).ok_or_else(|| ReplicaId::from_uuid(self.ids.lock().last.unwrap_or_default()))
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// Records a turn of the driver.
    pub(crate) fn beat(&self) {
        self.health.pulse.store(self.clock.now().mono, Ordering::Relaxed);
    }

    /// Counts a panic of a user's type that was contained, and logs it.
    pub(crate) fn note_contained_panic(&self, cache: &str) {
        if let Some(count) = self.health.contained_panics.one_to_log() {
            tracing::error!(cache, count, "a type of this cache panicked while messages were handled");
        }
    }

    /// Records an event for operators.
    pub(crate) fn note(&self, kind: EventKind, about: &str, text: impl Into<String>) {
        self.history.note(self.clock.now(), PastEvent::new(kind, about, text));
    }

    /// Publishes the names of the nodes on which replicas are open, for reports.
    pub(crate) fn publish(&self, node_names: NodeNames) {
        *self.node_names.lock() = Arc::new(node_names);
    }

    /// Returns the caches that were opened since the last call.
    pub(crate) fn take_opened(&self) -> Vec<String> {
        std::mem::take(&mut *self.opened.lock())
    }

    /// Stops replication at the end of the driver: the caches are local from now on.
    pub(crate) fn stop(&self) {
        self.note_unsent();
        self.phase.stopped.store(true, Ordering::Release);
        for port in &self.ports() {
            let outcome = catch_unwind(AssertUnwindSafe(|| port.handle_event(NodeEvent::Stopped)));
            crate::garbage::drop_quietly(outcome.err());
        }
    }

    /// Passes an event to all open caches.
    pub(crate) fn notify_caches(&self, event: NodeEvent) {
        self.ports().iter().for_each(|port| port.handle_event(event));
    }

    /// Reports to all caches that this node has peers, or that it has none.
    pub(crate) fn set_connected(&self, connected: bool) {
        self.phase.connected.store(connected, Ordering::Release);
        self.notify_caches(NodeEvent::Connected(connected));
    }
}

/// A node as its caches see it. It keeps the node running while a cache is open.
pub(crate) struct NodeHost {
    pub(crate) registry: Arc<Registry>,
    /// Keeps the driver running: the node stops when its last handle and its last cache are dropped.
    pub(crate) alive: Arc<super::Alive>,
}

impl Host for NodeHost {
    fn services(&self, cache: &str) -> NodeServices {
        let (woken, caller) = (Arc::clone(&self.registry.woken), Woken::caller(cache));
        NodeServices {
            node: self.registry.incarnation,
            node_name: Arc::from(self.alive.mesh.name()),
            time: Arc::clone(&self.registry.clock) as Arc<dyn TimeSource>,
            sender: Some(self.alive.shortcut.sender(&caller)),
            wake: Arc::new(move || woken.call(&caller)),
            tasks: Arc::new(Runtimes(Arc::clone(&self.alive.spare))),
        }
    }

    fn draw_replica(&self) -> (ReplicaId, u64) {
        let (drawn, seed) = clock::entropy();
        let mut ids = self.registry.ids.lock();
        let id = ids.first.take().unwrap_or_else(|| next_id(ids.last, drawn, self.registry.clock.wall()));
        ids.last = Some(id);
        (ReplicaId::from_uuid(id), seed)
    }

    fn names(&self, cache: &str) -> BTreeMap<ReplicaId, String> {
        let node_names = Arc::clone(&self.registry.node_names.lock());
        node_names.get(cache).cloned().unwrap_or_default()
    }

    fn open(&self, name: &str, make: &mut dyn FnMut() -> Option<Arc<dyn Port>>) -> Option<Arc<dyn Port>> {
        if self.registry.phase.down.load(Ordering::Acquire) || self.registry.is_forked() {
            return None;
        }
        let mut ports = self.registry.ports.lock();
        if let Some(opened) = ports.get_mut(name)
            && let Some(open) = opened.port.upgrade()
        {
            opened.handles += 1;
            return Some(open);
        }
        // Under the lock of `ports`, so that two callers get the same cache. `port_or_last` relies on this as well.
        let port = make()?;
        self.registry.introduce(&port);
        ports.insert(name.to_owned(), Opened { port: Arc::downgrade(&port), handles: 1 });
        drop(ports);
        self.registry.opened.lock().push(name.to_owned());
        self.registry.wake.notify_one();
        Some(port)
    }

    fn close(&self, port: &Arc<dyn Port>) {
        // A fork has only copies of caches. Nothing is handed over here, and a lock may stay locked.
        if !self.registry.is_forked() {
            self.registry.close(port);
        }
    }

    fn is_forked(&self) -> bool {
        self.registry.is_forked()
    }

    fn ready(&self, cache: &str, timeout: Duration) -> ReadyFuture {
        let (waiter, answer) = Waiter::new(cache, timeout);
        let asked = self.alive.commands.send(Command::Ready(waiter));
        Box::pin(async move { if asked.is_ok() { answer.await.ok() } else { None } })
    }
}
