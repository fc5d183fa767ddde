//! The benefit of a shared cache over private ones, from the counts of one run.

use std::fmt;

/// The comparison of two counts of database reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gain {
    /// At most two thirds of the reads. Holds how many times fewer there were.
    Shines(f64),
    /// At least a tenth fewer reads. Holds the percentage.
    Helps(f64),
    /// Less than a tenth fewer or more reads. Holds the percentage, which is negative if there were more.
    Even(f64),
    /// At least a tenth more reads. Holds the percentage.
    Loses(f64),
}

impl Gain {
    /// Compares the database reads of a shared cache with those of private caches.
    pub fn of(private: u64, shared: u64) -> Self {
        // A cache without any read of the database is compared as if it had made one.
        let (private, shared) = (private.max(1), shared.max(1));
        let fewer = 100.0 * (1.0 - shared as f64 / private as f64);
        if shared * 3 <= private * 2 {
            Self::Shines(private as f64 / shared as f64)
        } else if shared * 10 <= private * 9 {
            Self::Helps(fewer)
        } else if shared * 10 >= private * 11 {
            Self::Loses(-fewer)
        } else {
            Self::Even(fewer)
        }
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shines(times) => write!(f, "SHINES: {times:.1} times fewer database reads than private caches"),
            Self::Helps(percent) => write!(f, "HELPS: {percent:.0} % fewer database reads than private caches"),
            Self::Even(percent) => {
                let word = if *percent < 0.0 { "more" } else { "fewer" };
                write!(f, "NO GAIN: {:.0} % {word} database reads than private caches", percent.abs())
            }
            Self::Loses(percent) => write!(f, "LOSES: {percent:.0} % more database reads than private caches"),
        }
    }
}

/// Returns a bar of at most `width` characters, in proportion to the share of `count` in `all`. A count that is not
/// zero has at least one character.
pub fn bar(count: u64, all: u64, width: usize) -> String {
    let length = (count as f64 / all.max(1) as f64 * width as f64).round() as usize;
    "#".repeat(length.clamp(usize::from(count > 0), width))
}
