//! The interface of a node to the caches that are open on it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use uuid::Uuid;

use super::TimeSource;
use super::port::Port;
use super::ready::Ready;
use crate::replica_id::ReplicaId;
use crate::sync::Arc;

/// A future that resolves when a cache is ready, or to `None` if the node was shut down.
pub type ReadyFuture = Pin<Box<dyn Future<Output = Option<Ready>> + Send>>;

/// A future for an executor: a task, or a timer.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The registry of a node: the caches that are open on it, and the nodes on which their replicas live.
pub trait Host: Send + Sync {
    /// Returns the services that the node provides to the cache of this name from its opening to its end.
    fn services(&self, cache: &str) -> NodeServices;
    /// Draws the id of a replica that is opened or renewed here, and the seed of its random choices.
    fn draw_replica(&self) -> (ReplicaId, u64);
    /// Returns, for each known replica of a cache, the name of its node. The names may be half a second old.
    fn names(&self, cache: &str) -> BTreeMap<ReplicaId, String>;
    /// Returns the cache of this name; makes it with `make` if it is not open. The caller must [`close`](Self::close)
    /// the returned handle. Returns `None` if the node was shut down, or if `make` returns `None`.
    fn open(&self, name: &str, make: &mut dyn FnMut() -> Option<Arc<dyn Port>>) -> Option<Arc<dyn Port>>;
    /// Takes back a handle that [`open`](Self::open) returned. After the last handle, the cache is closed as soon as a
    /// member has the writes that were made here, or after five seconds.
    fn close(&self, port: &Arc<dyn Port>);
    /// Returns true if this process was forked from the one in which the node runs: no thread of the node is here, and a
    /// lock that one of them held stays locked.
    fn is_forked(&self) -> bool;
    /// Waits until a cache is ready.
    fn ready(&self, cache: &str, timeout: Duration) -> ReadyFuture;
}

/// The services of a node, which stay the same while a cache is open.
pub struct NodeServices {
    /// The id of this process, as other nodes know it.
    pub node: Uuid,
    /// This node's name.
    pub node_name: Arc<str>,
    /// The clocks.
    pub time: Arc<dyn TimeSource>,
    /// The function to call after a write when there is a member to send it to.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// The sender for the thread of a write; `None` if only the driver sends.
    pub sender: Option<Arc<dyn Sender>>,
    /// The runtimes of fillers and of timers.
    pub tasks: Arc<dyn Executor>,
}

/// A sender of small messages that any thread may call.
pub trait Sender: Send + Sync {
    /// Sends what a cache has to send, without waiting and without a lock held. Returns false if the driver must visit
    /// the cache: something is left to send, or a timer is due before the driver's next visit.
    fn send(&self, port: &dyn Port) -> bool;
}

/// The runtimes in which the fillers and the time limits of a cache run.
pub trait Executor: Send + Sync {
    /// Runs a task to its end. Returns false if there is no such runtime; the task is then dropped.
    fn spawn(&self, runtime: TaskRuntime, task: Task) -> bool;
    /// Returns true if this thread alone drives the runtime it is in. No task of that runtime makes progress while the
    /// thread is blocked.
    fn is_sole_driver(&self) -> bool;
    /// Returns a timer that resolves after this time, in whatever runtime it is polled. If the runtime of timers could
    /// not be started, the timer resolves at once.
    fn sleep(&self, duration: Duration) -> Task;
}

/// The runtime of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskRuntime {
    /// The caller's runtime. If the caller has none, the runtime of fillers.
    Caller,
    /// The runtime of timers, which continues even if the caller's runtime stops. The task must never block its thread.
    Timers,
    /// A new runtime with a thread of its own. If there are too many such threads, the runtime of fillers.
    Own,
}
