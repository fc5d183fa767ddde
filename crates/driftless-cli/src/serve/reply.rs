//! The encoder of replies, in both versions of the protocol.
//!
//! Commands write their reply straight into the output of the connection: no tree of frames is built. A reply that
//! exists only in version 3 (a map, a set, a push) is written as an array in version 2, as Redis does.

use bytes::{BufMut, BytesMut};

/// The version of the protocol that a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// RESP2, with which every connection starts.
    #[default]
    Two,
    /// RESP3, which a client selects by `HELLO 3`.
    Three,
}

/// The replies that a connection has yet to send.
#[derive(Debug, Default)]
pub struct Output {
    /// The encoded replies.
    pub bytes: BytesMut,
    /// The version in which replies are encoded.
    pub protocol: Protocol,
}

impl Output {
    /// Appends a status such as `OK`. The text has no line break.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// Appends an error. Line breaks in the message become spaces, because an error is a single line.
    pub fn error(&mut self, message: &str) {
        if message.contains(['\r', '\n']) {
            self.line(b'-', message.replace(['\r', '\n'], " ").as_bytes());
        } else {
            self.line(b'-', message.as_bytes());
        }
    }

    /// Appends an integer.
    pub fn integer(&mut self, number: i64) {
        self.header(b':', number);
    }

    /// Appends a number of things, which is never negative.
    pub fn count(&mut self, number: impl TryInto<i64>) {
        self.integer(number.try_into().unwrap_or(i64::MAX));
    }

    /// Appends a string of any bytes.
    #[inline]
    pub fn bulk(&mut self, value: &[u8]) {
        self.bytes.reserve(value.len() + 32);
        self.header(b'$', i64::try_from(value.len()).unwrap_or(i64::MAX));
        self.bytes.put_slice(value);
        self.bytes.put_slice(b"\r\n");
    }

    /// Appends a string, or null if there is none.
    #[inline]
    pub fn bulk_or_null(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bulk(value),
            None => self.null(),
        }
    }

    /// Appends a text for people: a verbatim string in version 3.
    pub fn text(&mut self, text: &str) {
        match self.protocol {
            Protocol::Two => self.bulk(text.as_bytes()),
            Protocol::Three => {
                self.header(b'=', i64::try_from(text.len() + 4).unwrap_or(i64::MAX));
                self.bytes.put_slice(b"txt:");
                self.bytes.put_slice(text.as_bytes());
                self.bytes.put_slice(b"\r\n");
            }
        }
    }

    /// Appends null: the absence of a string.
    #[inline]
    pub fn null(&mut self) {
        self.bytes.put_slice(match self.protocol {
            Protocol::Two => b"$-1\r\n",
            Protocol::Three => b"_\r\n",
        });
    }

    /// Appends null in the place of an array.
    pub fn null_array(&mut self) {
        self.bytes.put_slice(match self.protocol {
            Protocol::Two => b"*-1\r\n",
            Protocol::Three => b"_\r\n",
        });
    }

    /// Starts an array: this many replies follow.
    pub fn array(&mut self, length: usize) {
        self.header(b'*', i64::try_from(length).unwrap_or(i64::MAX));
    }

    /// Starts a map: this many pairs follow.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Two => self.array(2 * pairs),
            Protocol::Three => self.header(b'%', i64::try_from(pairs).unwrap_or(i64::MAX)),
        }
    }

    /// Starts a set: this many different replies follow.
    pub fn set(&mut self, length: usize) {
        match self.protocol {
            Protocol::Two => self.array(length),
            Protocol::Three => self.header(b'~', i64::try_from(length).unwrap_or(i64::MAX)),
        }
    }

    /// Starts a message that answers no request: this many replies follow.
    pub fn push(&mut self, length: usize) {
        match self.protocol {
            Protocol::Two => self.array(length),
            Protocol::Three => self.header(b'>', i64::try_from(length).unwrap_or(i64::MAX)),
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.bytes.reserve(text.len() + 3);
        self.bytes.put_u8(kind);
        self.bytes.put_slice(text);
        self.bytes.put_slice(b"\r\n");
    }

    #[inline]
    fn header(&mut self, kind: u8, number: i64) {
        let mut digits = itoa::Buffer::new();
        self.line(kind, digits.format(number).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_protocol::{
        resp2::{decode::decode as decode_two, types::OwnedFrame as Two},
        resp3::{decode::complete::decode as decode_three, types::OwnedFrame as Three},
    };

    fn encoded(protocol: Protocol, write: impl FnOnce(&mut Output)) -> Vec<u8> {
        let mut output = Output { protocol, ..Output::default() };
        write(&mut output);
        output.bytes.to_vec()
    }

    /// Decodes by another crate, which must consume all bytes.
    fn two(write: impl FnOnce(&mut Output)) -> Two {
        let bytes = encoded(Protocol::Two, write);
        let (frame, length) = decode_two(&bytes).expect("valid").expect("complete");
        assert_eq!(length, bytes.len());
        frame
    }

    fn three(write: impl FnOnce(&mut Output)) -> Three {
        let bytes = encoded(Protocol::Three, write);
        let (frame, length) = decode_three(&bytes).expect("valid").expect("complete");
        assert_eq!(length, bytes.len());
        frame
    }

    #[test]
    fn another_decoder_reads_every_kind_of_reply() {
        assert_eq!(two(|out| out.simple("OK")), Two::SimpleString(b"OK".to_vec()));
        assert_eq!(two(|out| out.error("ERR a\r\nb")), Two::Error("ERR a  b".into()));
        assert_eq!(two(|out| out.integer(i64::MIN)), Two::Integer(i64::MIN));
        assert_eq!(two(|out| out.bulk(b"a\r\n\0")), Two::BulkString(b"a\r\n\0".to_vec()));
        assert_eq!(two(Output::null), Two::Null);
        assert_eq!(two(Output::null_array), Two::Null);
        assert_eq!(three(Output::null), Three::Null);
        assert_eq!(three(Output::null_array), Three::Null);
        let pair = |out: &mut Output| {
            out.map(1);
            out.bulk(b"k");
            out.count(7usize);
        };
        assert_eq!(two(pair), Two::Array(vec![Two::BulkString(b"k".to_vec()), Two::Integer(7)]));
        let Three::Map { data, .. } = three(pair) else { panic!("a map") };
        assert_eq!(data.len(), 1);
        let pushed = three(|out| {
            out.push(2);
            out.bulk(b"invalidate");
            out.null();
        });
        assert!(matches!(pushed, Three::Push { ref data, .. } if data.len() == 2), "{pushed:?}");
        assert!(matches!(three(|out| out.text("ab")), Three::VerbatimString { ref data, .. } if data == b"ab"));
        let set = three(|out| {
            out.set(1);
            out.simple("write");
        });
        assert!(matches!(set, Three::Set { .. }));
    }
}
