//! Tests with bytes that no correct replica sends.

use ciborium::Value;
use proptest::prelude::*;

use super::golden::samples;
use super::messages::message;
use super::*;

/// Applies every function that a receiver applies to received bytes. A message that decodes must also encode.
fn receive(bytes: &Bytes) -> Result<(), DecodeError> {
    let _ = peek(bytes);
    let _ = forward(&envelope(), bytes);
    match decode_as::<String, Bytes>(bytes)?.message {
        Some(message) => encode(&envelope(), &message).map(drop).map_err(|error| panic!("{error}: {message:?}")),
        None => Ok(()),
    }
}

/// scenario 74: each message is cut at each byte. Decoding fails, without a panic and without a partial result.
#[test]
fn no_part_of_a_message_is_a_message() {
    for (name, message) in samples() {
        let bytes = bytes_of(&message);
        for len in 0..bytes.len() {
            assert!(receive(&bytes.slice(..len)).is_err(), "{name} cut to {len} bytes");
        }
    }
}

/// scenario 74: each bit of each message is flipped. Decoding fails or returns another message, and never panics.
#[test]
fn a_flipped_bit_is_an_error_or_another_message() {
    for (_, message) in samples() {
        let bytes = bytes_of(&message);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = receive(&flipped.into());
        }
    }
}

proptest! {
    #![proptest_config(crate::testing::proptest_config())]

    /// scenario 74: random messages with random damage never panic, and a cut message never decodes.
    #[test]
    fn damage_never_panics(message in message(), at in any::<prop::sample::Index>(), bits in 1..=u8::MAX, cut in any::<bool>()) {
        let mut bytes = bytes_of(&message).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let _ = receive(&bytes.clone().into());
        if cut {
            bytes.truncate(at);
            prop_assert!(receive(&bytes.into()).is_err());
        }
    }

    /// Decoding random bytes never panics, neither alone nor as the body of a message of each kind.
    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..8_u8) {
        let _ = receive(&noise.clone().into());
        let (_, sample) = samples().swap_remove(0);
        let mut bytes = bytes_of(&sample).to_vec();
        bytes[2] = kind;
        // The head is version, array, kind, cache name, two ids and hops. The body starts after them.
        bytes.truncate(3 + 9 + 17 + 17 + 1);
        bytes.extend(noise);
        let _ = receive(&bytes.into());
    }
}

/// Returns the largest address space that this process ever had, in bytes.
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// scenario 75: a head claims 4 GiB or more and ten bytes follow. Decoding fails and allocates nothing of that size.
#[test]
#[cfg(target_os = "linux")]
fn lengths_that_the_bytes_do_not_back_up_reserve_nothing() {
    let before = peak();
    for (name, message) in samples() {
        let bytes = bytes_of(&message);
        for at in 1..bytes.len() {
            let major = bytes[at] & 0xe0;
            if !(0x40..0xc0).contains(&major) {
                continue;
            }
            for head in [&[major | 26, 0xff, 0xff, 0xff, 0xff][..], &[major | 27, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]] {
                let ten = bytes.slice((at + 1)..bytes.len().min(at + 11));
                let hostile: Bytes = [&bytes[..at], head, &ten[..]].concat().into();
                assert!(receive(&hostile).is_err(), "{name} with a huge length at {at}");
            }
        }
    }
    assert!(peak() - before < 2 << 30, "something reserved what a header said");
}

/// Returns the CBOR tree of a sample message, for a test to modify.
pub(super) fn tree(name: &str) -> Value {
    let (_, message) = samples().into_iter().find(|(sample, _)| *sample == name).unwrap();
    ciborium::from_reader(&bytes_of(&message)[1..]).unwrap()
}

pub(super) fn bytes_of_tree(tree: &Value) -> Bytes {
    let mut bytes = vec![1];
    ciborium::into_writer(tree, &mut bytes).unwrap();
    bytes.into()
}

pub(super) fn elements(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().unwrap()
}

pub(super) fn body(tree: &mut Value) -> &mut Vec<(Value, Value)> {
    elements(tree)[5].as_map_mut().unwrap()
}

pub(super) fn field(tree: &mut Value, number: u64) -> &mut Value {
    &mut body(tree).iter_mut().find(|(key, _)| *key == Value::from(number)).unwrap().1
}

fn refusal(tree: &Value) -> DecodeError {
    receive(&bytes_of_tree(tree)).unwrap_err()
}

/// scenario 77: a duplicate field, vector entry or replica id refuses the message.
#[test]
fn nothing_is_listed_twice_or_out_of_order() {
    let mut twice = tree("digest");
    let again = body(&mut twice)[3].clone();
    body(&mut twice).insert(3, again);
    assert_eq!(refusal(&twice), DecodeError::FieldOrder("a digest"));

    let mut vector = tree("digest");
    let pairs = field(&mut vector, 5).as_map_mut().unwrap();
    pairs.insert(0, pairs[0].clone());
    assert_eq!(refusal(&vector), DecodeError::ReplicaOrder("a version vector"));

    let mut table = tree("digest");
    let ids = field(&mut table, 0).as_bytes_mut().unwrap();
    ids.copy_within(0..16, 16);
    assert_eq!(refusal(&table), DecodeError::ReplicaOrder("the replica table"));
}

#[test]
fn replica_numbers_stay_within_the_table() {
    let mut beyond = tree("push");
    *field(&mut beyond, 1) = 99.into();
    assert_eq!(refusal(&beyond), DecodeError::ReplicaTable);
    let mut ragged = tree("push");
    field(&mut ragged, 0).as_bytes_mut().unwrap().pop();
    assert_eq!(refusal(&ragged), DecodeError::Range("the replica table"));
}

#[test]
fn intervals_and_their_entries_are_in_order() {
    let mut backwards = tree("push");
    *field(&mut backwards, 2) = u64::MAX.into();
    assert_eq!(refusal(&backwards), DecodeError::Interval);
    let mut beyond = tree("push");
    *field(&mut beyond, 3) = 1_800_000_000_000_000_002_u64.into();
    assert_eq!(refusal(&beyond), DecodeError::EntryOrder);
    for step in [0, u64::MAX] {
        let mut standing = tree("push");
        elements(&mut elements(field(&mut standing, 5))[1])[1] = step.into();
        assert_eq!(refusal(&standing), DecodeError::EntryOrder);
    }
}

#[test]
fn a_live_entry_has_a_value_and_a_tombstone_has_none() {
    let mut bare = tree("push");
    elements(&mut elements(field(&mut bare, 5))[0])[5] = Value::Null;
    assert_eq!(refusal(&bare), DecodeError::BodyMismatch);
    let mut stuffed = tree("push");
    elements(&mut elements(field(&mut stuffed, 5))[1])[5] = Value::Bytes(vec![0x40]);
    assert_eq!(refusal(&stuffed), DecodeError::BodyMismatch);
}

/// scenario 77: bad UTF-8 in the envelope or in a key refuses the message. (For a value, see `opaque`.)
#[test]
fn bad_utf8_is_refused() {
    let (_, message) = samples().swap_remove(0);
    let mut name = bytes_of(&message).to_vec();
    name[5] = 0xff;
    assert_eq!(receive(&name.into()), Err(DecodeError::Utf8("the cache name")));
    let mut key = tree("push");
    elements(&mut elements(field(&mut key, 5))[0])[0] = Value::Bytes(vec![0x61, 0xff]);
    assert_eq!(refusal(&key), DecodeError::Utf8("a key"));
}

/// scenario 77: an indefinite length, in the structure or in a key, refuses the message.
#[test]
fn indefinite_lengths_are_refused() {
    let (_, message) = samples().into_iter().find(|(name, _)| *name == "ack").unwrap();
    let bytes = bytes_of(&message);
    let mut outer = bytes.to_vec();
    outer[1] = 0x9f;
    outer.push(0xff);
    assert_eq!(receive(&outer.into()), Err(DecodeError::Indefinite("a message")));
    let mut inner = bytes.to_vec();
    // The body of an acknowledgement is a map of one field: one byte of head, one of number, nine of time.
    let at = inner.len() - 11;
    inner[at] = 0xbf;
    inner.push(0xff);
    assert_eq!(receive(&inner.into()), Err(DecodeError::Indefinite("an acknowledgement")));
    for indefinite in [&[0x9f, 0xff][..], &[0xbf, 0xff], &[0x5f, 0xff], &[0x7f, 0xff]] {
        let mut key = tree("push");
        elements(&mut elements(field(&mut key, 5))[0])[0] = Value::Bytes(indefinite.to_vec());
        assert!(matches!(refusal(&key), DecodeError::Indefinite("a key")));
    }
}

#[test]
fn there_is_one_way_to_write_a_number() {
    let (_, message) = samples().into_iter().find(|(name, _)| *name == "ack").unwrap();
    let bytes = bytes_of(&message);
    for (long, at) in [(&[0x18, 3][..], 2), (&[0x98, 6][..], 1), (&[0xb8, 1][..], bytes.len() - 11)] {
        let padded: Bytes = [&bytes[..at], long, &bytes[at + 1..]].concat().into();
        assert!(matches!(receive(&padded), Err(DecodeError::NotShortest(_))), "at {at}");
    }
}

#[test]
fn nothing_may_follow() {
    for (_, message) in samples() {
        let longer: Bytes = [&bytes_of(&message)[..], &[0]].concat().into();
        assert_eq!(receive(&longer), Err(DecodeError::Trailing("a message")));
    }
}

fn nested(levels: usize) -> Vec<u8> {
    let mut bytes = vec![0x81; levels];
    bytes.push(0);
    bytes
}

/// scenario 77: nesting of 10,000 levels, in a key or in an unknown field, is refused at a fixed depth. (For a value,
/// see `opaque`.)
#[test]
fn nesting_ends_at_a_fixed_depth() {
    let too_deep = DecodeError::TooDeep { limit: MAX_DEPTH };
    let mut key = tree("push");
    elements(&mut elements(field(&mut key, 5))[0])[0] = Value::Bytes(nested(10_000));
    assert_eq!(refusal(&key), too_deep);

    let (_, message) = samples().into_iter().find(|(name, _)| *name == "ack").unwrap();
    for (levels, expected) in [(MAX_DEPTH, Ok(())), (MAX_DEPTH + 1, Err(too_deep)), (10_000, Err(too_deep))] {
        let mut bytes = bytes_of(&message).to_vec();
        // One more part than this release knows.
        bytes[1] += 1;
        bytes.extend(nested(levels));
        assert_eq!(receive(&bytes.into()), expected);
    }
}
