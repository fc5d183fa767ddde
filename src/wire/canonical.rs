//! The canonical encoding of a key: RFC 8949, section 4.2.1.
//!
//! `ciborium` already writes shortest heads and the shortest exact floats. It does not sort maps (a struct is in
//! declaration order, a `HashMap` in any order), and it writes indefinite lengths (`#[serde(flatten)]`). This module
//! normalises both.

use ciborium_ll::{Encoder, Header};

use super::cursor::Cursor;
use super::error::{DecodeError, EncodeError};
use super::limits::MAX_DEPTH;
use super::scan::{self, Rule, take_break};

const WHAT: &str = "a key";

/// Makes `out[start..]` canonical. These bytes must be one item as `ciborium` wrote it.
pub(super) fn settle(out: &mut Vec<u8>, start: usize) -> Result<(), EncodeError> {
    // A key that is canonical as written, such as a string or a number, is not copied.
    let written = out.get(start..).unwrap_or_default();
    match scan::check(written, Rule::Key, MAX_DEPTH) {
        Ok(()) => return Ok(()),
        Err(DecodeError::TooDeep { limit }) => return Err(EncodeError::TooDeep { limit }),
        Err(DecodeError::NotCanonical | DecodeError::Indefinite(_)) => {}
        Err(error) => return Err(EncodeError::Key(error)),
    }
    let mut settled = Vec::with_capacity(written.len());
    let mut cursor = Cursor::new(written);
    item(&mut cursor, &mut settled, MAX_DEPTH)?;
    cursor.end(WHAT).map_err(EncodeError::Key)?;
    out.truncate(start);
    out.append(&mut settled);
    Ok(())
}

/// Copies one item in canonical form. `depth` bounds the recursion.
fn item(cursor: &mut Cursor<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
    let (header, _) = cursor.any_header(WHAT).map_err(EncodeError::Key)?;
    match header {
        Header::Positive(_) | Header::Negative(_) | Header::Float(_) | Header::Simple(_) => push(out, header),
        Header::Bytes(Some(len)) | Header::Text(Some(len)) => {
            push(out, header);
            out.extend_from_slice(cursor.take(len, WHAT).map_err(EncodeError::Key)?);
        }
        Header::Array(len) => array(cursor, out, len, deeper(depth)?)?,
        Header::Map(len) => map(cursor, out, len, deeper(depth)?)?,
        Header::Tag(_) => {
            push(out, header);
            item(cursor, out, deeper(depth)?)?;
        }
        Header::Bytes(None) | Header::Text(None) => return Err(EncodeError::Key(DecodeError::Indefinite(WHAT))),
        Header::Break => return Err(EncodeError::Key(DecodeError::Syntax(WHAT))),
    }
    Ok(())
}

fn deeper(depth: usize) -> Result<usize, EncodeError> {
    depth.checked_sub(1).ok_or(EncodeError::TooDeep { limit: MAX_DEPTH })
}

fn array(cursor: &mut Cursor<'_>, out: &mut Vec<u8>, len: Option<usize>, depth: usize) -> Result<(), EncodeError> {
    // The head needs the count, which an array of indefinite length shows only at its end.
    let mut items = Vec::new();
    let mut count = 0;
    while more(cursor, len, count)? {
        item(cursor, &mut items, depth)?;
        count += 1;
    }
    push(out, Header::Array(Some(count)));
    out.append(&mut items);
    Ok(())
}

/// Copies the pairs of a map, sorted by the bytes of their encoded keys.
fn map(cursor: &mut Cursor<'_>, out: &mut Vec<u8>, len: Option<usize>, depth: usize) -> Result<(), EncodeError> {
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    while more(cursor, len, pairs.len())? {
        let mut pair = (Vec::new(), Vec::new());
        item(cursor, &mut pair.0, depth)?;
        item(cursor, &mut pair.1, depth)?;
        pairs.push(pair);
    }
    pairs.sort_unstable();
    if pairs.windows(2).any(|two| matches!(two, [first, second] if first.0 == second.0)) {
        return Err(EncodeError::DuplicateMapKey);
    }
    push(out, Header::Map(Some(pairs.len())));
    for (key, value) in &pairs {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    Ok(())
}

/// Returns true if another element follows in a container of `len` elements of which `count` have been read.
fn more(cursor: &mut Cursor<'_>, len: Option<usize>, count: usize) -> Result<bool, EncodeError> {
    match len {
        Some(len) => Ok(count < len),
        None => take_break(cursor).map(|found| !found).map_err(EncodeError::Key),
    }
}

fn push(out: &mut Vec<u8>, header: Header) {
    // Writing to a `Vec` cannot fail.
    let _ = Encoder::from(out).push(header);
}
