//! Tests that each key has one encoding.

use std::collections::{BTreeMap, HashMap};

use ciborium::Value;
use proptest::prelude::*;
use serde::Deserialize;

use super::scan::{Rule, check};
use super::*;

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Before {
    tenant: u32,
    id: String,
}

#[derive(Serialize)]
struct After {
    id: String,
    tenant: u32,
}

#[derive(Serialize)]
struct Flat {
    tenant: u32,
    #[serde(flatten)]
    rest: BTreeMap<String, String>,
}

#[test]
fn neither_declaration_order_nor_flattening_nor_hashing_matters() {
    let key = encode_key(&Before { tenant: 7, id: "x".into() }).unwrap();
    assert_eq!(encode_key(&After { tenant: 7, id: "x".into() }).unwrap(), key);
    assert_eq!(encode_key(&Flat { tenant: 7, rest: [("id".into(), "x".into())].into() }).unwrap(), key);
    assert_eq!(decode_key::<Before>(&key).unwrap(), Before { tenant: 7, id: "x".into() });
    assert_eq!(key, b"\xa2\x62id\x61x\x66tenant\x07");
    let map: HashMap<u32, u32> = (0..50).map(|n| (n * 7919, n)).collect();
    let sorted: BTreeMap<u32, u32> = map.iter().map(|(key, value)| (*key, *value)).collect();
    assert_eq!(encode_key(&map).unwrap(), encode_key(&sorted).unwrap());
}

#[test]
fn a_borrowed_key_is_encoded_as_the_owned_one() {
    assert_eq!(encode_key("user:1").unwrap(), encode_key(&String::from("user:1")).unwrap());
    assert_eq!(encode_key(&("a", 1_u8)).unwrap(), encode_key(&(String::from("a"), 1_u64)).unwrap());
}

/// Hashes of keys must never change: nodes of different releases order the fillers of a key by them.
#[test]
fn hashes_of_keys_never_change() {
    assert_eq!(key_hash(&encode_key("user:1").unwrap()), 0x40d5_c35a_4b58_38ad);
    assert_eq!(key_hash(&encode_key(&Before { tenant: 7, id: "x".into() }).unwrap()), 0xa6cd_fd15_d73c_d491);
    assert_eq!(key_hash(b"abc"), value_hash(b"abc"));
}

#[test]
fn other_encodings_are_refused() {
    for other in [
        &[0x18, 5][..],
        &[0xf9, 0x7c][..],
        &[0xa2, 2, 0, 1, 0],
        &[0xa2, 1, 0, 1, 0],
        &[0xf8, 5],
        &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert!(decode_key::<Value>(other).is_err(), "{other:?}");
    }
    assert_eq!(decode_key::<String>(&[0x61, b'a', 0]), Err(DecodeError::Trailing("a key")));
    assert_eq!(decode_key::<String>(&[1]), Err(DecodeError::Type("a key")));
}

#[test]
fn a_map_that_lists_a_key_twice_is_refused() {
    let twice = Value::Map(vec![(1.into(), 1.into()), (1.into(), 2.into())]);
    assert_eq!(encode_key(&twice), Err(EncodeError::DuplicateMapKey));
}

#[test]
fn a_serialize_that_fails_says_why() {
    struct Stubborn;
    impl Serialize for Stubborn {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    assert_eq!(encode_key(&Stubborn), Err(EncodeError::Serialize("not today".into())));
    assert_eq!(encoded_len(&Stubborn, 9), Err(EncodeError::Serialize("not today".into())));
}

/// Generates any value that `serde` can express.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        (0..300_i32).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        ".{0,30}".prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::vec((inner.clone(), inner.clone()), 0..5).prop_map(Value::Map),
            (0..1000_u64, inner).prop_map(|(tag, value)| Value::Tag(tag, Box::new(value))),
        ]
    })
}

/// Returns `value` with every map in another order.
fn shuffled(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(shuffled).collect()),
        Value::Map(pairs) => {
            Value::Map(pairs.iter().rev().map(|(key, value)| (shuffled(key), shuffled(value))).collect())
        }
        Value::Tag(tag, inner) => Value::Tag(*tag, Box::new(shuffled(inner))),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(crate::testing::proptest_config())]

    #[test]
    fn the_length_is_known_without_the_bytes(value in any_value()) {
        let mut bytes = Vec::new();
        ciborium::into_writer(&value, &mut bytes).unwrap();
        prop_assert_eq!(encoded_len(&value, MAX_DEPTH), Ok(bytes.len()));
        prop_assert_eq!(check(&bytes, Rule::Value, MAX_DEPTH), Ok(()));
        prop_assert_eq!(check(&bytes, Rule::Field, MAX_DEPTH), Ok(()));
    }

    #[test]
    fn the_limit_on_depth_is_the_same_for_writing_and_reading(value in any_value(), depth in 0..6_usize) {
        let mut bytes = Vec::new();
        ciborium::into_writer(&value, &mut bytes).unwrap();
        let reading = check(&bytes, Rule::Value, depth).is_ok();
        prop_assert_eq!(encoded_len(&value, depth).is_ok(), reading);
    }

    /// scenario 78, for keys: equal keys have one encoding, in whatever order their maps are written.
    #[test]
    fn keys_have_one_encoding(value in any_value()) {
        let Ok(key) = encode_key(&value) else {
            // The value has a map with two equal keys, which no map type produces.
            prop_assert_eq!(encode_key(&value), Err(EncodeError::DuplicateMapKey));
            return Ok(());
        };
        prop_assert_eq!(check(&key, Rule::Key, MAX_DEPTH), Ok(()));
        prop_assert_eq!(&encode_key(&shuffled(&value)).unwrap(), &key);
        prop_assert_eq!(key.len(), encoded_len(&value, MAX_DEPTH).unwrap());
    }
}
