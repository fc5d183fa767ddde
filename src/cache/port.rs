//! An open cache, as its node sees it: bytes in, bytes out, time passing. Knows no socket.

use std::any::Any;

use bytes::Bytes;

use super::inspect::Inspect;
use crate::replica::CaughtUp;
use crate::replica_id::ReplicaId;
use crate::sync::Arc;

mod incoming;
mod outgoing;
mod serve;

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

/// The number of values of a cache, and its members.
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

/// A change among the members that a node reports to an open cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// The failure detector calls a member dead.
    MemberDown(ReplicaId),
    /// A member will not return.
    MemberLeft(ReplicaId),
    /// The node has peers, or has none: without peers, writes wake no driver.
    Connected(bool),
    /// Peers may have this cache open that were not heard yet, or none may.
    AwaitsPeers(bool),
    /// Whether members may be there that this cache has not met: callers that wait for members wait for them too.
    ExpectsMembers(bool),
    /// The node is down: there is no member any more, and time passes only with writes.
    Stopped,
}

/// An open cache, as its node sees it.
pub trait Port: Any + Inspect + Send + Sync {
    /// Returns the cache's name.
    fn name(&self) -> &Arc<str>;
    /// Returns the id of this opening of it.
    fn id(&self) -> ReplicaId;
    /// Merges a message for this cache. Returns whether it was understood.
    fn deliver(&self, bytes: Bytes) -> bool;
    /// Returns the next parcel to send.
    fn poll(&self) -> Option<Parcel>;
    /// Takes note that a bulk parcel has left, or could not be sent.
    fn sent(&self, to: ReplicaId, ok: bool);
    /// Lets time pass; returns the monotonic time of the next call. That is now if there is something to [`poll`](Self::poll).
    fn tick(&self) -> u64;
    /// Returns a digest for a node that has just appeared.
    fn greeting(&self) -> Option<Bytes>;
    /// Takes note of what the node reports.
    fn handle_event(&self, event: NodeEvent);
    /// Returns what this cache holds and whom it knows, for its node.
    fn status(&self) -> CacheStatus;
    /// Returns what [`NodeEvent::ExpectsMembers`] last said. Takes no lock.
    fn expects_members(&self) -> bool;
    /// Returns whether no member has some own write, and one may still take it.
    fn has_unsent(&self) -> bool;
    /// Counts the own writes that no member is known to have, those of the last call left out.
    fn count_unsent(&self) -> u64;
}
