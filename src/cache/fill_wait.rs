//! Waits of callers for a fill: none waits for ever for one that nothing drives.
//!
//! A filler runs in a runtime of its caller, which may stop driving it: its thread is blocked, for instance by a `block_on` inside of
//! it, or its `block_on` has returned. What has not begun by then is begun on a thread of its own. What has begun cannot be
//! moved: callers that joined it leave it after `fill_hold`, when its value could no longer be stored, and fill themselves.

use std::time::Duration;

use super::fill_task::FillTask;
use super::flight::{Flight, Outcome};
use super::host::TaskRuntime;
use super::settings::CacheSettings;
use super::shared::Shared;
use super::{CacheKey, CacheValue, race};
use crate::hlc::nanos;
use crate::sync::{Arc, Listening};

/// A filler that its runtime has not begun after this is begun on a thread of its own.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);

/// Returns how old a fill may be that is joined, or waited for by callers that joined it.
pub(super) fn join_bound(settings: &CacheSettings) -> Duration {
    settings.replication.fill_hold.max(BEGIN_WITHIN)
}

/// Returns what is left until a fill has this age. Zero if it has.
fn until<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, flight: &Flight<K, V>, age: Duration) -> Duration {
    let due = flight.begun.saturating_add(nanos(age));
    Duration::from_nanos(due.saturating_sub(shared.around.time.now().mono))
}

/// Waits for a fill until it has this age. Returns whether it has ended.
async fn ends_within<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, flight: &Flight<K, V>, age: Duration) -> bool {
    let left = until(shared, flight, age);
    if flight.ended().is_none() && !left.is_zero() {
        race::before(flight.outcome(), &mut shared.around.tasks.sleep(left)).await;
        // Where no timer could be had, the time is up at once: then it is waited for without one.
        if flight.ended().is_none() && until(shared, flight, age) > left / 2 {
            flight.outcome().await;
        }
    }
    flight.ended().is_some()
}

/// Waits for a fill that this caller began.
pub(super) async fn await_own<'a, K: CacheKey, V: CacheValue>(
    shared: &Arc<Shared<K, V>>,
    flight: &'a Arc<Flight<K, V>>,
) -> &'a Outcome<K, V> {
    if !ends_within(shared, flight, BEGIN_WITHIN).await {
        begin_alone(shared, flight);
    }
    flight.outcome().await
}

/// Waits for a fill that another caller began. `None` if it has become too old to be waited for.
pub(super) async fn await_joined<'a, K: CacheKey, V: CacheValue>(
    shared: &Arc<Shared<K, V>>,
    flight: &'a Arc<Flight<K, V>>,
) -> Option<&'a Outcome<K, V>> {
    if !ends_within(shared, flight, BEGIN_WITHIN).await {
        begin_alone(shared, flight);
        ends_within(shared, flight, join_bound(&shared.settings)).await;
    }
    flight.ended()
}

/// As [`await_joined`], on a thread that may block.
pub(super) fn await_joined_blocking<'a, K: CacheKey, V: CacheValue>(
    shared: &Arc<Shared<K, V>>,
    flight: &'a Arc<Flight<K, V>>,
) -> Option<&'a Outcome<K, V>> {
    if shared.around.tasks.is_sole_driver() {
        begin_alone(shared, flight); // While this thread waits, its runtime begins nothing.
    }
    if !ends_within_blocking(shared, flight, BEGIN_WITHIN) {
        begin_alone(shared, flight);
        ends_within_blocking(shared, flight, join_bound(&shared.settings));
    }
    flight.ended()
}

fn ends_within_blocking<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    flight: &Flight<K, V>,
    age: Duration,
) -> bool {
    let completed = flight.completed.listen();
    if flight.ended().is_none() {
        let _ = completed.wait_timeout(until(shared, flight, age));
    }
    flight.ended().is_some()
}

/// Runs a filler on a thread of its own, if no runtime has begun it.
fn begin_alone<K: CacheKey, V: CacheValue>(shared: &Arc<Shared<K, V>>, flight: &Arc<Flight<K, V>>) {
    let Some(filler) = flight.handover.take() else { return };
    let after = Duration::from_nanos(shared.around.time.now().mono.saturating_sub(flight.begun));
    tracing::warn!(cache = %shared.name, ?after, "a filler was not begun by its caller's runtime and runs on a thread of its own");
    // What it waits for may be of the runtime that stands still.
    let limit = shared.settings.fill_timeout.unwrap_or_else(|| join_bound(&shared.settings));
    let task = FillTask::new(shared, flight, Some((limit, shared.around.tasks.sleep(limit)))).with_work(filler);
    let _ = shared.around.tasks.spawn(TaskRuntime::Own, Box::pin(task)); // If it is dropped, the callers get an error.
}
