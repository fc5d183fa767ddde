//! The production encoder and decoder. Every simulated message passes through both.

use bytes::Bytes;
use uuid::Uuid;

use super::types::{SimKey, SimValue, Types, hash_of};
use crate::crdt::{Dot, Kind, Marker};
use crate::hlc::Stamp;
use crate::item::{Body, Item, ItemRef, Key};
use crate::message::{Entry, Message, Push};
use crate::replica_id::ReplicaId;
use crate::wire::{self, Envelope, Intake, Limits};

/// The size up to which a message travels as a datagram. Larger messages travel over a stream, as in the node.
pub(super) const MAX_DATAGRAM: usize = 1_400;
/// The names of the caches of a run.
const NAMES: [&str; 4] = ["c0", "c1", "c2", "c3"];
/// The most caches that a run can have.
pub(super) const MAX_CACHES: u8 = NAMES.len() as u8;

/// Returns the name of a cache in messages.
pub(super) fn name_of(cache: u8) -> &'static str {
    NAMES[usize::from(cache % MAX_CACHES)]
}

/// Returns the cache with this name.
pub(super) fn cache_of(name: &str) -> Option<u8> {
    NAMES.iter().position(|known| *known == name).map(|at| at as u8)
}

/// Returns the incarnation of a process. [`process_of`] is the inverse.
pub(super) fn incarnation(process: usize) -> Uuid {
    Uuid::from_u128(process as u128 + 1)
}

pub(super) fn process_of(incarnation: Uuid) -> Option<usize> {
    usize::try_from(incarnation.as_u128()).ok()?.checked_sub(1)
}

/// The hash and weight that a receiving process computes for an incoming entry.
struct Taken<'a, K, V>(&'a Types<K, V>);

impl<K: SimKey, V: SimValue> Intake<K, V> for Taken<'_, K, V> {
    fn hash(&self, key: &Key<K>) -> u64 {
        match key.known() {
            Some(key) => hash_of(key),
            None => hash_of(key.opaque()),
        }
    }

    fn weigh(&self, key: &K, value: &V) -> u32 {
        self.0.weigh(key, value)
    }
}

/// Returns the bytes of a message as a node sends them.
pub(super) fn encode<K: SimKey, V: SimValue>(
    cache: u8,
    from: ReplicaId,
    process: usize,
    message: &Message<K, V>,
) -> Result<Bytes, String> {
    let envelope = Envelope { cache: name_of(cache), from, node: incarnation(process) };
    let bytes = match message {
        Message::Push(push) if !push.raw.is_empty() => wire::forward(&envelope, &push.raw),
        other => wire::encode(&envelope, other),
    };
    bytes.map_err(|error| error.to_string())
}

/// Returns the message that a node decodes from bytes. An entry that does not decode is an error here, because the run
/// wrote it with the same types.
pub(super) fn decode<K: SimKey, V: SimValue>(
    types: &Types<K, V>,
    bytes: &Bytes,
) -> Result<(ReplicaId, Message<K, V>), String> {
    let decoded = wire::decode::<K, V>(bytes, &Taken(types), &Limits::default()).map_err(|error| error.to_string())?;
    if decoded.undecodable_keys > 0 {
        return Err("a key that was written does not decode".into());
    }
    if decoded.undecodable_values > 0 {
        return Err("a value that was written does not decode".into());
    }
    let message = decoded.message.ok_or("an unknown kind of message")?;
    Ok((decoded.envelope.from, message))
}

/// Returns a value after it was encoded and decoded, in the smallest possible message.
pub(super) fn round_trip<K: SimKey, V: SimValue>(types: &Types<K, V>, key: &K, value: &V) -> Result<V, String> {
    let origin = ReplicaId::from_uuid(incarnation(0));
    let marker = Marker { stamp: Stamp::new(2, origin), kind: Kind::Live, dot: Dot::new(origin, 2) };
    let item = ItemRef::new(Item { key: Key::Known(key.clone()), body: Body::Known(value.clone()) });
    let entry = Entry { hash: hash_of(key), item, marker, expires: 0, size: 0, weight: 1 };
    let push =
        Push { origin, from: 1, to: 2, epoch: 0, entries: vec![entry], fills: Vec::new(), hops: 0, raw: Bytes::new() };
    let bytes = encode(0, origin, 0, &Message::Push(push))?;
    match decode(types, &bytes)? {
        (_, Message::Push(push)) => {
            let read = push.entries.first().and_then(|entry| entry.item.value().cloned());
            read.ok_or_else(|| "nothing arrives".to_owned())
        }
        _ => Err("a different message arrives".to_owned()),
    }
}

/// Returns the number of registers in a message. Audits do not count.
pub(super) fn entries_in<K, V>(message: &Message<K, V>) -> u64 {
    match message {
        Message::Push(push) => push.entries.len() as u64,
        Message::Frame(frame) => frame.intervals.iter().map(|interval| interval.entries.len() as u64).sum(),
        Message::Digest(_) | Message::Ack(_) | Message::Audit(_) => 0,
    }
}
