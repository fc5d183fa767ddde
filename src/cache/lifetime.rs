//! The time to live of a write: its own, or one that the cache sets, less the jitter.

use std::time::Duration;

use super::filled::Lifetime;
use super::insert_error::InsertError;
use super::shared::Shared;
use super::{CacheKey, CacheValue};
use crate::hlc::{HlcTime, Now, nanos};

/// The largest time to live: a hundred years. Longer ones are reduced to it.
const MAX_TTL: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Returns the deadline of a write that is made now; zero if there is none. Calls the user's `expire_after` if the write
/// has no time of its own, so it must not be called under a lock.
#[inline]
pub(super) fn deadline<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    now: Now,
    (hash, key, value): (u64, &K, &V),
    lifetime: Lifetime,
) -> Result<HlcTime, InsertError> {
    let (time_to_live, jitter) = match lifetime {
        Lifetime::For(time) => (Some(time), 0.0),
        Lifetime::Forever => (None, 0.0),
        Lifetime::AsConfigured => {
            let of_value = shared.expire_after.as_ref().and_then(|expire_after| expire_after(key, value));
            (of_value.or(shared.settings.time_to_live), shared.settings.ttl_jitter)
        }
    };
    match time_to_live {
        None => Ok(0),
        Some(Duration::ZERO) => Err(InsertError::ZeroTimeToLive),
        Some(time) => {
            let time = shorten(nanos(time.min(MAX_TTL)), jitter, hash ^ now.wall);
            Ok(now.wall.saturating_add(time))
        }
    }
}

/// Shortens a time by a part between none and `jitter`. `draw` decides which: each draw gives another part. The result
/// is never zero.
fn shorten(time: u64, jitter: f64, draw: u64) -> u64 {
    if jitter == 0.0 {
        return time;
    }
    let part = jitter * fastrand::Rng::with_seed(draw).f64();
    (time - (time as f64 * part) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_spread_over_its_whole_range_and_never_beyond() {
        let drawn: Vec<_> = (0..10_000).map(|draw| shorten(1_000_000, 0.1, draw)).collect();
        assert!(drawn.iter().all(|time| (900_000..=1_000_000).contains(time)));
        for step in 0..10 {
            let range = 900_000 + step * 10_000..900_000 + (step + 1) * 10_000;
            let share = drawn.iter().filter(|time| range.contains(*time)).count();
            assert!((850..1_150).contains(&share), "{share} of 10,000 in {range:?}");
        }
        assert_eq!((shorten(7, 0.0, 1), shorten(1, 0.9, 1)), (7, 1));
        let century = nanos(MAX_TTL);
        assert!((0..100).all(|draw| (century / 10..=century).contains(&shorten(century, 0.9, draw))));
    }
}
