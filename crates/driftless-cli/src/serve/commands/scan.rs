//! The commands that list keys. They read this node's view, page by page.

use super::{Command, CommandError, Outcome, plain};
use crate::serve::{glob, reply::Output, session::Session};
use driftless::Page;

pub const COMMANDS: &[Command] = &[
    plain("keys", 2, 0, "Returns the keys here that match a pattern.", keys),
    plain("scan", -2, 0, "Returns one page of the keys here, and the cursor of the next.", scan),
    plain("randomkey", 1, 0, "Returns one of the keys here.", randomkey),
];

/// The number of entries of a page without `COUNT`.
const PAGE: usize = 10;
/// The most entries of a page.
const LARGEST_PAGE: usize = 16 * 1024;

fn keys(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let pattern = arguments[1];
    // Visits every entry, so the runtime first moves other connections off this thread.
    let found: Vec<_> = tokio::task::block_in_place(|| {
        let entries = session.cache().iter();
        entries.filter(|(key, _)| glob::matches(pattern, key)).map(|(key, _)| key).collect()
    });
    output.array(found.len());
    for key in found {
        output.bulk(&key);
        if output.bytes.len() > session.shared.settings.max_output_bytes {
            break; // The connection will be closed, because its client would have to hold too much.
        }
    }
    Ok(())
}

/// Returns a page. A walk from cursor 0 to cursor 0 returns every key that is here from its start to its end, and none
/// twice.
fn scan(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let cursor = std::str::from_utf8(arguments[1]).ok().and_then(|cursor| cursor.parse().ok());
    let cursor: u64 = cursor.ok_or(CommandError::Other("ERR invalid cursor"))?;
    let options = ScanOptions::parse(&arguments[2..])?;
    let page = match options.strings {
        true => session.cache().pages().scan(cursor, options.count),
        false => Page::default(),
    };
    let found: Vec<_> = page.entries.iter().filter(|(key, _)| glob::matches(options.pattern, key)).collect();
    output.array(2);
    output.bulk(page.next.unwrap_or(0).to_string().as_bytes());
    output.array(found.len());
    found.iter().for_each(|(key, _)| output.bulk(key));
    Ok(())
}

struct ScanOptions<'a> {
    pattern: &'a [u8],
    count: usize,
    strings: bool,
}

impl<'a> ScanOptions<'a> {
    fn parse(words: &[&'a [u8]]) -> Result<Self, CommandError> {
        let mut options = Self { pattern: b"*", count: PAGE, strings: true };
        let (pairs, rest) = words.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(CommandError::Syntax);
        }
        for [option, value] in pairs {
            match option.to_ascii_lowercase().as_slice() {
                b"match" => options.pattern = value,
                b"type" => options.strings = value.eq_ignore_ascii_case(b"string"),
                b"count" => options.count = count(value)?,
                _ => return Err(CommandError::Syntax),
            }
        }
        Ok(options)
    }
}

fn count(digits: &[u8]) -> Result<usize, CommandError> {
    let count = crate::serve::request::integer(digits).ok_or(CommandError::NotAnInteger)?;
    match usize::try_from(count) {
        Err(_) | Ok(0) => Err(CommandError::Syntax),
        Ok(count) => Ok(count.min(LARGEST_PAGE)),
    }
}

/// Returns a key near a random place.
fn randomkey(session: &mut Session, _: &[&[u8]], output: &mut Output) -> Outcome {
    let near = session.cache().pages().sample(fastrand::u64(..), PAGE);
    let key = (!near.is_empty()).then(|| &near[fastrand::usize(..near.len())].0);
    output.bulk_or_null(key.map(|key| &key[..]));
    Ok(())
}
