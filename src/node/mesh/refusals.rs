//! The log lines about refusals: at most one a minute of each kind, however often addresses are refused.
//!
//! There are three kinds, each with a `Refusals` of its own: bytes without the right cluster name or key
//! (`Wire::refusals`), connections and frames beyond an address's share (`Wire::crowds`), and messages beyond an
//! address's share (`Inbox::refusals`).

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::sync::Mutex;

/// The time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(60);

/// One kind of line: the time of the last line, and the number of refusals since then.
#[derive(Default)]
pub(super) struct Refusals(Mutex<(Option<Instant>, u64)>);

impl Refusals {
    /// Counts a refusal. Logs it if the last line is at least a minute old.
    pub(super) fn note(&self, from: IpAddr, why: &str) {
        let Some(unlogged) = self.due(Instant::now()) else { return };
        tracing::warn!(
            %from, why, unlogged,
            "refused a sender with another cluster name or key; logged at most once a minute"
        );
    }

    /// Counts a refusal to an address that has used up its share. Logs it if the last line is at least a minute old.
    pub(super) fn crowd(&self, from: IpAddr, what: &str) {
        let Some(unlogged) = self.due(Instant::now()) else { return };
        tracing::warn!(
            %from, what, unlogged,
            "an address exceeded its share; the excess is dropped; logged at most once a minute"
        );
    }

    /// Returns the number of refusals not logged before this one, if this one is to be logged.
    fn due(&self, now: Instant) -> Option<u64> {
        let (last, unlogged) = &mut *self.0.lock();
        if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            *unlogged += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that 10,000 refusals within a minute make one log line (scenario 80: refused quietly).
    #[test]
    fn a_flood_of_refusals_is_one_log_line_a_minute() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.due(start), Some(0));
        assert!((0..10_000).all(|_| refusals.due(start + Duration::from_secs(59)).is_none()));
        assert_eq!(refusals.due(start + PAUSE), Some(10_000));
    }
}
