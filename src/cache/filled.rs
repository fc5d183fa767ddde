//! A filler's value, with the time for which the cache keeps it.

use std::time::Duration;

/// A value, and the time for which the cache may keep it. The fillers of [`fill_with`](super::Cache::fill_with) return
/// it.
///
/// ```
/// use driftless::Filled;
/// use std::time::Duration;
/// let product = Filled::new("tea");
/// let unknown: Filled<Option<&str>> = Filled::new(None).ttl(Duration::from_secs(5)); // a negative answer
/// let personal = Filled::uncached("for this caller and those who wait with it");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the filler has to return it"]
pub struct Filled<V> {
    pub(crate) value: V,
    pub(crate) keep: Keep,
}

/// The time for which a value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// The cache's default time to live, as for a value that is inserted without a time of its own.
    AsConfigured,
    /// This time.
    For(Duration),
    /// No time to live: the value is kept until it is evicted, removed or overwritten.
    Forever,
    /// No time at all: the value is not cached.
    Not,
}

impl<V> Filled<V> {
    /// Returns a value that is cached with the cache's default time to live.
    pub fn new(value: V) -> Self {
        Self { value, keep: Keep::AsConfigured }
    }

    /// Sets the time to live, counted from the end of the fill. More than a hundred years counts as a hundred years.
    /// Zero is the same as [`uncached`](Self::uncached).
    pub fn ttl(mut self, time_to_live: Duration) -> Self {
        self.keep = if time_to_live.is_zero() { Keep::Not } else { Keep::For(time_to_live) };
        self
    }

    /// Removes the time to live, whatever the cache's default is.
    pub fn forever(mut self) -> Self {
        self.keep = Keep::Forever;
        self
    }

    /// Returns a value for the callers that wait, which is not cached.
    pub fn uncached(value: V) -> Self {
        Self { value, keep: Keep::Not }
    }
}

impl<V> From<V> for Filled<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}
