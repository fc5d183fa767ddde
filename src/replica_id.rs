//! The name of a replica.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One opening of one named cache in one process.
///
/// Every opening is a new replica: an id is never used again, so a dot can never be issued twice. The ids that one process gives
/// out rise: they begin with the time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(Uuid);

impl ReplicaId {
    /// The smallest id; it stands for "no replica" in a bound that excludes nothing.
    pub const MIN: Self = Self(Uuid::nil());
    /// The largest id; as part of a stamp it makes the stamp cover a whole instant.
    pub const MAX: Self = Self(Uuid::max());

    /// An id from a UUID that the caller made, never to be used for another opening.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID behind this id.
    #[must_use]
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }

    /// The sixteen bytes that travel on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The id with these sixteen bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

/// By bytes, compared as one number: ids are looked up in ordered maps for each write.
impl Ord for ReplicaId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_u128().cmp(&other.0.as_u128())
    }
}

impl PartialOrd for ReplicaId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.as_hyphenated(), f)
    }
}
