//! The node: membership and transport for any number of caches. All sockets, spawns and clock reads of the crate are
//! here. Only the debug server, `src/inspect/http.rs`, has a socket and tasks of its own; it reads no clock.
//!
//! | file | content |
//! | --- | --- |
//! | `builder`, `settings`, `address` | settings, start |
//! | `driver` | the loop between caches and mesh, on its own thread; the answer *not open* |
//! | `agenda`, `woken` | the caches that the driver visits in its next turn; the way from a write to that turn |
//! | `shortcut` | small messages that the thread of a write sends, or the mesh's thread merges, without the driver |
//! | `registry` | the caches that are open on this node |
//! | `command` | the requests of a node's handles to its driver |
//! | `crate::membership`, outside this folder | which replica is open on which process, and which processes to greet |
//! | `mesh` | everything that depends on memberlist |
//! | `spare` | runtimes for timers, and for fillers whose caller has no runtime or one that makes no progress |
//! | `inquiry`, `questions`, `report` | questions between nodes on behalf of a person, and a node's report |
//! | `history`, `usage` | the last 15 minutes of the node: samples and events; its processor time and memory |
//! | `lanes` | the choice between datagram and stream for a small push |
//! | `ready` | callers that wait for a cache to be ready, or for members |
//! | `unsent` | writes that could not be handed over before the end |
//! | `signal` | the bytes of messages between nodes about caches: "not open", and settings |
//! | `clock` | the only place that reads the wall clock and draws ids and seeds of replicas |

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

mod address;
mod agenda;
mod builder;
mod clock;
mod command;
mod driver;
mod history;
pub(crate) mod inquiry;
mod lanes;
#[doc(hidden)]
pub mod mesh;
pub(crate) mod questions;
mod ready;
mod registry;
pub(crate) mod report;
mod settings;
mod shortcut;
mod signal;
mod spare;
mod unsent;
mod usage;
mod woken;

#[cfg(feature = "inspect-http")]
pub(crate) use address::resolve;
pub use builder::{NodeBuilder, StartError};
pub use mesh::KeyError;
pub use ready::TooFewMembers;
pub use settings::{HostPort, HostPortError, NodeSettings};
pub use unsent::{Unsent, UnsentCache};

use crate::cache::{CacheBuilder, CacheKey, CacheValue};
use crate::sync::Ordering;
use command::Command;
use mesh::Mesh;
use registry::NodeHost;
pub(crate) use registry::Registry;

/// The time that the driver has, after the timeout of a wait for members, to answer it. Then the wait ends without the
/// driver.
const MEMBERS_GRACE: Duration = Duration::from_secs(1);
/// The time in which [`Node::shutdown`] hands over unsent writes and says goodbye.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// A member of a cluster. Cheap to clone; clones are the same node.
///
/// It runs until [`shutdown`](Self::shutdown) is called, or until every handle to it, to its caches, to its
/// `Inspector`s and to its debug servers is dropped. If a cache then has writes that no other member has, the node logs
/// a warning at once and goes on for up to five seconds. A process that ends in that time loses these writes. Use
/// `shutdown`, which waits and returns what was lost.
///
/// Start it after a `fork`, not before: a forked process has no thread of the node. There
/// [`is_running`](Self::is_running) is false, no cache can be opened, and calls that wait return at once. Its copies of
/// open caches stand still, and locks that were held at the fork stay locked. It also keeps the node's port open until it
/// ends or calls `exec`.
#[derive(Clone)]
pub struct Node {
    registry: Arc<Registry>,
    alive: Arc<Alive>,
    _owner: Arc<Owner>,
}

/// The token that all handles of a node share. Dropping the last handle marks the node as unowned.
struct Owner(Arc<Registry>);

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.0.is_forked() {
            self.0.mark_unowned();
        }
    }
}

/// The parts that keep the driver running. It stops when they are dropped.
pub(crate) struct Alive {
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) shortcut: Arc<shortcut::Shortcut>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) spare: Arc<spare::Spare>,
}

/// Another process of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its stable name.
    pub name: String,
    /// The address at which it is reached.
    pub addr: SocketAddr,
    /// The id of this process. A restarted process has another id.
    pub incarnation: uuid::Uuid,
}

/// The network traffic since the start, membership included.
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
    /// Received messages that were dropped because too many waited, in total or of that sender. Anti-entropy repairs
    /// the loss.
    pub dropped_in: u64,
}

impl Alive {
    /// Returns the readiness of a cache without waiting for it, or `None` if no driver answers.
    pub(crate) async fn ask_ready(&self, cache: &str) -> Option<crate::cache::Ready> {
        let (waiter, answer) = ready::Waiter::new(cache, Duration::ZERO);
        self.commands.send(Command::Ready(waiter)).ok()?;
        answer.await.ok()
    }

    /// Returns true if the task that moves messages is running.
    pub(crate) fn is_driven(&self) -> bool {
        !self.commands.is_closed()
    }
}

impl Node {
    /// Returns a builder with the default settings of a node.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// Returns the parts that inspection reads.
    pub(crate) fn parts(&self) -> (Arc<Registry>, Arc<Alive>) {
        (Arc::clone(&self.registry), Arc::clone(&self.alive))
    }

    /// Returns a builder for a cache on this node. All nodes that open this name share the cache.
    pub fn cache<K: CacheKey, V: CacheValue>(&self, name: &str) -> CacheBuilder<K, V> {
        let host = NodeHost { registry: Arc::clone(&self.registry), alive: Arc::clone(&self.alive) };
        CacheBuilder::new(Arc::new(host), name)
    }

    /// Returns true if this node takes part in its cluster. Returns false after a shutdown, if its driver died, and in a
    /// process that was forked after the start.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.registry.phase.stopped.load(Ordering::Acquire) && !self.registry.is_forked()
    }

    /// Returns the bound address, for TCP and UDP.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.alive.mesh.local_addr()
    }

    /// Returns this member's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.alive.mesh.name()
    }

    /// Returns the other live members, sorted by name.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let member =
            |peer: mesh::Peer| Member { name: peer.name.to_string(), addr: peer.addr, incarnation: peer.incarnation };
        let mut members: Vec<_> = self.alive.mesh.members().into_iter().map(member).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }

    /// Waits until at least this many other members are live, as far as this node knows. Members are processes of the
    /// cluster, whatever caches they have open; this node is not counted. Success says nothing about what has been
    /// replicated, and members may depart right after.
    ///
    /// Any executor can drive it.
    ///
    /// # Errors
    /// Fewer members are live at the timeout, or when the node is shut down. The error holds their number: zero, at once,
    /// in a process that was forked after the start.
    pub async fn wait_for_members(&self, members: usize, timeout: Duration) -> Result<(), TooFewMembers> {
        let (waiter, answer) = ready::MemberWaiter::new(members, timeout);
        let too_few = |present| Err(TooFewMembers { wanted: members, present });
        if self.registry.is_forked() || self.alive.commands.send(Command::Members(waiter)).is_err() {
            return too_few(0);
        }
        // The driver answers in time unless something holds it up, for instance a listener that blocks.
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

    /// Waits as [`wait_for_members`](Self::wait_for_members) does, for applications without a runtime: it blocks the
    /// thread.
    ///
    /// # Errors
    /// As [`wait_for_members`](Self::wait_for_members).
    pub fn wait_for_members_blocking(&self, members: usize, timeout: Duration) -> Result<(), TooFewMembers> {
        crate::sync::block_on(self.wait_for_members(members, timeout))
    }

    /// Returns the network traffic since the start.
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

    /// Declares that a member, given by name, will not return: it no longer holds back the collection of tombstones.
    /// Returns true if the name was known.
    ///
    /// A member that does return receives a reconcile. Values that only it held, of keys collected meanwhile, are lost.
    /// They are never served stale.
    pub async fn forget(&self, member: &str) -> bool {
        if self.registry.is_forked() {
            return false;
        }
        let (done, answer) = oneshot::channel();
        let asked = self.alive.commands.send(Command::Forget { member: member.to_owned(), done });
        asked.is_ok() && answer.await.unwrap_or(false)
    }

    /// Adds a key, so that messages encrypted with it are accepted. First step of a rotation: on every node.
    ///
    /// # Errors
    /// The node was started without a key.
    pub fn add_encryption_key(&self, key: [u8; 32]) -> Result<(), KeyError> {
        self.alive.mesh.add_key(key)
    }

    /// Encrypts with this key from now on. Second step of a rotation: once every node has the key.
    ///
    /// # Errors
    /// The key was not added before, or the node was started without a key.
    pub fn use_encryption_key(&self, key: [u8; 32]) -> Result<(), KeyError> {
        self.alive.mesh.use_key(key)
    }

    /// Stops accepting this key. Last step of a rotation: once every node uses the new one.
    ///
    /// # Errors
    /// The key is in use, or the node was started without a key.
    pub fn remove_encryption_key(&self, key: [u8; 32]) -> Result<(), KeyError> {
        self.alive.mesh.remove_key(key)
    }

    /// Makes the driver panic, as a bug would. Test switch.
    #[cfg(any(test, feature = "sim"))]
    #[doc(hidden)]
    pub fn kill_driver(&self) {
        let _ = self.alive.commands.send(Command::Panic);
    }

    /// Ends a task of the network, as a bug would, or with `thread` the thread that all tasks run on. Returns the names
    /// of the tasks. Test switch.
    #[cfg(any(test, feature = "sim"))]
    #[doc(hidden)]
    pub fn kill_network_task(&self, name: &str) -> Vec<&'static str> {
        self.alive.mesh.kill_task(name)
    }

    /// Stops all traffic between this node and these addresses, or in one direction only; `None` heals. Test switch.
    #[cfg(any(test, feature = "sim"))]
    #[doc(hidden)]
    pub fn sever(&self, cut: impl Into<mesh::Cut>) {
        self.alive.mesh.sever(cut);
    }

    /// Hands unsent writes to at least one member, leaves the cluster and stops, within about five seconds. Returns
    /// what it could not hand over: writes, deletes and invalidations that no other member is known to have. Caches
    /// that were closed earlier without a handover are included. A warning names each such cache as well.
    ///
    /// The five seconds are used only if something is unsent and a member may still take it. Such a member is live, was
    /// declared dead less than `forget_after` ago, or may be found at a configured seed. A node that knows no member
    /// and has no seed besides itself has no cluster: it stops at once with an empty result. If every live member
    /// reports that it does not have a cache open, the node does not wait for that cache, and returns it as unsent.
    ///
    /// Open caches stay readable and writable, by this process only: later writes are not replicated. The method may be
    /// called more than once and returns the same each time. Any executor can drive it, and it does not block the
    /// thread. In a process that was forked after the start it does nothing and returns nothing: the node is its
    /// parent's.
    pub async fn shutdown(&self) -> Unsent {
        if self.registry.is_forked() {
            return Unsent::default();
        }
        self.registry.phase.down.store(true, Ordering::Release);
        let (done, stopped) = oneshot::channel();
        if self.alive.commands.send(Command::Shutdown { deadline: SHUTDOWN_DEADLINE, done }).is_ok() {
            let _ = stopped.await;
        }
        let mesh = Arc::clone(&self.alive.mesh);
        let goodbye = async move { mesh.shutdown(SHUTDOWN_DEADLINE).await };
        match self.alive.spare.timers() {
            // The goodbye needs timers. The caller's runtime may have none, or may not be tokio's.
            Some(spare) => drop(spare.spawn(goodbye).await),
            None => goodbye.await,
        }
        self.registry.unsent()
    }

    /// Shuts down as [`shutdown`](Self::shutdown) does, for applications without a runtime: it blocks the thread.
    pub fn shutdown_blocking(&self) -> Unsent {
        crate::sync::block_on(self.shutdown())
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name()).field("addr", &self.local_addr()).finish_non_exhaustive()
    }
}
