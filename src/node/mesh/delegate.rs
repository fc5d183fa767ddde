//! memberlist's callbacks, the inbox of received messages, and the trailing byte that tells the kinds of messages
//! apart.
//!
//! The callbacks run inside memberlist's only packet task or under its table lock, so they never wait: they record the
//! event or queue the message.

use std::{
    borrow::Cow,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use memberlist::{
    delegate::{AliveDelegate, ConflictDelegate, Delegate, EventDelegate, MergeDelegate, NodeDelegate, PingDelegate},
    proto::{Meta, NodeState},
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    counters::Counters,
    incidents::{Culprit, IncidentKind, Incidents},
    refusals::Refusals,
    roster::{Peer, Roster},
    shares::{Amount, Place, Refused, Shares},
};

/// The first byte of the member metadata. Later versions may append bytes; this version reads the first 17.
const META_VERSION: u8 = 1;
const META_LEN: usize = 17;

type Node = NodeState<Arc<str>, SocketAddr>;

/// The kind of a message. It is the last byte of the message, because there it can often be appended in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Datagram = 1,
    Stream = 2,
    Goodbye = 3,
    PacketCanary = 4,
    StreamCanary = 5,
}

impl Kind {
    fn of(trailer: u8) -> Option<Self> {
        [Self::Datagram, Self::Stream, Self::Goodbye, Self::PacketCanary, Self::StreamCanary]
            .into_iter()
            .find(|k| *k as u8 == trailer)
    }

    /// Returns the kind of a sealed message, or `None` if its last byte is no kind.
    pub(super) fn of_sealed(message: &[u8]) -> Option<Self> {
        Self::of(*message.last()?)
    }

    /// Appends the kind to a message.
    pub(super) fn seal(self, bytes: Bytes) -> Bytes {
        let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| {
            let mut copy = BytesMut::with_capacity(shared.len() + 1);
            copy.extend_from_slice(&shared);
            copy
        });
        bytes.put_u8(self as u8);
        bytes.freeze()
    }
}

/// A received message that waits, and its place in the queue.
pub(super) struct Waiting {
    pub(super) bytes: Bytes,
    pub(super) reliable: bool,
    pub(super) place: Place,
}

/// A receiver of datagrams on the mesh's thread.
pub(crate) trait Receiver: Send + Sync {
    /// Handles a message. Returns false if it must be queued. Called only while no message is queued.
    fn receive(&self, message: &Bytes) -> bool;
}

/// The received messages on their way to the consumer. Bounded in number and bytes, in total and for each address.
pub(super) struct Inbox {
    pub(super) sender: mpsc::Sender<Waiting>,
    pub(super) shares: Arc<Shares>,
    pub(super) refusals: Refusals,
    pub(super) incidents: Arc<Incidents>,
}

impl DelegateState {
    /// Delivers a message: to the receiver, if it takes the message at once, or else to the inbox.
    pub(super) fn deliver(&self, from: SocketAddr, bytes: Bytes, kind: Kind) {
        // Nothing overtakes a queued message: most gaps would come of that.
        if kind == Kind::Datagram
            && self.inbox.is_empty()
            && let Some(receiver) = self.receiver.get().and_then(Weak::upgrade)
            && receiver.receive(&bytes)
        {
            return self.counters.messages_in.one();
        }
        self.inbox.push(from, bytes, kind == Kind::Stream, &self.counters);
    }
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.sender.capacity() == self.sender.max_capacity()
    }

    /// Queues a message, or drops it if the queue is full. Anti-entropy repairs the loss, while waiting here would stop
    /// the failure detector.
    pub(super) fn push(&self, from: SocketAddr, bytes: Bytes, reliable: bool, counters: &Counters) {
        let message = match self.shares.take(from, Amount::one(bytes.len())) {
            Ok(place) => Waiting { bytes, reliable, place },
            Err(refused) => {
                counters.inbox_dropped.one();
                let kind = if refused == Refused::Share {
                    counters.inbox_over_share.one();
                    self.refusals.crowd(from.ip(), "messages");
                    IncidentKind::OverShare
                } else {
                    IncidentKind::InboxFull
                };
                self.incidents.note(kind, Culprit::Host(from.ip()));
                return;
            }
        };
        // A message that has a place also fits in the channel, unless the consumer is gone.
        match self.sender.try_send(message) {
            Ok(()) => counters.messages_in.one(),
            Err(_) => counters.inbox_dropped.one(),
        }
    }
}

/// The number of canaries received on each path from this member to itself. Counted, not timed: a process that was
/// paused must not look dead when it wakes.
#[derive(Default)]
pub(super) struct Canary {
    pub(super) packets: AtomicU64,
    pub(super) streams: AtomicU64,
}

/// The state that outlives an instance and is written by its callbacks.
pub(super) struct DelegateState {
    pub(super) roster: Arc<Roster>,
    pub(super) inbox: Inbox,
    pub(super) receiver: OnceLock<Weak<dyn Receiver>>,
    pub(super) canary: Canary,
    pub(super) counters: Arc<Counters>,
    pub(super) incarnation: Uuid,
    pub(super) max_members: usize,
}

/// The delegate of one instance.
pub(super) struct MeshDelegate {
    pub(super) delegate_state: Arc<DelegateState>,
    /// The number of the instance. The roster ignores callbacks of older instances.
    pub(super) generation: u64,
}

fn encode_meta(incarnation: Uuid) -> Meta {
    let mut meta = vec![META_VERSION];
    meta.extend_from_slice(incarnation.as_bytes());
    Meta::try_from(meta).unwrap_or_default()
}

fn decode_meta(meta: &[u8]) -> Option<Uuid> {
    match meta.get(..META_LEN)?.split_first()? {
        (&META_VERSION, id) => Uuid::from_slice(id).ok(),
        _ => None,
    }
}

fn peer(node: &Node) -> Option<Peer> {
    let incarnation = decode_meta(node.meta())?;
    Some(Peer { name: node.id().clone(), addr: *node.address(), incarnation })
}

impl MeshDelegate {
    fn up(&self, node: &Node) {
        match peer(node) {
            Some(peer) => self.delegate_state.roster.up(self.generation, peer),
            None => self.delegate_state.counters.refused_members.one(),
        }
    }
}

impl NodeDelegate for MeshDelegate {
    async fn node_meta(&self, _: usize) -> Meta {
        encode_meta(self.delegate_state.incarnation)
    }

    async fn notify_message(&self, msg: Cow<'_, [u8]>) {
        let delegate_state = &self.delegate_state;
        let Some((&trailer, body)) = msg.split_last() else {
            delegate_state.counters.malformed_messages.one();
            return;
        };
        match Kind::of(trailer) {
            // User messages never come this way: `inbound` delivers them, because the sender's address is known there.
            Some(Kind::Datagram | Kind::Stream) => delegate_state.counters.malformed_messages.one(),
            Some(Kind::Goodbye) => match Uuid::from_slice(body) {
                Ok(incarnation) if incarnation != delegate_state.incarnation => {
                    delegate_state.roster.goodbye(incarnation)
                }
                _ => delegate_state.counters.malformed_messages.one(),
            },
            // Only canaries of this process count: those of another process must not hide that this path is dead.
            Some(Kind::PacketCanary) if body == delegate_state.incarnation.as_bytes() => {
                delegate_state.canary.packets.fetch_add(1, Ordering::Relaxed);
            }
            Some(Kind::StreamCanary) if body == delegate_state.incarnation.as_bytes() => {
                delegate_state.canary.streams.fetch_add(1, Ordering::Relaxed);
            }
            _ => delegate_state.counters.malformed_messages.one(),
        }
    }
}

impl EventDelegate for MeshDelegate {
    type Id = Arc<str>;
    type Address = SocketAddr;

    async fn notify_join(&self, node: Arc<Node>) {
        self.up(&node);
    }

    async fn notify_leave(&self, node: Arc<Node>) {
        self.delegate_state.roster.down(self.generation, node.id());
    }

    /// Handles changed metadata: another process uses the name.
    async fn notify_update(&self, node: Arc<Node>) {
        self.up(&node);
    }
}

/// The error for a member with foreign metadata, or for one member too many.
#[derive(Debug, thiserror::Error)]
#[error("metadata of another program or version, or of too many members")]
pub(super) struct NotOurs;

impl AliveDelegate for MeshDelegate {
    type Id = Arc<str>;
    type Address = SocketAddr;
    type Error = NotOurs;

    async fn notify_alive(&self, node: Arc<Node>) -> Result<(), NotOurs> {
        let ours = decode_meta(node.meta()).is_some();
        if ours && self.delegate_state.roster.has_room_for(node.id(), self.delegate_state.max_members) {
            return Ok(());
        }
        self.delegate_state.counters.refused_members.one();
        Err(NotOurs)
    }
}

impl ConflictDelegate for MeshDelegate {
    type Id = Arc<str>;
    type Address = SocketAddr;

    async fn notify_conflict(&self, existing: Arc<Node>, other: Arc<Node>) {
        self.delegate_state.counters.name_conflicts.one();
        let addrs = [*existing.address(), *other.address()];
        let culprit = Culprit::Name(existing.id().clone(), addrs);
        self.delegate_state.inbox.incidents.note(IncidentKind::NameTaken, culprit);
        self.delegate_state.roster.conflict(existing.id(), addrs);
    }
}

impl PingDelegate for MeshDelegate {
    type Id = Arc<str>;
    type Address = SocketAddr;

    async fn ack_payload(&self) -> Bytes {
        Bytes::new()
    }

    async fn notify_ping_complete(&self, node: Arc<Node>, _: Duration, _: Bytes) {
        self.delegate_state.roster.seen(node.id());
    }
}

impl MergeDelegate for MeshDelegate {
    type Id = Arc<str>;
    type Address = SocketAddr;
    type Error = Infallible;

    async fn notify_merge(&self, _: Arc<[Node]>) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Delegate for MeshDelegate {
    type Id = Arc<str>;
    type Address = SocketAddr;
}
