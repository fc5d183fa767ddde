//! The user's keys and values, through `serde` and `ciborium`.

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

/// The canonical encoding of a key: equal keys must have equal encodings, on every node.
///
/// Definite lengths, shortest heads, maps and structs sorted by their encoded keys (RFC 8949,
/// section 4.2.1), so that neither the order in which a struct declares its fields nor a
/// `HashMap` inside a key matters. The order of *sequences* is part of a key, and a `HashSet`
/// serialises as a sequence: do not put one in a key.
///
/// # Errors
/// If `Serialize` fails, the key nests deeper than [`MAX_DEPTH`], or a map in it lists one key
/// twice.
pub fn encode_key<Q: Serialize + ?Sized>(key: &Q) -> Result<Vec<u8>, EncodeError> {
    // Measuring first bounds the recursion, and sizes the one allocation.
    let mut out = Vec::with_capacity(encoded_len(key, MAX_DEPTH)?);
    write_key(&mut out, key)?;
    Ok(out)
}

/// A key from its canonical encoding.
///
/// # Errors
/// If `bytes` are not the canonical encoding of anything, or of something that is no `K`.
pub fn decode_key<K: DeserializeOwned>(bytes: &[u8]) -> Result<K, DecodeError> {
    scan::check(bytes, Rule::Key, MAX_DEPTH)?;
    read(bytes, &mut Vec::new()).ok_or(DecodeError::Type("a key"))
}

/// How many bytes `value` takes when encoded, without keeping them.
///
/// For a key this is an upper bound, and exact unless it serialises as a map of unknown length.
///
/// # Errors
/// If `Serialize` fails, or the value nests deeper than `max_depth` (at most [`MAX_DEPTH`]): such
/// a value could not be decoded elsewhere.
pub fn encoded_len<T: Serialize + ?Sized>(value: &T, max_depth: usize) -> Result<usize, EncodeError> {
    match Measure::of(value, max_depth.min(MAX_DEPTH)) {
        Ok(len) => return Ok(len),
        Err(Stop::TooDeep) => return Err(EncodeError::TooDeep { limit: max_depth.min(MAX_DEPTH) }),
        Err(Stop::Refused(why)) => return Err(EncodeError::Serialize(why)),
        Err(Stop::AskTheEncoder) => {}
    }
    let mut gauge = Gauge::new(max_depth);
    let result = ciborium::into_writer(value, &mut gauge);
    if gauge.is_too_deep() {
        return Err(EncodeError::TooDeep { limit: gauge.limit() });
    }
    result.map_err(refused)?;
    Ok(gauge.len())
}

/// Appends the canonical encoding of a key that [`encode_key`] has accepted before.
pub(super) fn write_key<Q: Serialize + ?Sized>(out: &mut Vec<u8>, key: &Q) -> Result<(), EncodeError> {
    let start = out.len();
    ciborium::into_writer(key, &mut *out).map_err(refused)?;
    canonical::settle(out, start)
}

/// Appends the encoding of a value that [`encoded_len`] has accepted before.
pub(super) fn write_value<V: Serialize>(out: &mut Vec<u8>, value: &V) -> Result<(), EncodeError> {
    ciborium::into_writer(value, out).map_err(refused)
}

/// A `T` from `bytes`, which were scanned before; nothing if they are no `T`, or if its `Deserialize` panics over them:
/// one value that does it on every node must not keep everything that travels with it from ever arriving.
///
/// `scratch` is kept between calls. `ciborium` refuses any borrowed string that does not fit in it
/// (some types only ask for borrowed ones), and builds longer owned ones piecemeal: it is grown to
/// hold all of `bytes`.
#[inline]
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8], scratch: &mut Vec<u8>) -> Option<T> {
    if scratch.len() < bytes.len() {
        scratch.resize(bytes.len().next_power_of_two().max(256), 0);
    }
    let mut rest = bytes;
    let value = contain(|| ciborium::de::from_reader_with_buffer(&mut rest, scratch).ok()).flatten()?;
    rest.is_empty().then_some(value)
}

/// What code of the user says, unless it panics.
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
