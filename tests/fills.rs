//! Tests of fills, on real nodes over loopback.

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{SOON, cluster, eventually, node, open, stop};
use driftless::{Cache, FillError, Filled, Members};
use tokio::sync::{Barrier, Notify, oneshot};

type Strings = Cache<String, String>;

/// A fill that has begun, and ends when the test sends on `end`.
struct SlowFill {
    end: oneshot::Sender<()>,
    value: tokio::task::JoinHandle<String>,
}

async fn begin_slow_fill(cache: &Strings, key: &str, value: &str) -> SlowFill {
    let (end, told) = oneshot::channel();
    let (started, running) = oneshot::channel();
    let (cache, key, value) = (cache.clone(), key.to_owned(), value.to_owned());
    let filler = move || async move {
        let _ = started.send(());
        let _ = told.await;
        value
    };
    let value = tokio::spawn(async move { cache.get_with(key, filler).await });
    running.await.unwrap();
    SlowFill { end, value }
}

impl SlowFill {
    async fn end(self) -> String {
        self.end.send(()).unwrap();
        self.value.await.unwrap()
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no such row")]
struct NoRow;

#[derive(Debug, thiserror::Error)]
#[error("another error type")]
struct Other;

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_is_filled_once_for_all_who_wait_and_then_hits() {
    // scenario 53, scenario 58: with many waiters the filler runs once, and a read after the fill hits.
    let node = node("once", &[]).await;
    let cache: Strings = open(&node);
    let calls = Arc::new(AtomicUsize::new(0));
    let callers = (0..200).map(|_| {
        let (cache, calls) = (cache.clone(), Arc::clone(&calls));
        tokio::spawn(async move {
            let filler = move || async move {
                calls.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                "filled".to_owned()
            };
            let value = cache.get_with("key".to_owned(), filler).await;
            assert_eq!(cache.get("key").as_deref(), Some("filled"), "a caller that got the value must hit");
            value
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        assert_eq!(caller.await.unwrap(), "filled");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_fill_does_not_overwrite_a_newer_remote_write() {
    // scenario 56: a remote write during the fill wins, whether it arrives before or after the end of the fill.
    let (nodes, caches) = cluster("slow-write", 2).await;
    for (key, arrives_first) in [("before", true), ("after", false)] {
        let fill = begin_slow_fill(&caches[0], key, "from the old row").await;
        let value = if arrives_first {
            caches[1].insert(key.into(), "newer".into()).unwrap();
            eventually("arrival", || caches[0].get(key), |seen| seen.as_deref() == Some("newer"));
            fill.end().await
        } else {
            let addr = nodes[1].local_addr();
            nodes[0].sever(Some(vec![addr]));
            caches[1].insert(key.into(), "newer".into()).unwrap();
            let value = fill.end().await;
            nodes[0].sever(None);
            value
        };
        assert_eq!(value, "from the old row", "the caller gets what it asked for");
        for cache in &caches {
            eventually("the write wins", || cache.get(key), |seen| seen.as_deref() == Some("newer"));
        }
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_fill_does_not_bring_back_what_was_deleted_elsewhere() {
    // scenario 56: the same for a remote delete.
    let (nodes, caches) = cluster("slow-delete", 2).await;
    for (key, arrives_first) in [("before", true), ("after", false)] {
        caches[1].insert("mark".into(), "start".into()).unwrap();
        let fill = begin_slow_fill(&caches[0], key, "deleted row").await;
        let addr = nodes[1].local_addr();
        if !arrives_first {
            nodes[0].sever(Some(vec![addr]));
        }
        caches[1].remove(key);
        caches[1].insert("mark".into(), key.into()).unwrap();
        if arrives_first {
            eventually("arrival", || caches[0].get("mark"), |seen| seen.as_deref() == Some(key));
        }
        assert_eq!(fill.end().await, "deleted row");
        nodes[0].sever(None);
        for cache in &caches {
            eventually("mark", || cache.get("mark"), |seen| seen.as_deref() == Some(key));
            eventually("the delete wins", || cache.get(key), Option::is_none);
        }
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_after_a_write_or_delete_does_not_join_the_older_fill() {
    // scenario 55, scenario 57: a write, a delete or an `invalidate_all` during the fill wins, and later callers start
    // a new fill.
    let node = node("join-no-older", &[]).await;
    let cache: Strings = open(&node);
    type Act = fn(&Strings);
    let delete: Act = |cache| cache.invalidate("key");
    for (what, act) in [("delete", delete), ("invalidate", |cache| cache.invalidate_all())] {
        let old = begin_slow_fill(&cache, "key", "old").await;
        act(&cache);
        let new = cache.get_with("key".to_owned(), || async { "new".to_owned() }).await;
        assert_eq!(new, "new", "{what}");
        assert_eq!(old.end().await, "old", "{what}: its own caller still gets it");
        assert_eq!(cache.get("key").as_deref(), Some("new"), "{what}");
        cache.remove("key");
    }
    let old = begin_slow_fill(&cache, "key", "old").await;
    cache.insert("key".into(), "written".into()).unwrap();
    assert_eq!(cache.get_with("key".to_owned(), || async { "not called".to_owned() }).await, "written");
    assert_eq!(old.end().await, "old");
    assert_eq!(cache.get("key").as_deref(), Some("written"));
    stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_or_an_error_reaches_every_waiter_once_and_poisons_nothing() {
    // scenario 51, scenario 54: every waiter receives the panic or the error once, and the next call works.
    let node = node("poison", &[]).await;
    let cache: Strings = open(&node);
    for panics in [true, false] {
        let calls = Arc::new(AtomicUsize::new(0));
        let barrier = Arc::new(Barrier::new(50));
        let callers = (0..50).map(|_| {
            let (cache, calls, barrier) = (cache.clone(), Arc::clone(&calls), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                let filler = move || async move {
                    calls.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    assert!(!panics, "out of tea");
                    Err(NoRow)
                };
                cache.try_get_with("key".to_owned(), filler).await
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            match caller.await.unwrap() {
                Err(FillError::Panicked(message)) => assert!(panics && message.contains("out of tea")),
                Err(FillError::Failed(error)) => assert!(!panics && *error == NoRow),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(cache.get("key"), None);
        let next = cache.try_get_with("key".to_owned(), || async { Ok::<_, NoRow>("works".to_owned()) }).await;
        assert_eq!(next.unwrap(), "works");
        cache.remove("key");
    }
    stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_with_different_error_types_share_one_fill() {
    let node = node("errors", &[]).await;
    let cache: Strings = open(&node);
    let go = Arc::new(Notify::new());
    let first = {
        let (cache, go) = (cache.clone(), Arc::clone(&go));
        let filler = move || async move {
            go.notified().await;
            Err(NoRow)
        };
        tokio::spawn(async move { cache.try_get_with("key".to_owned(), filler).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.try_get_with("key".to_owned(), || async { Err::<String, _>(Other) }).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    go.notify_one();
    assert!(matches!(first.await.unwrap(), Err(FillError::Failed(error)) if *error == NoRow));
    let error = second.await.unwrap().unwrap_err();
    let FillError::FailedElsewhere(foreign) = &error else { panic!("{error:?}") };
    assert_eq!(foreign.downcast_ref(), Some(&NoRow));
    assert!(foreign.type_name().ends_with("NoRow") && foreign.downcast_ref::<Other>().is_none());
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("NoRow"), "{error}");
    stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leading_caller_that_is_dropped_drops_only_itself() {
    // scenario 52: the caller that started the fill is dropped, and a waiter still receives the value.
    let node = node("dropped", &[]).await;
    let cache: Strings = open(&node);
    let fill = begin_slow_fill(&cache, "key", "filled").await;
    let waiter = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get_with("key".to_owned(), || async { "second".to_owned() }).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    fill.value.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    fill.end.send(()).unwrap();
    assert_eq!(waiter.await.unwrap(), "filled");
    assert_eq!(cache.get("key").as_deref(), Some("filled"));
    stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filler_that_asks_for_its_own_key_gets_an_error_and_a_cycle_of_two_ends() {
    // scenario 59: a filler that asks for its own key receives an error, and a cycle of two fills ends.
    let node = node("own", &[]).await;
    let cache: Strings = open(&node);
    let inner = cache.clone();
    let value = cache.try_get_with("key".to_owned(), move || async move {
        tokio::task::yield_now().await;
        match inner.try_get_with("key".to_owned(), || async { Ok::<_, Infallible>("inner".to_owned()) }).await {
            Err(FillError::OwnKey) => Ok::<_, Infallible>("told".to_owned()),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(tokio::time::timeout(SOON, value).await.unwrap().unwrap(), "told");

    let meet = Arc::new(Barrier::new(2));
    let ask = |mine: &'static str, other: &'static str| {
        let (cache, inner, meet) = (cache.clone(), cache.clone(), Arc::clone(&meet));
        tokio::spawn(async move {
            let filler = move || async move {
                meet.wait().await;
                inner.get_with(other.to_owned(), || async { "never called".to_owned() }).await;
                Ok::<_, Infallible>("filled".to_owned())
            };
            cache.try_get_with(mine.to_owned(), filler).await
        })
    };
    let (a, b) = (ask("a", "b"), ask("b", "a"));
    for caller in [a, b] {
        let end = tokio::time::timeout(SOON, caller).await.expect("a cycle must not wait for ever").unwrap();
        assert!(matches!(end, Err(FillError::Panicked(_))), "{end:?}");
    }
    assert_eq!(cache.get_with("a".to_owned(), || async { "free again".to_owned() }).await, "free again");
    stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filler_that_never_ends_is_aborted_and_its_callers_get_an_error() {
    // scenario 61: a filler that never ends is stopped at `fill_timeout`, and its callers receive an error.
    let node = node("never", &[]).await;
    let cache: Strings = node.cache("test").fill_timeout(Duration::from_millis(100)).open().unwrap();
    let (held, gone) = oneshot::channel::<()>();
    let filler = move || async move {
        let _held = held;
        std::future::pending::<Result<String, Infallible>>().await
    };
    let error = cache.try_get_with("key".to_owned(), filler).await.unwrap_err();
    assert!(matches!(error, FillError::TimedOut(_)));
    assert!(gone.await.is_err(), "the filler was dropped");
    assert_eq!(cache.get_with("key".to_owned(), || async { "next".to_owned() }).await, "next");
    stop(vec![node]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filler_decides_whether_and_how_long() {
    let node = node("decides", &[]).await;
    let cache: Cache<String, Option<u32>> = node.cache("products").open().unwrap();
    let fill = |key: &str, filled| cache.fill_with(key.to_owned(), move || async move { Ok::<_, Infallible>(filled) });
    assert_eq!(fill("known", Filled::new(Some(1))).await.unwrap(), Some(1));
    assert_eq!(fill("unknown", Filled::new(None).ttl(Duration::from_secs(60))).await.unwrap(), None);
    assert_eq!(fill("mine", Filled::uncached(Some(3))).await.unwrap(), Some(3));
    assert_eq!(cache.entry("known").unwrap().expires_in(), None);
    assert!(cache.entry("unknown").unwrap().expires_in().unwrap() <= Duration::from_secs(60));
    assert!(!cache.contains_key("mine"));
    stop(vec![node]).await;
}

/// Runs a hundred concurrent misses of one key on every node, and returns the number of fillers that ran.
async fn fills_of_a_stampede(caches: &[Strings], key: &str, fill_takes: Duration) -> usize {
    let calls = Arc::new(AtomicUsize::new(0));
    let barrier = Arc::new(Barrier::new(caches.len() * 100));
    let mut callers = Vec::new();
    for cache in caches.iter().flat_map(|cache| std::iter::repeat_n(cache, 100)) {
        let (cache, key, calls, barrier) = (cache.clone(), key.to_owned(), Arc::clone(&calls), Arc::clone(&barrier));
        callers.push(tokio::spawn(async move {
            barrier.wait().await;
            let filler = move || async move {
                calls.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(fill_takes).await;
                "filled".to_owned()
            };
            cache.get_with(key, filler).await
        }));
    }
    for caller in callers {
        assert_eq!(caller.await.unwrap(), "filled");
    }
    calls.load(Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stampede_on_five_nodes_is_filled_once_a_node_or_once_a_cluster() {
    let (nodes, caches) = cluster("stampede", 5).await;
    for cache in &caches {
        eventually("members", || cache.members(), |seen| *seen == 4);
    }
    let one_fill: Vec<_> =
        caches.iter().map(|cache| cache.with_cluster_single_flight(Some(Duration::from_secs(2)))).collect();
    let (mut each, mut all, keys) = (0, 0, 10);
    for n in 0..keys {
        each += fills_of_a_stampede(&caches, &format!("each-{n}"), Duration::from_millis(50)).await;
        all += fills_of_a_stampede(&one_fill, &format!("all-{n}"), Duration::from_millis(50)).await;
    }
    println!("{keys} keys, 100 concurrent misses on each of 5 nodes: {each} fills, {all} with cluster_single_flight");
    assert!(each <= 5 * keys, "at most one a node");
    assert!(all <= keys + 2, "about one a cluster: {all}");
    let arrived: u64 = caches.iter().map(|cache| cache.stats().fills.arrived).sum();
    assert!(arrived >= 3 * keys as u64, "the other nodes took the first node's value: {arrived}");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_in_vain_for_another_nodes_fill_fills_itself() {
    let (nodes, caches) = cluster("in-vain", 3).await;
    let impatient = caches[0].with_cluster_single_flight(Some(Duration::from_millis(20)));
    for n in 0..10 {
        // No other caller asks for this key.
        let value = impatient.get_with(format!("lonely-{n}"), || async { "filled".to_owned() });
        assert_eq!(tokio::time::timeout(SOON, value).await.unwrap(), "filled");
        let blocking = impatient.clone();
        let value = tokio::task::spawn_blocking(move || blocking.get_with_blocking(format!("b-{n}"), || "b".into()));
        assert_eq!(value.await.unwrap(), "b");
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_known_to_have_arrived_and_is_seen_in_the_change_stream() {
    let (nodes, caches) = cluster("arrived", 3).await;
    for cache in &caches {
        eventually("members", || cache.members(), |seen| *seen == 2);
    }
    let mut changes = caches[1].subscribe();
    let written = caches[0].insert("key".into(), "value".into()).unwrap();
    let replicated = caches[0].wait_replicated(written, Members::All, SOON).await.unwrap();
    assert_eq!(replicated.seen.len(), 2);
    assert!(caches[1..].iter().all(|cache| cache.get("key").as_deref() == Some("value")));
    let event = changes.recv().await.unwrap();
    assert_eq!((event.stamp(), event.is_local()), (written.stamp, false));

    nodes[0].sever(Some(vec![nodes[2].local_addr()]));
    let written = caches[0].insert("cut".into(), "off".into()).unwrap();
    let error = caches[0].wait_replicated(written, Members::Count(3), SOON).await.unwrap_err();
    assert!(error.seen.len() + error.missing.len() + error.departed.len() == 2, "at once: there are not so many");
    assert_eq!(caches[0].wait_replicated(written, Members::Count(1), SOON).await.unwrap().seen.len(), 1);
    nodes[0].sever(None);
    stop(nodes).await;
}

#[test]
fn fills_work_without_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = runtime.block_on(node("blocking", &[]));
    let cache: Strings = node.cache("test").fill_timeout(Duration::from_millis(300)).open().unwrap();
    let calls = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let value = cache.get_with_blocking("key".to_owned(), || {
                    calls.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(50));
                    "filled".to_owned()
                });
                assert_eq!(value, "filled");
            });
        }
    });
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let own = cache.try_get_with_blocking("own".to_owned(), || {
        match cache.try_get_with_blocking("own".to_owned(), || Ok::<_, Infallible>(String::new())) {
            Err(FillError::OwnKey) => Err(NoRow),
            other => panic!("{other:?}"),
        }
    });
    assert!(matches!(own, Err(FillError::Failed(_))));
    let late = cache.try_get_with_blocking("late".to_owned(), || {
        std::thread::sleep(Duration::from_millis(600));
        Ok::<_, Infallible>("late".to_owned())
    });
    assert!(matches!(late, Err(FillError::TimedOut(_))));
    // On a thread without a runtime, an asynchronous fill runs in a runtime of the node.
    let value = block_on(cache.get_with("async".to_owned(), || async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        "filled".to_owned()
    }));
    assert_eq!(value, "filled");
    runtime.block_on(node.shutdown());
}

/// Runs a future on a minimal executor, which parks the thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_borrowed_key_is_looked_up_once_and_filled_like_an_owned_one() {
    let node = node("by-ref", &[]).await;
    let cache: Strings = open(&node);
    assert_eq!(cache.get_with_by_ref("a", || async { "filled".to_owned() }).await, "filled");
    assert_eq!(cache.get_with_by_ref("a", || async { unreachable!("it is there") }).await, "filled");
    let blocking = cache.clone();
    let thread = std::thread::spawn(move || {
        let b = blocking.get_with_by_ref_blocking("b", || "filled here".to_owned());
        let kept: Result<String, FillError<NoRow>> = blocking.try_get_with_by_ref_blocking("b", || Err(NoRow));
        let none: Result<String, FillError<NoRow>> = blocking.try_get_with_by_ref_blocking("c", || Err(NoRow));
        (b, kept, none)
    });
    let (b, kept, none) = thread.join().unwrap();
    assert_eq!((b.as_str(), kept.unwrap().as_str()), ("filled here", "filled here"));
    assert!(matches!(none, Err(FillError::Failed(error)) if *error == NoRow));
    let none: Result<String, FillError<NoRow>> = cache.try_get_with_by_ref("d", || async { Err(NoRow) }).await;
    assert!(matches!(none, Err(FillError::Failed(error)) if *error == NoRow));
    assert_eq!((cache.hits_and_misses(), cache.entry_count()), ((2, 4), 2), "one look-up for each call");
    stop(vec![node]).await;
}

/// Checks that waiters time out although the first caller's runtime stands still: a single-threaded runtime makes no
/// progress outside `block_on`.
#[test]
fn time_runs_out_for_those_who_wait_also_if_the_first_callers_runtime_stands_still() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let node = runtime.block_on(node("stands-still", &[]));
    let cache: Strings = node.cache("test").fill_timeout(Duration::from_millis(300)).open().unwrap();
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        "slow".to_owned()
    };
    let given_up = runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(20), cache.get_with("key".to_owned(), slow)).await
    });
    assert!(given_up.is_err());
    let (told, heard) = std::sync::mpsc::channel();
    let waiting = cache.clone();
    std::thread::spawn(move || {
        told.send(waiting.try_get_with_blocking("key".to_owned(), || Ok::<_, Infallible>("mine".to_owned())))
    });
    let error = heard.recv_timeout(SOON).expect("the caller gets an answer in time").unwrap_err();
    assert!(matches!(error, FillError::TimedOut(_)), "{error:?}");
    runtime.block_on(stop(vec![node]));
}
