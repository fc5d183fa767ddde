//! The messages between the replicas of one cache.
//!
//! Messages carry typed keys and values behind a counted pointer. The [wire](crate::wire) module converts them to bytes
//! and back, outside every lock.

use bytes::Bytes;

use crate::crdt::{Dot, Kind, Marker, VersionVector};
use crate::hlc::{HlcTime, Stamp};
use crate::item::{ItemRef, size_without_body, without_body};
use crate::replica_id::ReplicaId;

pub(crate) mod bound;

pub use bound::FillBound;

/// The highest number of times that a push is relayed.
pub(crate) const MAX_HOPS: u8 = 16;

/// A message between two replicas of one cache.
#[derive(Debug)]
pub enum Message<K, V> {
    /// A summary of what the sender has seen.
    Digest(Digest),
    /// Fresh writes of one origin, sent eagerly.
    Push(Push<K, V>),
    /// The time up to which the sender has seen the receiver's writes.
    Ack(Ack),
    /// One frame of a session: registers that the receiver lacks.
    Frame(Frame<K, V>),
    /// Registers for the receiver to compare with its own.
    Audit(Audit<K, V>),
}

impl<K, V> Message<K, V> {
    /// Returns the registers that the message carries.
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

/// The summary of one replica: `{ replica, clock, version vector, low watermark }`, and related state. Its size depends
/// on the number of members, or of origins if it is full, never on the number of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The sender's clock; also its own entry in `vector`.
    pub clock: HlcTime,
    /// The time of the sender's last own dot, or of the last own dot that was dropped. The sender wrote nothing after
    /// it, up to `clock`.
    pub quiet_since: HlcTime,
    /// The low watermark: every write that the sender has not yet issued will carry a stamp above it.
    pub watermark: HlcTime,
    /// The cache's epoch as the sender knows it.
    pub epoch: HlcTime,
    /// The vector of the sender, for its members and itself. It covers all origins if `full` is true.
    pub vector: VersionVector,
    /// The origins that `vector` leaves out, by count and hash.
    pub retired: Retired,
    /// True if `vector` lists every origin.
    pub full: bool,
    /// True if the receiver's retired origins differ from the sender's. The receiver should answer with a full digest.
    pub want_full: bool,
    /// True if this digest answers a digest. The receiver answers it only if retired origins differ, and then with a
    /// full digest.
    pub reply: bool,
    /// True if the sender does not count the receiver as a live member. The receiver must answer.
    pub greets: bool,
    /// True if the sender has evicted or dropped values. A newcomer should prefer another source.
    pub lossy: bool,
    /// A duplicate replica id: a replica with this id must take a new one, because another process uses the id or used
    /// it.
    pub renew: Option<ReplicaId>,
    /// The clocks, watermarks and vectors of some other members, as they reported them to the sender or to a third
    /// member.
    pub facts: Vec<Fact>,
    /// The members that the sender knows, unreachable ones included.
    pub members: Vec<Named>,
    /// The nanoseconds for which the receiver should send no session and repeat no push, because the sender deferred
    /// something that came from it. Zero if the sender defers nothing.
    pub deferring: u64,
    /// The sender's wall clock.
    pub wall: HlcTime,
}

/// A member as a digest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The id of the member.
    pub member: ReplicaId,
    /// The time for which it has been unreachable, in milliseconds. Zero if it is alive.
    pub dead_for: u64,
    /// True if the sender itself has received a digest from it.
    pub met: bool,
}

/// A statement of a replica to one member that its last digest to that member still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Still {
    /// The clock of that digest.
    pub since: HlcTime,
    /// The sender's wall clock. The sender wrote nothing from the digest to this time.
    pub wall: HlcTime,
}

/// A statement of one member about itself, passed on by another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The id of the member.
    pub member: ReplicaId,
    /// Its clock at the time of the statement.
    pub clock: HlcTime,
    /// Its low watermark at that clock.
    pub watermark: HlcTime,
    /// Its vector, limited to the origins that the digest lists.
    pub vector: VersionVector,
    /// True if it had also seen everything that the sender has seen of the retired origins.
    pub retired: bool,
}

/// A summary of the retired origins, whose ids no member has any more: their count and an order-independent hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// The number of retired origins.
    pub count: u32,
    /// The wrapping sum of a fixed hash of each `(origin, time)`.
    pub hash: u64,
}

/// A delta interval of one origin: all registers that the origin holds and whose dot lies in `(from, to]`.
#[derive(Debug)]
pub struct Push<K, V> {
    /// The replica that wrote these registers. A relay sends them too.
    pub origin: ReplicaId,
    /// The dot time after which the interval starts.
    pub from: HlcTime,
    /// The dot time with which the interval ends.
    pub to: HlcTime,
    /// The cache's epoch as the origin knew it.
    pub epoch: HlcTime,
    /// The registers, by dot time.
    pub entries: Vec<Entry<K, V>>,
    /// The bounds of fills among the entries, by dot time. Only a fill stamped above its start less `max_drift` has
    /// one.
    pub fills: Vec<FillNote>,
    /// The number of times it was relayed. A push that must not be relayed starts at `MAX_HOPS`.
    pub hops: u8,
    /// The encoded bytes as received, relayed unchanged. Empty for an own push.
    pub raw: Bytes,
}

/// An acknowledgement: the sender's vector entry for the receiver's own writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The one replica that it is for. An earlier replica of the same process had other writes. `None` in messages of
    /// old releases, which are ignored.
    pub to: Option<ReplicaId>,
    /// The time up to which all writes of the receiver have arrived at the sender.
    pub time: HlcTime,
}

/// One frame of a session.
#[derive(Debug)]
pub struct Frame<K, V> {
    /// The one replica that the frame is for. A restarted process ignores frames for its earlier replica.
    pub to: ReplicaId,
    /// The id of the session. Later sessions of one sender have greater ids.
    pub session: u64,
    /// The number of the frame, from zero.
    pub index: u32,
    /// The vector of the receiver from which the session starts.
    pub base: VersionVector,
    /// True if the session lists everything that the sender holds. A register that it does not list is gone.
    pub reconcile: bool,
    /// The sender's clock.
    pub clock: HlcTime,
    /// The cache's epoch as the sender knows it.
    pub epoch: HlcTime,
    /// The intervals in this frame. An interval may continue in the next frame.
    pub intervals: Vec<Interval<K, V>>,
    /// The dropped vector of the sender: by origin, the highest dot time that was removed without a trace. In a
    /// reconcile, the dots in doubt that it does not list count as dropped.
    pub dropped: VersionVector,
    /// The claim and the floors; only in the last frame.
    pub last: Option<Last>,
}

/// The part of a session that only its last frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// The number of frames in the session.
    pub frames: u32,
    /// The vector that the receiver may claim once all frames are in.
    pub claim: VersionVector,
    /// The sender's vector entries where they exceed the claim. The sender has seen and listed these dots, but the
    /// receiver must not claim them.
    pub beyond: VersionVector,
    /// The sender's gc floor.
    pub floor: Stamp,
    /// The sender's eviction floor; zero if it has none.
    pub eviction_floor: Stamp,
    /// By origin, the last dot that the sender has evicted without a trace, or holds in doubt and does not list.
    pub evicted: VersionVector,
}

/// All registers of the sender whose dot lies in `(from, to]` of one origin.
#[derive(Debug)]
pub struct Interval<K, V> {
    /// The origin.
    pub origin: ReplicaId,
    /// The dot time after which the interval starts.
    pub from: HlcTime,
    /// The dot time with which the interval ends.
    pub to: HlcTime,
    /// The registers, by dot time.
    pub entries: Vec<Entry<K, V>>,
    /// The bounds of fills among the entries. Only a fill stamped above its start less `max_drift` has one.
    pub fills: Vec<FillNote>,
}

/// The bound of a fill in the same interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillNote {
    /// The dot time of the fill.
    pub time: HlcTime,
    /// The bound: the record by which to decide against which stamps the fill must lose.
    pub bound: FillBound,
}

/// Returns the bound of the entry with this dot time, if it has one.
pub(crate) fn bound_in(fills: &[FillNote], time: HlcTime) -> Option<&FillBound> {
    let at = fills.binary_search_by_key(&time, |note| note.time).ok()?;
    Some(&fills[at].bound)
}

/// One register in a message.
#[derive(Debug)]
pub struct Entry<K, V> {
    /// The hash of the key in this process; not on the wire.
    pub hash: u64,
    /// The key and the value.
    pub item: ItemRef<K, V>,
    /// The stamp, kind and dot.
    pub marker: Marker,
    /// The absolute wall time at which the value expires; zero means never.
    pub expires: HlcTime,
    /// The bytes of the encoded key and value.
    pub size: u32,
    /// The weight that this process's weigher returned; not on the wire.
    pub weight: u32,
}

impl<K, V> Clone for Entry<K, V> {
    fn clone(&self) -> Self {
        Self { item: ItemRef::clone(&self.item), ..*self }
    }
}

impl<K: Clone, V> Entry<K, V> {
    /// Returns the entry with its key and without its value.
    pub(crate) fn without_body(self) -> Self {
        let (item, size) = (without_body(&self.item), size_without_body(self.size));
        Self { item, size, weight: 0, ..self }
    }
}

impl<K, V> Entry<K, V> {
    /// Returns the dot of the register.
    pub fn dot(&self) -> Dot {
        self.marker.dot
    }

    /// Returns the stamp of the register.
    pub fn stamp(&self) -> Stamp {
        self.marker.stamp
    }

    /// Returns the kind: a value or a tombstone.
    pub fn kind(&self) -> Kind {
        self.marker.kind
    }
}

/// A slice of the sender's registers for comparison: keys and markers, without values.
#[derive(Debug)]
pub struct Audit<K, V> {
    /// The vector of the sender. Only dots that both sides cover are compared.
    pub vector: VersionVector,
    /// The registers, without their values.
    pub entries: Vec<Entry<K, V>>,
    /// True if this answers an audit. The entries are then those that differ from the entries of that audit.
    pub reply: bool,
}
