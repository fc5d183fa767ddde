//! Processes of another release. Every second process of such a run has types that cannot decode some of the keys and
//! values. It keeps and relays these byte for byte, and never uses such a key itself.

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use super::types::{SimKey, SimValue, hash_of};
use crate::item::{Body, Item, ItemRef, Key};
use crate::message::{Entry, Message};
use crate::wire::{self, Intake, Limits};

/// The reciprocal of the share of keys and values that processes with other types cannot decode.
const ONE_IN: u64 = 3;

/// A type for which decoding always fails, so that the decoder keeps the received bytes.
#[derive(Debug)]
struct Unread;

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("another release wrote this"))
    }
}

/// The hashes of entries for a process that decodes nothing.
struct AsBytes;

impl Intake<Unread, Unread> for AsBytes {
    fn hash(&self, key: &Key<Unread>) -> u64 {
        if let Key::Opaque(bytes) = key { hash_of::<[u8]>(bytes) } else { 0 }
    }

    fn weigh(&self, _: &Unread, _: &Unread) -> u32 {
        1
    }
}

fn is_foreign(bytes: &[u8]) -> bool {
    hash_of(bytes).is_multiple_of(ONE_IN)
}

/// Returns the hashes and bytes under which processes with other types hold the keys that they cannot read. Every
/// process can read the first key.
pub(super) fn foreign_keys<K: SimKey>(keys: &[(u64, K)]) -> Vec<Option<(u64, Bytes)>> {
    let foreign = |(number, (_, key)): (usize, &(u64, K))| {
        let bytes = wire::encode_key(key).ok().filter(|bytes| number > 0 && is_foreign(bytes))?;
        Some((hash_of::<[u8]>(&bytes), Bytes::from(bytes)))
    };
    keys.iter().enumerate().map(foreign).collect()
}

/// Changes a message into the form that a process with other types decodes. Entries with a foreign key or value keep
/// the bytes, as the decoder leaves them. Returns the number of changed entries.
pub(super) fn read_as_foreign<K: SimKey, V: SimValue>(
    message: &mut Message<K, V>,
    bytes: &Bytes,
    is_foreign_key: impl Fn(u64) -> bool,
) -> Result<u64, String> {
    let raw = wire::decode::<Unread, Unread>(bytes, &AsBytes, &Limits::default()).map_err(|error| error.to_string())?;
    let raw = raw.message.ok_or("an unknown kind of message")?;
    let mut changed = 0;
    for (entry, raw) in entries_mut(message).zip(raw.entries()) {
        let key = match &raw.item.key {
            Key::Opaque(bytes) if is_foreign_key(raw.hash) => Some(Key::Opaque(bytes.clone())),
            _ => None,
        };
        let body = match &raw.item.body {
            Body::Opaque(Some(bytes)) if is_foreign(bytes) => Some(Body::Opaque(Some(bytes.clone()))),
            _ => None,
        };
        if key.is_none() && body.is_none() {
            continue;
        }
        changed += 1;
        entry.hash = if key.is_some() { raw.hash } else { entry.hash };
        entry.weight = raw.weight;
        let Some(item) = ItemRef::get_mut(&mut entry.item) else { return Err("a decoded item is shared".into()) };
        item.key = key.unwrap_or_else(|| item.key.clone());
        if let Some(body) = body {
            item.body = body;
        }
    }
    Ok(changed)
}

fn entries_mut<K, V>(message: &mut Message<K, V>) -> Box<dyn Iterator<Item = &mut Entry<K, V>> + '_> {
    match message {
        Message::Push(push) => Box::new(push.entries.iter_mut()),
        Message::Audit(audit) => Box::new(audit.entries.iter_mut()),
        Message::Frame(frame) => Box::new(frame.intervals.iter_mut().flat_map(|interval| &mut interval.entries)),
        Message::Digest(_) | Message::Ack(_) => Box::new(std::iter::empty()),
    }
}

/// Returns true if a held item has the written value, decoded or not.
pub(super) fn is_same_value<K: SimKey, V: SimValue>(written: &Item<K, V>, held: &Item<K, V>) -> bool {
    match (&written.body, &held.body) {
        (Body::Known(value), Body::Opaque(Some(bytes))) => {
            let mut own = Vec::with_capacity(bytes.len());
            wire::write_value(&mut own, value).is_ok() && own == **bytes
        }
        _ => written.value() == held.value(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_bytes_that_changed_are_another_value() {
        let item = |body| Item { key: Key::Known(1u16), body };
        let written = item(Body::Known("abc".to_owned()));
        let unread = |bytes: &'static [u8]| item(Body::Opaque(Some(Box::new(Bytes::from_static(bytes)))));
        assert!(is_same_value(&written, &unread(b"\x63abc")));
        assert!(!is_same_value(&written, &unread(b"\x63abd")));
        assert!(!is_same_value(&written, &item(Body::ABSENT)));
    }
}
