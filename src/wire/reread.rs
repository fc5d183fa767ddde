//! Check of an encoding by decoding it again. If the writer cannot decode an encoding, no other replica can.
//!
//! `Serialize` and `Deserialize` of one type may disagree. `#[serde(untagged)]`, `#[serde(tag)]` and
//! `#[serde(flatten)]` decode through a buffer that does not support every type. A field that `skip_serializing_if`
//! omits is missing on decoding unless it has `#[serde(default)]`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::limits::MAX_DEPTH;
use super::scan::{self, Rule};
use super::user::{contain, write_key, write_value};

/// Encodes a key and decodes the bytes, as another replica would.
///
/// # Errors
/// The reason that `Deserialize` returns, a panic of it, or a decoded key that differs.
pub(crate) fn reread_key<K: Serialize + DeserializeOwned + PartialEq>(key: &K) -> Result<(), String> {
    let mut bytes = Vec::new();
    write_key(&mut bytes, key).map_err(|error| error.to_string())?;
    let read = decode::<K>(&bytes, Rule::Key)?;
    let same = contain(|| read == *key);
    discard(read);
    match same {
        Some(true) => Ok(()),
        Some(false) => Err("it decodes as a different key: Eq compares something that Serialize does not write".into()),
        None => Err("Eq panicked".into()),
    }
}

/// Encodes a value and decodes the bytes, as another replica would.
///
/// # Errors
/// The reason that `Deserialize` returns, or its panic.
pub(crate) fn reread_value<V: Serialize + DeserializeOwned>(value: &V) -> Result<(), String> {
    let mut bytes = Vec::new();
    write_value(&mut bytes, value).map_err(|error| error.to_string())?;
    decode::<V>(&bytes, Rule::Value).map(discard)
}

/// Decodes a key from its canonical encoding.
///
/// # Errors
/// The reason that `Deserialize` returns, or its panic.
pub(crate) fn read_key<K: DeserializeOwned>(bytes: &[u8]) -> Result<K, String> {
    decode(bytes, Rule::Key)
}

fn decode<T: DeserializeOwned>(bytes: &[u8], rule: Rule) -> Result<T, String> {
    scan::check(bytes, rule, MAX_DEPTH).map_err(|error| error.to_string())?;
    let (mut rest, mut scratch) = (bytes, vec![0; bytes.len().max(256)]);
    let read = || ciborium::de::from_reader_with_buffer::<T, _>(&mut rest, &mut scratch);
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) if rest.is_empty() => Ok(value),
        Ok(Ok(value)) => {
            discard(value);
            Err(format!("{} of {} bytes are left over", rest.len(), bytes.len()))
        }
        Ok(Err(ciborium::de::Error::Semantic(_, reason))) => Err(reason),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(format!("Deserialize panicked: {}", message_of(panic))),
    }
}

fn message_of(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    discard(panic);
    text.unwrap_or_else(|| "no message".into())
}

/// Drops a value whose `Drop` is user code. A panic in it says nothing about the encoding, so it is contained.
fn discard<T>(value: T) {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(value)));
    // The panic's payload is user code as well, and its `Drop` may panic again.
    dropped.unwrap_or_else(std::mem::forget);
}
