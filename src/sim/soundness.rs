//! What a type must keep to, for its replicas to agree: looked at before any cluster runs, so that a
//! type that breaks it is named in words instead of as a strange schedule.

use std::fmt::Debug;

use super::codec::round_trip;
use super::quiet::caught;
use super::types::{SimKey, SimValue, Types, hash_of};
use crate::cache::CacheSettings;
use crate::replica::wire::{MAX_DEPTH, encode_key, encoded_len};

/// Keys and values that are looked at.
const SAMPLES: u64 = 64;

/// The first thing wrong with the types, in words.
pub(super) fn check<K: SimKey, V: SimValue>(
    types: &Types<K, V>,
    settings: &CacheSettings,
    keys: u64,
) -> Result<(), String> {
    let looked = caught(|| {
        let keys: Vec<_> = (0..keys).map(|n| Sample::of(types, n, settings)).collect::<Result<_, _>>()?;
        (1..keys.len()).try_for_each(|at| keys[..at].iter().try_for_each(|other| keys[at].compare(other)))?;
        (0..SAMPLES).try_for_each(|n| value(types, n, settings))
    });
    looked.unwrap_or_else(|panic| Err(format!("a key or a value panicked: {panic}")))
}

struct Sample<K> {
    n: u64,
    key: K,
    bytes: Vec<u8>,
}

impl<K: SimKey> Sample<K> {
    fn of<V: SimValue>(types: &Types<K, V>, n: u64, settings: &CacheSettings) -> Result<Self, String> {
        let (key, again) = (types.key(n), types.key(n));
        let encode = |key: &K| encode_key(key).map_err(|error| format!("key {n}, {key:?}, cannot be encoded: {error}"));
        let bytes = encode(&key)?;
        let limit = settings.max_key_bytes;
        let read = crate::replica::wire::decode_key::<K>(&bytes);
        let read = read.map_err(|error| unreadable("key", n, &key, &error))?;
        let sample = Self { n, key, bytes };
        let Self { key, bytes, .. } = &sample;
        if *key != again || *key != key.clone() {
            return Err(format!(
                "key {n} is {key:?} once and {again:?} another time: the same number must give an equal key, and a \
                 key must equal its clone"
            ));
        }
        if bytes.len() > limit {
            return Err(format!(
                "key {n}, {key:?}, takes {} bytes, and max_key_bytes is {limit}: shorten it, or raise the limit on \
                 every node",
                bytes.len()
            ));
        }
        if read != *key {
            return Err(format!(
                "key {n}, {key:?}, comes back from the wire as {read:?}: every node would look it up elsewhere. Its \
                 Serialize and Deserialize must be inverse to each other, and Eq must not look at what is skipped"
            ));
        }
        if hash_of(key) != hash_of(&again) || hash_of(key) != hash_of(&read) {
            return Err(format!("two equal keys {key:?} have different hashes: Hash must agree with Eq"));
        }
        if encode(&again)? != *bytes || encode(&read)? != *bytes {
            return Err(format!(
                "two equal keys {key:?} are encoded differently: nodes would take them for different keys. Leave out \
                 HashSets, and whatever Eq does not look at"
            ));
        }
        Ok(sample)
    }

    fn compare(&self, other: &Self) -> Result<(), String> {
        let (a, b) = (format!("key {} ({:?})", other.n, other.key), format!("key {} ({:?})", self.n, self.key));
        match (self.key == other.key, self.bytes == other.bytes) {
            (true, true) => Err(format!("{a} and {b} are equal: different numbers must give different keys")),
            (true, false) => Err(format!(
                "{a} and {b} are equal and encoded differently: nodes would take them for different keys. Eq must \
                 look at everything that Serialize writes"
            )),
            (false, true) => Err(format!(
                "{a} and {b} differ and have one encoding: other nodes cannot tell them apart. Serialize must write \
                 everything that Eq looks at"
            )),
            (false, false) => Ok(()),
        }
    }
}

fn value<K: SimKey, V: SimValue>(types: &Types<K, V>, n: u64, settings: &CacheSettings) -> Result<(), String> {
    let (key, value) = (types.key(0), types.value(n));
    let size = encoded_len(&value, MAX_DEPTH);
    let size = size.map_err(|error| format!("value {n}, {value:?}, cannot be encoded: {error}"))?;
    if size > settings.max_value_bytes {
        return Err(format!(
            "value {n} takes {size} bytes, and max_value_bytes is {}: split it, or raise the limit on every node",
            settings.max_value_bytes
        ));
    }
    if value != value.clone() {
        return Err(format!(
            "value {n}, {value:?}, is not equal to its own clone (a NaN is not): then nobody can say whether two nodes \
             agree. Give the value an equality that holds, for instance by bits"
        ));
    }
    let read = round_trip(types, &key, &value).map_err(|error| unreadable("value", n, &value, &error))?;
    if read != value {
        return Err(format!(
            "value {n}, {value:?}, comes back from the wire as {read:?}: whoever wrote it and all others would \
             disagree for good. Its Serialize and Deserialize must be inverse to each other; a field with \
             #[serde(skip)] must not count for equality"
        ));
    }
    if types.weigh(&key, &value) != types.weigh(&key, &read) {
        return Err(format!("value {n}, {value:?}, weighs differently after a round trip: the weigher must be stable"));
    }
    Ok(())
}

fn unreadable(what: &str, n: u64, it: &impl Debug, error: &dyn std::fmt::Display) -> String {
    format!(
        "{what} {n}, {it:?}, cannot be read back on another node: {error}. Deserialize must accept what Serialize \
         writes; the format is CBOR, which tells types apart as JSON does"
    )
}
