//! The conditions that a type must meet for its replicas to agree. They are checked before any cluster runs, and for
//! each later value that a run makes. So a type that breaks a condition is named in the error message, instead of
//! causing a failing schedule.

use std::cell::Cell;
use std::fmt::Debug;

use super::codec::round_trip;
use super::quiet::caught;
use super::trace::brief;
use super::types::{SimKey, SimValue, Types, hash_of};
use crate::wire::{self, MAX_DEPTH, encode_key, encoded_len};

/// The number of keys and values that are checked before a run.
pub(super) const SAMPLES: u64 = 64;

/// Checks this many keys, and the first values. Returns the first mistake in words.
pub(super) fn check<K: SimKey, V: SimValue>(types: &Types<K, V>, keys: u64) -> Result<(), String> {
    let keys: Vec<_> = (0..keys.max(SAMPLES)).map(|n| sample(types, n)).collect::<Result<_, _>>()?;
    let alike = |at: usize| keys[..at].iter().try_for_each(|other| keys[at].compare(other));
    caught(|| (1..keys.len()).try_for_each(alike))
        .unwrap_or_else(|panic| Err(panicked("the Eq", "the keys", &panic)))?;
    (0..SAMPLES).try_for_each(|n| check_value(types, n))
}

/// Checks the `n`-th value, unless that was done before.
pub(super) fn check_value<K: SimKey, V: SimValue>(types: &Types<K, V>, n: u64) -> Result<(), String> {
    if n < types.sound() {
        return Ok(());
    }
    let doing = Cell::new("");
    let looked = caught(|| value(types, n, &doing).map_err(unfit));
    looked.unwrap_or_else(|panic| Err(panicked(doing.get(), &format!("value {n}"), &panic)))?;
    types.note_sound(n);
    Ok(())
}

fn unfit(what: String) -> String {
    format!("these types cannot be replicated: {what}")
}

fn panicked(who: &str, over: &str, panic: &str) -> String {
    format!("{who} panicked for {over}: {panic}")
}

struct Sample<K> {
    n: u64,
    key: K,
    bytes: Vec<u8>,
}

fn sample<K: SimKey, V: SimValue>(types: &Types<K, V>, n: u64) -> Result<Sample<K>, String> {
    let doing = Cell::new("");
    let looked = caught(|| {
        let sample = Sample::of(types, n, &doing).map_err(unfit)?;
        // `value` calls the weigher with every value and the first key; this calls it with every key and the first
        // value.
        doing.set("your value generator");
        let value = types.value(0);
        doing.set("your weigher");
        types.weigh(&sample.key, &value);
        Ok(sample)
    });
    looked.unwrap_or_else(|panic| Err(panicked(doing.get(), &format!("key {n}"), &panic)))
}

impl<K: SimKey> Sample<K> {
    fn of<V: SimValue>(types: &Types<K, V>, n: u64, doing: &Cell<&'static str>) -> Result<Self, String> {
        doing.set("your key generator");
        let key = types.key(n);
        // Drop one key separately: a panic in `drop` during another panic would abort the process.
        doing.set("the Drop of the key");
        drop(key);
        doing.set("your key generator");
        let (key, again) = (types.key(n), types.key(n));
        doing.set("the Clone of the key");
        let clone = key.clone();
        doing.set("the Eq, Hash, Debug, Serialize or Deserialize of the key");
        equal_to_itself("key", n, &key, &clone)?;
        let encode =
            |key: &K| encode_key(key).map_err(|error| format!("key {n}, {}, cannot be encoded: {error}", brief(key)));
        let bytes = encode(&key)?;
        let read = wire::decode_key::<K>(&bytes);
        let read = read.map_err(|error| unreadable("key", n, &key, &error.to_string(), || wire::reread_key(&key)))?;
        if key != again {
            return Err(format!(
                "key {n} is {} in one call and {} in another: the generator must return equal keys for one number",
                brief(&key),
                brief(&again)
            ));
        }
        let sample = Self { n, key, bytes };
        sample.check(types.limits.max_key_bytes, &read)?;
        if hash_of(&sample.key) != hash_of(&again) || hash_of(&sample.key) != hash_of(&read) {
            let key = brief(&sample.key);
            return Err(format!("two equal keys {key} have different hashes: Hash must agree with Eq"));
        }
        if encode(&again)? != sample.bytes || encode(&read)? != sample.bytes {
            return Err(format!(
                "two equal keys {} have different encodings, so nodes would treat them as different keys. Leave out \
                 HashSets, and everything that Eq does not compare",
                brief(&sample.key)
            ));
        }
        Ok(sample)
    }

    fn check(&self, limit: usize, read: &K) -> Result<(), String> {
        let Self { n, key, bytes } = self;
        if bytes.len() > limit {
            return Err(format!(
                "key {n}, {}, takes {} bytes, and max_key_bytes is {limit}: shorten it, or raise the limit on every \
                 node",
                brief(key),
                bytes.len()
            ));
        }
        if read != key {
            return Err(format!(
                "key {n}, {}, decodes as {}: other nodes would look up a different key. Its Serialize and \
                 Deserialize must be inverse to each other, and Eq must not compare skipped fields",
                brief(key),
                brief(read)
            ));
        }
        Ok(())
    }

    fn compare(&self, other: &Self) -> Result<(), String> {
        let what = match (self.key == other.key, self.bytes == other.bytes) {
            (false, false) => return Ok(()),
            (true, true) => "are equal: the generator must return different keys for different numbers",
            (true, false) => {
                "are equal, but have different encodings, so nodes would treat them as different keys. Eq must \
                 compare everything that Serialize writes"
            }
            (false, true) => {
                "differ, but have the same encoding, so other nodes cannot distinguish them. Serialize must write \
                 everything that Eq compares"
            }
        };
        let name = |it: &Self| format!("key {} ({})", it.n, brief(&it.key));
        Err(unfit(format!("{} and {} {what}", name(other), name(self))))
    }
}

fn value<K: SimKey, V: SimValue>(types: &Types<K, V>, n: u64, doing: &Cell<&'static str>) -> Result<(), String> {
    doing.set("your value generator");
    let value = types.value(n);
    doing.set("the Drop of your values");
    drop(value);
    doing.set("your generator");
    let (key, value) = (types.key(0), types.value(n));
    doing.set("the Serialize of your values");
    let size = encoded_len(&value, MAX_DEPTH);
    doing.set("the Debug of your values");
    let size = size.map_err(|error| format!("value {n}, {}, cannot be encoded: {error}", brief(&value)))?;
    let limit = types.limits.max_value_bytes;
    if size > limit {
        return Err(format!(
            "value {n} takes {size} bytes, and max_value_bytes is {limit}: split it, or raise the limit on every node"
        ));
    }
    doing.set("the Clone of your values");
    let clone = value.clone();
    doing.set("the PartialEq of your values");
    equal_to_itself("value", n, &value, &clone)?;
    doing.set("the Serialize or Deserialize of your values");
    let read = round_trip(types, &key, &value);
    let read = read.map_err(|error| unreadable("value", n, &value, &error, || wire::reread_value(&value)))?;
    doing.set("the PartialEq of your values");
    if read != value {
        return Err(format!(
            "value {n}, {}, decodes as {}: the writer and all other nodes would disagree permanently. Its Serialize \
             and Deserialize must be inverse to each other, and PartialEq must not compare a field with \
             #[serde(skip)]",
            brief(&value),
            brief(&read)
        ));
    }
    doing.set("your weigher");
    if types.weigh(&key, &value) != types.weigh(&key, &read) {
        let value = brief(&value);
        return Err(format!("value {n}, {value}, weighs differently after a round trip: the weigher must be stable"));
    }
    Ok(())
}

fn equal_to_itself<T: PartialEq + Debug>(what: &str, n: u64, it: &T, clone: &T) -> Result<(), String> {
    let itself = it;
    if it != itself {
        return Err(format!(
            "{what} {n}, {}, is not equal to itself (a NaN is not), so the simulator cannot compare two nodes. Give \
             the {what} an equality that is reflexive, for instance by bits",
            brief(it)
        ));
    }
    if it != clone {
        return Err(format!(
            "{what} {n}, {}, is not equal to its own clone, {}: Clone must return an equal {what}, because readers \
             receive clones",
            brief(it),
            brief(clone)
        ));
    }
    Ok(())
}

/// Returns the error for a key or value that cannot be decoded, with the reason from `Deserialize`. The cache itself
/// does not keep that reason.
fn unreadable(what: &str, n: u64, it: &impl Debug, error: &str, reread: impl FnOnce() -> Result<(), String>) -> String {
    let reason = match caught(reread) {
        Ok(Ok(())) => String::new(),
        Ok(Err(reason)) => format!(": {reason}"),
        Err(panic) => format!(": Deserialize panicked: {panic}"),
    };
    format!(
        "{what} {n}, {}, cannot be read back on another node: {error}{reason}. Deserialize must accept what \
         Serialize writes. The format is CBOR, which distinguishes types as JSON does. #[serde(flatten)] and \
         #[serde(untagged)] read through a buffer that does not support every type, and a field with \
         skip_serializing_if needs #[serde(default)]",
        brief(it)
    )
}
