//! The id of a replica.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of one opening of one named cache in one process.
///
/// Every opening is a new replica. An id is never used again, so a dot can never be issued twice. The ids that one
/// process issues rise, because they begin with the time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(Uuid);

impl ReplicaId {
    /// The smallest id. It means "no replica" in a bound that excludes nothing.
    pub const MIN: Self = Self(Uuid::nil());
    /// The largest id. As part of a stamp it makes the stamp cover a whole instant.
    pub const MAX: Self = Self(Uuid::max());

    /// Makes an id from a UUID of the caller, which must never be used for another opening.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Returns the UUID of this id.
    #[must_use]
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }

    /// Returns the sixteen bytes of the id on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// Returns the id with these sixteen bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns a hash of 64 bits: SplitMix64's finaliser over the lower half of the id plus a multiple of the upper one.
    /// It is the same on every node and in every release, because tokens of writes contain it. Ids that differ in the
    /// lower half alone have different hashes. In an id that a node draws, 62 bits of the lower half are random.
    pub(crate) const fn short_hash(self) -> u64 {
        let bits = self.0.as_u128();
        let mut hash = (bits as u64).wrapping_add(((bits >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        hash ^ (hash >> 31)
    }
}

/// Orders by bytes, compared as one number: each write looks up ids in ordered maps.
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
