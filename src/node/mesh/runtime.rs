//! The runtime that memberlist runs on: tokio's, but with the timers of this crate.

use std::{future::Future, time::Duration};

use memberlist::agnostic::{
    RuntimeLite,
    tokio::{TokioDelay, TokioInterval, TokioRuntime, TokioSleep, TokioSpawner, TokioTimeout},
};
use tokio::time::Instant;

use super::timers::Timers;

/// The tokio runtime as memberlist sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct MeshRuntime;

impl RuntimeLite for MeshRuntime {
    type Spawner = TokioSpawner;
    type LocalSpawner = TokioSpawner;
    type BlockingSpawner = TokioSpawner;
    type AfterSpawner = Timers;
    type Instant = Instant;
    type Interval = TokioInterval;
    type LocalInterval = TokioInterval;
    type Sleep = TokioSleep;
    type LocalSleep = TokioSleep;
    type Delay<F: Future + Send> = TokioDelay<F>;
    type LocalDelay<F: Future> = TokioDelay<F>;
    type Timeout<F: Future + Send> = TokioTimeout<F>;
    type LocalTimeout<F: Future> = TokioTimeout<F>;

    fn new() -> Self {
        Self
    }

    fn name() -> &'static str {
        TokioRuntime::name()
    }

    fn fqname() -> &'static str {
        TokioRuntime::fqname()
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        TokioRuntime::block_on(future)
    }

    async fn yield_now() {
        TokioRuntime::yield_now().await;
    }

    fn interval(period: Duration) -> TokioInterval {
        TokioRuntime::interval(period)
    }

    fn interval_at(start: Instant, period: Duration) -> TokioInterval {
        TokioRuntime::interval_at(start, period)
    }

    fn interval_local(period: Duration) -> TokioInterval {
        TokioRuntime::interval_local(period)
    }

    fn interval_local_at(start: Instant, period: Duration) -> TokioInterval {
        TokioRuntime::interval_local_at(start, period)
    }

    fn sleep(time: Duration) -> TokioSleep {
        TokioRuntime::sleep(time)
    }

    fn sleep_until(at: Instant) -> TokioSleep {
        TokioRuntime::sleep_until(at)
    }

    fn sleep_local(time: Duration) -> TokioSleep {
        TokioRuntime::sleep_local(time)
    }

    fn sleep_local_until(at: Instant) -> TokioSleep {
        TokioRuntime::sleep_local_until(at)
    }

    fn delay<F: Future + Send>(time: Duration, future: F) -> TokioDelay<F> {
        TokioRuntime::delay(time, future)
    }

    fn delay_local<F: Future>(time: Duration, future: F) -> TokioDelay<F> {
        TokioRuntime::delay_local(time, future)
    }

    fn delay_at<F: Future + Send>(at: Instant, future: F) -> TokioDelay<F> {
        TokioRuntime::delay_at(at, future)
    }

    fn delay_local_at<F: Future>(at: Instant, future: F) -> TokioDelay<F> {
        TokioRuntime::delay_local_at(at, future)
    }

    fn timeout<F: Future + Send>(time: Duration, future: F) -> TokioTimeout<F> {
        TokioRuntime::timeout(time, future)
    }

    fn timeout_at<F: Future + Send>(at: Instant, future: F) -> TokioTimeout<F> {
        TokioRuntime::timeout_at(at, future)
    }

    fn timeout_local<F: Future>(time: Duration, future: F) -> TokioTimeout<F> {
        TokioRuntime::timeout_local(time, future)
    }

    fn timeout_local_at<F: Future>(at: Instant, future: F) -> TokioTimeout<F> {
        TokioRuntime::timeout_local_at(at, future)
    }
}
