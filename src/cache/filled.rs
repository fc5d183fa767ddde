//! What a filler decides about its value.

use std::time::Duration;

/// A value and how long the cache may keep it. What
/// [`fill_with`](super::Cache::fill_with) expects of a filler.
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

/// How long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// As long as the cache keeps values that are inserted without a time of their own.
    AsConfigured,
    /// For this time.
    For(Duration),
    /// Until it is evicted, removed or overwritten.
    Forever,
    /// Not at all.
    Not,
}

impl<V> Filled<V> {
    /// To be cached with the cache's default time to live.
    pub fn new(value: V) -> Self {
        Self { value, keep: Keep::AsConfigured }
    }

    /// To be cached for this time, counted from the end of the fill. More than a hundred years counts
    /// as a hundred; zero is the same as [`uncached`](Self::uncached).
    pub fn ttl(mut self, time_to_live: Duration) -> Self {
        self.keep = if time_to_live.is_zero() { Keep::Not } else { Keep::For(time_to_live) };
        self
    }

    /// To be cached without a time to live, whatever the cache's default is.
    pub fn forever(mut self) -> Self {
        self.keep = Keep::Forever;
        self
    }

    /// To be handed to the callers that wait, and not cached.
    pub fn uncached(value: V) -> Self {
        Self { value, keep: Keep::Not }
    }
}

impl<V> From<V> for Filled<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}
