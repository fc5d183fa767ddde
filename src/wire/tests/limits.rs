//! Tests of the limits: just below, at, and above each.

use serde::ser::{SerializeSeq, Serializer};

use super::golden::samples;
use super::messages::{TestMessage, entry};
use super::*;
use crate::crdt::{Dot, Kind, Marker, VersionVector};
use crate::hlc::Stamp;
use crate::item::Body;
use crate::message::{Digest, Push};

fn push_of(key: usize, value: usize) -> TestMessage {
    let dot = Dot::new(id(1), u64::MAX);
    let marker = Marker { stamp: Stamp::new(u64::MAX, id(2)), kind: Kind::Live, dot };
    let entries = vec![entry("k".repeat(key), Body::Known(vec![7; value].into()), marker, u64::MAX)];
    Message::Push(Push {
        origin: id(1),
        from: 0,
        to: u64::MAX,
        epoch: 0,
        entries,
        fills: Vec::new(),
        hops: 0,
        raw: Bytes::new(),
    })
}

fn outcome(message: &TestMessage, limits: &Limits) -> Result<(), DecodeError> {
    decode::<String, Bytes>(&bytes_of(message), &TestIntake, limits).map(drop)
}

/// scenario 83, keys and values: a writer's check accepts exactly the sizes that other replicas decode.
#[test]
fn keys_and_values() {
    let limits = Limits { max_key_bytes: 1000, max_value_bytes: 5000, ..Limits::default() };
    for size in [999, 1000, 1001] {
        // A string of this length has a head of three bytes.
        assert_eq!(outcome(&push_of(size - 3, 10), &limits), limits.check_key(size));
        assert_eq!(limits.check_key(size).is_ok(), size <= 1000);
    }
    for size in [4999, 5000, 5001] {
        assert_eq!(outcome(&push_of(10, size - 3), &limits), limits.check_value(size));
        assert_eq!(limits.check_value(size).is_ok(), size <= 5000);
    }
}

/// scenario 83, default limits: one key and one value of the largest size fit in a message.
#[test]
fn the_largest_entry_fits() {
    let limits = Limits::default();
    // The heads of strings of these lengths take three and five bytes.
    let message = push_of(limits.max_key_bytes - 3, limits.max_value_bytes - 5);
    assert_eq!(outcome(&message, &limits), Ok(()));
    assert!(outcome(&push_of(limits.max_key_bytes - 2, 0), &limits).is_err());
    assert!(outcome(&push_of(0, limits.max_value_bytes - 4), &limits).is_err());
    let Message::Push(push) = &message else { panic!("a push") };
    let alone = TestMessage::Push(Push { entries: Vec::new(), fills: Vec::new(), raw: Bytes::new(), ..*push });
    let taken = bytes_of(&message).len() - bytes_of(&alone).len();
    // The table also holds the stamp's replica: 16 bytes, once for each message.
    assert!(taken - 16 - push.entries[0].size as usize <= MAX_ENTRY_OVERHEAD);
}

/// scenario 83, messages: a message above `max_message_bytes` is refused.
#[test]
fn messages() {
    for (_, message) in samples() {
        let size = bytes_of(&message).len();
        for (max, fits) in [(size + 1, true), (size, true), (size - 1, false)] {
            let limits = Limits { max_message_bytes: max, ..Limits::default() };
            assert_eq!(outcome(&message, &limits).is_ok(), fits);
        }
    }
}

/// scenario 83, vectors: a vector with more than `max_origins` entries is refused.
#[test]
fn origins() {
    let limits = Limits { max_origins: 3, ..Limits::default() };
    for count in 2..=4 {
        let (_, sample) = samples().swap_remove(0);
        let Message::Digest(digest) = sample else { panic!("a digest") };
        let vector: VersionVector = (0..count).map(|n| (id(n), 1)).collect();
        let message = Message::Digest(Digest { vector, ..digest });
        assert_eq!(outcome(&message, &limits).is_ok(), count <= 3);
    }
}

/// This many nested arrays, built without the memory for them.
struct Deep(usize);

impl Serialize for Deep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inner = self.0.checked_sub(1).filter(|left| *left > 0);
        let mut array = serializer.serialize_seq(Some(inner.iter().len()))?;
        if let Some(left) = inner {
            array.serialize_element(&Deep(left))?;
        }
        array.end()
    }
}

/// scenario 83, depth: the writer's check refuses a value that nests too deeply, before its own recursion goes deeper.
#[test]
fn what_nests_too_deeply_is_refused_where_it_is_written() {
    assert_eq!(encoded_len(&Deep(MAX_DEPTH), usize::MAX), Ok(MAX_DEPTH));
    assert_eq!(encoded_len(&Deep(3), 3), Ok(3));
    assert_eq!(encoded_len(&Deep(4), 3), Err(EncodeError::TooDeep { limit: 3 }));
    for levels in [MAX_DEPTH + 1, 10_000_000] {
        let too_deep = EncodeError::TooDeep { limit: MAX_DEPTH };
        assert_eq!(encoded_len(&Deep(levels), MAX_DEPTH), Err(too_deep.clone()));
        assert_eq!(encode_key(&Deep(levels)), Err(too_deep));
    }
    assert!(decode_key::<ciborium::Value>(&encode_key(&Deep(MAX_DEPTH)).unwrap()).is_ok());
}

/// A string that asks `serde` for a borrowed string only, as the strings of several crates do.
#[derive(Debug)]
struct Borrowing(String);

impl<'de> serde::Deserialize<'de> for Borrowing {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Copy;
        impl serde::de::Visitor<'_> for Copy {
            type Value = Borrowing;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E>(self, text: &str) -> Result<Borrowing, E> {
                Ok(Borrowing(text.into()))
            }
        }
        deserializer.deserialize_str(Copy)
    }
}

/// Strings longer than the scratch buffer of `ciborium` (by default 4 KiB) can be borrowed.
#[test]
fn long_strings_can_be_borrowed() {
    for len in [0, 255, 4096, 4097, 60_000] {
        let text = "x".repeat(len);
        assert_eq!(decode_key::<Borrowing>(&encode_key(&text).unwrap()).unwrap().0, text);
    }
}
