//! The parser of requests from untrusted clients.
//!
//! Clients send flat arrays of strings, or typed lines. [`Framer`] finds the end of the first request and the ranges of
//! its arguments in one pass. It remembers its position, and refuses requests that are too big or malformed. General
//! decoders build any RESP value, of any depth, and start again at the first byte after an incomplete value; a second
//! decoder behind this scan would also read every request twice.

use std::{fmt, ops::Range};

/// The most arguments in one request, its name included.
pub const MAX_ARGUMENTS: usize = 128 * 1024;
/// The longest line that a person may type, in bytes.
const MAX_INLINE: usize = 64 * 1024;
/// The longest header line, in bytes.
const MAX_HEADER: usize = 32;

/// The limits of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes, all arguments together.
    pub bytes: usize,
    /// The most arguments, the name of the command included.
    pub arguments: usize,
}

impl Limits {
    /// The limits of a client that has not sent the password. They are those of Redis.
    pub const STRANGER: Self = Self { bytes: 16 * 1024, arguments: 10 };
}

/// The reason for which the server reports an error to a client and closes the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ProtocolError {
    ArgumentCount,
    ArgumentLength,
    NotABulkString(u8),
    MissingLineEnd,
    RequestTooBig(usize),
    LineTooBig,
    UnbalancedQuotes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR Protocol error: ")?;
        match self {
            Self::ArgumentCount => f.write_str("invalid multibulk length"),
            Self::ArgumentLength => f.write_str("invalid bulk length"),
            Self::NotABulkString(byte) => write!(f, "expected '$', got '{}'", byte.escape_ascii()),
            Self::MissingLineEnd => f.write_str("a bulk string is longer than announced"),
            Self::RequestTooBig(limit) => write!(f, "invalid bulk length: request above {limit} bytes"),
            Self::LineTooBig => f.write_str("too big inline request"),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
        }
    }
}

/// The state of the front of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Front {
    /// A part of a request: call again when more bytes have arrived.
    Part,
    /// A complete array of this many bytes. Its arguments are in [`Framer::ranges`].
    Array(usize),
    /// A complete typed line of this many bytes, line end included.
    Line(usize),
}

/// A scanner for the end of the first request. Its time is linear in the size of the request, even if the bytes arrive
/// one by one.
#[derive(Debug)]
pub struct Framer {
    /// The limits of the next request.
    pub limits: Limits,
    /// The offset of the next header.
    at: usize,
    /// Arguments still to come; `None` until the header of the array is complete.
    left: Option<usize>,
    ranges: Vec<Range<usize>>,
}

impl Framer {
    pub fn new(limits: Limits) -> Self {
        Self { limits, at: 0, left: None, ranges: Vec::new() }
    }

    /// Returns the places of the arguments of the array that [`front`](Self::front) found last.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// Scans `input`. It must start where the last complete request ended, and may only have grown since the last
    /// [`Front::Part`].
    pub fn front(&mut self, input: &[u8]) -> Result<Front, ProtocolError> {
        let front = match input.first() {
            None => return Ok(Front::Part),
            Some(b'*') => self.array(input)?,
            Some(_) => self.line(input)?,
        };
        if front != Front::Part {
            self.at = 0;
            self.left = None;
        }
        Ok(front)
    }

    /// Frees the memory that one large request took.
    pub fn trim(&mut self) {
        if self.left.is_none() && self.ranges.capacity() > 1024 {
            self.ranges = Vec::new();
        }
    }

    fn line(&mut self, input: &[u8]) -> Result<Front, ProtocolError> {
        match input[self.at..].iter().position(|&byte| byte == b'\n') {
            Some(offset) if self.at + offset < MAX_INLINE => Ok(Front::Line(self.at + offset + 1)),
            None if input.len() < MAX_INLINE => {
                self.at = input.len();
                Ok(Front::Part)
            }
            _ => Err(ProtocolError::LineTooBig),
        }
    }

    fn array(&mut self, input: &[u8]) -> Result<Front, ProtocolError> {
        let mut left = match self.left {
            Some(left) => left,
            None => match header(input, 1, ProtocolError::ArgumentCount)? {
                None => return Ok(Front::Part),
                Some((count, next)) => {
                    self.ranges.clear();
                    self.at = next;
                    self.argument_count(count)?
                }
            },
        };
        while left > 0 {
            self.left = Some(left);
            match self.argument(input)? {
                None => return Ok(Front::Part),
                Some(next) => self.at = next,
            }
            left -= 1;
        }
        Ok(Front::Array(self.at))
    }

    /// Checks the number of arguments. `*-1` and `*0` are empty requests, which get no reply.
    fn argument_count(&self, count: i64) -> Result<usize, ProtocolError> {
        let count = usize::try_from(count.max(0)).map_err(|_| ProtocolError::ArgumentCount)?;
        if count > self.limits.arguments { Err(ProtocolError::ArgumentCount) } else { Ok(count) }
    }

    /// Notes the argument whose header is next, and returns its end. Returns `None` while it is incomplete.
    fn argument(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        match input.get(self.at) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::NotABulkString(other)),
        }
        let Some((length, start)) = header(input, self.at + 1, ProtocolError::ArgumentLength)? else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| ProtocolError::ArgumentLength)?;
        // Checked before the sum: the length comes from the client, and the sum must not overflow.
        if length > self.limits.bytes || start + length + 2 > self.limits.bytes {
            return Err(ProtocolError::RequestTooBig(self.limits.bytes));
        }
        let end = start + length;
        match input.get(end..end + 2) {
            None => Ok(None),
            Some(b"\r\n") => {
                self.ranges.push(start..end);
                Ok(Some(end + 2))
            }
            Some(_) => Err(ProtocolError::MissingLineEnd),
        }
    }
}

/// Returns the number in the header line at `at`, and the offset of the next line.
#[inline]
fn header(input: &[u8], at: usize, error: ProtocolError) -> Result<Option<(i64, usize)>, ProtocolError> {
    let line = &input[at.min(input.len())..input.len().min(at + MAX_HEADER)];
    let Some(end) = line.iter().position(|&byte| byte == b'\r') else {
        return if line.len() < MAX_HEADER { Ok(None) } else { Err(error) };
    };
    match (line.get(end + 1), integer(&line[..end])) {
        (None, _) if line.len() < MAX_HEADER => Ok(None),
        (Some(b'\n'), Some(number)) => Ok(Some((number, at + end + 2))),
        _ => Err(error),
    }
}

/// Parses a decimal number as Redis writes them: no sign but `-`, no spaces, no leading zeros.
pub fn integer(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    let mut number: i64 = 0;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        // Built below zero, because the smallest number has no positive counterpart.
        number = number.checked_mul(10)?.checked_sub(i64::from(byte - b'0'))?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}

/// Splits a typed line into words. Quotes work as in redis-cli: `"a\x00\n"` and `'it\'s'`.
pub fn line_arguments(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while !rest.is_empty() {
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after.trim_ascii_start();
    }
    Ok(words)
}

fn word(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), ProtocolError> {
    let mut word = Vec::new();
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            byte if byte.is_ascii_whitespace() => break,
            b'"' | b'\'' => quoted(byte, after, &mut word)?,
            byte => {
                word.push(byte);
                after
            }
        };
    }
    Ok((word, rest))
}

/// Reads up to the closing `quote`, which must be followed by white space or the end of the line.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (&byte, after) = rest.split_first().ok_or(ProtocolError::UnbalancedQuotes)?;
        rest = after;
        if byte == quote {
            let closed = rest.first().is_none_or(u8::is_ascii_whitespace);
            return if closed { Ok(rest) } else { Err(ProtocolError::UnbalancedQuotes) };
        }
        if byte != b'\\' {
            word.push(byte);
            continue;
        }
        let (escaped, after) = escape(quote, rest).ok_or(ProtocolError::UnbalancedQuotes)?;
        word.extend(escaped);
        rest = after;
    }
}

/// Decodes the escape sequence after a backslash; `rest` starts behind the backslash. In single quotes only `\'` is an
/// escape sequence.
fn escape(quote: u8, rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (&byte, after) = rest.split_first()?;
    if quote == b'\'' {
        return Some(if byte == b'\'' { (vec![byte], after) } else { (vec![b'\\'], rest) });
    }
    if let Some(value) = hex_escape(rest) {
        return Some((vec![value], &rest[3..]));
    }
    let value = match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 0x07,
        b'b' => 0x08,
        other => other,
    };
    Some((vec![value], after))
}

fn hex_escape(rest: &[u8]) -> Option<u8> {
    let digits = rest.strip_prefix(b"x")?.get(..2)?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$3\r\nk\r\n\r\n";
    const LIMITS: Limits = Limits { bytes: 8 << 20, arguments: MAX_ARGUMENTS };

    fn framer() -> Framer {
        Framer::new(LIMITS)
    }

    fn words<'a>(framer: &Framer, input: &'a [u8]) -> Vec<&'a [u8]> {
        framer.ranges().iter().map(|range| &input[range.clone()]).collect()
    }

    #[test]
    fn a_request_is_found_however_it_is_cut() {
        for cut in 0..GET.len() {
            let mut framer = framer();
            assert_eq!(framer.front(&GET[..cut]), Ok(Front::Part), "{cut} bytes");
            assert_eq!(framer.front(GET), Ok(Front::Array(GET.len())), "{cut} bytes first");
            assert_eq!(words(&framer, GET), vec![&b"GET"[..], b"k\r\n"]);
        }
    }

    #[test]
    fn an_empty_request_has_no_arguments() {
        for nothing in [&b"*0\r\n"[..], b"*-1\r\n", b"*-7\r\n"] {
            let mut framer = framer();
            assert_eq!(framer.front(GET), Ok(Front::Array(GET.len())));
            assert_eq!(framer.front(nothing), Ok(Front::Array(nothing.len())));
            assert_eq!(words(&framer, nothing), Vec::<&[u8]>::new());
        }
    }

    #[test]
    fn malformed_requests_are_refused() {
        let refused = |input: &[u8]| framer().front(input).expect_err("must be refused");
        assert_eq!(refused(b"*1\r\n*1\r\n$1\r\na\r\n"), ProtocolError::NotABulkString(b'*'));
        assert_eq!(refused(b"*x\r\n"), ProtocolError::ArgumentCount);
        assert_eq!(refused(b"*+1\r\n"), ProtocolError::ArgumentCount);
        assert_eq!(refused(b"*1\rx"), ProtocolError::ArgumentCount);
        assert_eq!(refused(b"*99999999999\r\n"), ProtocolError::ArgumentCount);
        assert_eq!(refused(b"*11111111111111111111111111111111111"), ProtocolError::ArgumentCount);
        assert_eq!(refused(b"*1\r\n$-1\r\n"), ProtocolError::ArgumentLength);
        assert_eq!(refused(b"*1\r\n$9999999999\r\n"), ProtocolError::RequestTooBig(LIMITS.bytes));
        assert_eq!(refused(b"*1\r\n$9223372036854775807\r\n"), ProtocolError::RequestTooBig(LIMITS.bytes));
        assert_eq!(refused(b"*1\r\n$1\r\nabc"), ProtocolError::MissingLineEnd);
        assert_eq!(refused(&[b'a'; MAX_INLINE]), ProtocolError::LineTooBig);
    }

    #[test]
    fn requests_below_each_limit_may_together_pass_none() {
        let half = LIMITS.bytes / 2;
        let mut input = b"*3\r\n".to_vec();
        for _ in 0..2 {
            input.extend(format!("${half}\r\n").as_bytes());
            input.resize(input.len() + half, b'x');
            input.extend(b"\r\n");
        }
        assert_eq!(framer().front(&input), Err(ProtocolError::RequestTooBig(LIMITS.bytes)));
        let mut stranger = Framer::new(Limits::STRANGER);
        assert_eq!(stranger.front(b"*11\r\n"), Err(ProtocolError::ArgumentCount));
    }

    #[test]
    fn integers_are_those_of_redis() {
        for number in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(integer(number.to_string().as_bytes()), Some(number));
        }
        for text in ["", "-", "-0", "+1", "01", " 1", "1 ", "1a", "9223372036854775808", "-9223372036854775809"] {
            assert_eq!(integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn typed_lines_are_split_like_redis_does() {
        assert_eq!(framer().front(b"PING\r\nPING"), Ok(Front::Line(6)));
        let words = line_arguments(br#"set  "a b\x41\n" 'it\'s' "" plain"#);
        assert_eq!(words, Ok(vec![b"set".to_vec(), b"a bA\n".to_vec(), b"it's".to_vec(), vec![], b"plain".to_vec()]));
        assert_eq!(line_arguments(b"get \"a"), Err(ProtocolError::UnbalancedQuotes));
        assert_eq!(line_arguments(b"get \"a\"b"), Err(ProtocolError::UnbalancedQuotes));
        assert_eq!(line_arguments(b"  \r\n"), Ok(vec![]));
    }
}
