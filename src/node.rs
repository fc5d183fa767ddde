//! The node: membership and transport for any number of caches. The only sockets, spawns and clock
//! reads of the crate, but for those of the debug server in `src/inspect/http.rs`.
//!
//! | file | what |
//! | --- | --- |
//! | `builder`, `settings` | settings, start |
//! | `driver` | the loop between caches and mesh, on a thread of its own |
//! | `registry` | the caches that are open here |
//! | `command` | what handles of a node ask of its driver |
//! | `crate::membership`, two floors down | which replica lives on which process, and whom to greet |
//! | `mesh` | everything that is shaped by memberlist |
//! | `spare` | runtimes for fillers whose callers have none, or one that makes no progress, and for timers |
//! | `inquiry`, `questions`, `report` | what nodes ask each other for people who look, and what a node shows of itself |
//! | `lanes` | datagram or stream for a small push |
//! | `ready` | callers that wait for a cache to be ready, or for members |
//! | `unsent` | what could not be handed over before the end |
//! | `signal` | what nodes say about caches: "not open here" |
//! | `clock` | the one place where the wall clock is read, and ids and seeds of replicas are drawn |

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

mod builder;
mod clock;
mod command;
mod driver;
pub(crate) mod inquiry;
mod lanes;
#[doc(hidden)]
pub mod mesh;
pub(crate) mod questions;
mod ready;
mod registry;
pub(crate) mod report;
mod settings;
mod signal;
mod spare;
mod unsent;

pub use builder::{NodeBuilder, StartError};
pub use mesh::KeyError;
pub use ready::TooFewMembers;
pub use settings::NodeSettings;
pub use unsent::{Unsent, UnsentCache};

use crate::cache::{CacheBuilder, CacheKey, CacheValue};
use crate::sync::Ordering;
use command::Command;
use mesh::Mesh;
use registry::NodeHost;
pub(crate) use registry::Registry;

/// A driver that is held up answers a wait for members no later than this after its time.
const MEMBERS_GRACE: Duration = Duration::from_secs(1);
/// How long [`Node::shutdown`] may take to hand over unsent writes and say goodbye.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// A member of a cluster. Cheap to clone; clones are the same node.
///
/// It runs until [`shutdown`](Self::shutdown), or until the last handle to it, to its caches, and of its `Inspector`s and debug servers is
/// dropped. A node that is dropped goes on for up to five seconds while a cache has writes that no other member has, and logs a
/// warning at once, because a process that ends in that time loses them. Use `shutdown`, which waits and says what was lost.
#[derive(Clone)]
pub struct Node {
    registry: Arc<Registry>,
    alive: Arc<Alive>,
    _owner: Arc<Owner>,
}

/// What all handles of a node have in common.
struct Owner(Arc<Registry>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.disown();
    }
}

/// While this is there, so is the driver.
pub(crate) struct Alive {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) spare: Arc<spare::Spare>,
}

/// Another process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its stable name.
    pub name: String,
    /// Where it is reached.
    pub addr: SocketAddr,
    /// Which process this is: a restart has another one.
    pub incarnation: uuid::Uuid,
}

/// What went over the network since the start, membership included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes sent.
    pub bytes_out: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Stream messages sent.
    pub streams_out: u64,
    /// Stream messages received.
    pub streams_in: u64,
    /// Received messages dropped because too many waited, or too many of that sender's; anti-entropy repairs that.
    pub dropped_in: u64,
}

impl Alive {
    /// How far a cache is; nothing if nobody is there to say.
    pub(crate) async fn ask_ready(&self, cache: &str) -> Option<crate::cache::Ready> {
        let (waiter, answer) = ready::Waiter::new(cache, Duration::ZERO);
        self.commands.send(Command::Ready(waiter)).ok()?;
        answer.await.ok()
    }

    /// Whether the task that moves messages is there.
    pub(crate) fn is_driven(&self) -> bool {
        !self.commands.is_closed()
    }
}

impl Node {
    /// Settings of a node to be started.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// The parts that inspection looks at.
    pub(crate) fn parts(&self) -> (Arc<Registry>, Arc<Alive>) {
        (Arc::clone(&self.registry), Arc::clone(&self.alive))
    }

    /// Settings of a cache to be opened on this node. All nodes that open this name share it.
    pub fn cache<K: CacheKey, V: CacheValue>(&self, name: &str) -> CacheBuilder<K, V> {
        let host = NodeHost { registry: Arc::clone(&self.registry), alive: Arc::clone(&self.alive) };
        CacheBuilder::new(Arc::new(host), name)
    }

    /// Whether this node takes part in its cluster: not after a shutdown, nor if its driver died.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.registry.phase.stopped.load(Ordering::Acquire)
    }

    /// The bound address, for TCP and UDP.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.alive.mesh.local_addr()
    }

    /// This member's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.alive.mesh.name()
    }

    /// The other live members, by name.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let member =
            |peer: mesh::Peer| Member { name: peer.name.to_string(), addr: peer.addr, incarnation: peer.incarnation };
        let mut members: Vec<_> = self.alive.mesh.members().into_iter().map(member).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }

    /// Waits until at least this many other members are there: processes of the cluster that are alive as far as this node
    /// knows, this node not counted, whatever caches they have open. It says nothing about what has been replicated. Members
    /// may depart right after.
    ///
    /// Any executor can drive it.
    ///
    /// # Errors
    /// Fewer are there when the time is up, or when the node is shut down: says how many.
    pub async fn wait_for_members(&self, members: usize, timeout: Duration) -> Result<(), TooFewMembers> {
        let (waiter, answer) = ready::MemberWaiter::new(members, timeout);
        let too_few = |present| Err(TooFewMembers { wanted: members, present });
        if self.alive.commands.send(Command::Members(waiter)).is_err() {
            return too_few(0);
        }
        // The driver answers in time, unless it is held up, by a listener that blocks for instance.
        let limit = self.alive.spare.sleep(timeout.saturating_add(MEMBERS_GRACE));
        let late = async {
            match limit {
                Some(limit) => limit.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answered = answer => answered.unwrap_or_else(|_| too_few(0)),
            () = late => too_few(self.members().len()),
        }
    }

    /// As [`wait_for_members`](Self::wait_for_members), for applications without a runtime: it blocks the thread.
    ///
    /// # Errors
    /// As [`wait_for_members`](Self::wait_for_members).
    pub fn wait_for_members_blocking(&self, members: usize, timeout: Duration) -> Result<(), TooFewMembers> {
        crate::sync::block_on(self.wait_for_members(members, timeout))
    }

    /// What went over the network so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let stats = self.alive.mesh.counters();
        Traffic {
            bytes_out: stats.datagram_bytes_out + stats.stream_bytes_out,
            bytes_in: stats.datagram_bytes_in + stats.stream_bytes_in,
            datagrams_out: stats.datagrams_out,
            datagrams_in: stats.datagrams_in,
            streams_out: stats.streams_out,
            streams_in: stats.streams_in,
            dropped_in: stats.inbox_dropped,
        }
    }

    /// Says that a member, by name, will not return: it no longer holds back the collection of
    /// tombstones. Returns whether the name was known. If the member does return it gets a reconcile,
    /// and what it alone held of keys that were collected meanwhile is lost, never stale.
    pub async fn forget(&self, member: &str) -> bool {
        let (done, answer) = oneshot::channel();
        let asked = self.alive.commands.send(Command::Forget { member: member.to_owned(), done });
        asked.is_ok() && answer.await.unwrap_or(false)
    }

    /// Adds a key that others may encrypt with. First step of a rotation: on every node.
    ///
    /// # Errors
    /// The node was started without a key.
    pub fn add_encryption_key(&self, key: [u8; 32]) -> Result<(), KeyError> {
        self.alive.mesh.add_key(key)
    }

    /// Encrypts with this key from now on. Second step of a rotation: once every node has it.
    ///
    /// # Errors
    /// The key was not added before, or the node was started without a key.
    pub fn use_encryption_key(&self, key: [u8; 32]) -> Result<(), KeyError> {
        self.alive.mesh.use_key(key)
    }

    /// Accepts this key no longer. Last step of a rotation: once every node uses the new one.
    ///
    /// # Errors
    /// The key is in use, or the node was started without a key.
    pub fn remove_encryption_key(&self, key: [u8; 32]) -> Result<(), KeyError> {
        self.alive.mesh.remove_key(key)
    }

    /// Test switch: the driver dies, as by a bug.
    #[cfg(any(test, feature = "sim"))]
    #[doc(hidden)]
    pub fn kill_driver(&self) {
        let _ = self.alive.commands.send(Command::Panic);
    }

    /// Test switch: a task of the network dies, as by a bug. Gives the names of those there are; `thread` is what they
    /// run on.
    #[cfg(any(test, feature = "sim"))]
    #[doc(hidden)]
    pub fn kill_network_task(&self, name: &str) -> Vec<&'static str> {
        self.alive.mesh.kill_task(name)
    }

    /// Test switch: nothing passes between this node and these addresses; `None` heals.
    #[cfg(any(test, feature = "sim"))]
    #[doc(hidden)]
    pub fn sever(&self, from: Option<Vec<SocketAddr>>) {
        self.alive.mesh.sever(from);
    }

    /// Hands unsent writes to at least one member, leaves and stops, within about five seconds. Returns what it could not hand
    /// over: writes, deletes and invalidations that no other member is known to have, of caches that are open and of those that
    /// were closed before in vain. A warning names each such cache as well.
    ///
    /// It takes the five seconds only if something is to be handed over and a member may still take it: one that is there, one
    /// that was called dead less than `forget_after` ago, or one to be found at a configured seed. A node that knows no member
    /// and has no seed, or none but itself, has no cluster: it stops at once and returns nothing. If every live member says that it
    /// does not have a cache open, that cache is not waited for, and is returned.
    ///
    /// Open caches stay readable and writable, by this process alone: what is written then is replicated nowhere. May be called
    /// more than once, and returns the same each time. Any executor can drive it, and it blocks nothing.
    pub async fn shutdown(&self) -> Unsent {
        self.registry.phase.down.store(true, Ordering::Release);
        let (done, stopped) = oneshot::channel();
        if self.alive.commands.send(Command::Shutdown { deadline: SHUTDOWN_DEADLINE, done }).is_ok() {
            let _ = stopped.await;
        }
        let mesh = Arc::clone(&self.alive.mesh);
        let goodbye = async move { mesh.shutdown(SHUTDOWN_DEADLINE).await };
        match self.alive.spare.timers() {
            // It has timers; the caller's runtime may have none, or be none of tokio's.
            Some(spare) => drop(spare.spawn(goodbye).await),
            None => goodbye.await,
        }
        self.registry.unsent()
    }

    /// As [`shutdown`](Self::shutdown), for applications without a runtime: it blocks the thread.
    pub fn shutdown_blocking(&self) -> Unsent {
        crate::sync::block_on(self.shutdown())
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name()).field("addr", &self.local_addr()).finish_non_exhaustive()
    }
}
