//! Memoized functions whose source changes while they run: a delete on another node stays.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::Duration;

use cached::macros::concurrent_cached;
use cached::{ConcurrentCached, ConcurrentCachedAsync, SerializeCached};
use driftless::{CacheSettings, Node};
use driftless_cached::{DriftlessCache, StoreError};
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(60);

type Store = DriftlessCache<u64, u64>;

static NODES: OnceLock<[Node; 2]> = OnceLock::new();

/// The ends of running computations, by key, in the order of their start.
type Ends = Mutex<HashMap<u64, Vec<oneshot::Sender<Result<u64, StoreError>>>>>;
static ENDS: LazyLock<Ends> = LazyLock::new(Ends::default);

fn computations(key: u64) -> usize {
    ENDS.lock().unwrap().get(&key).map_or(0, Vec::len)
}

/// Ends the oldest running computation of a key.
fn end(key: u64, result: Result<u64, StoreError>) {
    ENDS.lock().unwrap().get_mut(&key).unwrap().remove(0).send(result).unwrap();
}

fn begin(key: u64) -> oneshot::Receiver<Result<u64, StoreError>> {
    let (sends, receives) = oneshot::channel();
    ENDS.lock().unwrap().entry(key).or_default().push(sends);
    receives
}

fn store(node: usize, name: &str) -> Store {
    Store::new(NODES.get().unwrap()[node].cache(name).open().unwrap())
}

#[concurrent_cached(
    ty = "DriftlessCache<u64, u64>",
    create = { store(0, "function") },
    key = "u64",
    convert = { key },
    force_refresh = { forced }
)]
fn function(key: u64, forced: bool) -> Result<u64, StoreError> {
    let _ = forced;
    begin(key).blocking_recv().unwrap()
}

#[concurrent_cached(ty = "DriftlessCache<u64, u64>", create = { store(0, "future") })]
async fn future(key: u64) -> Result<u64, StoreError> {
    let before = std::thread::current().id();
    let result = begin(key).await.unwrap();
    if std::thread::current().id() != before {
        MOVES.fetch_add(1, Ordering::SeqCst);
    }
    result
}

/// The futures that ended on another thread than that on which they began.
static MOVES: AtomicUsize = AtomicUsize::new(0);

fn failed() -> StoreError {
    StoreError::Compute("the database is down".into())
}

async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it holds in time");
}

/// Deletes a key on the second node, and waits until the first node has merged that.
async fn delete_elsewhere(name: &str, key: u64) {
    let there = store(1, name);
    there.cache_remove(&key).unwrap();
    let deleted = there.cache().last_written().unwrap();
    store(0, name).cache().wait_seen(&deleted.token(), PATIENCE).await.unwrap();
}

/// Starts two nodes and the caches of the functions on both. The tests run one after the other, on these.
async fn start() {
    let first = Node::builder().cluster("memoized").start().await.unwrap();
    let second = Node::builder().cluster("memoized").seeds([first.local_addr().to_string()]).start().await.unwrap();
    for node in [&first, &second] {
        node.wait_for_members(1, PATIENCE).await.unwrap();
    }
    assert!(NODES.set([first, second]).is_ok());
    for name in ["function", "future"] {
        // Kept open for the whole test: one handle for each node and cache.
        for node in 0..2 {
            let store = Box::leak(Box::new(store(node, name)));
            assert!(store.cache().ready(PATIENCE).await.is_ready());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_made_during_a_memoized_function_stays() {
    start().await;
    a_function_on_a_thread().await;
    a_future_in_a_task().await;
    two_futures_in_one_task().await;
    a_computation_that_follows_a_failed_one().await;
    a_call_without_a_look_up().await;
    computations_of_the_traits().await;
}

async fn a_function_on_a_thread() {
    let lost = store(0, "function").cache().stats().fills.lost;
    let call = tokio::task::spawn_blocking(|| function(1, false));
    until(|| computations(1) == 1).await;
    delete_elsewhere("function", 1).await;
    end(1, Ok(10));
    assert_eq!(call.await.unwrap(), Ok(10), "its caller gets the value");
    assert_eq!(store(0, "function").cache_get(&1), Ok(None), "which is not stored over the delete");
    assert_eq!(store(0, "function").cache().stats().fills.lost, lost + 1);

    let call = tokio::task::spawn_blocking(|| function(1, false));
    until(|| computations(1) == 1).await;
    end(1, Ok(11));
    assert_eq!(call.await.unwrap(), Ok(11));
    assert_eq!(function(1, false), Ok(11), "the next computation is stored");
    until(|| store(1, "function").cache_get(&1) == Ok(Some(11))).await;
}

async fn a_future_in_a_task() {
    for _ in 0..10_000 {
        let call = tokio::spawn(future(1));
        until(|| computations(1) == 1).await;
        delete_elsewhere("future", 1).await;
        end(1, Ok(10));
        assert_eq!(call.await.unwrap(), Ok(10));
        assert_eq!(store(0, "future").cache_get(&1), Ok(None));
        if MOVES.load(Ordering::SeqCst) > 0 {
            break;
        }
    }
    assert!(MOVES.load(Ordering::SeqCst) > 0, "a task has moved to another thread");

    let call = tokio::spawn(future(1));
    until(|| computations(1) == 1).await;
    end(1, Ok(11));
    assert_eq!((call.await.unwrap(), future(1).await), (Ok(11), Ok(11)));
}

/// Checks that the futures of one task that compute one key share a lease: neither is stored over a delete.
async fn two_futures_in_one_task() {
    let calls = tokio::spawn(async { tokio::join!(future(2), future(2)) });
    until(|| computations(2) == 2).await;
    end(2, Ok(20));
    until(|| store(0, "future").cache_get(&2) == Ok(Some(20))).await;
    delete_elsewhere("future", 2).await;
    end(2, Ok(21));
    assert_eq!(calls.await.unwrap(), (Ok(20), Ok(21)));
    assert_eq!(store(0, "future").cache_get(&2), Ok(None));
}

/// Checks that a computation that fails does not keep the next one of its thread or task from being stored.
async fn a_computation_that_follows_a_failed_one() {
    let calls = tokio::task::spawn_blocking(|| (function(3, false), function(3, false)));
    until(|| computations(3) == 1).await;
    end(3, Err(failed()));
    until(|| computations(3) == 1).await;
    end(3, Ok(30));
    assert_eq!(calls.await.unwrap(), (Err(failed()), Ok(30)));
    assert_eq!(store(0, "function").cache_get(&3), Ok(Some(30)));

    let calls = tokio::spawn(async { (future(3).await, future(3).await) });
    until(|| computations(3) == 1).await;
    end(3, Err(failed()));
    until(|| computations(3) == 1).await;
    end(3, Ok(31));
    assert_eq!(calls.await.unwrap(), (Err(failed()), Ok(31)));
    assert_eq!(store(0, "future").cache_get(&3), Ok(Some(31)));
}

/// Checks that a forced refresh, which looks nothing up, is a write.
async fn a_call_without_a_look_up() {
    let call = tokio::task::spawn_blocking(|| function(3, true));
    until(|| computations(3) == 1).await;
    delete_elsewhere("function", 3).await;
    end(3, Ok(32));
    assert_eq!(call.await.unwrap(), Ok(32));
    assert_eq!(store(0, "function").cache_get(&3), Ok(Some(32)));
    assert_eq!(store(0, "function").cache_set_ref(&4, &40), Ok(()));
    assert_eq!(store(0, "function").cache_get(&4), Ok(Some(40)));
}

/// Checks the `async` forms that take a closure, which may fail and be dropped.
async fn computations_of_the_traits() {
    let store = store(0, "future");
    let computed = store.async_cache_get_or_set_with(5, || async {
        delete_elsewhere("future", 5).await;
        50
    });
    assert_eq!((computed.await, store.cache_get(&5)), (Ok(50), Ok(None)));
    let stored = store.async_cache_try_get_or_set_with(5, || async { Ok::<_, Infallible>(51) }).await;
    assert_eq!((stored, store.cache_get(&5)), (Ok(Ok(51)), Ok(Some(51))));
    let failed = store.async_cache_try_get_or_set_with(6, || async { Err("no") }).await;
    assert_eq!((failed, store.cache_get(&6)), (Ok(Err("no")), Ok(None)));
    let found = store.async_cache_get_or_set_with(5, || async { unreachable!("it is cached") }).await;
    assert_eq!(found, Ok(51));
}

/// Checks that a computation that takes longer than `fill_hold` is returned and not stored, as any fill.
#[tokio::test]
async fn a_computation_that_takes_too_long_is_not_stored() {
    let node = Node::builder().cluster("slow").start().await.unwrap();
    let mut settings = CacheSettings::default();
    settings.replication.fill_hold = Duration::from_millis(50);
    let store = Store::new(node.cache("values").settings(settings).open().unwrap());
    assert_eq!(store.cache_get(&1), Ok(None));
    until(|| store.cache().counters().fills_expired == 1).await;
    store.cache_set_ref(&1, &10).unwrap();
    assert_eq!((store.cache_get(&1), store.cache().stats().fills.lost), (Ok(None), 1));
    store.cache_set_ref(&1, &11).unwrap();
    assert_eq!(store.cache_get(&1), Ok(Some(11)), "the look-up after it began a new one");
}

/// Checks the bound: of many computations that never set, only the last ones are remembered.
#[tokio::test]
async fn computations_that_never_set_are_forgotten() {
    let node = Node::builder().cluster("many").start().await.unwrap();
    let store = Store::new(node.cache("values").open().unwrap());
    for key in 0..30_000 {
        assert_eq!(store.cache_get(&key), Ok(None));
    }
    store.cache().invalidate_all();
    store.cache_set_ref(&29_999, &1).unwrap();
    assert_eq!(store.cache_get(&29_999), Ok(None), "remembered: the invalidation is newer");
    store.cache_set_ref(&0, &1).unwrap();
    assert_eq!(store.cache_get(&0), Ok(Some(1)), "forgotten: a write");
}
