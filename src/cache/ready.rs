//! The result of waiting until a cache has what the cluster has.

use std::fmt;

use crate::hlc::HlcTime;

/// The result of [`Cache::ready`](super::Cache::ready). A cache can be used at any time; the result tells what a miss
/// means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ready {
    /// There are no other members, and no seeds are configured except this node itself. There is nothing to wait for.
    Alone,
    /// This cache has everything that one member had at a certain time.
    CaughtUp {
        /// The member's name.
        from: String,
        /// The member's clock at that time, in nanoseconds since the UNIX epoch.
        as_of: HlcTime,
    },
    /// There are other members, and each has reported that it does not have this cache open.
    First {
        /// The number of other members.
        members: usize,
    },
    /// The time limit was reached. Replication continues; call `ready` again.
    TimedOut {
        /// The members that have given no conclusive answer. If no member is known, the seeds that have given none.
        waiting_for: Vec<String>,
        /// The number of members known to have the cache open.
        members: usize,
        /// The number of values here so far.
        entries: u64,
    },
}

impl Ready {
    /// Returns true if nothing is known to be missing.
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
            Self::First { members } => write!(f, "first: none of the {members} other members has this cache open"),
            Self::TimedOut { waiting_for, members, entries } => {
                write!(
                    f,
                    "not caught up: waiting for {}; {members} members known, {entries} entries so far",
                    waiting_for.join(", ")
                )
            }
        }
    }
}
