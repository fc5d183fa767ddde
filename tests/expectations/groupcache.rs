//! Expectations of users of groupcache (Go).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use driftless::{Cache, FillError, InsertError};
use tokio::sync::oneshot;

use super::support::{NoRow, SOON, arrives, begin, both, both_with, local, lone, numbers};

#[tokio::test]
async fn two_callers_of_one_key_call_the_getter_once() {
    let (cache, calls) = (numbers(), Arc::new(AtomicUsize::new(0)));
    let (end, ended) = oneshot::channel::<()>();
    let seen = Arc::clone(&calls);
    let getter = move || async move {
        seen.fetch_add(1, Ordering::SeqCst);
        ended.await.unwrap();
        10
    };
    let mut first = Box::pin(cache.get_with(1, getter));
    begin(&mut first).await;
    let mut second = Box::pin(cache.get_with(1, || async { 20 }));
    begin(&mut second).await;
    end.send(()).unwrap();
    assert_eq!(tokio::join!(first, second), (10, 10));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn ten_gets_of_one_key_are_one_fill() {
    let cache: Cache<String, String> = local().open().unwrap();
    for _ in 0..10 {
        assert_eq!(cache.get_with_by_ref_blocking("key", || "ECHO".to_owned()), "ECHO");
    }
    let stats = cache.stats();
    assert_eq!((stats.fills.filled, stats.hits, stats.misses), (1, 9, 1));
}

#[test]
fn an_evicted_key_is_filled_again() {
    let cache: Cache<u32, String> =
        local().max_capacity(1_000).weigher(|_, text: &String| text.len() as u32).open().unwrap();
    let get = |key| cache.get_with_blocking(key, || "x".repeat(100)).len();
    assert_eq!(get(0), 100);
    for key in 1..20 {
        get(key);
    }
    assert!(cache.stats().removals.size > 0);
    let before = cache.stats().fills.filled;
    get(0);
    assert_eq!(cache.stats().fills.filled, before + 1);
}

#[test]
fn the_size_counts_each_entry_once_however_many_callers_fill_it() {
    let cache: Cache<u32, u32> = local().weigher(|_, _| 7).open().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| cache.get_with_blocking(1, || 10));
        }
    });
    assert_eq!((cache.entry_count(), cache.weighted_size()), (1, 7));
}

#[test]
fn bytes_are_counted_only_by_a_weigher() {
    // Differs: coming-from-other-caches.md, "groupcache", "`cacheBytes`"
    let plain: Cache<u32, String> = local().max_capacity(2).open().unwrap();
    plain.insert(1, "x".repeat(1_000)).unwrap();
    assert_eq!(plain.weighted_size(), 1);
}

#[test]
fn a_value_is_on_every_node_and_not_on_its_owner_alone() {
    // Differs: coming-from-other-caches.md, "groupcache", "a key has one owner"
    let [one, two] = both::<u32, u32>();
    assert_eq!(one.get_with_blocking(1, || 10), 10);
    arrives(&two, &1, &Some(10));
    assert_eq!(two.get_with_blocking(1, || 20), 10, "a local hit: no call to a peer");
}

#[tokio::test]
async fn a_key_is_filled_once_for_the_cluster_if_asked_for() {
    // Differs: coming-from-other-caches.md, "groupcache", "one fill in the cluster"
    let caches =
        tokio::task::spawn_blocking(|| both_with::<u32, u32>(|it| it.cluster_single_flight(SOON))).await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let get = |cache: Cache<u32, u32>| {
        let calls = Arc::clone(&calls);
        let getter = move || async move {
            calls.fetch_add(1, Ordering::SeqCst);
            10
        };
        async move { cache.get_with(1, getter).await }
    };
    let [one, two] = caches;
    assert_eq!(tokio::join!(get(one), get(two)), (10, 10));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn a_node_whose_peer_does_not_fill_fills_itself() {
    let [one, two] = both_with::<u32, u32>(|it| it.cluster_single_flight(Duration::from_millis(20)));
    for key in 0..8 {
        assert_eq!(one.get_with_blocking(key, || key), key, "whichever node has the first turn");
    }
    arrives(&two, &7, &Some(7));
}

#[test]
fn a_value_can_be_written_deleted_and_can_expire() {
    // Differs: coming-from-other-caches.md, "groupcache", "values are immutable"
    let cache = numbers();
    assert_eq!(cache.get_with_blocking(1, || 10), 10);
    cache.insert_with_ttl(1, 11, Duration::from_secs(60)).unwrap();
    assert_eq!(cache.get_with_blocking(1, || 12), 11);
    cache.invalidate(&1);
    assert_eq!(cache.get_with_blocking(1, || 13), 13);
}

#[test]
fn a_getter_that_fails_caches_nothing_and_is_called_again() {
    let (cache, calls) = (numbers(), AtomicUsize::new(0));
    let get = || {
        cache.try_get_with_blocking(1, || if calls.fetch_add(1, Ordering::SeqCst) == 0 { Err(NoRow) } else { Ok(10) })
    };
    assert!(matches!(get(), Err(FillError::Failed(_))));
    assert_eq!((get().unwrap(), get().unwrap()), (10, 10));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_group_opened_twice_is_one_group() {
    // Differs: coming-from-other-caches.md, "groupcache", "`NewGroup` panics"
    let name = super::support::fresh_name();
    let one: Cache<u32, u32> = lone().cache(&name).open().unwrap();
    let two: Cache<u32, u32> = lone().cache(&name).open().unwrap();
    one.insert(1, 10).unwrap();
    assert_eq!((two.get(&1), one.replica_id()), (Some(10), two.replica_id()));
}

#[test]
fn a_value_too_large_to_send_is_returned_and_not_cached() {
    let cache: Cache<u32, String> = local().max_value_bytes(50).open().unwrap();
    assert_eq!(cache.get_with_blocking(1, || "x".repeat(100)).len(), 100);
    assert!(!cache.contains_key(&1));
    assert_eq!(cache.stats().fills.refused, 1);
    assert!(matches!(cache.insert(1, "x".repeat(100)), Err(InsertError::ValueTooLarge { .. })));
}
