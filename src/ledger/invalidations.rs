//! The epochs whose registers wait to be swept. A value is reported as expired, not as invalidated, if its time had
//! ended before this replica adopted the first epoch that covers it. The time of the sweep does not matter.

use super::changes::RemovalCause;
use crate::hlc::HlcTime;
use crate::store::Meta;

/// The most epochs remembered between two sweeps. If there are more, the oldest is forgotten. For the values that it
/// covers, the time at which the next epoch came then decides between expired and invalidated.
const MOST: usize = 64;

/// The epochs since the last complete sweep, the oldest first, each with the wall time at which it came.
#[derive(Debug, Default)]
pub(super) struct Invalidations(Vec<(HlcTime, HlcTime)>);

impl Invalidations {
    pub(super) fn note(&mut self, epoch: HlcTime, wall: HlcTime) {
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push((epoch, wall));
    }

    /// Returns the cause for which readers lost a value that an epoch made absent.
    pub(super) fn cause_of(&self, meta: &Meta) -> RemovalCause {
        let first = self.0.iter().find(|(epoch, _)| meta.stamp_time <= *epoch);
        match first {
            Some((_, wall)) if meta.is_expired_by(*wall) => RemovalCause::Expired,
            _ => RemovalCause::Invalidated,
        }
    }
}
