//! Check of one CBOR item without building anything from it.
//!
//! A key, a value or an unknown field is scanned before `serde` reads it. So no length that exceeds the bytes, and no
//! nesting above the limit, reaches an allocator or the stack.

use ciborium_ll::Header;

use super::cursor::Cursor;
use super::error::DecodeError;

/// The rule that an item must satisfy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A field of this format from a newer release: definite lengths, UTF-8.
    Field,
    /// A user's value: well-formed. Arrays and maps may have an indefinite length: `serde` writes one for a container
    /// of unknown length (`#[serde(flatten)]`).
    Value,
    /// A user's key: the canonical encoding (RFC 8949, section 4.2.1).
    Key,
}

/// Reads one item from `cursor`.
pub(super) fn skip(cursor: &mut Cursor<'_>, rule: Rule, max_depth: usize) -> Result<(), DecodeError> {
    Scan { rule, max_depth }.item(cursor, max_depth)
}

/// Checks that `bytes` are exactly one item.
pub(super) fn check(bytes: &[u8], rule: Rule, max_depth: usize) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    skip(&mut cursor, rule, max_depth)?;
    cursor.end(rule.what())
}

impl Rule {
    fn what(self) -> &'static str {
        match self {
            Self::Field => "an unknown field",
            Self::Value => "a value",
            Self::Key => "a key",
        }
    }
}

#[derive(Clone, Copy)]
struct Scan {
    rule: Rule,
    max_depth: usize,
}

impl Scan {
    /// Reads one item. `depth` is the number of levels that are still allowed: it bounds the recursion.
    fn item(self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), DecodeError> {
        match self.header(cursor)? {
            Header::Positive(_) | Header::Negative(_) | Header::Float(_) | Header::Simple(_) => Ok(()),
            Header::Bytes(Some(len)) => cursor.take(len, self.rule.what()).map(drop),
            Header::Text(Some(len)) => self.text(cursor.take(len, self.rule.what())?),
            Header::Bytes(None) | Header::Text(None) => Err(DecodeError::Indefinite(self.rule.what())),
            Header::Array(Some(len)) => self.items(cursor, len, self.deeper(depth)?),
            Header::Map(Some(len)) => self.pairs(cursor, len, self.deeper(depth)?),
            Header::Array(None) => self.until_break(cursor, 1, self.deeper(depth)?),
            Header::Map(None) => self.until_break(cursor, 2, self.deeper(depth)?),
            Header::Tag(_) => self.item(cursor, self.deeper(depth)?),
            Header::Break => Err(DecodeError::Syntax(self.rule.what())),
        }
    }

    fn header(self, cursor: &mut Cursor<'_>) -> Result<Header, DecodeError> {
        match cursor.any_header(self.rule.what())? {
            (_, false) if self.rule == Rule::Key => Err(DecodeError::NotCanonical),
            (header, _) => Ok(header),
        }
    }

    fn deeper(self, depth: usize) -> Result<usize, DecodeError> {
        depth.checked_sub(1).ok_or(DecodeError::TooDeep { limit: self.max_depth })
    }

    /// Checks that a text is UTF-8, except in a value: `serde` checks the text that it reads there.
    fn text(self, text: &[u8]) -> Result<(), DecodeError> {
        if self.rule == Rule::Value || std::str::from_utf8(text).is_ok() {
            return Ok(());
        }
        Err(DecodeError::Utf8(self.rule.what()))
    }

    /// Reads `count` items. Each item takes at least one byte, so a larger count than bytes left is refused at once.
    fn items(self, cursor: &mut Cursor<'_>, count: usize, depth: usize) -> Result<(), DecodeError> {
        if count > cursor.rest().len() {
            return Err(DecodeError::Truncated(self.rule.what()));
        }
        (0..count).try_for_each(|_| self.item(cursor, depth))
    }

    fn pairs(self, cursor: &mut Cursor<'_>, count: usize, depth: usize) -> Result<(), DecodeError> {
        if self.rule == Rule::Key {
            return self.sorted_pairs(cursor, count, depth);
        }
        let items = count.checked_mul(2).ok_or(DecodeError::Truncated(self.rule.what()))?;
        self.items(cursor, items, depth)
    }

    fn sorted_pairs(self, cursor: &mut Cursor<'_>, count: usize, depth: usize) -> Result<(), DecodeError> {
        let mut previous: Option<&[u8]> = None;
        for _ in 0..count {
            let key = self.slice(cursor, depth)?;
            if previous.is_some_and(|previous| previous >= key) {
                return Err(DecodeError::NotCanonical);
            }
            previous = Some(key);
            self.item(cursor, depth)?;
        }
        Ok(())
    }

    /// Returns the bytes of one item.
    fn slice<'a>(self, cursor: &mut Cursor<'a>, depth: usize) -> Result<&'a [u8], DecodeError> {
        let start = cursor.rest();
        self.item(cursor, depth)?;
        Ok(start.get(..start.len() - cursor.rest().len()).unwrap_or_default())
    }

    /// Reads the items of an array (`group` 1) or map (`group` 2) of indefinite length.
    fn until_break(self, cursor: &mut Cursor<'_>, group: usize, depth: usize) -> Result<(), DecodeError> {
        if self.rule != Rule::Value {
            return Err(DecodeError::Indefinite(self.rule.what()));
        }
        while !take_break(cursor)? {
            self.items(cursor, group, depth)?;
        }
        Ok(())
    }
}

/// Takes a break if it is the next head. Returns true if it was.
pub(super) fn take_break(cursor: &mut Cursor<'_>) -> Result<bool, DecodeError> {
    let mut ahead = *cursor;
    let found = matches!(ahead.any_header("an indefinite item")?, (Header::Break, _));
    if found {
        *cursor = ahead;
    }
    Ok(found)
}
