//! Encoding of the user's keys and values, by `serde` and `ciborium`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::canonical;
use super::error::{DecodeError, EncodeError};
use super::gauge::Gauge;
use super::limits::MAX_DEPTH;
use super::measure::{Measure, Stop};
use super::scan::{self, Rule};
use crate::item::Item;

/// Returns the canonical encoding of a key. Equal keys must have equal encodings on every node.
///
/// The encoding has definite lengths and shortest heads, and sorts maps and structs by their encoded keys (RFC 8949,
/// section 4.2.1). So neither the field order of a struct nor the iteration order of a `HashMap` inside a key matters.
/// The order of *sequences* is part of a key. A `HashSet` serialises as a sequence: do not put one in a key.
///
/// # Errors
/// If `Serialize` fails, the key nests deeper than [`MAX_DEPTH`], or a map in the key lists one key twice.
pub fn encode_key<Q: Serialize + ?Sized>(key: &Q) -> Result<Vec<u8>, EncodeError> {
    // Measuring first bounds the recursion, and sizes the one allocation.
    let mut out = Vec::with_capacity(encoded_len(key, MAX_DEPTH)?);
    write_key(&mut out, key)?;
    Ok(out)
}

/// Decodes a key from its canonical encoding.
///
/// # Errors
/// If `bytes` are not a canonical encoding, or encode something that is not a `K`.
pub fn decode_key<K: DeserializeOwned>(bytes: &[u8]) -> Result<K, DecodeError> {
    scan::check(bytes, Rule::Key, MAX_DEPTH)?;
    read(bytes, &mut Vec::new()).ok_or(DecodeError::Type("a key"))
}

/// Returns the size of the encoding of `value` in bytes, without keeping the encoding.
///
/// For a key that contains a map or sequence of unknown length, the result differs from the canonical encoding by a few
/// bytes for each: the canonical form has a head of one to nine bytes, and the measured form has a head and a break.
///
/// # Errors
/// If `Serialize` fails, or the value nests deeper than `max_depth` (at most [`MAX_DEPTH`]). Other replicas could not
/// decode such a value.
pub fn encoded_len<T: Serialize + ?Sized>(value: &T, max_depth: usize) -> Result<usize, EncodeError> {
    if let Some(len) = measured(Measure::of(value, max_depth.min(MAX_DEPTH)), max_depth)? {
        return Ok(len);
    }
    let mut gauge = Gauge::new(max_depth);
    let result = ciborium::into_writer(value, &mut gauge);
    if gauge.is_too_deep() {
        return Err(EncodeError::TooDeep { limit: gauge.limit() });
    }
    result.map_err(refused)?;
    Ok(gauge.len())
}

/// Returns the size of a key's encoding in bytes. A sequence of unknown length counts as [`encoded_len`] counts it.
///
/// # Errors
/// Those of [`encode_key`].
pub fn key_len<Q: Serialize + ?Sized>(key: &Q) -> Result<usize, EncodeError> {
    match measured(Measure::of_key(key, MAX_DEPTH), MAX_DEPTH)? {
        Some(len) => Ok(len),
        None => encode_key(key).map(|bytes| bytes.len()),
    }
}

/// Converts the result of [`Measure`]. Returns `None` if only the encoder knows the length.
fn measured(result: Result<usize, Stop>, max_depth: usize) -> Result<Option<usize>, EncodeError> {
    match result {
        Ok(len) => Ok(Some(len)),
        Err(Stop::AskTheEncoder) => Ok(None),
        Err(Stop::TooDeep) => Err(EncodeError::TooDeep { limit: max_depth.min(MAX_DEPTH) }),
        Err(Stop::Refused(why)) => Err(EncodeError::Serialize(why)),
    }
}

/// Returns the part of an entry that can no longer be encoded, if there is one.
pub(crate) fn unencodable<K: Serialize, V: Serialize>(item: &Item<K, V>) -> Option<Unencodable> {
    let mut out = Vec::new();
    let key = item.key.known().is_none_or(|key| contain(|| write_key(&mut out, key).is_ok()) == Some(true));
    let value = item.value().is_none_or(|value| contain(|| write_value(&mut out, value).is_ok()) == Some(true));
    match (key, value) {
        (false, _) => Some(Unencodable::Key),
        (true, false) => Some(Unencodable::Value),
        (true, true) => None,
    }
}

/// The part of an entry that cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unencodable {
    Key,
    Value,
}

/// Appends the canonical encoding of a key, which [`encode_key`] must have accepted before.
pub(super) fn write_key<Q: Serialize + ?Sized>(out: &mut Vec<u8>, key: &Q) -> Result<(), EncodeError> {
    let start = out.len();
    ciborium::into_writer(key, &mut *out).map_err(refused)?;
    canonical::settle(out, start)
}

/// Appends the encoding of a value, which [`encoded_len`] must have accepted before.
pub(crate) fn write_value<V: Serialize>(out: &mut Vec<u8>, value: &V) -> Result<(), EncodeError> {
    ciborium::into_writer(value, out).map_err(refused)
}

/// Decodes a `T` from `bytes`, which must have been scanned before. Returns `None` if they are not a `T`, or if its
/// `Deserialize` panics. The panic is contained because the value would cause it on every node, and the rest of its
/// message would never arrive.
///
/// `scratch` is reused between calls, and grown to hold all of `bytes`. `ciborium` refuses a borrowed string that does
/// not fit in it, and some types ask only for borrowed strings. Longer owned strings are built in pieces.
#[inline]
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8], scratch: &mut Vec<u8>) -> Option<T> {
    if scratch.len() < bytes.len() {
        scratch.resize(bytes.len().next_power_of_two().max(256), 0);
    }
    let mut rest = bytes;
    let value = contain(|| ciborium::de::from_reader_with_buffer(&mut rest, scratch).ok()).flatten()?;
    rest.is_empty().then_some(value)
}

/// Runs code of the user. Returns `None` if it panics.
#[inline]
pub(super) fn contain<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok()
}

#[cold]
fn refused(error: ciborium::ser::Error<io::Error>) -> EncodeError {
    match error {
        ciborium::ser::Error::Io(error) => EncodeError::Serialize(error.to_string()),
        ciborium::ser::Error::Value(text) => EncodeError::Serialize(text),
    }
}
