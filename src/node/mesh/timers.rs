//! memberlist's timers ("run this later"), which can all be made to fire at once.
//!
//! While a timer is running, a memberlist instance has references to itself in its own tables: in the suspicion of a
//! member, which stays until there is a verdict, and in the handler of the answer to an indirect ping. If the runtime
//! ends meanwhile, the instance is never freed, and it holds the runtime's descriptors.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use memberlist::agnostic::{AfterHandle, AsyncAfterSpawner};
use tokio::{
    select,
    sync::watch,
    task::{JoinError, JoinHandle},
    time::{Instant, sleep_until},
};

thread_local! {
    /// True once all timers of this thread, which belongs to one mesh, must fire. Every timer holds a receiver.
    static HURRY: watch::Sender<bool> = watch::Sender::new(false);
}

/// Fires all timers of this mesh, those of its earlier instances included, and waits until the last one has run. (If a
/// confirmation leaves a suspicion no time, memberlist reaches the verdict without a timer. This is not waited for.)
pub(super) async fn run_out() {
    let hurry = HURRY.with(watch::Sender::clone);
    hurry.send_replace(true);
    hurry.closed().await;
}

/// The spawner of timers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers;

/// A running timer. Dropping this handle does not stop it.
pub(super) struct Timer<T> {
    task: JoinHandle<T>,
    start: Instant,
    due: watch::Sender<Instant>,
    expired: Arc<AtomicBool>,
}

impl AsyncAfterSpawner for Timers {
    type Instant = Instant;
    type JoinHandle<T>
        = Timer<T>
    where
        T: Send + 'static;

    fn spawn_after<F>(after: Duration, job: F) -> Timer<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        Self::spawn_after_at(Instant::now() + after, job)
    }

    fn spawn_after_at<F>(at: Instant, job: F) -> Timer<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let (due, at) = watch::channel(at);
        let mut hurry = HURRY.with(watch::Sender::subscribe);
        let expired = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let expired = expired.clone();
            async move {
                select! {
                    () = sleep_until_due(at) => {}
                    _ = hurry.wait_for(|hurry| *hurry) => {}
                }
                expired.store(true, Ordering::Relaxed);
                let result = job.await;
                // Held until the job has ended: `run_out` waits until no receiver is left.
                drop(hurry);
                result
            }
        });
        Timer { task, start: Instant::now(), due, expired }
    }
}

async fn sleep_until_due(mut due: watch::Receiver<Instant>) {
    loop {
        let at = *due.borrow_and_update();
        select! {
            () = sleep_until(at) => return,
            Ok(()) = due.changed() => {}
        }
    }
}

impl<T: Send + 'static> AfterHandle<T> for Timer<T> {
    type JoinError = JoinError;

    /// Stops the timer if it has not fired. Returns its result if it has finished. A timer that has fired and still
    /// runs goes on, and `None` is returned.
    async fn cancel(self) -> Option<Result<T, JoinError>> {
        if self.is_finished() {
            return Some(self.task.await);
        }
        self.abort();
        None
    }

    /// Changes the time at which the timer fires. The trait requires it; memberlist 0.8.5 never calls it.
    fn reset(&self, after: Duration) {
        self.due.send_replace(self.start + after);
    }

    /// Stops the timer if it has not fired. A timer that has fired goes on: a suspicion that becomes a verdict aborts
    /// its own timer on the way.
    fn abort(self) {
        if !self.is_expired() {
            self.task.abort();
        }
    }

    fn is_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl<T> Future for Timer<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    async fn outcome(timer: Timer<&'static str>) -> Option<&'static str> {
        timer.await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_goes_off_in_time_and_can_be_set_again_or_stopped() {
        let start = Instant::now();
        assert_eq!(outcome(Timers::spawn_after(Duration::from_secs(2), async { "late" })).await, Some("late"));
        assert_eq!(start.elapsed().as_secs(), 2);
        let again = Timers::spawn_after(NEVER, async { "sooner" });
        again.reset(Duration::from_secs(1));
        assert_eq!(outcome(again).await, Some("sooner"));
        assert_eq!(start.elapsed().as_secs(), 3);
        let (heard, hear) = tokio::sync::oneshot::channel();
        let stopped = Timers::spawn_after(Duration::from_secs(1), async { heard.send(()) });
        assert!(stopped.cancel().await.is_none());
        assert!(hear.await.is_err());
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_gone_off_cannot_be_stopped() {
        let (go, wait) = tokio::sync::oneshot::channel();
        let (heard, hear) = tokio::sync::oneshot::channel();
        let timer = Timers::spawn_after(Duration::ZERO, async {
            drop(wait.await);
            heard.send(())
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(timer.is_expired() && !timer.is_finished());
        timer.abort();
        go.send(()).unwrap();
        assert!(hear.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn all_go_off_in_a_hurry_and_those_they_start_too() {
        let start = Instant::now();
        let detached = Arc::new(AtomicBool::new(false));
        let told = detached.clone();
        drop(Timers::spawn_after(NEVER, async move {
            drop(Timers::spawn_after(NEVER, async move { told.store(true, Ordering::Relaxed) }));
        }));
        let kept = Timers::spawn_after(NEVER, async { "kept" });
        run_out().await;
        assert!(detached.load(Ordering::Relaxed) && kept.is_finished());
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
