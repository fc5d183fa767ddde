//! The commands on values: `GET`, `SET` and their variants.

use super::{
    ALL, Command, CommandError, ONE, Outcome, PAIRS, READ, WRITE, expiry, kept, keyed,
    write::{self, Condition, Expiry},
};
use crate::serve::{reply::Output, request::integer, session::Session};
use std::time::Duration;

pub const COMMANDS: &[Command] = &[
    keyed("get", 2, READ, ONE, "Returns the value of a key.", get),
    keyed("set", -3, WRITE, ONE, "Sets the value of a key, and its time to live.", set),
    keyed("mget", -2, READ, ALL, "Returns the values of keys.", mget),
    keyed("mset", -3, WRITE, PAIRS, "Sets the values of keys, in order.", mset),
    keyed("msetnx", -3, WRITE, PAIRS, "Sets the values of keys if none of them is here.", msetnx),
    keyed("setex", 4, WRITE, ONE, "Sets the value of a key and its time to live in seconds.", setex),
    keyed("psetex", 4, WRITE, ONE, "Sets the value of a key and its time to live in milliseconds.", psetex),
    keyed("setnx", 3, WRITE, ONE, "Sets the value of a key if there is none here.", setnx),
    keyed("getset", 3, WRITE, ONE, "Sets the value of a key and returns the one that was here.", getset),
    keyed("getdel", 2, WRITE, ONE, "Deletes a key on every node and returns the value that was here.", getdel),
    keyed("getex", -2, WRITE, ONE, "Returns the value of a key and sets its time to live.", getex),
    keyed("strlen", 2, READ, ONE, "Returns the length of a value.", strlen),
    keyed("getrange", 4, READ, ONE, "Returns a part of a value.", getrange),
    keyed("substr", 4, READ, ONE, "Returns a part of a value.", getrange),
];

fn get(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    output.bulk_or_null(session.get(arguments[1]).as_deref());
    Ok(())
}

fn mget(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    output.array(arguments.len() - 1);
    for key in &arguments[1..] {
        output.bulk_or_null(session.get(key).as_deref());
        if output.bytes.len() > session.shared.settings.max_output_bytes {
            break; // The connection will be closed, because its client would have to hold too much.
        }
    }
    Ok(())
}

fn strlen(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    output.count(session.get(arguments[1]).map_or(0, |value| value.len()));
    Ok(())
}

fn getrange(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let bound = |digits: &[u8]| integer(digits).ok_or(CommandError::NotAnInteger);
    let (start, end) = (bound(arguments[2])?, bound(arguments[3])?);
    let value = session.get(arguments[1]).unwrap_or_default();
    let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
    // A negative position counts from the end.
    let position = |at: i64| if at < 0 { at.saturating_add(length).max(0) } else { at };
    let (start, end) = (position(start), position(end).min(length - 1));
    let part = if start > end { &[] } else { &value[start as usize..=end as usize] };
    output.bulk(part);
    Ok(())
}

fn getdel(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    output.bulk_or_null(session.cache().remove(&kept(arguments[1])).as_deref());
    Ok(())
}

fn getset(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let stored = write::store(session, arguments[1], arguments[2], Condition::Always, Expiry::Default)?;
    output.bulk_or_null(stored.old.as_deref());
    Ok(())
}

fn getex(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let options = Options::parse(&arguments[2..], "getex")?;
    if options.condition != Condition::Always || options.get || options.expiry == Expiry::Keep {
        return Err(CommandError::Syntax);
    }
    if options.expiry == Expiry::Default {
        return get(session, arguments, output);
    }
    let found = write::change_deadline(session, arguments[1], |entry| {
        (options.expiry != Expiry::Never || entry.expires_in().is_some()).then_some(options.expiry)
    })?;
    output.bulk_or_null(found.as_ref().map(|(value, _)| &value[..]));
    Ok(())
}

/// Splits the arguments of `MSET` into pairs.
fn pairs<'p, 'a>(arguments: &'p [&'a [u8]], name: &str) -> Result<&'p [[&'a [u8]; 2]], CommandError> {
    match arguments[1..].as_chunks::<2>() {
        (pairs, []) => Ok(pairs),
        _ => Err(CommandError::WrongArity(name.to_owned())),
    }
}

fn mset(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    write_pairs(session, pairs(arguments, "mset")?)?;
    output.simple("OK");
    Ok(())
}

fn msetnx(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let pairs = pairs(arguments, "msetnx")?;
    let is_free = pairs.iter().all(|[key, _]| !session.cache().contains_key(*key));
    if is_free {
        write_pairs(session, pairs)?;
    }
    output.integer(i64::from(is_free));
    Ok(())
}

/// Writes pairs in order. If one is refused, none is written.
fn write_pairs(session: &mut Session, pairs: &[[&[u8]; 2]]) -> Outcome {
    let entries = pairs.iter().map(|[key, value]| (kept(key), kept(value)));
    let written = session.cache().insert_many(entries).map_err(|refused| CommandError::Refused(refused.error))?;
    for ([key, _], written) in pairs.iter().zip(written) {
        session.note(&kept(key), written);
    }
    Ok(())
}

fn setex(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    put_for(session, arguments, 1000, "setex", output)
}

fn psetex(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    put_for(session, arguments, 1, "psetex", output)
}

fn put_for(session: &mut Session, arguments: &[&[u8]], unit: i64, name: &'static str, output: &mut Output) -> Outcome {
    let ttl = expiry::positive(arguments[2], unit, expiry::Base::Now, name)?;
    write::put(session, arguments[1], arguments[3], Some(write::until(ttl).max(Duration::from_nanos(1))))?;
    output.simple("OK");
    Ok(())
}

fn setnx(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let stored = write::store(session, arguments[1], arguments[2], Condition::Absent, Expiry::Default)?;
    output.integer(i64::from(stored.done));
    Ok(())
}

fn set(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let (key, value) = (arguments[1], arguments[2]);
    if arguments.len() == 3 {
        write::put(session, key, value, None)?;
        output.simple("OK");
        return Ok(());
    }
    let options = Options::parse(&arguments[3..], "set")?;
    if options.expiry == Expiry::Never {
        return Err(CommandError::Syntax); // `PERSIST` is an option of GETEX alone.
    }
    if let (Condition::Always, false, Expiry::At(millis)) = (options.condition, options.get, options.expiry) {
        let ttl = write::until(millis);
        if ttl.is_zero() {
            session.cache().invalidate(&kept(key));
        } else {
            write::put(session, key, value, Some(ttl))?;
        }
        output.simple("OK");
        return Ok(());
    }
    let stored = write::store(session, key, value, options.condition, options.expiry)?;
    match (options.get, stored.done) {
        (true, _) => output.bulk_or_null(stored.old.as_deref()),
        (false, true) => output.simple("OK"),
        (false, false) => output.null(),
    }
    Ok(())
}

/// The options after `SET key value` and `GETEX key`.
#[derive(Default)]
struct Options {
    condition: Condition,
    expiry: Expiry,
    get: bool,
}

impl Options {
    fn parse(mut words: &[&[u8]], command: &'static str) -> Result<Self, CommandError> {
        let mut options = Self::default();
        while let [word, rest @ ..] = words {
            let mut timed = |unit, base| match rest {
                [digits, rest @ ..] => {
                    options.expire(Expiry::At(expiry::positive(digits, unit, base, command)?))?;
                    Ok(rest)
                }
                [] => Err(CommandError::Syntax),
            };
            words = match word.to_ascii_lowercase().as_slice() {
                b"ex" => timed(1000, expiry::Base::Now)?,
                b"px" => timed(1, expiry::Base::Now)?,
                b"exat" => timed(1000, expiry::Base::Epoch)?,
                b"pxat" => timed(1, expiry::Base::Epoch)?,
                other => {
                    options.switch(other)?;
                    rest
                }
            };
        }
        Ok(options)
    }

    /// Sets an option without a value.
    fn switch(&mut self, word: &[u8]) -> Outcome {
        match word {
            b"nx" => self.only_if(Condition::Absent),
            b"xx" => self.only_if(Condition::Present),
            b"keepttl" => self.expire(Expiry::Keep),
            b"persist" => self.expire(Expiry::Never),
            b"get" => {
                self.get = true;
                Ok(())
            }
            _ => Err(CommandError::Syntax),
        }
    }

    /// Sets the condition. A second, different condition is an error.
    fn only_if(&mut self, condition: Condition) -> Outcome {
        if self.condition != Condition::Always && self.condition != condition {
            return Err(CommandError::Syntax);
        }
        self.condition = condition;
        Ok(())
    }

    /// Sets the expiry. A second expiry is an error.
    fn expire(&mut self, expiry: Expiry) -> Outcome {
        if self.expiry != Expiry::Default {
            return Err(CommandError::Syntax);
        }
        self.expiry = expiry;
        Ok(())
    }
}
