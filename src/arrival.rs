//! The provenance of a register: the time and path of its arrival here, for inspection. The protocol does not use it.

use serde::{Deserialize, Serialize};

/// The path by which a register arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
#[repr(u8)]
pub enum Provenance {
    /// Written or removed on this node.
    #[default]
    Written,
    /// A fill of this node.
    Filled,
    /// A push by its writer, which is the usual path.
    Push,
    /// A push that another node relayed.
    Relay,
    /// A session with entries that this node lacked, after digests were compared.
    Digest,
    /// A reconcile: a session with everything that the sending node holds.
    Reconcile,
    /// A release from quarantine: it had arrived with a time ahead of this node's clock.
    Waited,
}

impl Provenance {
    /// Returns the path with this number. An unknown number returns [`Written`](Self::Written).
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

/// The time and path of arrival: 35 bits that would otherwise be padding in a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Time since the replica was opened, in steps of `STEP`.
    pub(crate) at: u32,
    pub(crate) path: Provenance,
}

/// One step of the recorded time, in nanoseconds. The range is 497 days; later times are recorded as the last step.
const STEP: u64 = 10_000_000;

impl Arrival {
    /// Records `since_start`, in nanoseconds. Rounds up, so that no register appears to arrive before it was written.
    pub(crate) fn new(since_start: u64, path: Provenance) -> Self {
        Self { at: u32::try_from(since_start.div_ceil(STEP)).unwrap_or(u32::MAX), path }
    }

    /// Returns the nanoseconds from the opening of the replica to the arrival.
    pub(crate) fn since_start(self) -> u64 {
        u64::from(self.at) * STEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Provenance: the time is rounded up to ten milliseconds, and the largest time saturates.
    #[test]
    fn time_is_kept_to_ten_milliseconds_and_ends_without_wrapping() {
        let arrival = Arrival::new(1_234_567_890, Provenance::Digest);
        assert_eq!((arrival.since_start(), arrival.path), (1_240_000_000, Provenance::Digest));
        assert_eq!(Arrival::new(u64::MAX, Provenance::Push).since_start(), u64::from(u32::MAX) * STEP);
    }
}
