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
    /// `None` if the value is not cached.
    pub(crate) keep: Option<Lifetime>,
}

/// The time to live that the caller of a write asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// That of `expire_after`, or else the cache's default.
    AsConfigured,
    /// This time.
    For(Duration),
    /// None: the value is kept until it is evicted, removed or overwritten.
    Forever,
}

impl From<Option<Duration>> for Lifetime {
    /// A time to live of a caller for whom `None` is for ever.
    fn from(time_to_live: Option<Duration>) -> Self {
        time_to_live.map_or(Self::Forever, Self::For)
    }
}

impl<V> Filled<V> {
    /// Returns a value that is cached with the cache's default time to live.
    pub fn new(value: V) -> Self {
        Self { value, keep: Some(Lifetime::AsConfigured) }
    }

    /// Sets the time to live, counted from the end of the fill. More than a hundred years counts as a hundred years.
    /// Zero is the same as [`uncached`](Self::uncached).
    pub fn ttl(mut self, time_to_live: Duration) -> Self {
        self.keep = (!time_to_live.is_zero()).then_some(Lifetime::For(time_to_live));
        self
    }

    /// Removes the time to live, whatever the cache's default is.
    pub fn forever(mut self) -> Self {
        self.keep = Some(Lifetime::Forever);
        self
    }

    /// Returns a value for the callers that wait, which is not cached.
    pub fn uncached(value: V) -> Self {
        Self { value, keep: None }
    }
}

impl<V> From<V> for Filled<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}
