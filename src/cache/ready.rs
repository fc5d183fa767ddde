//! When a cache has what the cluster has.

use std::fmt;

use crate::hlc::HlcTime;

/// How ready a cache is. It can be used at any time; this says what a miss means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ready {
    /// There are no other members, and no seeds are configured but this node itself: nothing to wait for.
    Alone,
    /// Everything that this member had at that time is here.
    CaughtUp {
        /// The member's name.
        from: String,
        /// Its clock, in nanoseconds since the UNIX epoch, when it said what it had.
        as_of: HlcTime,
    },
    /// There are other members, and each says that it does not have this cache open.
    First {
        /// How many members.
        members: usize,
    },
    /// The time was up. Replication goes on; ask again.
    TimedOut {
        /// Members, or seeds if no member is there, from which nothing conclusive was heard.
        waiting_for: Vec<String>,
        /// Members known to have the cache open.
        members: usize,
        /// Values here so far.
        entries: u64,
    },
}

impl Ready {
    /// Whether nothing is known to be missing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !matches!(self, Self::TimedOut { .. })
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => f.write_str("alone"),
            Self::CaughtUp { from, .. } => write!(f, "caught up with {from}"),
            Self::First { members } => write!(f, "first: none of {members} other members has this cache open"),
            Self::TimedOut { waiting_for, members, entries } => {
                write!(
                    f,
                    "not caught up: waiting for {}, {members} members known, {entries} entries so far",
                    waiting_for.join(", ")
                )
            }
        }
    }
}
