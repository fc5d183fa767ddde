//! The commands on values: `GET`, `SET` and their variants.

use super::{Answer, Command, CommandError, bulk_or_null, count, kept, ok};
use crate::serve::{request::integer, session::Session};
use bytes::Bytes;
use redis_protocol::resp2::types::BytesFrame;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub const COMMANDS: &[Command] = &[
    Command { name: "get", arity: 2, writes: false, keys: (1, 1, 1), run: get },
    Command { name: "set", arity: -3, writes: true, keys: (1, 1, 1), run: set },
    Command { name: "mget", arity: -2, writes: false, keys: (1, -1, 1), run: mget },
    Command { name: "mset", arity: -3, writes: true, keys: (1, -1, 2), run: mset },
    Command { name: "setex", arity: 4, writes: true, keys: (1, 1, 1), run: setex },
    Command { name: "psetex", arity: 4, writes: true, keys: (1, 1, 1), run: psetex },
    Command { name: "setnx", arity: 3, writes: true, keys: (1, 1, 1), run: setnx },
    Command { name: "getdel", arity: 2, writes: true, keys: (1, 1, 1), run: getdel },
    Command { name: "strlen", arity: 2, writes: false, keys: (1, 1, 1), run: strlen },
];

fn get(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    Ok(bulk_or_null(session.get(arguments[1])))
}

fn mget(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    Ok(BytesFrame::Array(arguments[1..].iter().map(|key| bulk_or_null(session.get(key))).collect()))
}

fn strlen(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    Ok(count(session.get(arguments[1]).map_or(0, |value| value.len())))
}

fn getdel(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    Ok(bulk_or_null(session.shared.cache().remove(&kept(arguments[1]))))
}

fn mset(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    let (pairs, rest) = arguments[1..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CommandError::WrongArity("mset".to_owned()));
    }
    for [key, value] in pairs {
        session.shared.cache().insert(kept(key), kept(value))?;
    }
    Ok(ok())
}

fn setex(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    let ttl = time_to_live(arguments[2], 1000, "setex")?;
    session.shared.cache().insert_with_ttl(kept(arguments[1]), kept(arguments[3]), ttl)?;
    Ok(ok())
}

fn psetex(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    let ttl = time_to_live(arguments[2], 1, "psetex")?;
    session.shared.cache().insert_with_ttl(kept(arguments[1]), kept(arguments[3]), ttl)?;
    Ok(ok())
}

fn setnx(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    let written = session.shared.cache().insert_if_absent_local(kept(arguments[1]), kept(arguments[2]))?;
    Ok(count(u8::from(written.is_some())))
}

fn set(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    let options = SetOptions::parse(&arguments[3..])?;
    let old = if options.get { session.get(arguments[1]) } else { None };
    let stored = options.store(session, arguments[1], arguments[2])?;
    Ok(match (options.get, stored) {
        (true, _) => bulk_or_null(old),
        (false, true) => ok(),
        (false, false) => BytesFrame::Null,
    })
}

/// The options after `SET key value`.
#[derive(Default)]
struct SetOptions {
    condition: Condition,
    expiry: Expiry,
    get: bool,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Condition {
    #[default]
    Always,
    /// `NX`
    Absent,
    /// `XX`
    Present,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Expiry {
    #[default]
    Never,
    /// `KEEPTTL`
    Keep,
    /// `EX`, `PX`
    After(Duration),
    /// `EXAT`, `PXAT`: time since the Unix epoch.
    At(Duration),
}

impl SetOptions {
    fn parse(mut words: &[&[u8]]) -> Result<Self, CommandError> {
        let mut options = Self::default();
        while let [word, rest @ ..] = words {
            words = match word.to_ascii_lowercase().as_slice() {
                b"nx" => options.only_if(Condition::Absent, rest)?,
                b"xx" => options.only_if(Condition::Present, rest)?,
                b"keepttl" => options.expire(Expiry::Keep, rest)?,
                b"ex" => options.expire(Expiry::After(timed(rest, 1000)?), &rest[1..])?,
                b"px" => options.expire(Expiry::After(timed(rest, 1)?), &rest[1..])?,
                b"exat" => options.expire(Expiry::At(timed(rest, 1000)?), &rest[1..])?,
                b"pxat" => options.expire(Expiry::At(timed(rest, 1)?), &rest[1..])?,
                b"get" => {
                    options.get = true;
                    rest
                }
                _ => return Err(CommandError::Syntax),
            };
        }
        Ok(options)
    }

    /// Sets the condition and returns the remaining words. A second, different condition is an error.
    fn only_if<'r, 'a>(&mut self, condition: Condition, rest: &'r [&'a [u8]]) -> Result<&'r [&'a [u8]], CommandError> {
        if self.condition != Condition::Always && self.condition != condition {
            return Err(CommandError::Syntax);
        }
        self.condition = condition;
        Ok(rest)
    }

    /// Sets the expiry and returns the remaining words. A second expiry is an error.
    fn expire<'r, 'a>(&mut self, expiry: Expiry, rest: &'r [&'a [u8]]) -> Result<&'r [&'a [u8]], CommandError> {
        if self.expiry != Expiry::Never {
            return Err(CommandError::Syntax);
        }
        self.expiry = expiry;
        Ok(rest)
    }

    /// Stores the value if the condition holds, and returns true if it did. Except for `NX` this takes two local steps:
    /// a write that arrives between them counts as later than this command.
    fn store(&self, session: &Session, key: &[u8], value: &[u8]) -> Result<bool, CommandError> {
        let cache = session.shared.cache();
        if self.condition == Condition::Present && !cache.contains_key(key) {
            return Ok(false);
        }
        let ttl = match self.expiry {
            Expiry::Never => None,
            Expiry::Keep => cache.entry(key).and_then(|entry| entry.expires_in()),
            Expiry::After(ttl) => Some(ttl),
            Expiry::At(time) => Some(time.saturating_sub(now())),
        };
        let (key, value) = (kept(key), kept(value));
        match ttl {
            Some(Duration::ZERO) => self.store_nothing(session, &key),
            _ if self.condition == Condition::Absent => {
                Ok(cache.insert_if_absent_local_with_ttl(key, value, ttl)?.is_some())
            }
            Some(ttl) => cache.insert_with_ttl(key, value, ttl).map(|_| true).map_err(Into::into),
            None => cache.insert(key, value).map(|_| true).map_err(Into::into),
        }
    }

    /// Handles a value that has expired on arrival: it deletes the value that it would have replaced.
    fn store_nothing(&self, session: &Session, key: &Bytes) -> Result<bool, CommandError> {
        if self.condition == Condition::Absent && session.shared.cache().contains_key(key) {
            return Ok(false);
        }
        session.shared.cache().remove(key);
        Ok(true)
    }
}

/// Parses the number at the front of `rest`, in units of `unit` milliseconds.
fn timed(rest: &[&[u8]], unit: u64) -> Result<Duration, CommandError> {
    time_to_live(rest.first().ok_or(CommandError::Syntax)?, unit, "set")
}

fn time_to_live(digits: &[u8], unit: u64, command: &'static str) -> Result<Duration, CommandError> {
    let number = integer(digits).ok_or(CommandError::NotAnInteger)?;
    let invalid = CommandError::InvalidExpiry(command);
    match u64::try_from(number).ok().and_then(|number| number.checked_mul(unit)) {
        // From this value on, the deadline does not fit the signed 64-bit milliseconds of Redis.
        None | Some(0) | Some(0x7fff_ffff_ffff_ffff..) => Err(invalid),
        Some(millis) => Ok(Duration::from_millis(millis)),
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
