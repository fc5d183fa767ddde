//! A client of the Redis protocol without the codec crate, so that the server's codec is tested independently.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Reply>),
    /// The kinds of version 3. A map is a list of pairs.
    Map(Vec<(Reply, Reply)>),
    Set(Vec<Reply>),
    Push(Vec<Reply>),
    Text(String),
}

impl Reply {
    pub fn ok() -> Self {
        Self::Simple("OK".to_owned())
    }

    pub fn bulk(text: &str) -> Self {
        Self::Bulk(text.as_bytes().to_vec())
    }

    pub fn bulks(texts: &[&str]) -> Self {
        Self::Array(texts.iter().map(|text| Self::bulk(text)).collect())
    }

    /// Returns the bytes of a string of either version.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Simple(text) | Self::Text(text) | Self::Error(text) => text.clone(),
            other => panic!("want a text, got {other:?}"),
        }
    }

    /// Returns the value under a field of a map, of either version.
    pub fn field(&self, name: &str) -> Option<Reply> {
        match self {
            Self::Map(pairs) => pairs.iter().find(|(key, _)| *key == Self::bulk(name)).map(|(_, value)| value.clone()),
            Self::Array(items) => {
                let (pairs, _) = items.as_chunks::<2>();
                pairs.iter().find(|[key, _]| *key == Self::bulk(name)).map(|[_, value]| value.clone())
            }
            _ => None,
        }
    }
}

/// Encodes one request in wire format.
pub fn command(words: &[&str]) -> Vec<u8> {
    command_bytes(&words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
}

fn command_bytes(words: &[Vec<u8>]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend(format!("${}\r\n", word.len()).bytes());
        request.extend(word);
        request.extend(b"\r\n");
    }
    request
}

/// One connection. A call that takes longer than ten seconds fails.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let patience = Duration::from_secs(10);
        let stream =
            TcpStream::connect_timeout(&address, patience).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(patience)).expect("a read timeout");
        stream.set_write_timeout(Some(patience)).expect("a write timeout");
        stream.set_nodelay(true).expect("no delay");
        Self(BufReader::new(stream))
    }

    /// Sends a request and returns the reply.
    pub fn call(&mut self, words: &[&str]) -> Reply {
        self.send(&command(words));
        self.reply()
    }

    /// Does the same for words of any bytes.
    pub fn call_bytes(&mut self, words: &[Vec<u8>]) -> Reply {
        self.send(&command_bytes(words));
        self.reply()
    }

    /// Does the same if the server may close the connection; then it returns `None`.
    pub fn try_call(&mut self, words: &[&str]) -> Option<Reply> {
        self.0.get_mut().write_all(&command(words)).ok()?;
        self.try_reply()
    }

    #[track_caller]
    pub fn expect(&mut self, words: &[&str], expected: Reply) {
        assert_eq!(self.call(words), expected, "the reply to {words:?}");
    }

    /// Returns an error with the actual reply if it is not the expected one. For
    /// [`eventually`](super::process::eventually).
    pub fn wants(&mut self, words: &[&str], expected: &Reply) -> Result<(), String> {
        let reply = self.call(words);
        if reply == *expected { Ok(()) } else { Err(format!("{words:?} gives {reply:?}, want {expected:?}")) }
    }

    /// Sends raw bytes. Errors are ignored: the server may close the connection meanwhile.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// Returns a second handle for sending.
    pub fn sender(&self) -> TcpStream {
        self.0.get_ref().try_clone().expect("a second handle")
    }

    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.try_reply().expect("a reply within ten seconds")
    }

    pub fn try_reply(&mut self) -> Option<Reply> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).ok()?;
        let line = String::from_utf8(line).ok()?;
        let (kind, rest) = line.strip_suffix("\r\n")?.split_at_checked(1)?;
        Some(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(rest.parse().ok()?),
            "$" | "*" if rest == "-1" => Reply::Null,
            "_" => Reply::Null,
            "$" => Reply::Bulk(self.body(rest.parse().ok()?)?),
            "*" => Reply::Array(self.several(rest)?),
            "~" => Reply::Set(self.several(rest)?),
            ">" => Reply::Push(self.several(rest)?),
            "%" => {
                let pairs = (0..rest.parse().ok()?).map(|_| Some((self.try_reply()?, self.try_reply()?)));
                Reply::Map(pairs.collect::<Option<_>>()?)
            }
            "=" => {
                let text = String::from_utf8(self.body(rest.parse().ok()?)?).ok()?;
                Reply::Text(text.strip_prefix("txt:")?.to_owned())
            }
            _ => panic!("no reply: {line:?}"),
        })
    }

    fn several(&mut self, count: &str) -> Option<Vec<Reply>> {
        (0..count.parse().ok()?).map(|_| self.try_reply()).collect()
    }

    fn body(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut body = vec![0; length + 2];
        self.0.read_exact(&mut body).ok()?;
        assert!(body.ends_with(b"\r\n"), "a bulk string ends with its line");
        body.truncate(length);
        Some(body)
    }

    /// Returns all bytes until the server closes the connection.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0
            .read_to_end(&mut rest)
            .unwrap_or_else(|error| panic!("want the end of the connection, got {error} after {rest:?}"));
        rest
    }
}
