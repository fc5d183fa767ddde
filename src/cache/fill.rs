//! Fills of missed keys. However many callers miss a key, one filler runs, and its value never replaces something
//! newer.

use std::hash::Hash;
use std::time::Duration;

use equivalent::Equivalent;

use super::fill_error::{Failure, FillError};
use super::fill_join::{Next, join_or_lead, wait_for};
use super::filled::Filled;
use super::flight::Outcome;
use super::shared::Shared;
use super::{CacheKey, CacheValue, fill_run, fill_wait, lookup};
use crate::garbage::drop_quietly;
use crate::item::{ItemRef, drop_key, of_key};
use crate::sync::Arc;

/// Returns the value of a key. If there is none, joins the running fill of the key or runs `filler`. `patience` is the
/// wait for each node whose turn is earlier (see `turn`); `None` does not wait.
pub(super) async fn get_or_fill<K: CacheKey, V: CacheValue, F, Fut>(
    shared: &Arc<Shared<K, V>>,
    patience: Option<Duration>,
    key: K,
    filler: F,
) -> Result<V, Failure>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Filled<V>, Failure>> + Send + 'static,
{
    match lookup::get(shared, &key) {
        Some(value) => {
            drop_key(key);
            Ok(value)
        }
        None => fill_missing(shared, patience, of_key(key), filler).await,
    }
}

/// As [`get_or_fill`], for a borrowed key.
pub(super) async fn get_or_fill_by_ref<K: CacheKey, V: CacheValue, Q, F, Fut>(
    shared: &Arc<Shared<K, V>>,
    patience: Option<Duration>,
    key: &Q,
    filler: F,
) -> Result<V, Failure>
where
    Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Filled<V>, Failure>> + Send + 'static,
{
    match lookup::get(shared, key) {
        Some(value) => Ok(value),
        None => fill_missing(shared, patience, of_key(key.to_owned()), filler).await,
    }
}

/// As [`get_or_fill`], but blocks the calling thread.
pub(super) fn get_or_fill_blocking<K: CacheKey, V: CacheValue>(
    shared: &Arc<Shared<K, V>>,
    patience: Option<Duration>,
    key: K,
    filler: impl FnOnce() -> Result<Filled<V>, Failure>,
) -> Result<V, Failure> {
    match lookup::get(shared, &key) {
        Some(value) => {
            drop_key(key);
            Ok(value)
        }
        None => fill_missing_blocking(shared, patience, of_key(key), filler),
    }
}

/// As [`get_or_fill_blocking`], for a borrowed key.
pub(super) fn get_or_fill_by_ref_blocking<K: CacheKey, V: CacheValue, Q>(
    shared: &Arc<Shared<K, V>>,
    patience: Option<Duration>,
    key: &Q,
    filler: impl FnOnce() -> Result<Filled<V>, Failure>,
) -> Result<V, Failure>
where
    Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
{
    match lookup::get(shared, key) {
        Some(value) => Ok(value),
        None => fill_missing_blocking(shared, patience, of_key(key.to_owned()), filler),
    }
}

async fn fill_missing<K: CacheKey, V: CacheValue, F, Fut>(
    shared: &Arc<Shared<K, V>>,
    patience: Option<Duration>,
    key: ItemRef<K, V>,
    filler: F,
) -> Result<V, Failure>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Filled<V>, Failure>> + Send + 'static,
{
    loop {
        match join_or_lead(shared, &key) {
            Next::Found(item) => return value_of(&Ok(item)),
            Next::Join(flight) => {
                let _waiting = wait_for(shared, &flight)?;
                // `None` means that the fill has become too old to wait for: join a newer fill, or lead one.
                if let Some(outcome) = fill_wait::await_joined(shared, &flight).await {
                    return value_of(outcome);
                }
            }
            Next::Lead(flight) => {
                let _waiting = wait_for(shared, &flight)?;
                fill_run::spawn(shared, &flight, patience, filler);
                return value_of(fill_wait::await_own(shared, &flight).await);
            }
        }
    }
}

fn fill_missing_blocking<K: CacheKey, V: CacheValue>(
    shared: &Arc<Shared<K, V>>,
    patience: Option<Duration>,
    key: ItemRef<K, V>,
    filler: impl FnOnce() -> Result<Filled<V>, Failure>,
) -> Result<V, Failure> {
    loop {
        match join_or_lead(shared, &key) {
            Next::Found(item) => return value_of(&Ok(item)),
            Next::Join(flight) => {
                // The filler runs in a runtime that only this thread drives: blocking here would stop it for ever.
                if flight.handover.is_driven_here() {
                    shared.counts.fills.deadlocks.one();
                    return Err(Failure::WouldBlock);
                }
                let _waiting = wait_for(shared, &flight)?;
                if let Some(outcome) = fill_wait::await_joined_blocking(shared, &flight) {
                    return value_of(outcome);
                }
            }
            Next::Lead(flight) => {
                let _waiting = wait_for(shared, &flight)?;
                fill_run::run_here(shared, &flight, patience, filler);
                return value_of(flight.outcome_blocking());
            }
        }
    }
}

/// Returns the value of an outcome. Clones it, so it must not be called under a lock.
fn value_of<K, V: Clone>(outcome: &Outcome<K, V>) -> Result<V, Failure> {
    match outcome {
        // A successful outcome always holds a value that decodes here, so this `Abandoned` is never returned.
        Ok(item) => item.value().cloned().ok_or(Failure::Abandoned),
        Err(failure) => Err(failure.clone()),
    }
}

/// Panics with a failure, for the variants of `get_with`, which cannot return an error.
pub(super) fn no_value<V>(failure: Failure) -> V {
    let error: FillError<std::convert::Infallible> = failure.typed();
    let text = error.to_string();
    // The error is the filler's, and may panic in its `Drop`. A second panic would abort the process.
    drop_quietly([error]);
    panic!("get_with has no value to return: {text}")
}
