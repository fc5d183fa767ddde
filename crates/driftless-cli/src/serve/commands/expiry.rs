//! The commands on deadlines. Every node has the deadline that the writer set, as a time of day.
//!
//! A new deadline is a write of the value with a new stamp: it is sent to every node, and it also wins over a write or
//! delete of another node that has not arrived here.

use super::{
    Command, CommandError, ONE, Outcome, READ, WRITE, keyed,
    write::{self, Expiry},
};
use crate::serve::{reply::Output, request::integer, session::Session};

pub const COMMANDS: &[Command] = &[
    keyed("expire", -3, WRITE, ONE, "Sets the time to live of a key in seconds.", expire),
    keyed("pexpire", -3, WRITE, ONE, "Sets the time to live of a key in milliseconds.", pexpire),
    keyed("expireat", -3, WRITE, ONE, "Sets the deadline of a key in seconds since 1970.", expireat),
    keyed("pexpireat", -3, WRITE, ONE, "Sets the deadline of a key in milliseconds since 1970.", pexpireat),
    keyed("persist", 2, WRITE, ONE, "Removes the deadline of a key.", persist),
    keyed("ttl", 2, READ, ONE, "Returns the time to live of a key in seconds.", ttl),
    keyed("pttl", 2, READ, ONE, "Returns the time to live of a key in milliseconds.", pttl),
    keyed("expiretime", 2, READ, ONE, "Returns the deadline of a key in seconds since 1970.", expiretime),
    keyed("pexpiretime", 2, READ, ONE, "Returns the deadline of a key in milliseconds since 1970.", pexpiretime),
];

/// The time from which a number counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Base {
    Now,
    Epoch,
}

/// Parses a time of `unit` milliseconds. Returns it as milliseconds since the Unix epoch.
fn time(digits: &[u8], unit: i64, base: Base, command: &'static str) -> Result<i64, CommandError> {
    let number = integer(digits).ok_or(CommandError::NotAnInteger)?;
    let from = match base {
        Base::Now => i64::try_from(write::now().as_millis()).unwrap_or(i64::MAX),
        Base::Epoch => 0,
    };
    let millis = number.checked_mul(unit).and_then(|millis| millis.checked_add(from));
    millis.ok_or(CommandError::InvalidExpiry(command))
}

/// As [`time`], for commands that refuse times of zero and below.
pub fn positive(digits: &[u8], unit: i64, base: Base, command: &'static str) -> Result<i64, CommandError> {
    let millis = time(digits, unit, base, command)?;
    if digits == b"0" || digits.first() == Some(&b'-') {
        return Err(CommandError::InvalidExpiry(command));
    }
    Ok(millis)
}

fn expire(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    set_deadline(session, arguments, output, (1000, Base::Now, "expire"))
}

fn pexpire(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    set_deadline(session, arguments, output, (1, Base::Now, "pexpire"))
}

fn expireat(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    set_deadline(session, arguments, output, (1000, Base::Epoch, "expireat"))
}

fn pexpireat(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    set_deadline(session, arguments, output, (1, Base::Epoch, "pexpireat"))
}

/// The condition of a new deadline. A key without a deadline counts as one that lives for ever.
#[derive(Clone, Copy, Debug, Default)]
struct Only {
    /// `NX`: there is no deadline.
    absent: bool,
    /// `XX`: there is a deadline.
    present: bool,
    /// `GT`: the new deadline is later.
    later: bool,
    /// `LT`: the new deadline is earlier.
    earlier: bool,
}

impl Only {
    fn parse(words: &[&[u8]]) -> Result<Self, CommandError> {
        let mut only = Self::default();
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => only.absent = true,
                b"xx" => only.present = true,
                b"gt" => only.later = true,
                b"lt" => only.earlier = true,
                _ => return Err(CommandError::Told(format!("ERR Unsupported option {}", super::printable(word)))),
            }
        }
        if only.absent && (only.present || only.later || only.earlier) {
            return Err(CommandError::Other("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if only.later && only.earlier {
            return Err(CommandError::Other("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(only)
    }

    fn allows(self, old: Option<i64>, new: i64) -> bool {
        let is_later = old.is_some_and(|old| new > old);
        let is_earlier = old.is_none_or(|old| new < old);
        !(self.absent && old.is_some()
            || self.present && old.is_none()
            || self.later && !is_later
            || self.earlier && !is_earlier)
    }
}

fn set_deadline(
    session: &mut Session,
    arguments: &[&[u8]],
    output: &mut Output,
    (unit, base, command): (i64, Base, &'static str),
) -> Outcome {
    let only = Only::parse(&arguments[3..])?;
    let at = time(arguments[2], unit, base, command)?;
    let changed = write::change_deadline(session, arguments[1], |entry| {
        only.allows(write::deadline(entry), at).then_some(Expiry::At(at))
    })?;
    output.integer(i64::from(changed.is_some_and(|(_, changed)| changed)));
    Ok(())
}

fn persist(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let changed = write::change_deadline(session, arguments[1], |entry| entry.expires_in().map(|_| Expiry::Never))?;
    output.integer(i64::from(changed.is_some_and(|(_, changed)| changed)));
    Ok(())
}

fn ttl(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    remaining(session, arguments[1], output, |millis| (millis + 500) / 1000)
}

fn pttl(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    remaining(session, arguments[1], output, |millis| millis)
}

/// Appends the remaining time to live; -2 if there is no such key, -1 if the key does not expire.
fn remaining(session: &Session, key: &[u8], output: &mut Output, unit: impl FnOnce(i64) -> i64) -> Outcome {
    output.integer(match session.cache().entry(key).map(|entry| entry.expires_in()) {
        None => -2,
        Some(None) => -1,
        Some(Some(left)) => unit(i64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i64::MAX)),
    });
    Ok(())
}

fn expiretime(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    absolute(session, arguments[1], output, 1000)
}

fn pexpiretime(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    absolute(session, arguments[1], output, 1)
}

/// Appends the deadline in units of milliseconds; -2 if there is no such key, -1 if the key does not expire.
fn absolute(session: &Session, key: &[u8], output: &mut Output, unit: i64) -> Outcome {
    output.integer(match session.cache().entry(key).map(|entry| write::deadline(&entry)) {
        None => -2,
        Some(None) => -1,
        Some(Some(millis)) => millis / unit,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(words: &[&str]) -> Result<Only, CommandError> {
        Only::parse(&words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>())
    }

    #[test]
    fn conditions_compare_deadlines_as_redis_does() {
        for (words, old, expected) in [
            (&[][..], None, true),
            (&["NX"], None, true),
            (&["nx"], Some(5), false),
            (&["XX"], None, false),
            (&["XX"], Some(5), true),
            (&["GT"], None, false),
            (&["GT"], Some(9), true),
            (&["GT"], Some(10), false),
            (&["LT"], None, true),
            (&["LT"], Some(10), false),
            (&["LT"], Some(11), true),
            (&["XX", "LT"], None, false),
        ] {
            assert_eq!(only(words).expect("valid").allows(old, 10), expected, "{words:?} over {old:?}");
        }
        for words in [&["NX", "XX"][..], &["NX", "GT"], &["GT", "LT"], &["AB"]] {
            assert!(only(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn times_that_do_not_fit_are_refused() {
        assert_eq!(time(b"7", 1000, Base::Epoch, "c").expect("valid"), 7000);
        assert!(time(b"9223372036854775807", 1, Base::Epoch, "c").is_ok());
        assert!(time(b"9223372036854775807", 1, Base::Now, "c").is_err());
        assert!(time(b"9223372036854775807", 1000, Base::Epoch, "c").is_err());
        assert!(time(b"-9223372036854775808", 1000, Base::Epoch, "c").is_err());
        for digits in [&b"0"[..], b"-1"] {
            assert!(positive(digits, 1, Base::Now, "c").is_err());
        }
    }
}
