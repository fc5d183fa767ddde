//! The commands: one table, searched by name. Before a command runs, its number of arguments, the password, the
//! transaction and the subscription are checked here, and its keys are remembered for `CLIENT TRACKING`.

mod client;
mod config;
mod connection;
mod drill;
mod expiry;
mod introspection;
mod keyspace;
mod pubsub;
mod refused;
mod scan;
mod server;
mod strings;
mod tracking;
mod transactions;
mod write;

use super::{
    reply::{Output, Protocol},
    session::{Session, Silence},
};
use bytes::Bytes;
use driftless::InsertError;
use std::{fmt, sync::LazyLock};

/// The command changes data.
const WRITE: u8 = 1;
/// The command reads its keys, which `CLIENT TRACKING` remembers.
const READ: u8 = 2;
/// The command needs no password.
const OPEN: u8 = 4;
/// The command is refused in a transaction.
const NO_MULTI: u8 = 8;
/// The command runs at once within a transaction.
const NOT_QUEUED: u8 = 16;
/// The command is allowed while a client of version 2 is subscribed.
const SUBSCRIBED: u8 = 32;

type Run = fn(&mut Session, &[&[u8]], &mut Output) -> Outcome;

/// One row of the table, in the terms of Redis' own `COMMAND`.
pub struct Command {
    pub name: &'static str,
    /// Number of arguments, the name included; if negative, its absolute value is the minimum.
    arity: i64,
    flags: u8,
    /// First key, last key (negative: counted from the end), distance between keys.
    keys: (i64, i64, i64),
    summary: &'static str,
    run: Run,
}

/// Returns a row of the table for a command without keys.
const fn plain(name: &'static str, arity: i64, flags: u8, summary: &'static str, run: Run) -> Command {
    Command { name, arity, flags, keys: (0, 0, 0), summary, run }
}

/// Returns a row of the table for a command with keys.
const fn keyed(
    name: &'static str,
    arity: i64,
    flags: u8,
    keys: (i64, i64, i64),
    summary: &'static str,
    run: Run,
) -> Command {
    Command { name, arity, flags, keys, summary, run }
}

/// The keys of a command with one key.
const ONE: (i64, i64, i64) = (1, 1, 1);
/// The keys of a command whose arguments are all keys.
const ALL: (i64, i64, i64) = (1, -1, 1);
/// The keys of a command of pairs of keys and values.
const PAIRS: (i64, i64, i64) = (1, -1, 2);

/// The result of a command, which has written its reply.
pub type Outcome = Result<(), CommandError>;

/// The reason for which a command did nothing. The connection stays open.
#[derive(Debug)]
pub enum CommandError {
    Unknown(String),
    UnknownSubcommand(&'static str, String),
    WrongArity(String),
    Syntax,
    NotAnInteger,
    InvalidExpiry(&'static str),
    Refused(InsertError),
    /// Other clients of this node changed the key again and again meanwhile.
    Contended,
    Other(&'static str),
    Told(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(what) => write!(f, "ERR unknown command '{what}'"),
            Self::UnknownSubcommand(command, what) => {
                write!(f, "ERR unknown subcommand '{what}'. Try {command} HELP.")
            }
            Self::WrongArity(name) => write!(f, "ERR wrong number of arguments for '{name}' command"),
            Self::Syntax => f.write_str("ERR syntax error"),
            Self::NotAnInteger => f.write_str("ERR value is not an integer or out of range"),
            Self::InvalidExpiry(name) => write!(f, "ERR invalid expire time in '{name}' command"),
            Self::Refused(error) => write!(f, "ERR not cached: {error}"),
            Self::Contended => f.write_str("TRYAGAIN the key changed 64 times while this command ran: send it again"),
            Self::Other(message) => f.write_str(message),
            Self::Told(message) => f.write_str(message),
        }
    }
}

impl From<InsertError> for CommandError {
    fn from(error: InsertError) -> Self {
        Self::Refused(error)
    }
}

/// Runs one request and appends the reply. The request is never empty: the command name comes first. Returns the number
/// of the command; that of no command if there is none of this name.
pub fn run(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> usize {
    let start = output.bytes.len();
    let found = find(arguments[0]);
    let outcome = match admit(session, found, arguments) {
        Ok(command) if session.transaction.is_some() && command.flags & NOT_QUEUED == 0 => {
            transactions::queue(session, arguments, output)
        }
        Ok(command) => command.invoke(session, arguments, output),
        Err(error) => {
            transactions::abort(session);
            Err(error)
        }
    };
    if let Err(error) = outcome {
        fail(session, &error, start, output);
    }
    match session.silence {
        Silence::Off => {}
        Silence::On => output.bytes.truncate(start),
        Silence::This => {
            output.bytes.truncate(start);
            session.silence = Silence::Off;
        }
        Silence::Next => session.silence = Silence::This,
    }
    found.map_or(usize::MAX, |(number, _)| number)
}

/// Replaces what a command has written by its error.
fn fail(session: &Session, error: &CommandError, start: usize, output: &mut Output) {
    session.shared.stats.errors.add(1);
    output.bytes.truncate(start);
    output.error(&error.to_string());
}

/// Returns the command of a request that may run or be queued.
#[inline]
fn admit(
    session: &Session,
    found: Option<(usize, &'static Command)>,
    arguments: &[&[u8]],
) -> Result<&'static Command, CommandError> {
    let (_, command) = found.ok_or_else(|| unknown(arguments))?;
    command.check(session, arguments)?;
    Ok(command)
}

fn unknown(arguments: &[&[u8]]) -> CommandError {
    refused::reason(arguments[0]).map_or_else(|| CommandError::Unknown(printable(arguments[0])), CommandError::Told)
}

impl Command {
    fn takes(&self, arguments: usize) -> bool {
        let arguments = i64::try_from(arguments).unwrap_or(i64::MAX);
        if self.arity < 0 { arguments >= -self.arity } else { arguments == self.arity }
    }

    fn check(&self, session: &Session, arguments: &[&[u8]]) -> Outcome {
        if !self.takes(arguments.len()) {
            return Err(CommandError::WrongArity(self.name.to_owned()));
        }
        if !session.is_authenticated && self.flags & OPEN == 0 {
            return Err(CommandError::Other("NOAUTH Authentication required."));
        }
        if session.is_subscribed && session.protocol == Protocol::Two && self.flags & SUBSCRIBED == 0 {
            return Err(CommandError::Told(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                self.name
            )));
        }
        if session.transaction.is_some() && self.flags & NO_MULTI != 0 {
            return Err(CommandError::Told(format!("ERR '{}' is not allowed between MULTI and EXEC", self.name)));
        }
        Ok(())
    }

    /// Runs the command now.
    #[inline]
    fn invoke(&self, session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
        if session.tracking.is_none() {
            return (self.run)(session, arguments, output);
        }
        tracking::invoke(self, session, arguments, output)
    }

    /// Returns the keys among the arguments.
    fn keys_of<'k, 'a>(&self, arguments: &'k [&'a [u8]]) -> impl Iterator<Item = &'a [u8]> + use<'k, 'a> {
        let (first, last, step) = self.keys;
        let end = if last < 0 { arguments.len().saturating_add_signed(last as isize + 1) } else { last as usize + 1 };
        let keys = if first == 0 { &[] } else { arguments.get(first as usize..end).unwrap_or_default() };
        keys.iter().step_by(step.max(1) as usize).copied()
    }
}

/// Returns all commands with their numbers.
fn all() -> impl Iterator<Item = (usize, &'static Command)> {
    let tables = [
        strings::COMMANDS,
        expiry::COMMANDS,
        keyspace::COMMANDS,
        scan::COMMANDS,
        connection::COMMANDS,
        client::COMMANDS,
        server::COMMANDS,
        config::COMMANDS,
        introspection::COMMANDS,
        transactions::COMMANDS,
        pubsub::COMMANDS,
        drill::COMMANDS,
    ];
    tables.into_iter().flatten().enumerate()
}

/// The commands by the first letter of their names.
static BY_LETTER: LazyLock<[Vec<(usize, &'static Command)>; 26]> = LazyLock::new(|| {
    let mut letters: [Vec<_>; 26] = Default::default();
    for (number, command) in all() {
        letters[usize::from(command.name.as_bytes()[0] - b'a')].push((number, command));
    }
    letters
});

/// Returns a command and its number.
#[inline]
pub fn find(name: &[u8]) -> Option<(usize, &'static Command)> {
    let letter = name.first()?.to_ascii_lowercase().checked_sub(b'a')?;
    let found = BY_LETTER.get(usize::from(letter))?.iter();
    found.copied().find(|(_, command)| name.eq_ignore_ascii_case(command.name.as_bytes()))
}

/// Returns the name of the command with a number; `NULL` if there was none yet, as in Redis.
pub fn name_of(number: usize) -> &'static str {
    all().nth(number).map_or("NULL", |(_, command)| command.name)
}

/// Returns a part of the input that is safe in an error message: short, and without control characters.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).replace(char::is_control, " ")
}

fn lower(word: &[u8]) -> Vec<u8> {
    word.to_ascii_lowercase()
}

/// Copies bytes that outlive the request: many requests share the input buffer, which a borrowed slice would keep
/// alive.
fn kept(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Returns the keys of a transaction's command as borrowed words.
fn words(command: &[Bytes]) -> Vec<&[u8]> {
    command.iter().map(AsRef::as_ref).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_name_and_described() {
        for (number, command) in all() {
            let upper = command.name.to_ascii_uppercase();
            assert_eq!(find(upper.as_bytes()).map(|(found, _)| found), Some(number), "{upper} is in the table once");
            assert_eq!(name_of(number), command.name);
            assert!(command.summary.ends_with('.'), "{upper} has a summary");
            assert!(refused::reason(command.name.as_bytes()).is_none(), "{upper} is implemented and refused");
            assert!(command.keys.0 == 0 || command.flags & (READ | WRITE) != 0, "{upper} reads or writes its keys");
        }
        for name in [&b""[..], b"\xff", b"@", b"{", b"getx"] {
            assert!(find(name).is_none());
        }
    }

    #[test]
    fn keys_are_found_among_the_arguments() {
        let arguments: Vec<&[u8]> = vec![b"c", b"1", b"2", b"3", b"4"];
        let keys = |keys| {
            let command = keyed("c", -2, READ, keys, ".", |_, _, _| Ok(()));
            command.keys_of(&arguments).map(|key| String::from_utf8_lossy(key).into_owned()).collect::<String>()
        };
        assert_eq!(keys(ONE), "1");
        assert_eq!(keys(ALL), "1234");
        assert_eq!(keys(PAIRS), "13");
        assert_eq!(keys((0, 0, 0)), "");
        assert_eq!(keys((9, 9, 1)), "");
    }
}
