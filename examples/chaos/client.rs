//! A client of one sidecar for a cluster under faults: every call may fail, and every call has a time limit.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_millis(1_500);

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Text(String),
    Null,
    Array(Vec<Reply>),
}

/// The time and the replica id of a write, compared in this order.
pub type Stamp = (u64, String);

/// One connection to a sidecar.
pub struct Client(BufReader<TcpStream>);

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Client {
    pub fn connect(at: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&at, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends one command and returns its reply. After an error, drop the connection: a late reply may still arrive on
    /// it.
    pub fn call(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| request.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.0.get_mut().write_all(request.as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| broken("an empty line"))?;
        let number = || rest.parse::<usize>().map_err(|_| broken(line));
        match kind {
            "+" | ":" => Ok(Reply::Text(rest.to_owned())),
            "-" => Err(broken(rest)),
            "$" | "*" if rest == "-1" => Ok(Reply::Null),
            "$" => {
                let mut body = vec![0; number()? + 2];
                self.0.read_exact(&mut body)?;
                body.truncate(body.len() - 2);
                String::from_utf8(body).map(Reply::Text).map_err(|_| broken("no text"))
            }
            "*" => (0..number()?).map(|_| self.reply()).collect::<io::Result<_>>().map(Reply::Array),
            _ => Err(broken(line)),
        }
    }

    fn text(&mut self, words: &[&str]) -> io::Result<String> {
        match self.call(words)? {
            Reply::Text(text) => Ok(text),
            other => Err(broken(format!("{other:?}"))),
        }
    }

    /// Writes a value and returns its stamp.
    pub fn set(&mut self, key: &str, value: &str) -> io::Result<Stamp> {
        stamp(&self.text(&["DRILL", "SET", key, value])?)
    }

    /// Deletes a key and returns one stamp below that of the delete and one above it.
    pub fn delete(&mut self, key: &str) -> io::Result<(Stamp, Stamp)> {
        let text = self.text(&["DRILL", "DEL", key])?;
        let (below, above) = text.split_once(", ").ok_or_else(|| broken(text.clone()))?;
        Ok((stamp(below)?, stamp(above)?))
    }

    pub fn get(&mut self, key: &str) -> io::Result<Option<(Stamp, String)>> {
        match self.call(&["DRILL", "GET", key])? {
            Reply::Null => Ok(None),
            Reply::Array(parts) => match &parts[..] {
                [Reply::Text(at), Reply::Text(value)] => Ok(Some((stamp(at)?, value.clone()))),
                _ => Err(broken(format!("{parts:?}"))),
            },
            other => Err(broken(format!("{other:?}"))),
        }
    }

    /// Sets the offset of the node's wall clock, in milliseconds.
    pub fn clock(&mut self, millis: i64) -> io::Result<()> {
        self.text(&["DRILL", "CLOCK", &millis.to_string()]).map(drop)
    }

    /// Returns all counters of the node.
    pub fn counters(&mut self) -> io::Result<Vec<(String, u64)>> {
        let text = self.text(&["DRILL", "COUNTERS"])?;
        let line = |line: &str| line.split_once(' ').and_then(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
        Ok(text.lines().filter_map(line).collect())
    }
}

fn stamp(text: &str) -> io::Result<Stamp> {
    let (time, replica) = text.split_once(' ').ok_or_else(|| broken(text))?;
    Ok((time.parse().map_err(|_| broken(text))?, replica.to_owned()))
}
