//! Writes that depend on the value here: they compare the stamp of that value, and so are one step on this node. They
//! know nothing of writes that other nodes make at the same time; the greater stamp wins everywhere.

use super::{CommandError, kept};
use crate::serve::session::Session;
use bytes::Bytes;
use driftless::EntryInfo;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The number of times that a write is tried again after the value has changed meanwhile.
const TRIES: usize = 64;

/// The deadline that a write sets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Expiry {
    /// The time to live of the cache, if it has one.
    #[default]
    Default,
    /// No deadline: `PERSIST`.
    Never,
    /// The deadline of the present value: `KEEPTTL`.
    Keep,
    /// A deadline in milliseconds since the Unix epoch.
    At(i64),
}

/// The time to live until a deadline. `None` is for ever; zero has passed.
pub fn until(millis: i64) -> Duration {
    let at = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    at.saturating_sub(now())
}

/// Returns the time since the Unix epoch.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the deadline of an entry in milliseconds since the Unix epoch; `None` if it never expires.
pub fn deadline(entry: &EntryInfo<Bytes>) -> Option<i64> {
    let at = entry.expires_at()?;
    Some(i64::try_from(at.as_millis()).unwrap_or(i64::MAX))
}

/// The condition of `SET`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Condition {
    #[default]
    Always,
    /// `NX`
    Absent,
    /// `XX`
    Present,
}

/// The outcome of a conditional write.
pub struct Stored {
    pub done: bool,
    /// The value that was here.
    pub old: Option<Bytes>,
}

/// Writes a value without a look at the present one.
#[inline]
pub fn put(session: &mut Session, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Result<(), CommandError> {
    let (key, value) = (kept(key), kept(value));
    let noted = key.clone();
    let written = match ttl {
        None => session.cache().insert(key, value)?,
        Some(ttl) => session.cache().insert_with_ttl(key, value, ttl)?,
    };
    session.note(&noted, written);
    Ok(())
}

/// Writes a value if the condition holds, in one step on this node. Returns the value that was here.
pub fn store(
    session: &mut Session,
    key: &[u8],
    value: &[u8],
    condition: Condition,
    expiry: Expiry,
) -> Result<Stored, CommandError> {
    for _ in 0..TRIES {
        let entry = session.cache().entry(key);
        let is_met = match condition {
            Condition::Always => true,
            Condition::Absent => entry.is_none(),
            Condition::Present => entry.is_some(),
        };
        let old = entry.as_ref().map(|entry| entry.value().clone());
        if !is_met {
            return Ok(Stored { done: false, old });
        }
        if attempt(session, key, value, entry.as_ref(), expiry)? {
            return Ok(Stored { done: true, old });
        }
    }
    Err(CommandError::Contended)
}

/// Replaces the value of an entry, or writes one where there is none. Returns false if that has changed meanwhile.
fn attempt(
    session: &mut Session,
    key: &[u8],
    value: &[u8],
    entry: Option<&EntryInfo<Bytes>>,
    expiry: Expiry,
) -> Result<bool, CommandError> {
    let cache = session.cache();
    let ttl = match expiry {
        Expiry::Default => cache.settings().time_to_live,
        Expiry::Never | Expiry::Keep => None,
        Expiry::At(millis) => Some(until(millis)),
    };
    let Some(entry) = entry else {
        if ttl == Some(Duration::ZERO) {
            return Ok(true); // Expired before it was written, and there is nothing to remove.
        }
        let (key, value) = (kept(key), kept(value));
        let written = match expiry {
            Expiry::Default => cache.insert_if_absent_local(key.clone(), value)?,
            _ => cache.insert_if_absent_local_with_ttl(key.clone(), value, ttl)?,
        };
        return Ok(written.inspect(|written| session.note(&key, *written)).is_some());
    };
    replace(session, key, kept(value), entry, if expiry == Expiry::Keep { Kept::Deadline } else { Kept::Nothing(ttl) })
}

/// The deadline of a value that replaces another.
enum Kept {
    /// That of the value before.
    Deadline,
    /// One of its own.
    Nothing(Option<Duration>),
}

/// Replaces a value that still has the stamp of `entry`. Returns false if it has another.
fn replace(
    session: &mut Session,
    key: &[u8],
    value: Bytes,
    entry: &EntryInfo<Bytes>,
    kept_deadline: Kept,
) -> Result<bool, CommandError> {
    let (cache, stamp, key) = (session.cache(), entry.stamp(), kept(key));
    let written = match kept_deadline {
        Kept::Nothing(Some(Duration::ZERO)) => return Ok(cache.remove_if_stamp(&key, stamp).is_some()),
        Kept::Nothing(ttl) => cache.replace_if_with_ttl(key.clone(), value, stamp, ttl)?,
        Kept::Deadline => cache.replace_if(key.clone(), value, stamp)?,
    };
    Ok(written.inspect(|written| session.note(&key, *written)).is_some())
}

/// Sets the deadline of the value here, if `decide` returns one for it. Returns the entry as it was, and if it was
/// changed.
pub fn change_deadline(
    session: &mut Session,
    key: &[u8],
    mut decide: impl FnMut(&EntryInfo<Bytes>) -> Option<Expiry>,
) -> Result<Option<(Bytes, bool)>, CommandError> {
    for _ in 0..TRIES {
        let Some(entry) = session.cache().entry(key) else { return Ok(None) };
        let Some(expiry) = decide(&entry) else { return Ok(Some((entry.into_value(), false))) };
        let ttl = match expiry {
            Expiry::At(millis) => Some(until(millis)),
            Expiry::Default | Expiry::Never | Expiry::Keep => None,
        };
        if replace(session, key, entry.value().clone(), &entry, Kept::Nothing(ttl))? {
            return Ok(Some((entry.into_value(), true)));
        }
    }
    Err(CommandError::Contended)
}
