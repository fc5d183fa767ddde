//! Tests of keys and values that are not of the type they are decoded as.

use ciborium::Value;

use super::golden::samples;
use super::hostile::{bytes_of_tree, elements, field, tree};
use super::*;
use crate::item::Body;
use crate::message::{Entry, Push};

fn sample(name: &str) -> Bytes {
    let (_, message) = samples().into_iter().find(|(sample, _)| *sample == name).unwrap();
    bytes_of(&message)
}

fn entries<K, V>(message: &Message<K, V>) -> &[Entry<K, V>] {
    match message {
        Message::Push(Push { entries, .. }) => entries,
        _ => &[],
    }
}

/// scenario 84: a value of another type is kept, counted, and relayed byte for byte.
#[test]
fn values_of_another_type_are_kept_as_they_are() {
    for (name, live) in [("push", 2), ("frame", 2)] {
        let bytes = sample(name);
        let decoded = decode_as::<String, u64>(&bytes).unwrap();
        assert_eq!((decoded.undecodable_keys, decoded.undecodable_values), (0, live));
        assert_eq!(bytes_of(&decoded.message.unwrap()), bytes);
    }
}

/// scenario 84: a key of another type is kept, counted, and relayed byte for byte.
#[test]
fn keys_of_another_type_are_kept_as_they_are() {
    for (name, count) in [("push", 4), ("frame", 3), ("audit", 2)] {
        let bytes = sample(name);
        let decoded = decode_as::<u64, Bytes>(&bytes).unwrap();
        assert_eq!((decoded.undecodable_keys, decoded.undecodable_values), (count, 0));
        assert_eq!(bytes_of(&decoded.message.unwrap()), bytes);
    }
}

#[test]
fn an_opaque_key_has_the_hash_of_the_key_it_stands_for() {
    let bytes = sample("push");
    let known: Message<String, Bytes> = message_in(&bytes);
    let opaque: Message<u64, Bytes> = decode_as(&bytes).unwrap().message.unwrap();
    for (known, opaque) in entries(&known).iter().zip(entries(&opaque)) {
        assert_eq!((known.hash, known.size, known.marker), (opaque.hash, opaque.size, opaque.marker));
    }
}

/// Returns a push whose first entry has these bytes as its value.
fn with_value(value: &[u8]) -> Bytes {
    let mut tree = tree("push");
    elements(&mut elements(field(&mut tree, 5))[0])[5] = Value::Bytes(value.to_vec());
    bytes_of_tree(&tree)
}

/// scenario 75, scenario 77 and scenario 84: a malformed value becomes opaque, and the other entries of the message
/// decode.
#[test]
fn a_value_that_is_no_value_is_set_aside_alone() {
    let deep = [vec![0x81; 10_000], vec![0]].concat();
    let huge = [0x9b, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3];
    let cases: [&[u8]; 9] = [
        b"",           // no item
        &[0x42, 1],    // a truncated string
        &[0x41, 1, 0], // bytes follow
        &[0x61, 0xff], // bad UTF-8
        &[0x1c],       // not a head
        &[0xff],       // a break alone
        &[0x9f, 1],    // an indefinite array without an end
        &deep,
        &huge,
    ];
    for value in cases {
        let bytes = with_value(value);
        let decoded = decode_as::<String, Value>(&bytes).unwrap();
        assert_eq!(decoded.undecodable_values, 1, "{value:?}");
        let message = decoded.message.unwrap();
        let [first, _, third, _] = entries(&message) else { panic!("four entries") };
        assert_eq!(first.item.body, Body::Opaque(Some(Box::new(Bytes::copy_from_slice(value)))));
        assert_eq!(third.item.value(), Some(&Value::Bytes(vec![0, 0xff])));
        assert_eq!(bytes_of(&message), bytes);
    }
}

/// An opaque value has its own copy of its bytes: it must not keep the whole message in memory.
#[test]
fn an_opaque_value_has_its_own_bytes() {
    let bytes = sample("push");
    let decoded = decode_as::<String, u64>(&bytes).unwrap().message.unwrap();
    let within = |part: &Bytes| bytes.as_ptr_range().contains(&part.as_ptr());
    let opaque = entries(&decoded).iter().filter_map(|entry| match &entry.item.body {
        Body::Opaque(Some(part)) => Some(part),
        _ => None,
    });
    assert_eq!(opaque.filter(|part| !within(part)).count(), 2);
}

#[test]
fn opaque_values_weigh_their_size_unless_the_intake_says_otherwise() {
    let bytes = sample("push");
    let decoded = decode_as::<String, u64>(&bytes).unwrap().message.unwrap();
    let weights: Vec<_> = entries(&decoded).iter().map(|entry| (entry.weight, entry.size)).collect();
    assert_eq!(weights, [(119, 119), (0, 5), (8, 8), (0, 6)]);
}
