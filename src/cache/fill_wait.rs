//! How long callers wait for a fill: none waits for ever for one that nothing drives.
//!
//! A filler runs in a runtime of its caller, which may stop driving it: its thread is blocked, for instance by a `block_on` inside of
//! it, or its `block_on` has returned. What has not begun by then is begun on a thread of its own. What has begun cannot be
//! moved: callers that joined it leave it after `fill_hold`, when its value could no longer be stored, and fill themselves.

use std::time::Duration;

use super::fill_task::FillTask;
use super::flight::{Flight, Outcome};
use super::{CacheKey, CacheValue, Shared, race};
use crate::hlc::nanos;
use crate::sync::{Arc, Listening};

/// A filler that its runtime has not begun after this is begun on a thread of its own.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    /// How old a fill may be that is joined, or waited for by callers that joined it.
    pub(super) fn join_bound(&self) -> Duration {
        self.settings.replication.fill_hold.max(BEGIN_WITHIN)
    }

    /// What is left until a fill has this age. Zero if it has.
    fn until(&self, flight: &Flight<K, V>, age: Duration) -> Duration {
        let due = flight.begun.saturating_add(nanos(age));
        Duration::from_nanos(due.saturating_sub(self.around.time.now().mono))
    }

    /// Waits for a fill until it has this age. Returns whether it has ended.
    async fn ends_within(&self, flight: &Flight<K, V>, age: Duration) -> bool {
        let left = self.until(flight, age);
        if flight.ended().is_none() && !left.is_zero() {
            race::before(flight.outcome(), &mut self.around.host.sleep(left)).await;
            // Where no timer could be had, the time is up at once: then it is waited for without one.
            if flight.ended().is_none() && self.until(flight, age) > left / 2 {
                flight.outcome().await;
            }
        }
        flight.ended().is_some()
    }

    /// Waits for a fill that this caller began.
    pub(super) async fn await_own<'a>(self: &Arc<Self>, flight: &'a Arc<Flight<K, V>>) -> &'a Outcome<K, V> {
        if !self.ends_within(flight, BEGIN_WITHIN).await {
            self.begin_alone(flight);
        }
        flight.outcome().await
    }

    /// Waits for a fill that another caller began. `None` if it has become too old to be waited for.
    pub(super) async fn await_joined<'a>(self: &Arc<Self>, flight: &'a Arc<Flight<K, V>>) -> Option<&'a Outcome<K, V>> {
        if !self.ends_within(flight, BEGIN_WITHIN).await {
            self.begin_alone(flight);
            self.ends_within(flight, self.join_bound()).await;
        }
        flight.ended()
    }

    /// As [`await_joined`](Self::await_joined), on a thread that may block.
    pub(super) fn await_joined_blocking<'a>(
        self: &Arc<Self>,
        flight: &'a Arc<Flight<K, V>>,
    ) -> Option<&'a Outcome<K, V>> {
        if self.around.host.is_sole_driver() {
            self.begin_alone(flight); // While this thread waits, its runtime begins nothing.
        }
        if !self.ends_within_blocking(flight, BEGIN_WITHIN) {
            self.begin_alone(flight);
            self.ends_within_blocking(flight, self.join_bound());
        }
        flight.ended()
    }

    fn ends_within_blocking(&self, flight: &Flight<K, V>, age: Duration) -> bool {
        let landed = flight.landed.listen();
        if flight.ended().is_none() {
            let _ = landed.wait_timeout(self.until(flight, age));
        }
        flight.ended().is_some()
    }

    /// Runs a filler on a thread of its own, if no runtime has begun it.
    fn begin_alone(self: &Arc<Self>, flight: &Arc<Flight<K, V>>) {
        let Some(filler) = flight.handover.take() else { return };
        let after = Duration::from_nanos(self.around.time.now().mono.saturating_sub(flight.begun));
        tracing::warn!(cache = %self.name, ?after, "a filler was not begun by its caller's runtime and runs on a thread of its own");
        // What it waits for may be of the runtime that stands still.
        let limit = self.settings.fill_timeout.unwrap_or_else(|| self.join_bound());
        let task = FillTask::new(self, flight, Some((limit, self.around.host.sleep(limit)))).with_work(filler);
        let _ = self.around.host.spawn_alone(Box::pin(task)); // If it is dropped, the callers get an error.
    }
}
