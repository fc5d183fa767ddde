//! The epochs whose registers wait to be swept. A value whose time had ended before its epoch came is reported as expired
//! and not as invalidated, however much later it is swept.

use super::changes::RemovalCause;
use crate::hlc::HlcTime;
use crate::store::Meta;

/// The most epochs remembered between two sweeps. Of more, the oldest is forgotten: its values are judged by the next.
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
