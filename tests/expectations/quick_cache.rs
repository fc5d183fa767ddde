//! Expectations of users of quick_cache 0.7 (`sync::Cache`).

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use driftless::{Cache, Eviction, FillError};
use tokio::sync::oneshot;

use super::support::{NoRow, at_most, begin, held, keys, local, numbers};

#[test]
fn a_cache_of_one_entry_works() {
    let cache = at_most(1);
    for key in 0..10 {
        cache.insert(key, key).unwrap();
        assert_eq!(keys(&cache), [key]);
    }
}

#[test]
fn the_number_of_entries_never_exceeds_the_capacity() {
    for eviction in [Eviction::Lru, Eviction::SegmentedLru, Eviction::Sieve] {
        let cache: Cache<u32, u32> = local().max_capacity(50).eviction(eviction).open().unwrap();
        for key in 0..1_000 {
            cache.insert(key % 77, key).unwrap();
            cache.get(&(key % 13));
            assert!(cache.entry_count() <= 50);
        }
        assert_eq!(cache.entry_count(), 50);
    }
}

#[test]
fn peek_is_no_use() {
    let cache = at_most(2);
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    assert_eq!(cache.entry(&1).map(|entry| entry.into_value()), Some(1));
    cache.insert(3, 3).unwrap();
    assert_eq!(keys(&cache), [2, 3]);
}

#[test]
fn remove_returns_the_value_without_its_key() {
    // Differs: coming-from-other-caches.md, "quick_cache", "`remove` returns key and value"
    let cache: Cache<String, u32> = local().open().unwrap();
    cache.insert("key".into(), 1).unwrap();
    assert_eq!((cache.remove("key"), cache.remove("key")), (Some(1), None));
}

#[test]
fn replace_writes_only_over_a_present_value() {
    // Differs: coming-from-other-caches.md, "Shared by several", "an atomic update of one entry"
    let cache = numbers();
    let replace = |value| {
        let present = cache.entry(&1)?;
        cache.replace_if(1, value, present.stamp()).unwrap()
    };
    assert!(replace(10).is_none());
    cache.insert(1, 10).unwrap();
    assert!(replace(11).is_some());
    assert_eq!(cache.get(&1), Some(11));
}

#[test]
fn clear_empties_the_cache_and_keeps_its_capacity() {
    let cache = at_most(3);
    cache.insert_many((0..3).map(|key| (key, key))).unwrap();
    cache.invalidate_all();
    cache.run_pending_tasks();
    assert_eq!((cache.entry_count(), cache.weighted_size()), (0, 0));
    cache.insert_many((10..20).map(|key| (key, key))).unwrap();
    assert_eq!(cache.entry_count(), 3);
}

#[test]
fn a_tuple_of_borrowed_parts_finds_an_owned_key() {
    #[derive(Hash)]
    struct Parts<'a>(&'a str, u32);
    impl equivalent::Equivalent<(String, u32)> for Parts<'_> {
        fn equivalent(&self, key: &(String, u32)) -> bool {
            self.0 == key.0 && self.1 == key.1
        }
    }
    let cache: Cache<(String, u32), u32> = local().open().unwrap();
    cache.insert(("tea".into(), 3), 1).unwrap();
    assert_eq!((cache.get(&Parts("tea", 3)), cache.get(&Parts("tea", 4))), (Some(1), None));
}

#[test]
fn the_weight_is_the_sum_of_the_weights() {
    let cache: Cache<u32, String> =
        local().max_capacity(100).weigher(|_, text: &String| text.len() as u32).open().unwrap();
    cache.insert(1, "abc".into()).unwrap();
    cache.insert(2, "defgh".into()).unwrap();
    assert_eq!(cache.weighted_size(), 8);
    cache.insert(1, "a".into()).unwrap();
    assert_eq!(cache.weighted_size(), 6);
    cache.remove(&2);
    assert_eq!((cache.weighted_size(), cache.entry_count()), (1, 1));
}

#[test]
fn a_weigher_that_panics_fails_its_own_call_and_leaves_the_weights_right() {
    let weigher = |_: &u32, value: &u32| if *value == 13 { panic!("on purpose") } else { *value };
    let cache: Cache<u32, u32> = local().max_capacity(100).weigher(weigher).open().unwrap();
    cache.insert(1, 10).unwrap();
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.insert(1, 13)));
    assert!(failed.is_err());
    assert_eq!((cache.get(&1), cache.weighted_size()), (Some(10), 10));
    cache.insert(1, 20).unwrap();
    assert_eq!((cache.get(&1), cache.weighted_size()), (Some(20), 20));
}

#[test]
fn hits_and_misses_are_counted() {
    let cache = numbers();
    cache.insert(1, 1).unwrap();
    assert_eq!((cache.get(&1), cache.get(&1), cache.get(&2)), (Some(1), Some(1), None));
    assert_eq!(cache.hits_and_misses(), (2, 1));
}

#[test]
fn get_or_insert_with_runs_its_function_on_a_miss_only() {
    let (cache, calls) = (numbers(), AtomicUsize::new(0));
    for _ in 0..3 {
        let made = cache.try_get_with_blocking(1, || {
            calls.fetch_add(1, Ordering::SeqCst);
            Ok::<_, NoRow>(10)
        });
        assert_eq!(made.unwrap(), 10);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_caller_that_waited_gets_the_error_of_the_fill() {
    // Differs: coming-from-other-caches.md, "Shared by several", "callers that wait for a failed fill run their own"
    let cache = numbers();
    let (end, fails) = held(Err::<u32, _>(NoRow));
    let mut first = Box::pin(cache.try_get_with(1, fails));
    begin(&mut first).await;
    let mut second = Box::pin(cache.try_get_with(1, || async { Ok::<_, NoRow>(2) }));
    begin(&mut second).await;
    end.send(()).unwrap();
    assert!(matches!(tokio::join!(first, second), (Err(_), Err(FillError::Failed(_)))));
}

#[tokio::test]
async fn an_abandoned_placeholder_does_not_block_the_key() {
    // Differs: coming-from-other-caches.md, "quick_cache", "`get_value_or_guard`"
    let cache = numbers();
    let (end, ended) = oneshot::channel::<()>();
    let filler = || async move {
        ended.await.ok();
        10
    };
    let mut caller = Box::pin(cache.get_with(1, filler));
    begin(&mut caller).await;
    drop(caller);
    cache.insert(1, 20).unwrap();
    assert_eq!(cache.get_with(1, || async { 30 }).await, 20);
    drop(end);
}

#[tokio::test]
async fn a_fill_can_have_a_time_limit() {
    // Differs: coming-from-other-caches.md, "quick_cache", "a time limit for each waiting call"
    let cache: Cache<u32, u32> = local().fill_timeout(Duration::from_millis(20)).open().unwrap();
    let result = cache.try_get_with(1, std::future::pending::<Result<u32, NoRow>>).await;
    assert!(matches!(result, Err(FillError::TimedOut(_))), "{result:?}");
    cache.insert(1, 10).unwrap();
    assert_eq!(cache.get_with(1, || async { 11 }).await, 10, "the key is not blocked");
}

#[test]
fn an_evicted_key_that_returns_is_new() {
    // Differs: coming-from-other-caches.md, "quick_cache", "ghost entries"
    let cache: Cache<u32, u32> = local().max_capacity(2).eviction(Eviction::SegmentedLru).open().unwrap();
    cache.insert_many((0..3).map(|key| (key, key))).unwrap();
    cache.insert(0, 0).unwrap();
    cache.insert(5, 5).unwrap();
    cache.insert(6, 6).unwrap();
    assert_eq!(keys(&cache), [5, 6], "key 0 is not remembered as used before");
}

#[test]
fn many_threads_leave_a_consistent_cache() {
    let cache = at_most(100);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let cache = &cache;
            scope.spawn(move || {
                for step in 0..500 {
                    let key = (step * 7 + thread) % 150;
                    match step % 3 {
                        0 => assert!(cache.insert(key, key).is_ok()),
                        1 => assert!(cache.get(&key).is_none_or(|value| value == key)),
                        _ => cache.invalidate(&key),
                    }
                }
            });
        }
    });
    assert_eq!(cache.iter().count() as u64, cache.entry_count());
    assert!(cache.entry_count() <= 100);
}
