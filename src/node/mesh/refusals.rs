//! One line in the log for all who knock without the right name or key, and one for all who want more than their share,
//! however often they do.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::sync::Mutex;

/// Between two lines.
const PAUSE: Duration = Duration::from_secs(60);

/// One kind of line: when the last was written, and how many refusals have not been told since.
#[derive(Default)]
pub(super) struct Refusals(Mutex<(Option<Instant>, u64)>);

impl Refusals {
    /// Notes a refusal; writes a line if the last one is long ago.
    pub(super) fn note(&self, from: IpAddr, why: &str) {
        let Some(untold) = self.due(Instant::now()) else { return };
        tracing::warn!(%from, why, untold, "refused: not of this cluster, or without its key; told once a minute");
    }

    /// Notes that an address got less than it wanted.
    pub(super) fn crowd(&self, from: IpAddr, what: &str) {
        let Some(untold) = self.due(Instant::now()) else { return };
        tracing::warn!(%from, what, untold, "an address has its share and wants more: the rest is dropped; told once a minute");
    }

    /// How many were not told before this one, if it is to be told.
    fn due(&self, now: Instant) -> Option<u64> {
        let (last, untold) = &mut *self.0.lock();
        if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            *untold += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scenario 80: refused quietly
    #[test]
    fn a_flood_of_strangers_is_a_line_a_minute() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.due(start), Some(0));
        assert!((0..10_000).all(|_| refusals.due(start + Duration::from_secs(59)).is_none()));
        assert_eq!(refusals.due(start + PAUSE), Some(10_000));
    }
}
