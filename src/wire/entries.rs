//! Reading entries: the hot path of decoding.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::decode::{Decoder, Intake, Register};
use super::error::DecodeError;
use super::layout::ENTRY_PARTS;
use super::scan::{self, Rule};
use super::user;
use crate::crdt::{Dot, Kind, Marker};
use crate::hlc::Stamp;
use crate::item::{Body, Item, ItemRef, Key};
use crate::message::Entry;

const WHAT: &str = "an entry";

/// Room is made for this many entries at once; for more only as they prove to be there.
const AT_ONCE: usize = 1024;

impl<'a, I> Decoder<'a, '_, I> {
    pub(super) fn many<K, V>(&mut self, count: usize, mut place: Register) -> Result<Vec<Entry<K, V>>, DecodeError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        I: Intake<K, V>,
    {
        let mut entries = Vec::with_capacity(count.min(AT_ONCE));
        for _ in 0..count {
            entries.push(self.entry(&mut place)?);
        }
        Ok(entries)
    }

    fn entry<K, V>(&mut self, place: &mut Register) -> Result<Entry<K, V>, DecodeError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        I: Intake<K, V>,
    {
        let parts = self.cursor.array_of(ENTRY_PARTS, WHAT)?;
        let key_bytes = self.key_bytes()?;
        let dot = self.dot(place)?;
        let kind = self.kind()?;
        let stamp = self.stamp_beside(dot)?;
        let expires = self.cursor.uint("an expiry")?;
        let value_bytes = match place {
            Register::InInterval { .. } => self.value_bytes(kind)?,
            Register::InAudit => None,
        };
        self.skip_rest(parts, ENTRY_PARTS)?;

        let size = key_bytes.len() + value_bytes.map_or(0, <[u8]>::len);
        let item = Item { key: self.key(key_bytes), body: value_bytes.map_or(Body::Absent, |bytes| self.body(bytes)) };
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

    fn key_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let bytes = self.cursor.bytes("a key")?;
        self.limits.check_key(bytes.len())?;
        scan::check(bytes, Rule::Key, self.limits.depth())?;
        Ok(bytes)
    }

    fn dot(&mut self, place: &mut Register) -> Result<Dot, DecodeError> {
        match place {
            Register::InInterval { origin, after, to } => {
                let step = self.cursor.uint("a dot time")?;
                let time = after.checked_add(step).ok_or(DecodeError::EntryOrder)?;
                if step == 0 || time > *to {
                    return Err(DecodeError::EntryOrder);
                }
                *after = time;
                Ok(Dot::new(*origin, time))
            }
            Register::InAudit => {
                let origin = self.id("a dot")?;
                Ok(Dot::new(origin, self.cursor.uint("a dot time")?))
            }
        }
    }

    fn kind(&mut self) -> Result<Kind, DecodeError> {
        let code = self.cursor.uint("a register kind")?;
        let known = u8::try_from(code).ok().and_then(Kind::from_code);
        known.ok_or(DecodeError::Newer { what: "a register kind", code })
    }

    /// The stamp of the register with `dot`: null if it is the dot, a time if it is of the same
    /// replica, else whole.
    fn stamp_beside(&mut self, dot: Dot) -> Result<Stamp, DecodeError> {
        if self.cursor.null() {
            return Ok(Stamp::new(dot.counter, dot.actor));
        }
        // The major type of the next item is in the top three bits; an array is 4.
        if self.cursor.rest().first().is_some_and(|first| first >> 5 == 4) {
            return self.stamp();
        }
        Ok(Stamp::new(self.cursor.uint("a stamp")?, dot.actor))
    }

    fn value_bytes(&mut self, kind: Kind) -> Result<Option<&'a [u8]>, DecodeError> {
        if self.cursor.null() {
            return if kind.is_live() { Err(DecodeError::BodyMismatch) } else { Ok(None) };
        }
        let bytes = self.cursor.bytes("a value")?;
        self.limits.check_value(bytes.len())?;
        if kind.is_live() { Ok(Some(bytes)) } else { Err(DecodeError::BodyMismatch) }
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

    fn body<V: DeserializeOwned>(&mut self, bytes: &[u8]) -> Body<V> {
        let sound = scan::check(bytes, Rule::Value, self.limits.depth()).is_ok();
        match sound.then(|| user::read(bytes, &mut self.scratch)).flatten() {
            Some(value) => Body::Known(value),
            None => {
                self.undecodable_values = self.undecodable_values.saturating_add(1);
                Body::Opaque(Box::new(keep(bytes)))
            }
        }
    }
}

/// A copy: a slice would keep the whole message in memory for as long as the entry lives.
#[cold]
fn keep(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
