//! Expectations of users of foyer 0.22 (the memory cache).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftless::{Cache, Eviction, FillError, Filled, RemovalCause};

use super::support::{NoRow, Removals, at_most, begin, held, keys, local, numbers};

#[test]
fn a_value_that_was_read_outlives_its_eviction() {
    // Differs: coming-from-other-caches.md, "foyer", "`CacheEntry`"
    let cache: Cache<u32, String> = local().max_capacity(1).open().unwrap();
    cache.insert(1, "one".into()).unwrap();
    let held = cache.get(&1).unwrap();
    cache.insert(2, "two".into()).unwrap();
    assert_eq!((held.as_str(), cache.get(&1)), ("one", None));
}

#[test]
fn an_entry_that_was_read_tells_if_its_time_has_ended() {
    let cache = numbers();
    cache.insert_with_ttl(1, 10, Duration::from_millis(20)).unwrap();
    let held = cache.entry(&1);
    std::thread::sleep(Duration::from_millis(40));
    assert!(held.is_none_or(|held| !held.is_fresh()));
}

#[test]
fn a_read_is_the_only_touch() {
    // Differs: coming-from-other-caches.md, "foyer", "`touch`"
    let cache = at_most(2);
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    assert!(cache.get(&1).is_some());
    cache.insert(3, 3).unwrap();
    assert_eq!(keys(&cache), [1, 3]);
}

#[test]
fn contains_remove_and_clear_work() {
    let cache = numbers();
    cache.insert_many((0..3).map(|key| (key, key))).unwrap();
    assert!(cache.contains_key(&0));
    assert_eq!((cache.remove(&0), cache.contains_key(&0)), (Some(0), false));
    cache.invalidate_all();
    assert!(!cache.contains_key(&1) && !cache.contains_key(&2));
}

#[test]
fn capacity_and_usage_can_be_read() {
    let cache: Cache<u32, u32> = local().max_capacity(100).weigher(|_, value| *value).open().unwrap();
    cache.insert(1, 30).unwrap();
    assert_eq!((cache.policy().max_capacity, cache.weighted_size(), cache.entry_count()), (Some(100), 30, 1));
}

#[test]
fn the_whole_capacity_can_be_used_for_any_keys() {
    // Differs: coming-from-other-caches.md, "foyer", "the capacity is divided among shards"
    let cache = at_most(100);
    cache.insert_many((0..100).map(|key| (key * 64, key))).unwrap();
    assert_eq!((cache.entry_count(), cache.stats().removals.size), (100, 0));
}

#[test]
fn a_listener_hears_why_an_entry_left() {
    // Differs: coming-from-other-caches.md, "foyer", "`Event::Clear`"
    let (removals, cache) = Removals::of(local::<u32, u32>().max_capacity(2));
    cache.insert(1, 10).unwrap();
    cache.insert(1, 11).unwrap();
    cache.insert(2, 20).unwrap();
    cache.insert(3, 30).unwrap();
    cache.remove(&2);
    cache.invalidate_all();
    cache.run_pending_tasks();
    removals.are(&[
        (1, 10, RemovalCause::Replaced),
        (1, 11, RemovalCause::Size),
        (2, 20, RemovalCause::Explicit),
        (3, 30, RemovalCause::Invalidated),
    ]);
}

#[tokio::test]
async fn get_or_fetch_fetches_once_for_all_that_wait() {
    let cache = numbers();
    let (end, fetch) = held(Ok::<_, NoRow>(10));
    let mut first = Box::pin(cache.try_get_with(1, fetch));
    begin(&mut first).await;
    let mut second = Box::pin(cache.try_get_with(1, || async { Ok::<_, NoRow>(20) }));
    begin(&mut second).await;
    end.send(()).unwrap();
    let (one, two) = tokio::join!(first, second);
    assert_eq!((one.unwrap(), two.unwrap()), (10, 10));
}

#[tokio::test]
async fn a_failed_fetch_is_returned_to_all_that_wait_and_not_cached() {
    let cache = numbers();
    let (end, fetch) = held(Err::<u32, _>(NoRow));
    let mut first = Box::pin(cache.try_get_with(1, fetch));
    begin(&mut first).await;
    let mut second = Box::pin(cache.try_get_with(1, || async { Ok::<_, NoRow>(20) }));
    begin(&mut second).await;
    end.send(()).unwrap();
    let (one, two) = tokio::join!(first, second);
    assert!(matches!((one, two), (Err(FillError::Failed(_)), Err(FillError::Failed(_)))));
    assert!(!cache.contains_key(&1));
}

#[tokio::test]
async fn an_insert_during_a_fetch_is_what_stays() {
    let cache = numbers();
    let (end, fetch) = held(10);
    let mut fetching = Box::pin(cache.get_with(1, fetch));
    begin(&mut fetching).await;
    cache.insert(1, 20).unwrap();
    end.send(()).unwrap();
    fetching.await;
    assert_eq!(cache.get(&1), Some(20));
}

#[test]
fn an_ephemeral_value_is_returned_and_not_kept() {
    // Differs: coming-from-other-caches.md, "foyer", "`Hint` and properties of an entry"
    let cache = numbers();
    assert_eq!(cache.fill_with_blocking(1, || Ok::<_, NoRow>(Filled::uncached(10))).unwrap(), 10);
    assert_eq!(cache.entry_count(), 0);
}

#[test]
fn an_admission_filter_is_a_decision_of_the_filler() {
    // Differs: coming-from-other-caches.md, "foyer", "`with_filter`"
    let cache = numbers();
    let get = |key| {
        let filler = || Ok::<_, NoRow>(if key < 10 { Filled::new(key) } else { Filled::uncached(key) });
        cache.fill_with_blocking(key, filler).unwrap()
    };
    assert_eq!((get(1), get(11), keys(&cache)), (1, 11, vec![1]));
}

#[test]
fn only_memory_holds_entries() {
    // Differs: coming-from-other-caches.md, "foyer", "`HybridCache`"
    let calls = Arc::new(AtomicUsize::new(0));
    let cache = at_most(1);
    for key in [1, 2, 1] {
        let calls = Arc::clone(&calls);
        cache.get_with_blocking(key, move || {
            calls.fetch_add(1, Ordering::SeqCst);
            key
        });
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3, "an evicted value is filled again");
}

#[test]
fn the_least_recently_used_leaves_first_in_either_policy() {
    for eviction in [Eviction::Lru, Eviction::SegmentedLru, Eviction::Sieve] {
        let left = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&left);
        let cache: Cache<u32, u32> = local()
            .max_capacity(3)
            .eviction(eviction)
            .eviction_listener(move |key: Arc<u32>, _, _| seen.lock().unwrap().push(*key))
            .open()
            .unwrap();
        cache.insert_many((0..6).map(|key| (key, key))).unwrap();
        super::support::eventually("evictions", || left.lock().unwrap().clone(), |seen| *seen == [0, 1, 2]);
    }
}

#[test]
fn a_value_weighs_what_the_weigher_says_on_each_overwrite() {
    let cache: Cache<u32, String> =
        local().max_capacity(10).weigher(|_, text: &String| text.len() as u32).open().unwrap();
    cache.insert(1, "12345".into()).unwrap();
    cache.insert(2, "1234".into()).unwrap();
    cache.insert(2, "12345678".into()).unwrap();
    assert_eq!((keys(&cache), cache.weighted_size()), (vec![2], 8));
}
