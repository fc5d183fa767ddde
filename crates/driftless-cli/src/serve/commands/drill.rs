//! Commands for drills only: they return the stamps of writes and set the offset of this node's clock. They exist only
//! if the process was started with `--drill`, as `examples/chaos` and `examples/soak.rs` do.

use super::{Answer, Command, CommandError, bulk, kept, ok};
use crate::serve::session::Session;
use bytes::Bytes;
use driftless::{Stamp, inspect::Inspector};
use redis_protocol::resp2::types::BytesFrame;
use std::{fmt::Write, sync::atomic::Ordering::Relaxed};

pub const COMMANDS: &[Command] = &[Command { name: "drill", arity: -2, writes: true, keys: (0, 0, 0), run: drill }];

fn drill(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    if session.shared.drill.is_none() {
        return Err(CommandError::Unknown("drill".to_owned()));
    }
    match arguments[1..] {
        [b"SET", key, value] => set(session, key, value),
        [b"DEL", key] => delete(session, key),
        [b"GET", key] => Ok(get(session, key)),
        [b"CLOCK", millis] => clock(session, millis),
        [b"COUNTERS"] => Ok(counters(session)),
        _ => Err(CommandError::Syntax),
    }
}

fn stamp(stamp: Stamp) -> BytesFrame {
    bulk(format!("{} {}", stamp.time, stamp.replica))
}

fn set(session: &mut Session, key: &[u8], value: &[u8]) -> Answer {
    Ok(stamp(session.shared.cache().insert(kept(key), kept(value))?.stamp))
}

/// Deletes a key, and returns the stamps of a write just before and of a write just after the delete. The stamps of one
/// replica rise, so the stamp of the delete lies between them.
fn delete(session: &mut Session, key: &[u8]) -> Answer {
    let mark: Bytes = format!("drill:{}", session.shared.node.name()).into();
    let cache = session.shared.cache();
    let below = cache.insert(mark.clone(), Bytes::new())?.stamp;
    cache.invalidate(key);
    let above = cache.insert(mark, Bytes::new())?.stamp;
    Ok(bulk(format!("{} {}, {} {}", below.time, below.replica, above.time, above.replica)))
}

fn get(session: &mut Session, key: &[u8]) -> BytesFrame {
    match session.shared.cache().entry(key) {
        None => BytesFrame::Null,
        Some(entry) => BytesFrame::Array(vec![stamp(entry.stamp()), bulk(entry.value().clone())]),
    }
}

fn clock(session: &mut Session, millis: &[u8]) -> Answer {
    let millis = crate::serve::request::integer(millis).ok_or(CommandError::NotAnInteger)?;
    if let Some(offset) = &session.shared.drill {
        offset.store(millis.saturating_mul(1_000_000), Relaxed);
    }
    Ok(ok())
}

/// Returns every counter, one per line.
fn counters(session: &Session) -> BytesFrame {
    let report = Inspector::new(&session.shared.node).node();
    let mut text = String::new();
    let mut line = |name: &str, number: u64| {
        let _ = writeln!(text, "{name} {number}");
    };
    line("driver_alive", u64::from(report.driver_alive));
    line("members", report.members.len() as u64);
    report.network.iter().for_each(|(name, count)| line(&format!("network.{name}"), *count));
    for cache in &report.caches {
        line("entries", cache.entries);
        line("tombstones", cache.tombstones.total);
        line("log_entries", cache.log_entries);
        line("deferred", cache.deferred);
        line("memory_estimate", cache.memory_estimate);
        cache.counters.iter().for_each(|(name, count)| line(&format!("cache.{name}"), *count));
    }
    bulk(text)
}
