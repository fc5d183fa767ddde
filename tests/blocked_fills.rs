//! Fills whose runtime is blocked. Promise: every call returns.
#![cfg(feature = "node")]

mod common;

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use common::{SOON, eventually};
use driftless::{Cache, FillError, Node, ReplicaConfig};
use tokio::runtime::{Builder, Runtime};

type Numbers = Cache<u32, u32>;

fn alone() -> (Node, Numbers) {
    let node = Node::builder().cluster("blocked").bind(([127, 0, 0, 1], 0).into()).start_blocking().unwrap();
    let mut replication = ReplicaConfig::default();
    replication.fill_hold = Duration::from_secs(2);
    let cache = node.cache("numbers").replication(replication).open().unwrap();
    (node, cache)
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs a future on an executor without tokio, like that of `futures`: it blocks the thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Runs `act` on a new thread and returns a receiver for its result. A test that waits in vain fails instead of
/// hanging.
fn apart<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || done.send(act()));
    result
}

#[test]
fn a_block_on_inside_of_the_runtime_ends_and_so_do_all_who_join() {
    let (_node, cache) = alone();
    let inner = cache.clone();
    let blocked = apart(move || one_thread().block_on(async move { block_on(inner.get_with(1, || async { 10 })) }));
    eventually("it waits", || cache.stats().fills.running, |running| *running == 1);
    let joins = [0, 1].map(|_| {
        let cache = cache.clone();
        apart(move || cache.get_with_blocking(1, || 11))
    });
    let async_join = {
        let cache = cache.clone();
        apart(move || one_thread().block_on(cache.get_with(1, || async { 12 })))
    };
    assert_eq!(blocked.recv_timeout(SOON), Ok(10), "a thread of its own begins what the blocked runtime does not");
    for join in joins {
        assert!(join.recv_timeout(SOON).is_ok());
    }
    assert!(async_join.recv_timeout(SOON).is_ok());
}

/// Checks the same for a call on a worker thread: a task that a worker spawns may sit in a slot that no other worker
/// checks.
#[test]
fn a_block_on_on_a_worker_of_many_ends_as_well() {
    let (_node, cache) = alone();
    let blocked = apart(move || {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async move {
            tokio::spawn(async move { block_on(cache.get_with(1, || async { 10 })) }).await.unwrap()
        })
    });
    assert_eq!(blocked.recv_timeout(SOON), Ok(10));
}

/// Starts a fill in the runtime of this thread. The fill ends after the runtime has been driven for `takes`.
async fn begin(cache: &Numbers, takes: Duration) -> tokio::task::JoinHandle<u32> {
    let (began, begun) = tokio::sync::oneshot::channel();
    let filler = move || async move {
        began.send(()).unwrap();
        tokio::time::sleep(takes).await;
        10
    };
    let cache = cache.clone();
    let caller = tokio::spawn(async move { cache.get_with(1, filler).await });
    begun.await.unwrap();
    caller
}

#[test]
fn a_blocking_join_of_a_fill_that_this_thread_drives_errs_with_the_reason() {
    let (_node, cache) = alone();
    let outcome = apart(move || {
        one_thread().block_on(async move {
            let caller = begin(&cache, Duration::from_millis(50)).await;
            let joined = cache.try_get_with_blocking(1, || Ok::<_, Infallible>(11));
            let panicked = catch_unwind(AssertUnwindSafe(|| cache.get_with_blocking(1, || 11))).is_err();
            let deadlocks = cache.stats().fills.deadlocks;
            (joined, panicked, deadlocks, caller.await.unwrap())
        })
    });
    let (joined, panicked, deadlocks, filled) = outcome.recv_timeout(SOON).unwrap();
    let error = joined.unwrap_err();
    assert!(matches!(error, FillError::WouldBlock), "{error:?}");
    assert!(error.to_string().contains("blocking here would stop it"), "{error}");
    assert!(panicked);
    assert_eq!((deadlocks, filled), (2, 10), "the fill goes on");
}

/// Checks a fill that waits to be started by the runtime that the blocking call blocks.
#[test]
fn a_blocking_join_of_a_fill_that_has_not_begun_ends() {
    let (_node, cache) = alone();
    let outcome = apart(move || {
        one_thread().block_on(async move {
            let mut caller = std::pin::pin!(cache.get_with(1, || async { 10 }));
            let waits = std::future::poll_fn(|cx| Poll::Ready(caller.as_mut().poll(cx).is_pending())).await;
            let joined = cache.try_get_with_blocking(1, || Ok::<_, Infallible>(11));
            (waits, joined.ok(), caller.await)
        })
    });
    assert_eq!(outcome.recv_timeout(SOON), Ok((true, Some(10), 10)));
}

#[test]
fn a_thread_beside_the_runtime_may_join_and_block() {
    let (_node, cache) = alone();
    let outcome = apart(move || {
        one_thread().block_on(async move {
            let caller = begin(&cache, Duration::from_millis(50)).await;
            let joined = tokio::task::spawn_blocking(move || cache.get_with_blocking(1, || 11)).await.unwrap();
            (joined, caller.await.unwrap())
        })
    });
    assert_eq!(outcome.recv_timeout(SOON), Ok((10, 10)));
}

/// Checks that callers which joined a stalled fill leave it once it is as old as `fill_hold`. A fill that has begun
/// cannot move to another thread.
#[test]
fn those_who_joined_a_fill_that_stands_still_fill_after_its_bound() {
    let (_node, cache) = alone();
    let runtime = one_thread();
    drop(runtime.block_on(begin(&cache, Duration::from_secs(3_600))));
    // From here on nothing drives the runtime.
    let blocking = {
        let cache = cache.clone();
        apart(move || cache.get_with_blocking(1, || 11))
    };
    let inside = {
        let cache = cache.clone();
        apart(move || one_thread().block_on(async move { block_on(cache.get_with(1, || async { 11 })) }))
    };
    let first = blocking.recv_timeout(SOON).unwrap();
    assert_eq!(
        (first, inside.recv_timeout(SOON)),
        (11, Ok(11)),
        "its own value, or the value that the other node filled meanwhile"
    );
    assert_eq!(cache.get(&1), Some(11));
}

/// Checks that a filler may block and wait for another fill. Callers without a runtime share a runtime of the node, and
/// its timers go on meanwhile.
#[test]
fn a_block_on_inside_of_a_filler_ends_and_time_limits_hold_meanwhile() {
    let (_node, cache) = alone();
    let (inner, other) = (cache.clone(), cache.clone());
    let nested = apart(move || {
        block_on(other.get_with(1, move || async move { block_on(inner.get_with(2, || async { 20 })) + 1 }))
    });
    assert_eq!(nested.recv_timeout(SOON), Ok(21));
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(21), Some(20)));
}
