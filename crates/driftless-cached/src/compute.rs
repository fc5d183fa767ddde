//! Look-ups that compute a value on a miss: fills of driftless, so that a slow computation overwrites nothing newer.

use std::fmt;

use driftless::cache::{CacheKey, CacheValue};
use driftless::{Cache, FillError};

use crate::store::StoreError;

/// Stands for the error of a computation, which has its own type and may not be one of driftless.
#[derive(Clone, Copy, Debug)]
struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the computation failed")
    }
}

impl std::error::Error for Failed {}

pub(crate) fn get_or_set_with<K: CacheKey, V: CacheValue>(
    cache: &Cache<K, V>,
    key: K,
    compute: impl FnOnce() -> V,
) -> Result<V, StoreError> {
    match try_get_or_set_with(cache, key, || Ok::<_, std::convert::Infallible>(compute()))? {
        Ok(value) => Ok(value),
        Err(never) => match never {},
    }
}

pub(crate) fn try_get_or_set_with<K: CacheKey, V: CacheValue, E>(
    cache: &Cache<K, V>,
    key: K,
    compute: impl FnOnce() -> Result<V, E>,
) -> Result<Result<V, E>, StoreError> {
    let mut compute = Some(compute);
    let mut error = None;
    loop {
        let found = cache.try_get_with_blocking(key.clone(), || {
            let computed = compute.take().ok_or(Failed)?();
            computed.map_err(|failure| {
                error = Some(failure);
                Failed
            })
        });
        match found {
            Ok(value) => return Ok(Ok(value)),
            Err(why) => match error.take() {
                Some(error) => return Ok(Err(error)),
                // The computation of another thread failed, which this one waited for. Its own has not begun.
                None if matches!(why, FillError::Failed(_)) && compute.is_some() => {}
                None => return Err(StoreError::Compute(why.to_string())),
            },
        }
    }
}

pub(crate) async fn async_get_or_set_with<K: CacheKey, V: CacheValue, Fut: Future<Output = V>>(
    cache: &Cache<K, V>,
    key: K,
    compute: impl FnOnce() -> Fut,
) -> Result<V, StoreError> {
    let compute = || async { Ok::<_, std::convert::Infallible>(compute().await) };
    match async_try_get_or_set_with(cache, key, compute).await? {
        Ok(value) => Ok(value),
        Err(never) => match never {},
    }
}

/// Runs the computation in its caller: it may borrow, so it cannot become a task that other callers wait for.
pub(crate) async fn async_try_get_or_set_with<K: CacheKey, V: CacheValue, Fut: Future<Output = Result<V, E>>, E>(
    cache: &Cache<K, V>,
    key: K,
    compute: impl FnOnce() -> Fut,
) -> Result<Result<V, E>, StoreError> {
    if let Some(value) = cache.get(&key) {
        return Ok(Ok(value));
    }
    let lease = cache.begin_fill(key);
    match compute().await {
        Ok(value) => {
            lease.complete(value.clone())?;
            Ok(Ok(value))
        }
        Err(error) => Ok(Err(error)),
    }
}
