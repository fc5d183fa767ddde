//! Tests of additions by a newer release, which this release must ignore or refuse.

use ciborium::Value;

use super::golden::samples;
use super::hostile::{body, bytes_of_tree, elements, field, tree};
use super::messages::said;
use super::*;

/// scenario 79: an unknown version is ignored: `peek` reports it as an outcome, not as an error.
#[test]
fn another_version_is_distinguished_from_an_error() {
    for version in [0, 2, 255] {
        let bytes = Bytes::from(vec![version, 1, 2, 3]);
        assert_eq!(peek(&bytes), Ok(Peeked::UnknownVersion(version)));
        assert_eq!(decode_as::<String, Bytes>(&bytes).unwrap_err(), DecodeError::Version(version));
    }
}

/// scenario 79: a message of an unknown kind is ignored, whatever its body.
#[test]
fn another_kind_of_message_is_ignored() {
    for code in [0, 6, 23, 24, 1 << 40] {
        let mut tree = tree("ack");
        elements(&mut tree)[0] = code.into();
        elements(&mut tree)[5] = Value::Text("whatever".into());
        let bytes = bytes_of_tree(&tree);
        assert_eq!(peek(&bytes), Ok(Peeked::UnknownKind { envelope: envelope(), code }));
        let decoded = decode_as::<String, Bytes>(&bytes).unwrap();
        assert_eq!(decoded.envelope, envelope());
        assert!(decoded.message.is_none());
    }
}

/// Returns the value of a new field, with nesting.
fn novelty() -> Value {
    Value::Map(vec![(
        Value::Text("new".into()),
        Value::Array(vec![Value::Null, 1.5.into(), Value::Bytes(vec![0; 40])]),
    )])
}

/// scenario 79: an unknown field or part is skipped, and the rest of the message is decoded.
#[test]
fn new_fields_are_skipped() {
    for (name, message) in samples() {
        let mut tree = tree(name);
        body(&mut tree).push((99.into(), novelty()));
        elements(&mut tree).push(novelty());
        assert_eq!(said(&message_in::<String, Bytes>(&bytes_of_tree(&tree))), said(&message), "{name}");
    }
}

/// scenario 79: a new element of an entry, an interval or a fact is skipped.
#[test]
fn new_elements_of_the_parts_of_a_message_are_skipped() {
    for (name, list) in [("push", 5), ("frame", 7), ("digest", 11), ("audit", 2)] {
        let mut tree = tree(name);
        for part in elements(field(&mut tree, list)) {
            match name {
                // The bounds of fills. An interval without any omits this element.
                "frame" => elements(part).push(Value::Array(Vec::new())),
                // The flag of retired origins. A fact omits it if the member lacks some of them.
                "digest" => elements(part).push(false.into()),
                _ => {}
            }
            elements(part).push(novelty());
        }
        let (_, message) = samples().into_iter().find(|(sample, _)| *sample == name).unwrap();
        assert_eq!(said(&message_in::<String, Bytes>(&bytes_of_tree(&tree))), said(&message), "{name}");
    }
}

/// A new kind of register cannot be skipped: the receiver would claim the interval without that entry.
#[test]
fn a_new_kind_of_register_refuses_the_message() {
    let mut tree = tree("push");
    elements(&mut elements(field(&mut tree, 5))[1])[2] = 5.into();
    let refusal = decode_as::<String, Bytes>(&bytes_of_tree(&tree)).unwrap_err();
    assert_eq!(refusal, DecodeError::Newer { what: "a register kind", code: 5 });
}
