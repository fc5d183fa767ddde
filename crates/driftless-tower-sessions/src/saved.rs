//! A session as the cache holds it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::Error;

/// A session without its id, which is its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// The data as JSON text. As a JSON value it would depend on the features with which `serde_json` is built.
    data: String,
    /// The time at which the session expires: whole seconds since the UNIX epoch, and nanoseconds.
    expires: (i64, u32),
    /// The time from the save to the expiry.
    pub(crate) lifetime: Duration,
}

/// Returns the time until a record expires; `None` if it has expired.
pub(crate) fn remaining(expiry: OffsetDateTime) -> Option<Duration> {
    let left = expiry - OffsetDateTime::now_utc();
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

impl Saved {
    /// Returns a record as it is stored, with this time until it expires.
    pub(crate) fn new(record: &Record, lifetime: Duration) -> Result<Self, Error> {
        let data = serde_json::to_string(&record.data).map_err(|error| {
            Error::Encode(format!("the data of the session cannot be written as JSON, so it was not saved: {error}"))
        })?;
        let expiry = record.expiry_date;
        Ok(Self { data, expires: (expiry.unix_timestamp(), expiry.nanosecond()), lifetime })
    }

    /// Returns the record, or `None` if it has expired.
    pub(crate) fn record(&self, id: Id) -> Result<Option<Record>, Error> {
        let (seconds, nanos) = self.expires;
        let unreadable = |error: &dyn std::fmt::Display| {
            Error::Decode(format!("a stored session cannot be read ({error}): do all nodes run compatible releases?"))
        };
        let expiry_date =
            OffsetDateTime::from_unix_timestamp(seconds).and_then(|whole| whole.replace_nanosecond(nanos));
        let expiry_date = expiry_date.map_err(|error| unreadable(&error))?;
        if remaining(expiry_date).is_none() {
            return Ok(None);
        }
        let data = serde_json::from_str(&self.data).map_err(|error| unreadable(&error))?;
        Ok(Some(Record { id, data, expiry_date }))
    }
}
