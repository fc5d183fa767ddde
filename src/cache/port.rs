//! The interface of an open cache to its node: bytes in, bytes out, and timers. It has no sockets.

use std::any::Any;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::inspect::Inspect;
use crate::hlc::{HlcTime, Now};
use crate::message::Still;
use crate::replica::CaughtUp;
#[cfg(feature = "node")]
pub(crate) use crate::replica::stills::RECEIVERS_PER_INTERVAL;
use crate::replica_id::ReplicaId;
use crate::sync::Arc;

mod incoming;
mod outgoing;
mod pace;
mod serve;

pub use pace::Pace;

/// An encoded message and its receivers.
#[derive(Debug)]
pub struct Parcel {
    /// The replicas that receive the message.
    pub to: Vec<ReplicaId>,
    /// The encoded message.
    pub bytes: Bytes,
    /// True if [`Port::sent`] must be called for each receiver.
    pub bulk: bool,
}

/// The members of a cache, the number of its values, and whether it has caught up.
#[derive(Clone, Debug)]
pub struct CacheStatus {
    /// The first member whose whole state this cache has received; `None` if it has not caught up with any.
    pub caught_up: Option<CaughtUp>,
    /// Members known to have the cache open: live, or dead and not yet forgotten.
    pub members: Vec<ReplicaId>,
    /// The number of values here.
    pub entries: u64,
}

/// A change among the members, which a node reports to an open cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEvent {
    /// A member that the failure detector calls dead.
    MemberDown(ReplicaId),
    /// A member that will not return.
    MemberLeft(ReplicaId),
    /// True if the node has peers. Without peers, a write does not wake the driver.
    Connected(bool),
    /// True if this cache may be open on another process, or on one that a seed leads to. While this is true and the
    /// cache has no member, it removes nothing without a trace.
    AwaitsPeers(bool),
    /// True if there may be live members that this cache has not met. Callers of
    /// [`Cache::wait_replicated`](crate::Cache::wait_replicated) then wait for these as well.
    ExpectsMembers(bool),
    /// The end of the node: there is no member any more, and only the cache's own writes handle its timers.
    Stopped,
}

/// An open cache, as its node sees it.
pub trait Port: Any + Inspect + Send + Sync {
    /// Returns the cache's name.
    fn name(&self) -> &Arc<str>;
    /// Returns the id of this replica.
    fn id(&self) -> ReplicaId;
    /// Merges a message for this cache. Returns true if the message decoded and was handled.
    fn deliver(&self, bytes: Bytes) -> bool;
    /// Returns the next parcel to send.
    fn poll(&self) -> Option<Parcel>;
    /// Records that a bulk parcel has left, or could not be sent.
    fn sent(&self, to: ReplicaId, ok: bool);
    /// Handles the timers that are due. Returns the monotonic time of the next call, which is now if there is something
    /// to [`poll`](Self::poll).
    fn tick(&self) -> u64;
    /// Returns the mean time between two digests.
    fn digest_interval(&self) -> Duration;
    /// Returns, for each of these members, the clock of the last digest to it, if a still of this moment may repeat
    /// that digest.
    fn state_stills(&self, now: Now, to: &[ReplicaId]) -> Vec<Option<HlcTime>>;
    /// Returns the clock of the last digest of a member, if a still may repeat that digest here.
    fn repeatable(&self, from: ReplicaId) -> Option<HlcTime>;
    /// Handles a still of a member. Returns false if it has no effect, because the member must send a digest.
    fn handle_still(&self, from: ReplicaId, still: Still) -> bool;
    /// Records that a member has accepted a still that repeats this digest.
    fn note_still_accepted(&self, by: ReplicaId, since: HlcTime);
    /// Returns the monotonic time at which the driver must visit this cache, without doing anything: now if there is
    /// something to [`poll`](Self::poll).
    fn next_visit(&self) -> u64;
    /// Returns the state by which the driver and other threads share the sending of this cache.
    fn pace(&self) -> &Pace;
    /// Requests a visit of the driver.
    fn request_visit(&self);
    /// Returns true if a merge may call a listener of the user, which may block.
    fn has_listener(&self) -> bool;
    /// Returns a digest for a node that has just appeared.
    fn greeting(&self) -> Option<Bytes>;
    /// Records a change that the node reports.
    fn handle_event(&self, event: NodeEvent);
    /// Returns the number of values that this cache holds, and the members that it knows.
    fn status(&self) -> CacheStatus;
    /// Returns the members that are believed to be alive.
    fn live_members(&self) -> Vec<ReplicaId>;
    /// Returns the last value of [`NodeEvent::ExpectsMembers`]. Takes no lock.
    fn expects_members(&self) -> bool;
    /// Returns true if there is an own write that no member has, and a member may still take it.
    fn has_unsent(&self) -> bool;
    /// Returns the settings that should be the same on all nodes, as text for other nodes.
    fn common_settings(&self) -> String;
    /// Compares this text of another node with the settings here. Returns one sentence for each difference, if it was
    /// not known before. Reports have them until [`forget_settings`](Self::forget_settings).
    fn compare_settings(&self, node: (Uuid, &str), theirs: &str) -> Vec<String>;
    /// Forgets the settings of a process that has departed.
    fn forget_settings(&self, node: Uuid);
    /// Returns the number of own writes that no member is known to have, less the number at the last call.
    fn count_unsent(&self) -> u64;
}
