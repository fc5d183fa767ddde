//! Tests of the wire format: its laws, and that hostile bytes cannot do harm.

mod bench;
mod forwarding;
mod future;
mod golden;
mod hostile;
mod identity;
mod keys;
mod limits;
mod messages;
mod opaque;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::*;
use crate::item::Key;
use crate::message::Message;
use crate::replica_id::ReplicaId;

/// An intake whose hash and weight differ from each other and from zero.
struct TestIntake;

impl<K: Serialize, V> Intake<K, V> for TestIntake {
    fn hash(&self, key: &Key<K>) -> u64 {
        match key.known() {
            Some(key) => key_hash(&encode_key(key).unwrap()),
            None => key_hash(key.opaque()),
        }
    }

    fn weigh(&self, _: &K, _: &V) -> u32 {
        7
    }
}

fn id(n: u8) -> ReplicaId {
    ReplicaId::from_bytes([n; 16])
}

fn envelope() -> Envelope<'static> {
    Envelope { cache: "sessions", from: id(9), node: Uuid::from_bytes([0xab; 16]) }
}

fn bytes_of<K: Serialize, V: Serialize>(message: &Message<K, V>) -> Bytes {
    encode(&envelope(), message).unwrap()
}

fn decode_as<K: Serialize + DeserializeOwned, V: DeserializeOwned>(
    bytes: &Bytes,
) -> Result<Decoded<'_, K, V>, DecodeError> {
    decode(bytes, &TestIntake, &Limits::default())
}

/// Decodes `bytes`, which must be valid, of a known kind, and of these types.
fn message_in<K: Serialize + DeserializeOwned, V: DeserializeOwned>(bytes: &Bytes) -> Message<K, V> {
    let decoded = decode_as(bytes).unwrap();
    assert_eq!((decoded.undecodable_keys, decoded.undecodable_values), (0, 0));
    decoded.message.unwrap()
}
