//! A node, as the caches that are open on it see it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use uuid::Uuid;

use super::TimeSource;
use super::port::Port;
use super::ready::Ready;
use crate::replica_id::ReplicaId;
use crate::sync::Arc;

/// Resolves when a cache is ready; to nothing if the node was shut down.
pub type ReadyFuture = Pin<Box<dyn Future<Output = Option<Ready>> + Send>>;

/// Work that runs on its own, or a timer.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The registry of a node: it knows which caches are open there and where their replicas live.
pub trait Host: Send + Sync {
    /// Returns what the node provides to a cache from its opening to its end.
    fn services(&self) -> NodeServices;
    /// Draws the id of a replica that is opened or renewed here, and a seed.
    fn draw_replica(&self) -> (ReplicaId, u64);
    /// Returns the names of nodes by the replicas of a cache that live there. May be half a second old.
    fn names(&self, cache: &str) -> BTreeMap<ReplicaId, String>;
    /// Returns the cache of this name, made now if it is not open; [`close`](Self::close) is owed for it. `None` if the node was
    /// shut down.
    fn open(&self, name: &str, make: &mut dyn FnMut() -> Option<Arc<dyn Port>>) -> Option<Arc<dyn Port>>;
    /// Takes back a handle that [`open`](Self::open) was asked for. With the last one the cache is closed, once a member has what
    /// was written there, or after some seconds.
    fn close(&self, port: &Arc<dyn Port>);
    /// Waits until a cache is ready.
    fn ready(&self, cache: &str, timeout: Duration) -> ReadyFuture;
}

/// The services of a node that stay the same while a cache is open.
pub struct NodeServices {
    /// The id of this process, as other nodes know it.
    pub node: Uuid,
    /// This node's name.
    pub node_name: Arc<str>,
    /// The clocks.
    pub time: Arc<dyn TimeSource>,
    /// To be called after a write when there is a member to send it to.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// The runtimes of fillers and of timers.
    pub tasks: Arc<dyn Executor>,
}

/// The runtimes in which the fillers of a cache and its time limits run.
pub trait Executor: Send + Sync {
    /// Runs a task to its end. Returns `false` if there is no such runtime; the task is dropped then.
    fn spawn(&self, runtime: TaskRuntime, task: Task) -> bool;
    /// Returns whether this thread alone drives the runtime it is in: no task there makes progress while it is blocked.
    fn is_sole_driver(&self) -> bool;
    /// Resolves after this time, in whatever runtime it is polled.
    fn sleep(&self, duration: Duration) -> Task;
}

/// The runtime of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskRuntime {
    /// The caller's; if it has none, that of fillers.
    Caller,
    /// That of timers, which goes on whatever becomes of the caller's. The task must never block its thread.
    Timers,
    /// One with a thread of its own; that of fillers while there are many such.
    Own,
}
