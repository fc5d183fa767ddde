//! The task that runs a filler: contains its panics, ends it at its time limit, and always completes its fill.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::fill_error::Failure;
use super::flight::Flight;
use super::host::Task;
use super::shared::Shared;
use super::waits::FillerScope;
use super::work::{Brought, Work};
use super::{CacheKey, CacheValue, fill_end};
use crate::garbage::drop_quietly;
use crate::sync::{Arc, Weak};

/// The task of one fill. The callers of the fill get an outcome in every case, also if the task is dropped, for
/// instance by a runtime that shuts down.
pub(super) struct FillTask<K: CacheKey, V: CacheValue> {
    /// The cache. A weak reference, because the task alone must not keep the cache open. While a caller waits for the
    /// fill, that caller's handle keeps it open.
    shared: Weak<Shared<K, V>>,
    flight: Arc<Flight<K, V>>,
    /// The filler, which is taken from the flight at the first poll.
    work: Option<Work<K, V>>,
    limit: Option<(Duration, Task)>,
}

impl<K: CacheKey, V: CacheValue> FillTask<K, V> {
    /// Returns a task that begins the flight's filler, unless another task has begun it by then.
    pub(super) fn new(shared: &Arc<Shared<K, V>>, flight: &Arc<Flight<K, V>>, limit: Option<(Duration, Task)>) -> Self {
        Self { shared: Arc::downgrade(shared), flight: Arc::clone(flight), work: None, limit }
    }

    /// Gives the task its own filler, so that it does not take the one in the flight's handover.
    pub(super) fn with_work(mut self, work: Work<K, V>) -> Self {
        self.work = Some(work);
        self
    }

    /// Takes the filler at the first poll. Returns false if another task has taken it already.
    fn begin(&mut self) -> bool {
        if self.work.is_none() {
            self.work = self.flight.handover.take();
            let is_sole_driver = self.shared.upgrade().is_some_and(|shared| shared.services.tasks.is_sole_driver());
            // Recorded so that a blocking call on this thread, which would stop the filler, is refused.
            if self.work.is_some() && is_sole_driver {
                self.flight.handover.note_driver();
            }
        }
        self.work.is_some()
    }

    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<Result<Brought<K, V>, Failure>> {
        let Some(work) = &mut self.work else { return Poll::Ready(Err(Failure::Abandoned)) };
        let _inside = FillerScope::of(self.flight.number);
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(payload) => Poll::Ready(Err(Failure::panicked(payload))),
        }
    }

    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        match &mut self.limit {
            Some((limit, sleep)) => sleep.as_mut().poll(cx).map(|()| *limit),
            None => Poll::Pending,
        }
    }

    /// Drops the filler, then completes the fill.
    fn end(&mut self, result: Result<Brought<K, V>, Failure>) {
        let Some(work) = self.work.take() else { return };
        {
            let _inside = FillerScope::of(self.flight.number);
            drop_quietly([work]);
        }
        match self.shared.upgrade() {
            Some(shared) => fill_end::complete(&shared, &self.flight, result),
            None => drop_quietly([result]),
        }
    }
}

impl<K: CacheKey, V: CacheValue> Future for FillTask<K, V> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.begin() {
            return Poll::Ready(());
        }
        let result = match self.poll_work(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => match self.poll_limit(cx) {
                Poll::Ready(limit) => Err(Failure::TimedOut(limit)),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.end(result);
        Poll::Ready(())
    }
}

impl<K: CacheKey, V: CacheValue> Drop for FillTask<K, V> {
    /// Completes the fill. Takes a filler that was never polled as well, because callers may wait for it.
    fn drop(&mut self) {
        self.work = self.work.take().or_else(|| self.flight.handover.take());
        self.end(Err(Failure::Abandoned));
    }
}
