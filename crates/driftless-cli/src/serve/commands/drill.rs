//! Commands for drills only: they return the stamps of writes and set the offset of this node's clock. They exist only
//! if the process was started with `--drill`, as `examples/chaos` and `examples/soak.rs` do.

use super::{Command, CommandError, Outcome, WRITE, kept, plain};
use crate::serve::{reply::Output, request::integer, session::Session};
use bytes::Bytes;
use driftless::{Stamp, inspect::Inspector};
use std::{fmt::Write, sync::atomic::Ordering::Relaxed};

pub const COMMANDS: &[Command] =
    &[plain("drill", -2, WRITE, "Serves drills, if the process was started for one.", drill)];

fn drill(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    if session.shared.drill.is_none() {
        return Err(CommandError::Unknown("drill".to_owned()));
    }
    match arguments[1..] {
        [b"SET", key, value] => {
            let written = session.cache().insert(kept(key), kept(value))?;
            stamp(output, written.stamp);
        }
        [b"DEL", key] => delete(session, key, output)?,
        [b"GET", key] => get(session, key, output),
        [b"CLOCK", millis] => clock(session, millis, output)?,
        [b"COUNTERS"] => output.bulk(counters(session).as_bytes()),
        _ => return Err(CommandError::Syntax),
    }
    Ok(())
}

fn stamp(output: &mut Output, stamp: Stamp) {
    output.bulk(format!("{} {}", stamp.time, stamp.replica).as_bytes());
}

/// Deletes a key, and returns the stamps of a write just before and of a write just after the delete. The stamps of one
/// replica rise, so the stamp of the delete lies between them.
fn delete(session: &Session, key: &[u8], output: &mut Output) -> Outcome {
    let mark: Bytes = format!("drill:{}", session.shared.node.name()).into();
    let cache = session.cache();
    let below = cache.insert(mark.clone(), Bytes::new())?.stamp;
    cache.invalidate(key);
    let above = cache.insert(mark, Bytes::new())?.stamp;
    output.bulk(format!("{} {}, {} {}", below.time, below.replica, above.time, above.replica).as_bytes());
    Ok(())
}

fn get(session: &Session, key: &[u8], output: &mut Output) {
    match session.cache().entry(key) {
        None => output.null(),
        Some(entry) => {
            output.array(2);
            stamp(output, entry.stamp());
            output.bulk(entry.value());
        }
    }
}

fn clock(session: &Session, millis: &[u8], output: &mut Output) -> Outcome {
    let millis = integer(millis).ok_or(CommandError::NotAnInteger)?;
    if let Some(offset) = &session.shared.drill {
        offset.store(millis.saturating_mul(1_000_000), Relaxed);
    }
    output.simple("OK");
    Ok(())
}

/// Returns every counter, one per line.
fn counters(session: &Session) -> String {
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
    text
}
