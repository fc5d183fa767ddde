//! The commands that delete, count and describe keys. All of them read this node's view only.

use super::{ALL, Command, CommandError, ONE, Outcome, READ, WRITE, kept, keyed, lower, plain};
use crate::serve::{reply::Output, session::Session};

pub const COMMANDS: &[Command] = &[
    keyed("del", -2, WRITE, ALL, "Deletes keys on every node. Returns how many were here.", del),
    keyed("unlink", -2, WRITE, ALL, "Deletes keys on every node. Returns how many were here.", del),
    keyed("exists", -2, READ, ALL, "Returns how many of the keys are here.", exists),
    keyed("touch", -2, READ, ALL, "Counts as a use of keys. Returns how many are here.", touch),
    keyed("type", 2, READ, ONE, "Returns the type of a value, which is always string.", kind),
    plain("dbsize", 1, 0, "Returns the number of keys here.", dbsize),
    plain("flushdb", -1, WRITE, "Deletes everything written so far, on every node.", flushdb),
    plain("flushall", -1, WRITE, "Deletes everything in all databases, on every node.", flushall),
    keyed("object", -2, READ, (2, 2, 1), "Describes the value of a key.", object),
    keyed("memory", -2, READ, (2, 2, 1), "Returns the bytes of a key and its value.", memory),
];

fn del(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let cache = session.cache();
    output.count(match arguments {
        [_, key] => usize::from(cache.remove(&kept(key)).is_some()),
        [_, keys @ ..] => cache.remove_many(&keys.iter().map(|key| kept(key)).collect::<Vec<_>>()),
        [] => 0,
    });
    Ok(())
}

fn exists(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let cache = session.cache();
    output.count(arguments[1..].iter().filter(|&&key| cache.contains_key(key)).count());
    Ok(())
}

fn touch(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let cache = session.cache();
    output.count(arguments[1..].iter().filter(|&&key| cache.get(key).is_some()).count());
    Ok(())
}

fn kind(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    output.simple(if session.cache().contains_key(arguments[1]) { "string" } else { "none" });
    Ok(())
}

fn dbsize(session: &mut Session, _: &[&[u8]], output: &mut Output) -> Outcome {
    output.count(session.cache().entry_count());
    Ok(())
}

fn flushdb(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let database = session.database;
    flush(session, database..database + 1, arguments, output)
}

fn flushall(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    flush(session, 0..session.shared.databases.len(), arguments, output)
}

fn flush(
    session: &mut Session,
    databases: std::ops::Range<usize>,
    arguments: &[&[u8]],
    output: &mut Output,
) -> Outcome {
    match &arguments[1..] {
        [] => {}
        [mode] if mode.eq_ignore_ascii_case(b"async") || mode.eq_ignore_ascii_case(b"sync") => {}
        _ => return Err(CommandError::Syntax),
    }
    for database in &session.shared.databases[databases] {
        database.cache.invalidate_all();
        // All entries are invisible already, but `DBSIZE` counts them until they are swept. Sweeping now makes it
        // return 0.
        tokio::task::block_in_place(|| database.cache.run_pending_tasks());
    }
    output.simple("OK");
    Ok(())
}

fn object(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let (subcommand, rest) = (lower(arguments[1]), &arguments[2..]);
    match (subcommand.as_slice(), rest) {
        (b"help", []) => super::client::help(output, "OBJECT", OBJECT_HELP),
        (b"encoding", [key]) => match session.cache().contains_key(*key) {
            true => output.bulk(b"raw"),
            false => output.null(),
        },
        (b"refcount", [key]) => match session.cache().contains_key(*key) {
            true => output.integer(1),
            false => output.null(),
        },
        (b"idletime" | b"freq", [_]) => {
            return Err(CommandError::Other(
                "UNSUPPORTED this cache keeps the order of uses, and no time or number of them: use OBJECT HELP for \
                 what there is, or `driftless explain` for the age of a key",
            ));
        }
        (b"encoding" | b"refcount" | b"idletime" | b"freq", _) => {
            return Err(CommandError::WrongArity("object".to_owned()));
        }
        _ => return Err(CommandError::UnknownSubcommand("OBJECT", super::printable(arguments[1]))),
    }
    Ok(())
}

const OBJECT_HELP: &[&str] = &[
    "ENCODING <key>",
    "    Return the kind of internal representation, which is always raw.",
    "REFCOUNT <key>",
    "    Return the number of references, which is always 1.",
];

/// The bytes that this node keeps beside each key and its value, about.
const OVERHEAD: usize = 200;

fn memory(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    match (lower(arguments[1]).as_slice(), &arguments[2..]) {
        (b"usage", [key] | [key, _, _]) => {
            match session.cache().entry(*key) {
                Some(entry) => output.count(key.len() + entry.value().len() + OVERHEAD),
                None => output.null(),
            }
            Ok(())
        }
        (b"usage", _) => Err(CommandError::WrongArity("memory".to_owned())),
        _ => Err(CommandError::UnknownSubcommand("MEMORY", super::printable(arguments[1]))),
    }
}
