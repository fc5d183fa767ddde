//! Where a cache and its node meet: bytes in, bytes out, time passing. Knows no socket.

use std::any::Any;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::TimeSource;
use super::inspect::Inspect;
use super::ready::Ready;
use crate::replica::CaughtUp;
use crate::replica_id::ReplicaId;
use crate::sync::Arc;

mod incoming;
mod outgoing;
mod serve;

/// Resolves when a cache is ready; to nothing if the node was shut down.
pub type ReadyFuture = Pin<Box<dyn Future<Output = Option<Ready>> + Send>>;

/// Work that runs by itself, or a timer.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a cache needs of the node it is opened on.
pub trait Host: Send + Sync {
    /// This process, as it is known to others.
    fn node(&self) -> Uuid;
    /// This node's name, and the names of nodes by the replicas of a cache that live there.
    fn node_name(&self) -> String;
    /// See [`node_name`](Self::node_name). May be half a second old.
    fn names(&self, cache: &str) -> BTreeMap<ReplicaId, String>;
    /// The clocks.
    fn time(&self) -> Arc<dyn TimeSource>;
    /// A fresh UUID and a seed.
    fn entropy(&self) -> (Uuid, u64);
    /// Called after a write when there is somebody to send it to.
    fn waker(&self) -> Arc<dyn Fn() + Send + Sync>;
    /// The cache of this name, made now if it is not open; [`close`](Self::close) is owed for it. `None` if the node was shut down.
    fn open(&self, name: &str, make: &mut dyn FnMut() -> Option<Arc<dyn Port>>) -> Option<Arc<dyn Port>>;
    /// Waits until a cache is ready.
    fn ready(&self, cache: &str, timeout: Duration) -> ReadyFuture;
    /// Runs a task to its end: in the runtime of the caller, or else in one of its own. `false` if
    /// there is none; the task is dropped then.
    fn spawn(&self, task: Task) -> bool;
    /// Whether this thread alone drives the runtime it is in: no task there makes progress while it is blocked.
    fn is_sole_driver(&self) -> bool;
    /// Runs a task that must go on whatever becomes of the caller's runtime, and that never blocks its thread. `false` if that
    /// cannot be.
    fn spawn_apart(&self, task: Task) -> bool;
    /// Runs a task on a thread of its own, unless there are many such. `false` if there can be none; the task is dropped then.
    fn spawn_alone(&self, task: Task) -> bool;
    /// A handle that [`open`](Self::open) was asked for is gone. With the last one the cache is closed, once a member has what was
    /// written there, or after some seconds.
    fn close(&self, port: &Arc<dyn Port>);
    /// Resolves after this time, in whatever runtime it is polled.
    fn sleep(&self, duration: Duration) -> Task;
}

/// Encoded bytes and their receivers.
#[derive(Debug)]
pub struct Parcel {
    /// Who gets them.
    pub to: Vec<ReplicaId>,
    /// The message.
    pub bytes: Bytes,
    /// [`Port::sent`] is to be called for each receiver.
    pub bulk: bool,
}

/// What a cache holds and whom it knows.
#[derive(Clone, Debug)]
pub struct CacheStatus {
    /// The first member whose whole state it has had.
    pub caught_up: Option<CaughtUp>,
    /// Members known to have it open, live or not yet forgotten.
    pub members: Vec<ReplicaId>,
    /// Those of them that are believed to be alive.
    pub live: Vec<ReplicaId>,
    /// Values here.
    pub entries: u64,
}

/// An open cache, as its node sees it.
pub trait Port: Any + Inspect + Send + Sync {
    /// The cache's name.
    fn name(&self) -> &Arc<str>;
    /// This opening of it.
    fn id(&self) -> ReplicaId;
    /// For the typed handle.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// A message for this cache came. Returns whether it was understood.
    fn deliver(&self, bytes: Bytes) -> bool;
    /// The next parcel to send.
    fn poll(&self) -> Option<Parcel>;
    /// A bulk parcel has left, or could not be sent.
    fn sent(&self, to: ReplicaId, ok: bool);
    /// Lets time pass; returns the monotonic time of the next call. That is now if there is something to [`poll`](Self::poll).
    fn tick(&self) -> u64;
    /// A digest for whoever has just appeared.
    fn greeting(&self) -> Option<Bytes>;
    /// The failure detector calls a member dead.
    fn member_down(&self, id: ReplicaId);
    /// A member will not return.
    fn member_left(&self, id: ReplicaId);
    /// Whether this node has peers at all: without, writes wake nobody.
    fn set_connected(&self, connected: bool);
    /// The node is down: there is nobody any more, and nobody lets time pass but who writes.
    fn detach(&self);
    /// Whether there are others who may have this cache open and were not heard yet.
    fn await_company(&self, awaits: bool);
    /// Whether members may be there that this cache has not met: callers that wait for members wait for them too.
    fn expect_members(&self, expects: bool);
    /// As last said by [`expect_members`](Self::expect_members).
    fn expects_members(&self) -> bool;
    /// Whether no member has some own write, and one may still take it.
    fn has_unsent(&self) -> bool;
    /// How many own writes no member is known to have, those of the last call left out.
    fn count_unsent(&self) -> u64;
    /// Returns what this cache holds and whom it knows, for its node.
    fn status(&self) -> CacheStatus;
}
