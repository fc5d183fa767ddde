//! Runs the filler of a fill that this caller leads: as a task, or on the caller's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tracing::Instrument;

use super::fill_error::Failure;
use super::fill_task::FillTask;
use super::filled::Filled;
use super::flight::Flight;
use super::host::TaskRuntime;
use super::shared::Shared;
use super::waits::FillerScope;
use super::work::{Brought, Work};
use super::{CacheKey, CacheValue, fill_end, turn};
use crate::sync::Arc;

/// Starts a filler as a task, once this node's turn has come. The task runs in a tracing span below the caller's, so
/// its log lines belong to the request that missed.
pub(super) fn spawn<K: CacheKey, V: CacheValue, F, Fut>(
    shared: &Arc<Shared<K, V>>,
    flight: &Arc<Flight<K, V>>,
    patience: Option<Duration>,
    filler: F,
) where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<Filled<V>, Failure>> + Send + 'static,
{
    let turn = turn::wait_before(shared, flight, patience);
    let span = tracing::info_span!("driftless.fill", cache = %shared.name);
    let filler = async move { filler().await.map(Brought::Filled) }.instrument(span);
    let work: Work<K, V> = if turn.is_zero() {
        Box::pin(filler)
    } else {
        let (shared, flight) = (Arc::downgrade(shared), Arc::clone(flight));
        Box::pin(async move {
            match turn::await_arrival(shared, flight, turn).await {
                Some(item) => Ok(Brought::Arrived(item)),
                None => filler.await,
            }
        })
    };
    spawn_work(shared, flight, work);
}

fn spawn_work<K: CacheKey, V: CacheValue>(shared: &Arc<Shared<K, V>>, flight: &Arc<Flight<K, V>>, work: Work<K, V>) {
    // The caller's runtime may run only while a thread is inside its `block_on`. The watch runs in the runtime of
    // timers, so that the time limit holds all the same.
    watch(shared, flight);
    let limit = shared.settings.fill_timeout.map(|limit| (limit, shared.services.tasks.sleep(limit)));
    flight.handover.put(work);
    let task = FillTask::new(shared, flight, limit);
    if !shared.services.tasks.spawn(TaskRuntime::Caller, Box::pin(task)) {
        fill_end::complete(shared, flight, Err(Failure::NoRuntime));
    }
}

/// Runs a filler on this thread, once this node's turn has come.
pub(super) fn run_here<K: CacheKey, V: CacheValue>(
    shared: &Arc<Shared<K, V>>,
    flight: &Arc<Flight<K, V>>,
    patience: Option<Duration>,
    filler: impl FnOnce() -> Result<Filled<V>, Failure>,
) {
    let turn = turn::wait_before(shared, flight, patience);
    watch(shared, flight);
    if let Some(item) = turn::await_arrival_blocking(shared, flight, turn) {
        return fill_end::complete(shared, flight, Ok(Brought::Arrived(item)));
    }
    let result = {
        let _inside = FillerScope::of(flight.number);
        catch_unwind(AssertUnwindSafe(filler)).unwrap_or_else(|payload| Err(Failure::panicked(payload)))
    };
    fill_end::complete(shared, flight, result.map(Brought::Filled));
}

/// Releases the callers that wait for a fill once its `fill_timeout` has passed, on whatever thread or runtime the
/// filler runs.
fn watch<K: CacheKey, V: CacheValue>(shared: &Arc<Shared<K, V>>, flight: &Arc<Flight<K, V>>) {
    let Some(limit) = shared.settings.fill_timeout else { return };
    let watched = Arc::clone(flight);
    let work: Work<K, V> = Box::pin(async move {
        watched.outcome().await;
        Err(Failure::Abandoned) // The fill has ended: no caller gets this outcome.
    });
    let task = FillTask::new(shared, flight, Some((limit, shared.services.tasks.sleep(limit)))).with_work(work);
    let _ = shared.services.tasks.spawn(TaskRuntime::Timers, Box::pin(task));
}
