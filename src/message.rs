//! What replicas of one cache say to each other.
//!
//! Messages carry typed keys and values behind a counted pointer; the [wire](crate::wire) module
//! turns them into bytes and back, outside every lock.

use bytes::Bytes;

use crate::crdt::{Dot, Kind, Marker, VersionVector};
use crate::hlc::{HlcTime, Stamp};
use crate::item::{ItemRef, size_without_body, without_body};
use crate::replica_id::ReplicaId;

pub(crate) mod bound;

pub use bound::FillBound;

/// A push is passed on at most this often.
pub(crate) const MAX_HOPS: u8 = 16;

/// A message between two replicas of one cache.
#[derive(Debug)]
pub enum Message<K, V> {
    /// Who I am and what I have seen.
    Digest(Digest),
    /// Fresh writes of one origin, sent eagerly.
    Push(Push<K, V>),
    /// How far I have seen your writes.
    Ack(Ack),
    /// One frame of the answer to a digest.
    Frame(Frame<K, V>),
    /// Registers to be compared by the safety net.
    Audit(Audit<K, V>),
}

impl<K, V> Message<K, V> {
    /// The registers it carries.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry<K, V>> {
        let whole: &[Entry<K, V>] = match self {
            Self::Push(push) => &push.entries,
            Self::Audit(audit) => &audit.entries,
            Self::Frame(_) | Self::Digest(_) | Self::Ack(_) => &[],
        };
        let intervals: &[Interval<K, V>] = if let Self::Frame(frame) = self { &frame.intervals } else { &[] };
        whole.iter().chain(intervals.iter().flat_map(|interval| &interval.entries))
    }
}

/// `{ replica, clock, version vector, low watermark }`, and what goes with it. Its size depends on
/// the number of live replicas, never on the number of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The sender's clock; also its own entry in `vector`.
    pub clock: HlcTime,
    /// The time of the sender's last own dot: it wrote nothing after this and up to `clock`.
    pub quiet_since: HlcTime,
    /// Every write the sender has not yet issued will carry a stamp above this.
    pub watermark: HlcTime,
    /// The cache's epoch as the sender knows it.
    pub epoch: HlcTime,
    /// What the sender has seen of live and not yet forgotten origins (of all, if `full`).
    pub vector: VersionVector,
    /// The origins that `vector` leaves out.
    pub retired: Retired,
    /// `vector` lists every origin.
    pub full: bool,
    /// The receiver's retired origins differ from ours: it should send a full digest.
    pub want_full: bool,
    /// This answers a digest. Only a full one is sent in return, if retired origins differ.
    pub reply: bool,
    /// The sender does not hold the receiver for a live member, and is to be told of it.
    pub greets: bool,
    /// The sender has evicted or dropped values: others are better sources for a newcomer.
    pub lossy: bool,
    /// Whoever goes by this id is to take a new one: another process has it too, or had it.
    pub renew: Option<ReplicaId>,
    /// What the sender knows of other members, first or second hand.
    pub facts: Vec<Fact>,
    /// The members that the sender knows, unreachable ones included.
    pub members: Vec<Named>,
    /// Nanoseconds until what the sender was sent from the future is due; until then no more of it is to be sent. Zero if
    /// nothing waits.
    pub deferring: u64,
    /// The sender's wall clock.
    pub wall: HlcTime,
}

/// A member as a digest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The member.
    pub member: ReplicaId,
    /// For how many milliseconds it has been unreachable; zero if it is alive.
    pub dead_for: u64,
    /// Whether the sender has heard it itself.
    pub met: bool,
}

/// What one member said of itself, passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The member.
    pub member: ReplicaId,
    /// Its clock when it said so.
    pub clock: HlcTime,
    /// Its low watermark at that clock.
    pub watermark: HlcTime,
    /// What it had seen of the origins that the digest lists.
    pub vector: VersionVector,
    /// Whether it had also seen all that the sender has of its retired origins.
    pub retired: bool,
}

/// Origins that nobody expects to hear of again, by count and order-independent hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// How many.
    pub count: u32,
    /// The wrapping sum of a fixed hash of each `(origin, time)`.
    pub hash: u64,
}

/// A delta interval of one origin: "these are all registers I hold whose dot lies in `(from, to]`".
#[derive(Debug)]
pub struct Push<K, V> {
    /// Whose writes these are; not necessarily the sender.
    pub origin: ReplicaId,
    /// The interval starts after this dot time.
    pub from: HlcTime,
    /// The interval ends with this dot time.
    pub to: HlcTime,
    /// The cache's epoch as the origin knew it.
    pub epoch: HlcTime,
    /// The registers, by dot time.
    pub entries: Vec<Entry<K, V>>,
    /// What some of them must lose against, by dot time: fills that were stamped above something young.
    pub fills: Vec<FillNote>,
    /// How often it was passed on.
    pub hops: u8,
    /// The bytes it came as, to be passed on unchanged. Empty on a push of our own.
    pub raw: Bytes,
}

/// A replica's vector entry for the receiver's own writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The one replica it is meant for: its predecessor in the same process had other writes. None in messages of old
    /// releases, which are ignored.
    pub to: Option<ReplicaId>,
    /// Everything the receiver wrote up to here has arrived at the sender.
    pub time: HlcTime,
}

/// One frame of a session.
#[derive(Debug)]
pub struct Frame<K, V> {
    /// The one replica it is meant for: yesterday's frames mean nothing to a restarted process.
    pub to: ReplicaId,
    /// The sender's name for the session; later sessions of one sender have greater ones.
    pub session: u64,
    /// The frame's number, from zero.
    pub index: u32,
    /// The receiver's vector that the session starts from.
    pub base: VersionVector,
    /// The session lists everything the sender holds: what is not listed is gone.
    pub reconcile: bool,
    /// The sender's clock.
    pub clock: HlcTime,
    /// The cache's epoch as the sender knows it.
    pub epoch: HlcTime,
    /// The intervals, or parts of intervals, in this frame.
    pub intervals: Vec<Interval<K, V>>,
    /// Origin -> highest dot time the sender removed without a trace.
    pub dropped: VersionVector,
    /// Only in the last frame.
    pub last: Option<Last>,
}

/// What only the last frame of a session says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// How many frames the session has.
    pub frames: u32,
    /// What the receiver may claim once all of them are in.
    pub claim: VersionVector,
    /// The sender's own vector where it reaches beyond the claim: seen and listed, not to be claimed.
    pub beyond: VersionVector,
    /// The sender's gc floor.
    pub floor: Stamp,
    /// The sender's eviction floor, zero if it has none.
    pub eviction_floor: Stamp,
    /// By origin, the last dot that the sender has evicted without a trace, or holds in doubt and does not list.
    pub evicted: VersionVector,
}

/// All registers a sender holds whose dot lies in `(from, to]` of one origin.
#[derive(Debug)]
pub struct Interval<K, V> {
    /// The origin.
    pub origin: ReplicaId,
    /// The interval starts after this dot time.
    pub from: HlcTime,
    /// The interval ends with this dot time.
    pub to: HlcTime,
    /// The registers, by dot time.
    pub entries: Vec<Entry<K, V>>,
    /// What some of them must lose against: fills that were stamped above something young.
    pub fills: Vec<FillNote>,
}

/// The bound of a fill in the same interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillNote {
    /// The dot time of the fill.
    pub time: HlcTime,
    /// What it must lose against.
    pub bound: FillBound,
}

/// The bound of the entry with this dot time, if it has one.
pub(crate) fn bound_in(fills: &[FillNote], time: HlcTime) -> Option<&FillBound> {
    let at = fills.binary_search_by_key(&time, |note| note.time).ok()?;
    Some(&fills[at].bound)
}

/// One register on its way.
#[derive(Debug)]
pub struct Entry<K, V> {
    /// This process's hash of the key; not on the wire.
    pub hash: u64,
    /// Key and value.
    pub item: ItemRef<K, V>,
    /// Stamp, kind and dot.
    pub marker: Marker,
    /// Absolute wall time after which the value is expired; zero is never.
    pub expires: HlcTime,
    /// Bytes of the encoded key and value.
    pub size: u32,
    /// What this process's weigher says; not on the wire.
    pub weight: u32,
}

impl<K, V> Clone for Entry<K, V> {
    fn clone(&self) -> Self {
        Self { item: ItemRef::clone(&self.item), ..*self }
    }
}

impl<K: Clone, V> Entry<K, V> {
    /// The entry with its key alone.
    pub(crate) fn without_body(self) -> Self {
        let (item, size) = (without_body(&self.item), size_without_body(self.size));
        Self { item, size, weight: 0, ..self }
    }
}

impl<K, V> Entry<K, V> {
    /// The event that brought it.
    pub fn dot(&self) -> Dot {
        self.marker.dot
    }

    /// Its stamp.
    pub fn stamp(&self) -> Stamp {
        self.marker.stamp
    }

    /// A value or a tombstone.
    pub fn kind(&self) -> Kind {
        self.marker.kind
    }
}

/// A slice of what the sender holds, for comparison: markers only, no values.
#[derive(Debug)]
pub struct Audit<K, V> {
    /// What the sender has seen: only dots that both sides cover are compared.
    pub vector: VersionVector,
    /// The registers; their bodies are absent.
    pub entries: Vec<Entry<K, V>>,
    /// These differ from what the receiver said in its audit, and are the answer.
    pub reply: bool,
}
