//! The traits and the macro of `cached`, on real nodes.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cached::macros::concurrent_cached;
use cached::{
    ConcurrentCacheBase, ConcurrentCachePeek, ConcurrentCached, ConcurrentCachedAsync, ConcurrentCachedAsyncExt,
    ConcurrentCachedExt,
};
use driftless::{InsertError, Node};
use driftless_cached::{DriftlessCache, StoreError};

const PATIENCE: Duration = Duration::from_secs(60);

type Store = DriftlessCache<String, u64>;

/// Starts two nodes that know each other.
async fn two() -> [Node; 2] {
    let first = Node::builder().cluster("cached").start().await.unwrap();
    let second = Node::builder().cluster("cached").seeds([first.local_addr().to_string()]).start().await.unwrap();
    for node in [&first, &second] {
        node.wait_for_members(1, PATIENCE).await.unwrap();
    }
    [first, second]
}

async fn stores(nodes: &[Node; 2]) -> [Store; 2] {
    let stores = [0, 1].map(|n| Store::new(nodes[n].cache("values").max_value_bytes(64).open().unwrap()));
    for store in &stores {
        assert!(store.cache().ready(PATIENCE).await.is_ready());
    }
    stores
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it holds in time");
}

#[tokio::test]
async fn what_one_node_sets_or_removes_counts_on_both() {
    let nodes = two().await;
    let [here, there] = stores(&nodes).await;
    let key = "apple".to_owned();
    assert_eq!(here.set(key.clone(), 1), Ok(None));
    assert_eq!(here.set(key.clone(), 2), Ok(Some(1)));
    eventually(|| there.get(&key) == Ok(Some(2))).await;
    assert_eq!((there.contains(&key), there.peek(&key)), (Ok(true), Ok(Some(2))));
    assert_eq!(there.remove_entry(&key), Ok(Some((key.clone(), 2))));
    assert_eq!((there.remove(&key), there.delete(&key)), (Ok(None), Ok(false)));
    eventually(|| here.get(&key) == Ok(None)).await;

    here.set("a".into(), 1).unwrap();
    here.set("b".into(), 2).unwrap();
    eventually(|| there.cache_size() == Ok(Some(2))).await;
    there.clear().unwrap();
    eventually(|| here.get(&"a".to_owned()) == Ok(None)).await;
    here.set("c".into(), 3).unwrap();
    here.reset().unwrap();
    assert_eq!((here.contains(&"c".to_owned()), here.cache_capacity()), (Ok(false), None));
}

#[tokio::test]
async fn the_asynchronous_trait_does_the_same() {
    let nodes = two().await;
    let [here, there] = stores(&nodes).await;
    let key = "apple".to_owned();
    assert_eq!(here.async_set(key.clone(), 1).await, Ok(None));
    eventually(|| there.cache_contains(&key) == Ok(true)).await;
    assert_eq!((there.async_get(&key).await, there.async_contains(&key).await), (Ok(Some(1)), Ok(true)));
    assert_eq!(there.async_remove_entry(&key).await, Ok(Some((key.clone(), 1))));
    assert_eq!(there.async_remove(&key).await, Ok(None));
    assert_eq!(there.async_cache_get_or_set_with(key.clone(), || async { 5 }).await, Ok(5));
    let failed: Result<Result<u64, &str>, _> =
        there.async_cache_try_get_or_set_with("pear".into(), || async { Err("no") }).await;
    assert_eq!((failed, there.async_get(&"pear".into()).await), (Ok(Err("no")), Ok(None)));
    there.async_clear().await.unwrap();
    there.async_reset().await.unwrap();
    eventually(|| here.cache_get(&key) == Ok(None)).await;
}

#[tokio::test]
async fn uses_are_counted_and_a_peek_is_none() {
    let nodes = two().await;
    let store: Store = Store::new(nodes[0].cache("counted").max_capacity(2).open().unwrap());
    for key in ["a", "b", "c"] {
        store.set(key.into(), 1).unwrap();
    }
    store.cache().run_pending_tasks();
    assert_eq!(store.peek(&"c".into()), Ok(Some(1)));
    assert_eq!((store.cache_hits(), store.cache_misses()), (Some(0), Some(0)));
    assert_eq!((store.get(&"c".into()), store.get(&"z".into())), (Ok(Some(1)), Ok(None)));
    let metrics = store.metrics();
    assert_eq!((metrics.hits, metrics.misses, metrics.evictions), (Some(1), Some(1), Some(1)));
    assert_eq!((metrics.entry_count, metrics.capacity), (Some(2), Some(2)));
}

#[tokio::test]
async fn a_value_that_is_too_large_is_an_error_and_changes_nothing() {
    let nodes = two().await;
    let store: DriftlessCache<u8, String> = nodes[0].cache("texts").max_value_bytes(64).open().unwrap().into();
    store.set(1, "fits".into()).unwrap();
    let error = store.set(1, "x".repeat(100)).unwrap_err();
    assert!(matches!(&error, StoreError::Insert(InsertError::ValueTooLarge { limit: 64, .. })), "{error}");
    assert_eq!(store.get(&1), Ok(Some("fits".into())));
}

/// Checks that a computation from before a delete on another node is returned and not stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_computation_overwrites_nothing_newer() {
    let nodes = two().await;
    let [here, there] = stores(&nodes).await;
    let key = "apple".to_owned();
    let (begun, begins) = std::sync::mpsc::channel();
    let (end, ends) = std::sync::mpsc::channel();
    let slow = std::thread::spawn({
        let (here, key) = (here.clone(), key.clone());
        move || {
            here.get_or_set_with(key, || {
                begun.send(()).unwrap();
                ends.recv().unwrap(); // the source was read before the delete
                1
            })
        }
    });
    tokio::task::spawn_blocking(move || begins.recv()).await.unwrap().unwrap();
    there.remove(&key).unwrap();
    let deleted = there.cache().last_written().unwrap();
    here.cache().wait_seen(&deleted.token(), PATIENCE).await.unwrap();
    end.send(()).unwrap();
    assert_eq!(tokio::task::spawn_blocking(|| slow.join()).await.unwrap().unwrap(), Ok(1));
    assert_eq!((here.get(&key), there.get(&key)), (Ok(None), Ok(None)));
}

/// Checks that a set of the application is a write, whatever this thread or task looked up before.
#[tokio::test]
async fn a_set_is_a_write_of_its_own() {
    let nodes = two().await;
    let [here, there] = stores(&nodes).await;
    for key in ["a", "b"].map(String::from) {
        assert_eq!((here.get(&key), here.async_get(&key).await), (Ok(None), Ok(None)));
        there.remove(&key).unwrap();
        let deleted = there.cache().last_written().unwrap();
        here.cache().wait_seen(&deleted.token(), PATIENCE).await.unwrap();
        if key == "a" {
            here.set(key.clone(), 1).unwrap();
        } else {
            here.async_set(key.clone(), 1).await.unwrap();
        }
        assert_eq!(here.get(&key), Ok(Some(1)), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_computation_is_returned_and_one_that_was_waited_for_is_run_again() {
    let nodes = two().await;
    let [store, _] = stores(&nodes).await;
    let failed = store.try_get_or_set_with("a".into(), || Err::<u64, _>("no"));
    assert_eq!((failed, store.get(&"a".into())), (Ok(Err("no")), Ok(None)));
    assert_eq!(store.try_get_or_set_with("a".into(), || Ok::<_, Infallible>(7)), Ok(Ok(7)));
    assert_eq!(store.try_get_or_set_with("a".into(), || Err::<u64, _>("not asked")), Ok(Ok(7)));

    let runs = AtomicUsize::new(0);
    let results: Vec<_> = std::thread::scope(|scope| {
        let one = || {
            store.try_get_or_set_with("b".into(), || {
                std::thread::sleep(Duration::from_millis(50));
                // The first computation fails; each waiting thread then runs its own, one at a time.
                if runs.fetch_add(1, Ordering::SeqCst) == 0 { Err("no") } else { Ok(8) }
            })
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| **result == Ok(Err("no"))).count(), 1);
    assert_eq!(results.iter().filter(|result| **result == Ok(Ok(8))).count(), 3);
    assert!(runs.load(Ordering::SeqCst) <= 4);
}

#[tokio::test]
async fn a_computation_that_asks_for_its_own_key_is_an_error() {
    let nodes = two().await;
    let [store, _] = stores(&nodes).await;
    let inner = std::cell::RefCell::new(None);
    let outer = store.get_or_set_with("a".into(), || {
        *inner.borrow_mut() = Some(store.get_or_set_with("a".into(), || 1));
        2
    });
    assert_eq!(outer, Ok(2));
    assert!(matches!(inner.into_inner(), Some(Err(StoreError::Compute(_)))));
}

static NODE: OnceLock<[Node; 2]> = OnceLock::new();
static RUNS: AtomicUsize = AtomicUsize::new(0);

fn squares(node: usize) -> DriftlessCache<u64, u64> {
    DriftlessCache::new(NODE.get().unwrap()[node].cache("squares").open().unwrap())
}

fn cubes(node: usize) -> DriftlessCache<u64, u64> {
    DriftlessCache::new(NODE.get().unwrap()[node].cache("cubes").open().unwrap())
}

#[concurrent_cached(ty = "DriftlessCache<u64, u64>", create = { squares(0) })]
fn square(number: u64) -> Result<u64, StoreError> {
    RUNS.fetch_add(1, Ordering::SeqCst);
    Ok(number * number)
}

#[concurrent_cached(ty = "DriftlessCache<u64, u64>", create = { cubes(0) }, map_error = r##"|error| error.to_string()"##)]
async fn cube(number: u64) -> Result<u64, String> {
    RUNS.fetch_add(1, Ordering::SeqCst);
    if number == 13 { Err("unlucky".into()) } else { Ok(number * number * number) }
}

/// Checks the macro on a synchronous and an asynchronous function: computed once, and read on the second node.
#[tokio::test(flavor = "multi_thread")]
async fn the_macro_memoizes_for_both_nodes() {
    assert!(NODE.set(two().await).is_ok());
    let (squares_there, cubes_there) = (squares(1), cubes(1));
    assert!(squares_there.cache().ready(PATIENCE).await.is_ready());
    assert_eq!((square(3), square(3)), (Ok(9), Ok(9)));
    assert_eq!((cube(3).await, cube(3).await), (Ok(27), Ok(27)));
    assert_eq!(RUNS.load(Ordering::SeqCst), 2);
    eventually(|| squares_there.cache_get(&3) == Ok(Some(9)) && cubes_there.cache_get(&3) == Ok(Some(27))).await;
    assert_eq!((cube(13).await, cube(13).await), (Err("unlucky".into()), Err("unlucky".into())));
    assert_eq!(RUNS.load(Ordering::SeqCst), 4, "an error is not kept");
    cubes_there.cache_remove(&3).unwrap();
    let deleted = cubes_there.cache().last_written().unwrap();
    cubes(0).cache().wait_seen(&deleted.token(), PATIENCE).await.unwrap();
    assert_eq!((cube(3).await, RUNS.load(Ordering::SeqCst)), (Ok(27), 5), "a removal on one node counts on both");
}
