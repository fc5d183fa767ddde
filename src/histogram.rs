//! Distributions of times, in fixed buckets.

use serde::{Deserialize, Serialize};

use crate::counters::Counter;

/// The limits of the buckets for waits that involve a network or a source, in nanoseconds: 0.5 ms to 60 s.
pub(crate) const WAITS: &[u64] = &[
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];
/// The limits of the buckets for look-ups in memory, in nanoseconds: 100 ns to 10 ms.
pub(crate) const LOOKUPS: &[u64] =
    &[100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000];
/// The limits of the buckets for ages of entries, in nanoseconds: 1 s to 30 days.
pub(crate) const AGES: &[u64] = &[
    1_000_000_000,
    5_000_000_000,
    15_000_000_000,
    60_000_000_000,
    300_000_000_000,
    900_000_000_000,
    3_600_000_000_000,
    21_600_000_000_000,
    86_400_000_000_000,
    604_800_000_000_000,
    2_592_000_000_000_000,
];

/// A distribution of times that many threads add to.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// The limits of the buckets, rising. One more bucket has no limit.
    limits: &'static [u64],
    counts: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    /// Creates a distribution with these limits of buckets, which rise.
    pub(crate) fn new(limits: &'static [u64]) -> Self {
        let counts = (0..=limits.len()).map(|_| Counter::default()).collect();
        Self { limits, counts, sum: Counter::default() }
    }

    /// Adds one time. A bucket contains the times up to and including its limit.
    pub(crate) fn record(&self, nanos: u64) {
        let bucket = self.limits.partition_point(|limit| *limit < nanos);
        if let Some(count) = self.counts.get(bucket) {
            count.one();
            self.sum.add(nanos);
        }
    }

    /// Copies the distribution.
    pub(crate) fn read(&self) -> Distribution {
        Distribution {
            limits: self.limits.iter().map(|limit| seconds(*limit)).collect(),
            counts: self.counts.iter().map(Counter::get).collect(),
            sum: seconds(self.sum.get()),
        }
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// A distribution of times at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Distribution {
    /// The limits of the buckets in seconds, rising. A bucket contains the times up to and including its limit.
    pub limits: Vec<f64>,
    /// The number of times in each bucket. One more bucket, the last, has no limit.
    pub counts: Vec<u64>,
    /// The sum of all times in seconds.
    pub sum: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_reaches_it() {
        let histogram = Histogram::new(&[10, 20]);
        [0, 10, 11, 20, 21, 1_000_000_000].into_iter().for_each(|nanos| histogram.record(nanos));
        let seen = histogram.read();
        assert_eq!((seen.counts, seen.limits), (vec![2, 2, 2], vec![1e-8, 2e-8]));
        assert_eq!(seen.sum, 1.000_000_062);
        for limits in [WAITS, LOOKUPS, AGES] {
            assert!(limits.is_sorted_by(|a, b| a < b), "{limits:?}");
        }
    }
}
