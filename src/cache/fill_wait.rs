//! The waits of callers for a fill. No caller waits for ever for a fill that nothing drives.
//!
//! A filler runs in its caller's runtime, which may stop driving the filler. Either the only thread of the runtime is
//! blocked, for instance by a nested `block_on`, or the `block_on` that drove the runtime has returned. A filler that
//! has not begun within a second is begun on a thread of its own. A filler that has begun cannot be moved. Callers that
//! joined it stop waiting after `fill_hold`, when its value could no longer be stored, and run their own filler.

use std::time::Duration;

use super::fill_task::FillTask;
use super::flight::{Flight, Outcome};
use super::host::TaskRuntime;
use super::settings::CacheSettings;
use super::shared::Shared;
use super::{CacheKey, CacheValue, race};
use crate::hlc::nanos;
use crate::sync::{Arc, Listening};

/// The time after which a filler that its runtime has not begun is begun on a thread of its own.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);

/// Returns the age of a fill up to which callers join it, and wait for it after they have joined.
pub(super) fn join_bound(settings: &CacheSettings) -> Duration {
    settings.replication.fill_hold.max(BEGIN_WITHIN)
}

/// Returns the time until a fill reaches this age; zero if it is older.
fn until<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, flight: &Flight<K, V>, age: Duration) -> Duration {
    let due = flight.begun.saturating_add(nanos(age));
    Duration::from_nanos(due.saturating_sub(shared.services.time.now().mono))
}

/// Waits for a fill until it has this age. Returns true if it has ended.
async fn ends_within<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, flight: &Flight<K, V>, age: Duration) -> bool {
    let left = until(shared, flight, age);
    if flight.ended().is_none() && !left.is_zero() {
        race::before(flight.outcome(), &mut shared.services.tasks.sleep(left)).await;
        // If most of the time is left, there was no timer: `sleep` has resolved at once. Then the wait has no limit.
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

/// Waits for a fill that another caller began. Returns `None` if it has become too old to wait for.
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

/// As [`await_joined`], but blocks the calling thread.
pub(super) fn await_joined_blocking<'a, K: CacheKey, V: CacheValue>(
    shared: &Arc<Shared<K, V>>,
    flight: &'a Arc<Flight<K, V>>,
) -> Option<&'a Outcome<K, V>> {
    if shared.services.tasks.is_sole_driver() {
        begin_alone(shared, flight); // While this thread blocks, its runtime begins nothing.
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
    let after = Duration::from_nanos(shared.services.time.now().mono.saturating_sub(flight.begun));
    tracing::warn!(
        cache = %shared.name, ?after,
        "the caller's runtime did not start its filler, which now runs on a separate thread"
    );
    // The filler may wait for something in the runtime that stands still, so it always gets a limit here.
    let limit = shared.settings.fill_timeout.unwrap_or_else(|| join_bound(&shared.settings));
    let task = FillTask::new(shared, flight, Some((limit, shared.services.tasks.sleep(limit)))).with_work(filler);
    let _ = shared.services.tasks.spawn(TaskRuntime::Own, Box::pin(task)); // If it is dropped, the callers get an error.
}
