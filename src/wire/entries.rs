//! Reader for entries: the hot path of decoding.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::error::DecodeError;
use super::layout::ENTRY_PARTS;
use super::parts::PartReader;
use super::scan::{self, Rule};
use super::user;
use crate::crdt::{Dot, Kind, Marker};
use crate::hlc::{HlcTime, Stamp};
use crate::item::{Body, Item, ItemRef, Key};
use crate::message::Entry;
use crate::replica_id::ReplicaId;

const WHAT: &str = "an entry";

/// Maximum number of entries for which memory is reserved in advance. If a message announces more, memory for the rest
/// is reserved as they are read.
const AT_ONCE: usize = 1024;

/// A hasher and weigher for received entries, specific to this process.
pub trait Intake<K, V> {
    /// Returns this process's hash of a key.
    fn hash(&self, key: &Key<K>) -> u64;

    /// Returns the weight of a live entry by this process's weigher.
    fn weigh(&self, key: &K, value: &V) -> u32;

    /// Returns the weight of a live entry whose key or value does not decode here. The default is its encoded size in
    /// bytes. If the weigher returns one for each entry, such an entry weighs more than others and is evicted early,
    /// which is safe.
    fn weigh_opaque(&self, size: u32) -> u32 {
        size.max(1)
    }
}

/// The context of an entry, which decides what the entry omits.
#[derive(Clone, Copy)]
pub(super) enum Register {
    /// An interval of `origin`: an entry has the distance of its dot from the one before, and its value.
    InInterval {
        /// The origin of the dots.
        origin: ReplicaId,
        /// The dot time of the entry before, or the start of the interval.
        after: HlcTime,
        /// The end of the interval.
        to: HlcTime,
    },
    /// An audit: an entry has its whole dot, and no value.
    InAudit,
}

/// A reader for entries. It counts those whose key or value does not decode here.
pub(super) struct EntryReader<'r, I> {
    intake: &'r I,
    /// The buffer for `ciborium`, reused for all entries.
    scratch: Vec<u8>,
    undecodable_keys: u32,
    undecodable_values: u32,
}

impl<'r, I> EntryReader<'r, I> {
    pub(super) fn new(intake: &'r I) -> Self {
        Self { intake, scratch: Vec::new(), undecodable_keys: 0, undecodable_values: 0 }
    }

    /// Returns the numbers of keys and values that did not decode so far.
    pub(super) fn undecodable(&self) -> (u32, u32) {
        (self.undecodable_keys, self.undecodable_values)
    }

    pub(super) fn many<K, V>(
        &mut self,
        parts: &mut PartReader<'_, '_>,
        count: usize,
        mut place: Register,
    ) -> Result<Vec<Entry<K, V>>, DecodeError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        I: Intake<K, V>,
    {
        let mut entries = Vec::with_capacity(count.min(AT_ONCE));
        for _ in 0..count {
            entries.push(self.entry(parts, &mut place)?);
        }
        Ok(entries)
    }

    fn entry<K, V>(&mut self, parts: &mut PartReader<'_, '_>, place: &mut Register) -> Result<Entry<K, V>, DecodeError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        I: Intake<K, V>,
    {
        let count = parts.cursor.array_of(ENTRY_PARTS, WHAT)?;
        let key_bytes = key_bytes(parts)?;
        let dot = dot(parts, place)?;
        let kind = kind(parts)?;
        let stamp = stamp_beside(parts, dot)?;
        let expires = parts.cursor.uint("an expiry")?;
        let value_bytes = match place {
            Register::InInterval { .. } => value_bytes(parts, kind)?,
            Register::InAudit => None,
        };
        parts.skip_rest(count, ENTRY_PARTS)?;

        let size = key_bytes.len() + value_bytes.map_or(0, <[u8]>::len);
        let body = value_bytes.map_or(Body::ABSENT, |bytes| self.body(bytes, parts.limits.depth()));
        let item = Item { key: self.key(key_bytes), body };
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let (weight, marker) = (self.weight(&item, size), Marker { stamp, kind, dot });
        Ok(Entry { hash: self.intake.hash(&item.key), item: ItemRef::new(item), marker, expires, size, weight })
    }

    fn weight<K, V>(&self, item: &Item<K, V>, size: u32) -> u32
    where
        I: Intake<K, V>,
    {
        let weight = match (&item.key, &item.body) {
            (_, Body::Opaque(None)) => Some(0),
            // A panic of the weigher must not refuse the message: the other entries of the message would never arrive.
            (Key::Known(key), Body::Known(value)) => user::contain(|| self.intake.weigh(key, value)),
            _ => None,
        };
        weight.unwrap_or_else(|| self.intake.weigh_opaque(size))
    }

    fn key<K: DeserializeOwned>(&mut self, bytes: &[u8]) -> Key<K> {
        match user::read(bytes, &mut self.scratch) {
            Some(key) => Key::Known(key),
            None => {
                self.undecodable_keys = self.undecodable_keys.saturating_add(1);
                Key::Opaque(Box::new(keep(bytes)))
            }
        }
    }

    /// Decodes a value. A value that is malformed or of another type is kept as bytes: it must not refuse the message.
    fn body<V: DeserializeOwned>(&mut self, bytes: &[u8], depth: usize) -> Body<V> {
        let sound = scan::check(bytes, Rule::Value, depth).is_ok();
        match sound.then(|| user::read(bytes, &mut self.scratch)).flatten() {
            Some(value) => Body::Known(value),
            None => {
                self.undecodable_values = self.undecodable_values.saturating_add(1);
                Body::Opaque(Some(Box::new(keep(bytes))))
            }
        }
    }
}

/// Reads the bytes of a key. A key must be canonical: two encodings of one key would be two keys.
#[inline]
fn key_bytes<'a>(parts: &mut PartReader<'a, '_>) -> Result<&'a [u8], DecodeError> {
    let bytes = parts.cursor.bytes("a key")?;
    parts.limits.check_key(bytes.len())?;
    scan::check(bytes, Rule::Key, parts.limits.depth())?;
    Ok(bytes)
}

#[inline]
fn dot(parts: &mut PartReader<'_, '_>, place: &mut Register) -> Result<Dot, DecodeError> {
    match place {
        Register::InInterval { origin, after, to } => {
            let step = parts.cursor.uint("a dot time")?;
            let time = after.checked_add(step).ok_or(DecodeError::EntryOrder)?;
            if step == 0 || time > *to {
                return Err(DecodeError::EntryOrder);
            }
            // A distance above zero makes dot times rise strictly, so a duplicate dot cannot be expressed.
            *after = time;
            Ok(Dot::new(*origin, time))
        }
        Register::InAudit => {
            let origin = parts.id("a dot")?;
            Ok(Dot::new(origin, parts.cursor.uint("a dot time")?))
        }
    }
}

#[inline]
fn kind(parts: &mut PartReader<'_, '_>) -> Result<Kind, DecodeError> {
    let code = parts.cursor.uint("a register kind")?;
    let known = u8::try_from(code).ok().and_then(Kind::from_code);
    known.ok_or(DecodeError::Newer { what: "a register kind", code })
}

/// Reads the stamp of the register with `dot`. Null is a stamp equal to the dot, a number is a time of the same
/// replica, anything else is the full stamp.
#[inline]
fn stamp_beside(parts: &mut PartReader<'_, '_>, dot: Dot) -> Result<Stamp, DecodeError> {
    if parts.cursor.null() {
        return Ok(Stamp::new(dot.counter, dot.actor));
    }
    // The major type of the next item is in the top three bits. Type 4 is an array.
    if parts.cursor.rest().first().is_some_and(|first| first >> 5 == 4) {
        return parts.stamp();
    }
    Ok(Stamp::new(parts.cursor.uint("a stamp")?, dot.actor))
}

#[inline]
fn value_bytes<'a>(parts: &mut PartReader<'a, '_>, kind: Kind) -> Result<Option<&'a [u8]>, DecodeError> {
    if parts.cursor.null() {
        return if kind.is_live() { Err(DecodeError::BodyMismatch) } else { Ok(None) };
    }
    let bytes = parts.cursor.bytes("a value")?;
    parts.limits.check_value(bytes.len())?;
    if kind.is_live() { Ok(Some(bytes)) } else { Err(DecodeError::BodyMismatch) }
}

/// Copies the bytes. A slice would keep the whole message in memory as long as the entry lives.
#[cold]
fn keep(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
