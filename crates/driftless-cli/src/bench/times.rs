//! A list of times and its percentiles.

use std::{fmt, time::Duration};

/// The times that were measured.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub fn add(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Returns the time that this share of all times does not exceed, in percent. Zero without times.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |percent| self.percentile(percent).as_secs_f64() * 1e3;
        write!(f, "median {:.2} ms, 99 % {:.2} ms, slowest {:.2} ms, of {}", ms(50), ms(99), ms(100), self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Times;
    use std::time::Duration;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let mut times = Times::default();
        assert_eq!(times.percentile(99), Duration::ZERO);
        (1..=200).rev().for_each(|ms| times.push(Duration::from_millis(ms)));
        let ms = |percent| times.percentile(percent).as_millis();
        assert_eq!((ms(0), ms(50), ms(99), ms(100)), (1, 100, 198, 200));
    }
}
