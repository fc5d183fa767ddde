//! When and by which path a register came to be here: for those who look inside. It decides nothing.

use serde::{Deserialize, Serialize};

/// The way a register came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[repr(u8)]
pub enum LearntBy {
    /// Written or removed on this node.
    #[default]
    Written,
    /// A fill of this node.
    Filled,
    /// A push by its writer: the usual way.
    Push,
    /// A push that another node passed on.
    Relay,
    /// A session of what was missing, after digests were compared.
    Digest,
    /// A reconcile: a session over everything the other node holds.
    Reconcile,
    /// It came with a time ahead of this node's clock, and waited.
    Waited,
}

impl LearntBy {
    /// The path with this number; what no number stands for is the first.
    pub(crate) const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Filled,
            2 => Self::Push,
            3 => Self::Relay,
            4 => Self::Digest,
            5 => Self::Reconcile,
            6 => Self::Waited,
            _ => Self::Written,
        }
    }
}

/// When and how: 35 bits, in what would be padding of a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Learnt {
    /// In steps since the start.
    pub(crate) at: u32,
    pub(crate) path: LearntBy,
}

/// One step of the time kept, in nanoseconds: enough for 497 days, which is then the last that can be told.
const STEP: u64 = 10_000_000;

impl Learnt {
    /// `since_start` is in nanoseconds. Rounded up: nothing is learnt before it is written.
    pub(crate) fn new(since_start: u64, path: LearntBy) -> Self {
        Self { at: u32::try_from(since_start.div_ceil(STEP)).unwrap_or(u32::MAX), path }
    }

    /// Nanoseconds from the start of the replica.
    pub(crate) fn since_start(self) -> u64 {
        u64::from(self.at) * STEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_kept_to_ten_milliseconds_and_ends_without_wrapping() {
        let learnt = Learnt::new(1_234_567_890, LearntBy::Digest);
        assert_eq!((learnt.since_start(), learnt.path), (1_240_000_000, LearntBy::Digest));
        assert_eq!(Learnt::new(u64::MAX, LearntBy::Push).since_start(), u64::from(u32::MAX) * STEP);
    }
}
