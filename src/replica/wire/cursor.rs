//! Reading our own structure from a slice: definite lengths, shortest heads, every length checked
//! against the bytes that are there before anything is done with it.

use ciborium_ll::{Decoder, Encoder, Header, simple};

use super::error::DecodeError;

/// What is left to read.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn end(&self, what: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(what)) }
    }

    /// The next head in any form, and whether it is the shortest one.
    #[inline]
    pub(super) fn any_header(&mut self, what: &'static str) -> Result<(Header, bool), DecodeError> {
        let before = self.rest;
        let header = Decoder::from(&mut self.rest).pull().map_err(|error| match error {
            ciborium_ll::Error::Io(_) => DecodeError::Truncated(what),
            ciborium_ll::Error::Syntax(_) => DecodeError::Syntax(what),
        })?;
        let taken = before.len() - self.rest.len();
        Ok((header, is_shortest(header, before.get(..taken).unwrap_or_default())))
    }

    /// The next head, in its shortest form.
    #[inline]
    pub(super) fn header(&mut self, what: &'static str) -> Result<Header, DecodeError> {
        match self.any_header(what)? {
            (header, true) => Ok(header),
            (_, false) => Err(DecodeError::NotShortest(what)),
        }
    }

    #[inline]
    pub(super) fn uint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        match self.header(what)? {
            Header::Positive(number) => Ok(number),
            _ => Err(DecodeError::Type(what)),
        }
    }

    #[inline]
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        u32::try_from(self.uint(what)?).map_err(|_| DecodeError::Range(what))
    }

    #[inline]
    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        u8::try_from(self.uint(what)?).map_err(|_| DecodeError::Range(what))
    }

    pub(super) fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.header(what)? {
            Header::Simple(simple::TRUE) => Ok(true),
            Header::Simple(simple::FALSE) => Ok(false),
            _ => Err(DecodeError::Type(what)),
        }
    }

    /// Takes a null if one is next.
    #[inline]
    pub(super) fn null(&mut self) -> bool {
        match self.rest.split_first() {
            Some((&super::layout::NULL, rest)) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        match self.header(what)? {
            Header::Bytes(Some(len)) => self.take(len, what),
            Header::Bytes(None) => Err(DecodeError::Indefinite(what)),
            _ => Err(DecodeError::Type(what)),
        }
    }

    pub(super) fn sixteen(&mut self, what: &'static str) -> Result<[u8; 16], DecodeError> {
        self.bytes(what)?.try_into().map_err(|_| DecodeError::Range(what))
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        match self.header(what)? {
            Header::Text(Some(len)) => std::str::from_utf8(self.take(len, what)?).map_err(|_| DecodeError::Utf8(what)),
            Header::Text(None) => Err(DecodeError::Indefinite(what)),
            _ => Err(DecodeError::Type(what)),
        }
    }

    /// The number of elements of an array: never more than there are bytes left.
    #[inline]
    pub(super) fn array(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        match self.header(what)? {
            Header::Array(Some(len)) if len <= self.rest.len() => Ok(len),
            Header::Array(Some(_)) => Err(DecodeError::Truncated(what)),
            Header::Array(None) => Err(DecodeError::Indefinite(what)),
            _ => Err(DecodeError::Type(what)),
        }
    }

    /// The number of elements of an array that has at least `known` of them.
    #[inline]
    pub(super) fn array_of(&mut self, known: usize, what: &'static str) -> Result<usize, DecodeError> {
        let len = self.array(what)?;
        if len < known { Err(DecodeError::Missing(what)) } else { Ok(len) }
    }

    /// The number of pairs of a map: never more than there are bytes left.
    pub(super) fn map(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        match self.header(what)? {
            Header::Map(Some(len)) if len <= self.rest.len() / 2 => Ok(len),
            Header::Map(Some(_)) => Err(DecodeError::Truncated(what)),
            Header::Map(None) => Err(DecodeError::Indefinite(what)),
            _ => Err(DecodeError::Type(what)),
        }
    }
}

/// Whether `written` is the shortest way to write `header`.
#[inline]
fn is_shortest(header: Header, written: &[u8]) -> bool {
    match header {
        Header::Positive(number) | Header::Negative(number) | Header::Tag(number) => written.len() == head_len(number),
        Header::Bytes(Some(len)) | Header::Text(Some(len)) | Header::Array(Some(len)) | Header::Map(Some(len)) => {
            written.len() == head_len(len as u64)
        }
        Header::Bytes(None) | Header::Text(None) | Header::Array(None) | Header::Map(None) | Header::Break => true,
        Header::Float(_) | Header::Simple(_) => rewritten_is(header, written),
    }
}

/// Bytes of the shortest head that says `number`.
#[inline]
pub(super) fn head_len(number: u64) -> usize {
    match number {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

#[cold]
fn rewritten_is(header: Header, written: &[u8]) -> bool {
    let mut buffer = [0; 9];
    let mut free = &mut buffer[..];
    let fits = Encoder::from(&mut free).push(header).is_ok();
    let len = 9 - free.len();
    fits && buffer.get(..len) == Some(written)
}

/// The fields of one of our maps: small numbers in strictly rising order.
pub(super) struct Fields {
    left: usize,
    next: u64,
    what: &'static str,
}

impl Fields {
    pub(super) fn open(cursor: &mut Cursor<'_>, what: &'static str) -> Result<Self, DecodeError> {
        Ok(Self { left: cursor.map(what)?, next: 0, what })
    }

    /// The number of the next field; its value is next under the cursor.
    pub(super) fn next(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<u64>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let field = cursor.uint(self.what)?;
        if field < self.next {
            return Err(DecodeError::FieldOrder(self.what));
        }
        self.next = field.checked_add(1).ok_or(DecodeError::Range(self.what))?;
        Ok(Some(field))
    }
}
