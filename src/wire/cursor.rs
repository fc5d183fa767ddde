//! Reader for the structure of a message, over a slice: definite lengths and shortest heads. Every length is checked
//! against the bytes that are left before it is used.

use ciborium_ll::{Decoder, Encoder, Header, simple};

use super::error::DecodeError;

/// The bytes that are left to read. In all functions, `what` names the part that is read, for the error.
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

    /// Reads the next head in any form. The flag is true if the head is in its shortest form.
    #[inline]
    pub(super) fn any_header(&mut self, what: &'static str) -> Result<(Header, bool), DecodeError> {
        let Some(Plain { major, number, shortest }) = self.plain(what)? else { return self.special(what) };
        let len = || usize::try_from(number).map(Some).map_err(|_| DecodeError::Truncated(what));
        let header = match major {
            0 => Header::Positive(number),
            1 => Header::Negative(number),
            2 => Header::Bytes(len()?),
            3 => Header::Text(len()?),
            4 => Header::Array(len()?),
            5 => Header::Map(len()?),
            _ => Header::Tag(number),
        };
        Ok((header, shortest))
    }

    /// Reads a head of a major type and a number. Returns `None`, and reads nothing, if the next head is of another
    /// form.
    ///
    /// Nearly all heads have this form. For them `ciborium-ll` took a third of the time of decoding a message.
    #[inline]
    fn plain(&mut self, what: &'static str) -> Result<Option<Plain>, DecodeError> {
        let (&first, rest) = self.rest.split_first().ok_or(DecodeError::Truncated(what))?;
        let (major, minor) = (first >> 5, first & 0x1f);
        if major == 7 || minor > 27 {
            return Ok(None);
        }
        self.rest = rest;
        let number = match minor {
            24 => self.chunk(what).map(u8::from_be_bytes)?.into(),
            25 => self.chunk(what).map(u16::from_be_bytes)?.into(),
            26 => self.chunk(what).map(u32::from_be_bytes)?.into(),
            27 => self.chunk(what).map(u64::from_be_bytes)?,
            small => return Ok(Some(Plain { major, number: small.into(), shortest: true })),
        };
        // A form with more bytes is the shortest one only if the number does not fit the next smaller form.
        let shortest = number >= SMALLEST[usize::from(minor & 3)];
        Ok(Some(Plain { major, number, shortest }))
    }

    #[inline]
    fn chunk<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(*chunk)
    }

    /// Reads a head of another form: a float, a simple value, an indefinite length, or bytes that are not a head.
    #[cold]
    fn special(&mut self, what: &'static str) -> Result<(Header, bool), DecodeError> {
        let before = self.rest;
        let header = Decoder::from(&mut self.rest).pull().map_err(|error| match error {
            ciborium_ll::Error::Io(_) => DecodeError::Truncated(what),
            ciborium_ll::Error::Syntax(_) => DecodeError::Syntax(what),
        })?;
        let taken = before.len() - self.rest.len();
        Ok((header, is_shortest(header, before.get(..taken).unwrap_or_default())))
    }

    /// Reads the number of the next head, which must have this major type and its shortest form.
    #[inline]
    fn number(&mut self, expected: u8, what: &'static str) -> Result<u64, DecodeError> {
        match self.plain(what)? {
            Some(Plain { major, number, shortest: true }) if major == expected => Ok(number),
            Some(Plain { major, .. }) if major == expected => Err(DecodeError::NotShortest(what)),
            Some(_) => Err(DecodeError::Type(what)),
            None => Err(self.not_plain(expected, what)),
        }
    }

    #[cold]
    fn not_plain(&mut self, expected: u8, what: &'static str) -> DecodeError {
        match (expected, self.special(what)) {
            (2, Ok((Header::Bytes(None), _)))
            | (3, Ok((Header::Text(None), _)))
            | (4, Ok((Header::Array(None), _)))
            | (5, Ok((Header::Map(None), _))) => DecodeError::Indefinite(what),
            (_, Ok(_)) => DecodeError::Type(what),
            (_, Err(error)) => error,
        }
    }

    /// Reads a length. Fails if fewer than `unit` bytes are left for each element.
    #[inline]
    fn length(&mut self, major: u8, unit: usize, what: &'static str) -> Result<usize, DecodeError> {
        let number = self.number(major, what)?;
        let fits = |len: &usize| *len <= self.rest.len() / unit;
        usize::try_from(number).ok().filter(fits).ok_or(DecodeError::Truncated(what))
    }

    #[inline]
    pub(super) fn uint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.number(0, what)
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
        match self.any_header(what)? {
            (Header::Simple(simple::TRUE), true) => Ok(true),
            (Header::Simple(simple::FALSE), true) => Ok(false),
            _ => Err(DecodeError::Type(what)),
        }
    }

    /// Takes a null if it is the next item. Returns true if it was.
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
        let len = self.length(2, 1, what)?;
        self.take(len, what)
    }

    pub(super) fn sixteen(&mut self, what: &'static str) -> Result<[u8; 16], DecodeError> {
        self.bytes(what)?.try_into().map_err(|_| DecodeError::Range(what))
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let len = self.length(3, 1, what)?;
        std::str::from_utf8(self.take(len, what)?).map_err(|_| DecodeError::Utf8(what))
    }

    /// Reads the number of elements of an array, which is never more than the bytes that are left.
    #[inline]
    pub(super) fn array(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        self.length(4, 1, what)
    }

    /// Reads the number of elements of an array, which must have at least `known` elements.
    #[inline]
    pub(super) fn array_of(&mut self, known: usize, what: &'static str) -> Result<usize, DecodeError> {
        let len = self.array(what)?;
        if len < known { Err(DecodeError::Missing(what)) } else { Ok(len) }
    }

    /// Reads the number of pairs of a map. The number is never more than half the bytes that are left.
    pub(super) fn map(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        self.length(5, 2, what)
    }
}

/// A head that consists of a major type and a number.
struct Plain {
    major: u8,
    number: u64,
    shortest: bool,
}

/// The smallest numbers that need one, two, four and eight bytes after the first.
const SMALLEST: [u64; 4] = [24, 0x100, 0x1_0000, 0x1_0000_0000];

/// Returns true if `written` is the shortest encoding of `header`, a float or a simple value.
fn is_shortest(header: Header, written: &[u8]) -> bool {
    let mut buffer = [0; 9];
    let mut free = &mut buffer[..];
    let fits = Encoder::from(&mut free).push(header).is_ok();
    let len = 9 - free.len();
    fits && buffer.get(..len) == Some(written)
}

/// The fields of a map of this format: small numbers in strictly rising order.
pub(super) struct Fields {
    left: usize,
    next: u64,
    what: &'static str,
}

impl Fields {
    pub(super) fn open(cursor: &mut Cursor<'_>, what: &'static str) -> Result<Self, DecodeError> {
        Ok(Self { left: cursor.map(what)?, next: 0, what })
    }

    /// Returns the number of the next field, and leaves the cursor at its value.
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
