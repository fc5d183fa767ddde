//! Samples at two resolutions: one a second for three minutes, and one in ten seconds for fifteen.

use std::collections::VecDeque;

/// The samples that are kept, one a second.
const FINE: usize = 180;
/// The interval of the coarse samples in nanoseconds.
const STEP: u64 = 10_000_000_000;
/// The age in nanoseconds from which a sample is not shown any more: fifteen minutes.
const OLD: u64 = 90 * STEP;

/// Samples, each with its monotonic time.
pub(super) struct Ring<T> {
    fine: VecDeque<(u64, T)>,
    coarse: VecDeque<(u64, T)>,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { fine: VecDeque::new(), coarse: VecDeque::new() }
    }
}

impl<T: Clone> Ring<T> {
    pub(super) fn push(&mut self, mono: u64, sample: T) {
        let last = self.coarse.back().map(|(mono, _)| *mono);
        if last.is_none_or(|last| mono.saturating_sub(last) >= STEP) {
            self.coarse.push_back((mono, sample.clone()));
        }
        self.fine.push_back((mono, sample));
        while self.fine.len() > FINE {
            self.fine.pop_front();
        }
        while self.coarse.front().is_some_and(|(first, _)| mono.saturating_sub(*first) > OLD) {
            self.coarse.pop_front();
        }
    }

    /// Returns the samples of the last fifteen minutes, the oldest first: coarse ones, then fine ones.
    pub(super) fn all(&self, now: u64) -> impl Iterator<Item = &T> {
        let first = self.fine.front().map_or(u64::MAX, |(mono, _)| *mono);
        let before = self.coarse.iter().filter(move |(mono, _)| *mono < first);
        let young = move |(mono, _): &&(u64, T)| now.saturating_sub(*mono) <= OLD;
        before.chain(&self.fine).filter(young).map(|(_, sample)| sample)
    }
}
