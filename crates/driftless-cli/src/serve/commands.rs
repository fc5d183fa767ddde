//! The commands: one table, searched by name. The number of arguments is checked before a command runs.

mod drill;
mod keyspace;
mod server;
mod strings;

use crate::serve::session::Session;
use bytes::Bytes;
use driftless::InsertError;
use redis_protocol::resp2::types::BytesFrame;
use std::fmt;

/// One row of the table, in the terms of Redis' own `COMMAND`.
pub struct Command {
    name: &'static str,
    /// Number of arguments, the name included; if negative, its absolute value is the minimum.
    arity: i64,
    /// True if the command changes data.
    writes: bool,
    /// First key, last key (negative: counted from the end), distance between keys.
    keys: (i64, i64, i64),
    run: fn(&mut Session, &[&[u8]]) -> Answer,
}

/// The result of a command.
pub type Answer = Result<BytesFrame, CommandError>;

/// The reason for which a command did nothing. The connection stays open.
#[derive(Debug)]
pub enum CommandError {
    Unknown(String),
    WrongArity(String),
    Syntax,
    NotAnInteger,
    InvalidExpiry(&'static str),
    Refused(InsertError),
    Other(&'static str),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => write!(f, "ERR unknown command '{what}'"),
            Self::WrongArity(name) => write!(f, "ERR wrong number of arguments for '{name}' command"),
            Self::Syntax => f.write_str("ERR syntax error"),
            Self::NotAnInteger => f.write_str("ERR value is not an integer or out of range"),
            Self::InvalidExpiry(name) => write!(f, "ERR invalid expire time in '{name}' command"),
            Self::Refused(error) => write!(f, "ERR not cached: {error}"),
            Self::Other(message) => f.write_str(message),
        }
    }
}

impl From<InsertError> for CommandError {
    fn from(error: InsertError) -> Self {
        Self::Refused(error)
    }
}

/// Runs one request and returns the reply. The request is never empty: the command name comes first.
pub fn run(session: &mut Session, arguments: &[&[u8]]) -> BytesFrame {
    session.shared.stats.commands.add(1);
    let answer = match find(arguments[0]) {
        None => Err(CommandError::Unknown(printable(arguments[0]))),
        Some(command) if !command.takes(arguments.len()) => Err(CommandError::WrongArity(command.name.to_owned())),
        Some(command) => (command.run)(session, arguments),
    };
    answer.unwrap_or_else(|error| error_frame(&error))
}

/// Returns an error reply. It is a single line, so line breaks in the message become spaces.
pub fn error_frame(error: &impl fmt::Display) -> BytesFrame {
    BytesFrame::Error(error.to_string().replace(['\r', '\n'], " ").into())
}

impl Command {
    fn takes(&self, arguments: usize) -> bool {
        let arguments = i64::try_from(arguments).unwrap_or(i64::MAX);
        if self.arity < 0 { arguments >= -self.arity } else { arguments == self.arity }
    }
}

/// Returns all commands, the most used first, because the search is linear.
fn all() -> impl Iterator<Item = &'static Command> {
    strings::COMMANDS.iter().chain(keyspace::COMMANDS).chain(server::COMMANDS).chain(drill::COMMANDS)
}

fn find(name: &[u8]) -> Option<&'static Command> {
    all().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
}

/// Returns a part of the input that is safe in an error message: short, and without control characters.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).replace(char::is_control, " ")
}

fn ok() -> BytesFrame {
    simple("OK")
}

fn simple(text: &'static str) -> BytesFrame {
    BytesFrame::SimpleString(Bytes::from_static(text.as_bytes()))
}

fn bulk(text: impl Into<Bytes>) -> BytesFrame {
    BytesFrame::BulkString(text.into())
}

fn bulk_or_null(value: Option<Bytes>) -> BytesFrame {
    value.map_or(BytesFrame::Null, BytesFrame::BulkString)
}

fn count(number: impl TryInto<i64>) -> BytesFrame {
    BytesFrame::Integer(number.try_into().unwrap_or(i64::MAX))
}

/// Copies bytes that outlive the request: many requests share the input buffer, which a borrowed slice would keep
/// alive.
fn kept(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
