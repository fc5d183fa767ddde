//! The parser of requests from untrusted clients.
//!
//! The codec crate decodes any RESP value, of any depth and length, and restarts at the first byte after an incomplete
//! value. Clients send only flat arrays of bulk strings, so [`Framer`] scans the headers first. It remembers its
//! position, refuses requests that are too big or malformed, and passes only complete requests to the codec.

use redis_protocol::resp2::{decode::decode_range, types::RangeFrame};
use std::fmt;

/// The largest request, in bytes, all arguments together.
pub const MAX_REQUEST: usize = 8 * 1024 * 1024;
/// The most arguments in one request, its name included.
pub const MAX_ARGUMENTS: usize = 128 * 1024;
/// The longest line that a person may type, in bytes.
const MAX_INLINE: usize = 64 * 1024;
/// The longest header line, in bytes.
const MAX_HEADER: usize = 32;

/// The reason for which the server reports an error to a client and closes the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ProtocolError {
    ArgumentCount,
    ArgumentLength,
    NotABulkString(u8),
    MissingLineEnd,
    RequestTooBig,
    LineTooBig,
    UnbalancedQuotes,
    Codec,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ERR Protocol error: ")?;
        match self {
            Self::ArgumentCount => f.write_str("invalid multibulk length"),
            Self::ArgumentLength => f.write_str("invalid bulk length"),
            Self::NotABulkString(byte) => write!(f, "expected '$', got '{}'", byte.escape_ascii()),
            Self::MissingLineEnd => f.write_str("a bulk string is longer than announced"),
            Self::RequestTooBig => write!(f, "request above {MAX_REQUEST} bytes"),
            Self::LineTooBig => f.write_str("too big inline request"),
            Self::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            Self::Codec => f.write_str("not a RESP array"),
        }
    }
}

/// The state of the front of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Front {
    /// A part of a request: call again when more bytes have arrived.
    Part,
    /// A complete RESP array of this many bytes.
    Array(usize),
    /// A complete typed line of this many bytes, line end included.
    Line(usize),
}

/// A scanner for the end of the first request. Its time is linear in the size of the request, even if the bytes arrive
/// one by one.
#[derive(Debug, Default)]
pub struct Framer {
    /// The offset of the next header.
    at: usize,
    /// Arguments still to come; `None` until the header of the array is complete.
    left: Option<usize>,
}

impl Framer {
    /// Scans `input`. It must start where the last complete request ended, and may only have grown since the last
    /// [`Front::Part`].
    pub fn front(&mut self, input: &[u8]) -> Result<Front, ProtocolError> {
        let front = match input.first() {
            None => Front::Part,
            Some(b'*') => self.array(input)?,
            Some(_) => self.line(input)?,
        };
        if front != Front::Part {
            *self = Self::default();
        }
        Ok(front)
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
                    self.at = next;
                    argument_count(count)?
                }
            },
        };
        while left > 0 {
            self.left = Some(left);
            match argument(input, self.at)? {
                None => return Ok(Front::Part),
                Some(next) if next > MAX_REQUEST => return Err(ProtocolError::RequestTooBig),
                Some(next) if next > input.len() => return Ok(Front::Part),
                Some(next) if !input[..next].ends_with(b"\r\n") => return Err(ProtocolError::MissingLineEnd),
                Some(next) => self.at = next,
            }
            left -= 1;
        }
        Ok(Front::Array(self.at))
    }
}

/// Checks the number of arguments. `*-1` and `*0` are empty requests, which get no reply.
fn argument_count(count: i64) -> Result<usize, ProtocolError> {
    let count = usize::try_from(count.max(0)).map_err(|_| ProtocolError::ArgumentCount)?;
    if count > MAX_ARGUMENTS { Err(ProtocolError::ArgumentCount) } else { Ok(count) }
}

/// Returns the end of the bulk string whose header starts at `at`, or `None` while the header is incomplete.
fn argument(input: &[u8], at: usize) -> Result<Option<usize>, ProtocolError> {
    match input.get(at) {
        None => return Ok(None),
        Some(b'$') => {}
        Some(&other) => return Err(ProtocolError::NotABulkString(other)),
    }
    let Some((length, body)) = header(input, at + 1, ProtocolError::ArgumentLength)? else { return Ok(None) };
    let length = usize::try_from(length).map_err(|_| ProtocolError::ArgumentLength)?;
    if length > MAX_REQUEST {
        return Err(ProtocolError::RequestTooBig);
    }
    Ok(Some(body + length + 2))
}

/// Returns the number in the header line at `at`, and the offset of the next line.
fn header(input: &[u8], at: usize, error: ProtocolError) -> Result<Option<(i64, usize)>, ProtocolError> {
    let line = &input[at.min(input.len())..input.len().min(at + MAX_HEADER)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if line.len() < MAX_HEADER { Ok(None) } else { Err(error) };
    };
    match integer(&line[..end]) {
        Some(number) => Ok(Some((number, at + end + 2))),
        None => Err(error),
    }
}

/// Parses a decimal number as Redis writes them: no sign but `-`, no spaces.
pub fn integer(digits: &[u8]) -> Option<i64> {
    if digits.first() == Some(&b'+') {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the arguments of a complete array found by [`Framer::front`], borrowed from the input.
pub fn array_arguments(input: &[u8]) -> Result<Vec<&[u8]>, ProtocolError> {
    let Ok(Some((RangeFrame::Array(items), _))) = decode_range(input) else {
        return if input.starts_with(b"*-") { Ok(Vec::new()) } else { Err(ProtocolError::Codec) };
    };
    let argument = |item: RangeFrame| match item {
        RangeFrame::BulkString((start, end)) => Ok(&input[start..end]),
        _ => Err(ProtocolError::Codec),
    };
    items.into_iter().map(argument).collect()
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

    #[test]
    fn a_request_is_found_however_it_is_cut() {
        for cut in 0..GET.len() {
            let mut framer = Framer::default();
            assert_eq!(framer.front(&GET[..cut]), Ok(Front::Part), "{cut} bytes");
            assert_eq!(framer.front(GET), Ok(Front::Array(GET.len())), "{cut} bytes first");
        }
        assert_eq!(array_arguments(GET), Ok(vec![&b"GET"[..], b"k\r\n"]));
    }

    #[test]
    fn nothing_asked_nothing_given() {
        for nothing in [&b"*0\r\n"[..], b"*-1\r\n", b"*-7\r\n"] {
            assert_eq!(Framer::default().front(nothing), Ok(Front::Array(nothing.len())));
            assert_eq!(array_arguments(nothing), Ok(vec![]));
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let refused = |input: &[u8]| Framer::default().front(input).expect_err("must be refused");
        assert_eq!(refused(b"*1\r\n*1\r\n$1\r\na\r\n"), ProtocolError::NotABulkString(b'*'));
        assert_eq!(refused(b"*x\r\n"), ProtocolError::ArgumentCount);
        assert_eq!(refused(b"*+1\r\n"), ProtocolError::ArgumentCount);
        assert_eq!(refused(b"*99999999999\r\n"), ProtocolError::ArgumentCount);
        assert_eq!(refused(b"*11111111111111111111111111111111111"), ProtocolError::ArgumentCount);
        assert_eq!(refused(b"*1\r\n$-1\r\n"), ProtocolError::ArgumentLength);
        assert_eq!(refused(b"*1\r\n$9999999999\r\n"), ProtocolError::RequestTooBig);
        assert_eq!(refused(b"*1\r\n$1\r\nabc"), ProtocolError::MissingLineEnd);
        assert_eq!(refused(&[b'a'; MAX_INLINE]), ProtocolError::LineTooBig);
    }

    #[test]
    fn requests_below_each_limit_may_together_pass_none() {
        let argument = format!("${}\r\n", MAX_REQUEST / 2);
        let mut input = b"*3\r\n".to_vec();
        for _ in 0..2 {
            input.extend(argument.as_bytes());
            input.resize(input.len() + MAX_REQUEST / 2, b'x');
            input.extend(b"\r\n");
        }
        assert_eq!(Framer::default().front(&input), Err(ProtocolError::RequestTooBig));
    }

    #[test]
    fn typed_lines_are_split_like_redis_does() {
        assert_eq!(Framer::default().front(b"PING\r\nPING"), Ok(Front::Line(6)));
        let words = line_arguments(br#"set  "a b\x41\n" 'it\'s' "" plain"#);
        assert_eq!(words, Ok(vec![b"set".to_vec(), b"a bA\n".to_vec(), b"it's".to_vec(), vec![], b"plain".to_vec()]));
        assert_eq!(line_arguments(b"get \"a"), Err(ProtocolError::UnbalancedQuotes));
        assert_eq!(line_arguments(b"get \"a\"b"), Err(ProtocolError::UnbalancedQuotes));
        assert_eq!(line_arguments(b"  \r\n"), Ok(vec![]));
    }
}
