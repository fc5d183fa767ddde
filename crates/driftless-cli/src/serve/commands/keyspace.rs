//! The commands that list, expire and delete keys. All of them read this node's view only.

use super::{Answer, Command, CommandError, bulk, count, kept, ok, simple};
use crate::serve::{glob, request::integer, session::Session};
use bytes::Bytes;
use redis_protocol::resp2::types::BytesFrame;
use std::time::Duration;

pub const COMMANDS: &[Command] = &[
    Command { name: "del", arity: -2, writes: true, keys: (1, -1, 1), run: del },
    Command { name: "unlink", arity: -2, writes: true, keys: (1, -1, 1), run: del },
    Command { name: "exists", arity: -2, writes: false, keys: (1, -1, 1), run: exists },
    Command { name: "touch", arity: -2, writes: false, keys: (1, -1, 1), run: exists },
    Command { name: "ttl", arity: 2, writes: false, keys: (1, 1, 1), run: ttl },
    Command { name: "pttl", arity: 2, writes: false, keys: (1, 1, 1), run: pttl },
    Command { name: "type", arity: 2, writes: false, keys: (1, 1, 1), run: kind },
    Command { name: "dbsize", arity: 1, writes: false, keys: (0, 0, 0), run: dbsize },
    Command { name: "keys", arity: 2, writes: false, keys: (0, 0, 0), run: keys },
    Command { name: "scan", arity: -2, writes: false, keys: (0, 0, 0), run: scan },
    Command { name: "flushall", arity: -1, writes: true, keys: (0, 0, 0), run: flush },
    Command { name: "flushdb", arity: -1, writes: true, keys: (0, 0, 0), run: flush },
];

fn del(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    let cache = session.shared.cache();
    Ok(count(arguments[1..].iter().filter(|key| cache.remove(&kept(key)).is_some()).count()))
}

fn exists(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    let cache = session.shared.cache();
    Ok(count(arguments[1..].iter().filter(|&&key| cache.contains_key(key)).count()))
}

fn ttl(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    Ok(remaining(session, arguments[1], |left| left.as_millis().div_ceil(1000)))
}

fn pttl(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    Ok(remaining(session, arguments[1], |left| left.as_millis()))
}

/// Returns the remaining time to live; -2 if there is no such key, -1 if the key does not expire.
fn remaining(session: &Session, key: &[u8], unit: impl FnOnce(Duration) -> u128) -> BytesFrame {
    match session.shared.cache().entry(key).map(|entry| entry.expires_in()) {
        None => BytesFrame::Integer(-2),
        Some(None) => BytesFrame::Integer(-1),
        Some(Some(left)) => count(unit(left)),
    }
}

fn kind(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    Ok(simple(if session.shared.cache().contains_key(arguments[1]) { "string" } else { "none" }))
}

fn dbsize(session: &mut Session, _: &[&[u8]]) -> Answer {
    Ok(count(session.shared.cache().entry_count()))
}

fn keys(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    Ok(matching(session, arguments[1]))
}

/// Returns the whole key space as one page, as Redis does for a large enough `COUNT`. The returned cursor is always 0.
fn scan(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    let cursor = integer(arguments[1]).ok_or(CommandError::Other("ERR invalid cursor"))?;
    let options = ScanOptions::parse(&arguments[2..])?;
    let nothing = cursor != 0 || !options.strings;
    let page = if nothing { BytesFrame::Array(Vec::new()) } else { matching(session, options.pattern) };
    Ok(BytesFrame::Array(vec![bulk("0"), page]))
}

struct ScanOptions<'a> {
    pattern: &'a [u8],
    strings: bool,
}

impl<'a> ScanOptions<'a> {
    fn parse(words: &[&'a [u8]]) -> Result<Self, CommandError> {
        let mut options = Self { pattern: b"*", strings: true };
        let (pairs, rest) = words.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(CommandError::Syntax);
        }
        for [option, value] in pairs {
            match option.to_ascii_lowercase().as_slice() {
                b"match" => options.pattern = value,
                b"type" => options.strings = value.eq_ignore_ascii_case(b"string"),
                b"count" if integer(value).ok_or(CommandError::NotAnInteger)? > 0 => {}
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(options)
    }
}

/// Returns the keys that match. It visits every entry, so the runtime first moves other connections off this thread.
fn matching(session: &Session, pattern: &[u8]) -> BytesFrame {
    let found = |(key, _): (std::sync::Arc<Bytes>, Bytes)| {
        glob::matches(pattern, &key).then(|| BytesFrame::BulkString(Bytes::clone(&key)))
    };
    BytesFrame::Array(tokio::task::block_in_place(|| session.shared.cache().iter().filter_map(found).collect()))
}

fn flush(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    match &arguments[1..] {
        [] => {}
        [mode] if mode.eq_ignore_ascii_case(b"async") || mode.eq_ignore_ascii_case(b"sync") => {}
        _ => return Err(CommandError::Syntax),
    }
    let cache = session.shared.cache();
    cache.invalidate_all();
    // All entries are invisible already, but `DBSIZE` counts them until they are swept. Sweeping now makes it return 0.
    tokio::task::block_in_place(|| cache.run_pending_tasks());
    Ok(ok())
}
