//! Expectations of users of moka 0.12 (`sync::Cache` and `future::Cache`).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use driftless::{Cache, Eviction, FillError, Filled, RemovalCause};
use tokio::sync::oneshot;

use super::support::{NoRow, Removals, at_most, begin, eventually, held, keys, local, numbers};

const HOUR: Duration = Duration::from_secs(3_600);
const BLINK: Duration = Duration::from_millis(40);
/// The precision with which expired values are swept.
const SWEEP: Duration = Duration::from_millis(100);

#[test]
fn a_missing_key_is_none_and_an_inserted_one_is_found() {
    let cache = numbers();
    assert_eq!((cache.get(&1), cache.contains_key(&1)), (None, false));
    cache.insert(1, 10).unwrap();
    assert_eq!((cache.get(&1), cache.contains_key(&1)), (Some(10), true));
}

#[test]
fn insert_replaces_the_value() {
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    cache.insert(1, 11).unwrap();
    assert_eq!((cache.get(&1), cache.entry_count()), (Some(11), 1));
}

#[test]
fn clones_are_handles_to_one_cache() {
    let cache = numbers();
    let clone = cache.clone();
    clone.insert(1, 10).unwrap();
    drop(clone);
    assert_eq!(cache.get(&1), Some(10));
}

#[test]
fn borrowed_forms_of_a_key_find_the_value() {
    let texts: Cache<String, u32> = local().open().unwrap();
    texts.insert("key".into(), 1).unwrap();
    assert_eq!((texts.get("key"), texts.contains_key("key"), texts.remove("key")), (Some(1), true, Some(1)));
    let bytes: Cache<Vec<u8>, u32> = local().open().unwrap();
    bytes.insert(vec![1, 2], 1).unwrap();
    assert_eq!(bytes.get(&[1_u8, 2][..]), Some(1));
}

#[test]
fn invalidate_removes_and_remove_returns_the_value() {
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    cache.insert(2, 20).unwrap();
    cache.invalidate(&1);
    assert_eq!((cache.get(&1), cache.remove(&2), cache.remove(&2)), (None, Some(20), None));
    assert_eq!(cache.entry_count(), 0);
}

#[test]
fn invalidate_all_hides_every_entry_at_once_and_spares_later_ones() {
    let cache = numbers();
    for key in 0..100 {
        cache.insert(key, key).unwrap();
    }
    cache.invalidate_all();
    assert!((0..100).all(|key| cache.get(&key).is_none() && !cache.contains_key(&key)));
    assert_eq!(cache.iter().count(), 0);
    cache.insert(7, 8).unwrap();
    cache.run_pending_tasks();
    assert_eq!((cache.get(&7), cache.entry_count()), (Some(8), 1));
}

#[test]
fn without_a_capacity_nothing_is_evicted() {
    let cache = numbers();
    for key in 0..10_000 {
        cache.insert(key, key).unwrap();
    }
    assert_eq!((cache.entry_count(), cache.policy().max_capacity), (10_000, None));
}

#[test]
fn a_capacity_of_zero_holds_nothing() {
    let cache = at_most(0);
    cache.insert(1, 10).unwrap();
    assert_eq!((cache.get(&1), cache.entry_count()), (None, 0));
    assert_eq!(cache.get_with_blocking(1, || 11), 11);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn the_least_recently_used_entry_is_evicted_and_get_is_a_use() {
    let cache = at_most(2);
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    assert_eq!(cache.get(&1), Some(1));
    cache.insert(3, 3).unwrap();
    assert_eq!(keys(&cache), [1, 3]);
}

#[test]
fn contains_key_and_iter_are_no_use() {
    let cache = at_most(2);
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    assert!(cache.contains_key(&1));
    assert_eq!(cache.iter().count(), 2);
    cache.insert(3, 3).unwrap();
    assert_eq!(keys(&cache), [2, 3]);
}

#[test]
fn a_new_entry_is_admitted_although_older_ones_were_used_more() {
    // Differs: migrating-from-moka.md, "What is different", "a new key is refused in favour of a popular one"
    let cache = at_most(2);
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    for _ in 0..100 {
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), Some(2)));
    }
    cache.insert(3, 3).unwrap();
    assert_eq!(cache.get(&3), Some(3));
}

#[test]
fn one_pass_over_many_keys_does_not_evict_the_keys_in_use() {
    let cache: Cache<u32, u32> = local().max_capacity(10).eviction(Eviction::SegmentedLru).open().unwrap();
    cache.insert_many((0..10).map(|key| (key, key))).unwrap();
    assert!((0..4).all(|key| cache.get(&key) == Some(key)));
    cache.insert_many((100..200).map(|key| (key, key))).unwrap();
    assert!((0..4).all(|key| cache.contains_key(&key)), "{:?}", keys(&cache));
}

#[test]
fn the_weigher_counts_against_the_capacity() {
    let cache: Cache<u32, u32> = local().max_capacity(31).weigher(|_, value| *value).open().unwrap();
    cache.insert(1, 10).unwrap();
    cache.insert(2, 10).unwrap();
    cache.insert(3, 10).unwrap();
    assert_eq!((cache.weighted_size(), cache.entry_count()), (30, 3));
    cache.insert(4, 15).unwrap();
    assert_eq!((keys(&cache), cache.weighted_size()), (vec![3, 4], 25));
}

#[test]
fn the_weight_follows_an_overwrite() {
    let cache: Cache<u32, u32> = local().max_capacity(100).weigher(|_, value| *value).open().unwrap();
    cache.insert(1, 10).unwrap();
    cache.insert(1, 40).unwrap();
    assert_eq!(cache.weighted_size(), 40);
    cache.invalidate(&1);
    assert_eq!(cache.weighted_size(), 0);
}

#[test]
fn an_entry_heavier_than_the_capacity_is_not_kept_and_displaces_nothing() {
    let cache: Cache<u32, u32> = local().max_capacity(100).weigher(|_, value| *value).open().unwrap();
    cache.insert(1, 60).unwrap();
    cache.insert(2, 101).unwrap();
    assert_eq!((keys(&cache), cache.weighted_size()), (vec![1], 60));
}

#[test]
fn after_the_time_to_live_no_call_finds_the_entry() {
    let cache: Cache<u32, u32> = local().time_to_live(BLINK).open().unwrap();
    cache.insert(1, 10).unwrap();
    std::thread::sleep(BLINK);
    assert_eq!((cache.get(&1), cache.contains_key(&1), cache.iter().count()), (None, false, 0));
    std::thread::sleep(SWEEP);
    cache.run_pending_tasks();
    assert_eq!(cache.entry_count(), 0);
}

#[test]
fn an_overwrite_starts_the_time_to_live_anew() {
    let cache: Cache<u32, u32> = local().time_to_live(HOUR).open().unwrap();
    cache.insert_with_ttl(1, 10, BLINK).unwrap();
    cache.insert(1, 11).unwrap();
    std::thread::sleep(BLINK);
    assert_eq!(cache.get(&1), Some(11));
}

#[test]
fn an_entry_may_have_its_own_time_to_live_shorter_or_longer_than_the_default() {
    let cache: Cache<u32, u32> = local().time_to_live(BLINK).open().unwrap();
    cache.insert_with_ttl(1, 10, HOUR).unwrap();
    cache.insert_with_ttl(2, 20, Duration::from_millis(1)).unwrap();
    std::thread::sleep(BLINK);
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), None));
}

#[test]
fn a_read_does_not_prolong_a_time() {
    // Differs: migrating-from-moka.md, "Before you begin", "**There is no `time_to_idle`**"
    let cache: Cache<u32, u32> = local().open().unwrap();
    cache.insert_with_ttl(1, 10, HOUR).unwrap();
    let before = cache.entry(&1).unwrap().expires_in().unwrap();
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(cache.get(&1), Some(10));
    assert!(cache.entry(&1).unwrap().expires_in().unwrap() < before);
}

#[test]
fn a_time_to_live_of_zero_is_refused() {
    // Differs: migrating-from-moka.md, "What is different", "`time_to_live(Duration::ZERO)`"
    let refused = local::<u32, u32>().time_to_live(Duration::ZERO).open().unwrap_err().to_string();
    assert!(refused.contains("time_to_live"), "{refused}");
    assert!(numbers().insert_with_ttl(1, 10, Duration::ZERO).is_err());
}

#[test]
fn a_time_to_live_of_more_than_a_thousand_years_is_cut_to_a_hundred() {
    // Differs: migrating-from-moka.md, "What is different", "a time to live above 1,000 years"
    let cache: Cache<u32, u32> = local().time_to_live(Duration::MAX).open().unwrap();
    cache.insert(1, 10).unwrap();
    let years = cache.entry(&1).unwrap().expires_in().unwrap().as_secs() / (365 * 86_400);
    assert!((99..=100).contains(&years), "{years}");
}

#[test]
fn threads_that_miss_one_key_run_one_initialiser() {
    let (cache, calls, start) = (numbers(), AtomicUsize::new(0), Barrier::new(8));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                let value = cache.get_with_blocking(1, || {
                    calls.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(BLINK);
                    10
                });
                assert_eq!(value, 10);
            });
        }
    });
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn tasks_that_miss_one_key_run_one_initialiser_and_a_hit_runs_none() {
    let (cache, calls) = (numbers(), Arc::new(AtomicUsize::new(0)));
    let call = || {
        let calls = Arc::clone(&calls);
        let filler = move || async move {
            calls.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            10
        };
        cache.get_with(1, filler)
    };
    assert_eq!(tokio::join!(call(), call(), call()), (10, 10, 10));
    assert_eq!(call().await, 10);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_that_is_never_polled_initialises_nothing() {
    let cache = numbers();
    drop(cache.get_with(1, || async { panic!("it was not awaited") }));
    tokio::task::yield_now().await;
    assert_eq!((cache.stats().fills, cache.get(&1)), (driftless::cache::FillStats::default(), None));
}

#[tokio::test]
async fn an_expired_entry_is_initialised_again() {
    let cache: Cache<u32, u32> = local().open().unwrap();
    cache.insert_with_ttl(1, 10, Duration::from_millis(1)).unwrap();
    tokio::time::sleep(BLINK).await;
    assert_eq!(cache.get_with(1, || async { 11 }).await, 11);
}

#[tokio::test]
async fn an_error_reaches_all_that_wait_and_is_not_cached() {
    let cache = numbers();
    let (end, fails) = held(Err::<u32, _>(NoRow));
    let mut first = Box::pin(cache.try_get_with(1, fails));
    begin(&mut first).await;
    let mut second = Box::pin(cache.try_get_with(1, || async { Ok::<_, NoRow>(2) }));
    begin(&mut second).await;
    end.send(()).unwrap();
    let (Err(FillError::Failed(one)), Err(FillError::Failed(two))) = tokio::join!(first, second) else {
        panic!("both get the error");
    };
    assert!(Arc::ptr_eq(&one, &two), "the error is shared, not copied");
    assert_eq!(cache.try_get_with(1, || async { Ok::<_, NoRow>(3) }).await.unwrap(), 3);
}

#[tokio::test]
async fn calls_with_different_error_types_share_one_fill() {
    // Differs: migrating-from-moka.md, "What is different", "calls with different error types"
    let cache = numbers();
    let (end, fails) = held(Err::<u32, _>(NoRow));
    let mut first = Box::pin(cache.try_get_with(1, fails));
    begin(&mut first).await;
    let mut second = Box::pin(cache.try_get_with(1, || async { Ok::<_, std::fmt::Error>(2) }));
    begin(&mut second).await;
    end.send(()).unwrap();
    let (one, two) = tokio::join!(first, second);
    assert!(matches!(one, Err(FillError::Failed(_))));
    assert!(matches!(two, Err(FillError::FailedElsewhere(error)) if error.downcast_ref::<NoRow>().is_some()));
}

#[tokio::test]
async fn a_panic_reaches_each_that_waits_and_the_next_call_initialises() {
    // Differs: migrating-from-moka.md, "What is different", "an initialiser panics"
    let cache = numbers();
    let (end, ended) = oneshot::channel::<()>();
    let panics = || async move {
        ended.await.unwrap();
        panic!("on purpose");
        #[allow(unreachable_code)]
        Ok::<u32, NoRow>(1)
    };
    let mut first = Box::pin(cache.try_get_with(1, panics));
    begin(&mut first).await;
    let mut second = Box::pin(cache.try_get_with(1, || async { Ok::<_, NoRow>(2) }));
    begin(&mut second).await;
    end.send(()).unwrap();
    let (one, two) = tokio::join!(first, second);
    for result in [one, two] {
        assert!(matches!(&result, Err(FillError::Panicked(text)) if &**text == "on purpose"), "{result:?}");
    }
    assert_eq!(cache.try_get_with(1, || async { Ok::<_, NoRow>(3) }).await.unwrap(), 3);
}

#[tokio::test]
async fn a_caller_that_is_dropped_leaves_its_fill_running() {
    // Differs: migrating-from-moka.md, "Calls", "so a caller that is cancelled does not fail other callers"
    let cache = numbers();
    let (end, filler) = held(10);
    let mut caller = Box::pin(cache.get_with(1, filler));
    begin(&mut caller).await;
    drop(caller);
    end.send(()).unwrap();
    assert_eq!(cache.get_with(1, || async { 11 }).await, 10);
}

#[tokio::test]
async fn an_initialiser_that_asks_for_its_own_key_gets_an_error() {
    // Differs: migrating-from-moka.md, "What is different", "an initialiser that asks for its own key"
    let cache = numbers();
    let inner = cache.clone();
    let filler = move || async move {
        let own = inner.try_get_with(1, || async { Ok::<_, NoRow>(2) }).await;
        assert!(matches!(own, Err(FillError::OwnKey)), "{own:?}");
        Ok::<_, NoRow>(inner.get_with(3, || async { 30 }).await)
    };
    assert_eq!(cache.try_get_with(1, filler).await.unwrap(), 30);
}

#[tokio::test]
async fn a_missing_row_is_cached_only_if_the_filler_says_so() {
    // Differs: migrating-from-moka.md, "Calls", "a cached `None` answers the next caller"
    let cache: Cache<u32, Option<u32>> = local().open().unwrap();
    let absent = || async { Ok::<_, NoRow>(Filled::uncached(None)) };
    assert_eq!(cache.fill_with(1, absent).await.unwrap(), None);
    assert!(!cache.contains_key(&1));
    let brief = || async { Ok::<_, NoRow>(Filled::new(None).ttl(HOUR)) };
    assert_eq!(cache.fill_with(1, brief).await.unwrap(), None);
    assert_eq!(cache.get(&1), Some(None));
}

#[test]
fn a_look_up_by_reference_makes_the_owned_key_on_a_miss_only() {
    let cache: Cache<String, u32> = local().open().unwrap();
    assert_eq!(cache.get_with_by_ref_blocking("key", || 1), 1);
    assert_eq!(cache.get_with_by_ref_blocking("key", || 2), 1);
    let failed = cache.try_get_with_by_ref_blocking("other", || Err::<u32, _>(NoRow));
    assert!(matches!(failed, Err(FillError::Failed(_))));
}

#[test]
fn or_insert_writes_only_where_there_is_nothing() {
    // Differs: migrating-from-moka.md, "Calls", "atomic on this node alone"
    let cache = numbers();
    assert!(cache.insert_if_absent_local(1, 10).unwrap().is_some());
    assert!(cache.insert_if_absent_local(1, 11).unwrap().is_none());
    assert_eq!(cache.get(&1), Some(10));
}

#[test]
fn a_compute_that_lost_a_race_is_told_so() {
    // Differs: migrating-from-moka.md, "Calls", "atomic on this node alone"
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    let found = cache.entry(&1).unwrap();
    cache.insert(1, 20).unwrap();
    assert_eq!(cache.replace_if(1, found.value() + 1, found.stamp()).unwrap(), None);
    let found = cache.entry(&1).unwrap();
    assert!(cache.replace_if(1, found.value() + 1, found.stamp()).unwrap().is_some());
    assert_eq!(cache.get(&1), Some(21));
}

#[tokio::test]
async fn a_fill_returns_the_value_alone() {
    // Differs: migrating-from-moka.md, "What is different", "`Entry::is_fresh`"
    let cache = numbers();
    assert_eq!(cache.get_with(1, || async { 10 }).await, 10);
    assert_eq!(cache.get_with(1, || async { 11 }).await, 10);
    assert_eq!((cache.stats().fills.filled, cache.hits_and_misses()), (1, (1, 1)));
}

#[test]
fn iteration_returns_each_entry_once_and_allows_changes_meanwhile() {
    let cache = numbers();
    for key in 0..1_000 {
        cache.insert(key, key).unwrap();
    }
    let mut seen = BTreeSet::new();
    for (key, value) in &cache {
        assert_eq!(*key, value);
        assert!(seen.insert(*key));
        cache.invalidate(&*key);
    }
    assert_eq!((seen.len(), cache.entry_count()), (1_000, 0));
}

#[test]
fn the_listener_gets_overwrites_removals_and_evictions_in_order() {
    let (removals, cache) = Removals::of(local::<u32, u32>().max_capacity(1));
    cache.insert(1, 10).unwrap();
    cache.insert(1, 11).unwrap();
    cache.insert(2, 20).unwrap();
    cache.invalidate(&2);
    removals.are(&[(1, 10, RemovalCause::Replaced), (1, 11, RemovalCause::Size), (2, 20, RemovalCause::Explicit)]);
}

#[test]
fn the_listener_hears_of_expiry_without_a_read() {
    let (removals, cache) = Removals::of(local::<u32, u32>());
    cache.insert_with_ttl(1, 10, BLINK).unwrap();
    removals.are(&[(1, 10, RemovalCause::Expired)]);
}

#[test]
fn invalidate_all_has_a_cause_of_its_own() {
    // Differs: migrating-from-moka.md, "What is different", "the cause of `invalidate_all` is `Explicit`"
    let (removals, cache) = Removals::of(local::<u32, u32>());
    cache.insert(1, 10).unwrap();
    cache.invalidate_all();
    cache.run_pending_tasks();
    removals.are(&[(1, 10, RemovalCause::Invalidated)]);
}

#[test]
fn a_listener_that_panics_is_called_again() {
    // Differs: migrating-from-moka.md, "What is different", "a listener that panicked"
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let panics = move |_, _, _| {
        seen.fetch_add(1, Ordering::SeqCst);
        panic!("on purpose");
    };
    let cache: Cache<u32, u32> = local().eviction_listener(panics).open().unwrap();
    for key in 0..2 {
        cache.insert(key, key).unwrap();
        cache.invalidate(&key);
    }
    eventually("calls", || calls.load(Ordering::SeqCst), |seen| *seen == 2);
    eventually("panics", || cache.stats().listener_panics, |seen| *seen == 2);
}

#[test]
fn a_listener_may_read_and_write_the_cache() {
    let handle = Arc::new(Mutex::new(None::<Cache<u32, u32>>));
    let inner = Arc::clone(&handle);
    let listener = move |key: Arc<u32>, value, _| {
        let cache = inner.lock().unwrap().clone();
        if let Some(cache) = cache.filter(|_| *key < 100) {
            cache.insert(*key + 100, value).unwrap();
        }
    };
    let cache = local().eviction_listener(listener).open().unwrap();
    *handle.lock().unwrap() = Some(cache.clone());
    cache.insert(1, 10).unwrap();
    cache.invalidate(&1);
    eventually("the write", || cache.get(&101), |seen| *seen == Some(10));
    *handle.lock().unwrap() = None;
}

#[test]
fn counts_are_exact_without_pending_tasks() {
    // Differs: migrating-from-moka.md, "Calls", "counts are exact"
    let cache: Cache<u32, u32> = local().weigher(|_, value| *value).open().unwrap();
    for key in 0..100 {
        cache.insert(key, 2).unwrap();
        assert_eq!((cache.entry_count(), cache.weighted_size()), (u64::from(key) + 1, 2 * (u64::from(key) + 1)));
    }
}

#[test]
fn the_name_and_the_policy_can_be_read() {
    let cache: Cache<u32, u32> =
        super::support::lone().cache("by name").max_capacity(7).time_to_live(HOUR).open().unwrap();
    assert_eq!(cache.name(), "by name");
    assert_eq!((cache.policy().max_capacity, cache.policy().time_to_live), (Some(7), Some(HOUR)));
}

#[test]
fn reads_and_writes_need_no_runtime_and_share_the_cache_across_threads() {
    let cache = numbers();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = cache.clone();
            scope.spawn(move || {
                for key in thread * 100..(thread + 1) * 100 {
                    cache.insert(key, key).unwrap();
                    assert_eq!(cache.get(&key), Some(key));
                }
            });
        }
    });
    assert_eq!(cache.entry_count(), 400);
}

#[test]
fn a_removed_value_is_dropped() {
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(from = "u32", into = "u32")]
    struct Counted;
    impl Counted {
        fn new() -> Self {
            ALIVE.fetch_add(1, Ordering::SeqCst);
            Self
        }
    }
    impl Clone for Counted {
        fn clone(&self) -> Self {
            Self::new()
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::SeqCst);
        }
    }
    impl From<u32> for Counted {
        fn from(_: u32) -> Self {
            Self::new()
        }
    }
    impl From<Counted> for u32 {
        fn from(_: Counted) -> Self {
            0
        }
    }
    let cache: Cache<u32, Counted> = local().max_capacity(1).open().unwrap();
    cache.insert(1, Counted::new()).unwrap();
    cache.insert(2, Counted::new()).unwrap();
    eventually("eviction drops", || ALIVE.load(Ordering::SeqCst), |seen| *seen == 1);
    cache.invalidate(&2);
    eventually("invalidation drops", || ALIVE.load(Ordering::SeqCst), |seen| *seen == 0);
}
