//! Reading entries: the hot path of decoding.

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

/// Room is made for this many entries at once; for more only as they prove to be there.
const AT_ONCE: usize = 1024;

/// Hashes and weighs an entry that came in, for this process.
pub trait Intake<K, V> {
    /// Returns this process's hash of a key.
    fn hash(&self, key: &Key<K>) -> u64;

    /// Returns the weight of a live entry by this process's weigher.
    fn weigh(&self, key: &K, value: &V) -> u32;

    /// Returns the weight of a live entry whose key or value does not decode here. By default its encoded
    /// size in bytes: if the weigher counts entries instead, it goes early, which is safe.
    fn weigh_opaque(&self, size: u32) -> u32 {
        size.max(1)
    }
}

/// The place of an entry, which decides what it leaves out.
#[derive(Clone, Copy)]
pub(super) enum Register {
    /// In an interval of `origin`: it says how far its dot is beyond the one before, and its value.
    InInterval {
        /// Whose dots they are.
        origin: ReplicaId,
        /// The dot time before, or the start of the interval.
        after: HlcTime,
        /// The end of the interval.
        to: HlcTime,
    },
    /// In an audit: it says its whole dot, and no value.
    InAudit,
}

/// Reads entries, and counts those whose key or value does not decode here.
pub(super) struct EntryReader<'r, I> {
    intake: &'r I,
    /// For `ciborium`, kept from entry to entry.
    scratch: Vec<u8>,
    undecodable_keys: u32,
    undecodable_values: u32,
}

impl<'r, I> EntryReader<'r, I> {
    pub(super) fn new(intake: &'r I) -> Self {
        Self { intake, scratch: Vec::new(), undecodable_keys: 0, undecodable_values: 0 }
    }

    /// Returns how many keys and how many values did not decode so far.
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
        let body = value_bytes.map_or(Body::Absent, |bytes| self.body(bytes, parts.limits.depth()));
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
            (_, Body::Absent) => Some(0),
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

    fn body<V: DeserializeOwned>(&mut self, bytes: &[u8], depth: usize) -> Body<V> {
        let sound = scan::check(bytes, Rule::Value, depth).is_ok();
        match sound.then(|| user::read(bytes, &mut self.scratch)).flatten() {
            Some(value) => Body::Known(value),
            None => {
                self.undecodable_values = self.undecodable_values.saturating_add(1);
                Body::Opaque(Box::new(keep(bytes)))
            }
        }
    }
}

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

/// Reads the stamp of the register with `dot`: null if it is the dot, a time if it is of the same replica, else the
/// full stamp.
#[inline]
fn stamp_beside(parts: &mut PartReader<'_, '_>, dot: Dot) -> Result<Stamp, DecodeError> {
    if parts.cursor.null() {
        return Ok(Stamp::new(dot.counter, dot.actor));
    }
    // The major type of the next item is in the top three bits; an array is 4.
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

/// A copy: a slice would keep the whole message in memory for as long as the entry lives.
#[cold]
fn keep(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
