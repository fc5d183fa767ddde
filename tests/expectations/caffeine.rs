//! Expectations of users of Caffeine 3 (`Cache`, `AsyncCache` and the views of `asMap`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use driftless::{Cache, CacheSettings, FillError, Filled, RemovalCause};

use super::support::{NoRow, Removals, arrives, at_most, begin, fresh_name, held, keys, local, numbers, pair};

const HOUR: Duration = Duration::from_secs(3_600);
const BLINK: Duration = Duration::from_millis(40);
/// The precision with which expired values are swept.
const SWEEP: Duration = Duration::from_millis(100);

#[test]
fn get_if_present_does_not_load() {
    let cache = numbers();
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.entry_count(), 0);
}

#[test]
fn get_all_present_returns_what_is_there_in_the_order_asked_for() {
    // Differs: coming-from-other-caches.md, "Caffeine", "`getAllPresent` returns a map"
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    cache.insert(3, 30).unwrap();
    assert_eq!(cache.get_many([&3, &2, &1]), [Some(30), None, Some(10)]);
}

#[test]
fn put_all_writes_every_entry() {
    let cache = numbers();
    let written = cache.insert_many((0..50).map(|key| (key, key))).unwrap();
    assert_eq!((written.len(), cache.entry_count()), (50, 50));
}

#[test]
fn put_does_not_return_the_previous_value() {
    // Differs: coming-from-other-caches.md, "Shared by several", "a write returns the previous value"
    let cache = numbers();
    let mut changes = cache.subscribe();
    let first = cache.insert(1, 10).unwrap();
    let second = cache.insert(1, 11).unwrap();
    assert!(second.stamp > first.stamp);
    assert_eq!(changes.try_recv().unwrap().previous(), None);
    assert_eq!(changes.try_recv().unwrap().previous(), Some(&10));
}

#[test]
fn invalidate_all_of_some_keys_spares_the_rest() {
    let cache = numbers();
    cache.insert_many((0..5).map(|key| (key, key))).unwrap();
    assert_eq!(cache.remove_many([&1, &3, &99]), 2);
    assert_eq!(keys(&cache), [0, 2, 4]);
}

#[test]
fn a_bulk_loader_is_one_fill_for_each_key() {
    // Differs: coming-from-other-caches.md, "Caffeine", "`getAll` with a bulk loader"
    let (cache, calls) = (numbers(), AtomicUsize::new(0));
    cache.insert(1, 10).unwrap();
    let load = |key| {
        cache.get_with_blocking(key, || {
            calls.fetch_add(1, Ordering::SeqCst);
            key * 10
        })
    };
    assert_eq!([1, 2, 3].map(load), [10, 20, 30]);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn hits_misses_and_loads_are_counted() {
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), None));
    assert_eq!(cache.get_with_blocking(3, || 30), 30);
    assert!(cache.try_get_with_blocking(4, || Err::<u32, _>(NoRow)).is_err());
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (1, 3));
    assert_eq!((stats.fills.filled, stats.fills.failed), (1, 1));
}

#[test]
fn only_evictions_count_as_evictions() {
    let cache = at_most(2);
    cache.insert_many((0..3).map(|key| (key, key))).unwrap();
    cache.insert(2, 22).unwrap();
    cache.invalidate(&2);
    let removals = cache.stats().removals;
    assert_eq!((removals.size, removals.replaced, removals.explicit), (1, 1, 1));
}

#[test]
fn the_listener_hears_of_every_removal_not_only_of_evictions() {
    // Differs: coming-from-other-caches.md, "Caffeine", "`evictionListener`"
    let (removals, cache) = Removals::of(local::<u32, u32>());
    cache.insert(1, 10).unwrap();
    cache.insert(1, 11).unwrap();
    cache.invalidate(&1);
    removals.are(&[(1, 10, RemovalCause::Replaced), (1, 11, RemovalCause::Explicit)]);
}

#[test]
fn an_overwrite_after_the_deadline_reports_an_expiry() {
    let (removals, cache) = Removals::of(local::<u32, u32>());
    cache.insert_with_ttl(1, 10, Duration::from_millis(1)).unwrap();
    std::thread::sleep(BLINK);
    cache.insert(1, 11).unwrap();
    removals.are(&[(1, 10, RemovalCause::Expired)]);
}

#[test]
fn a_load_over_an_expired_entry_reports_an_expiry() {
    let (removals, cache) = Removals::of(local::<u32, u32>());
    cache.insert_with_ttl(1, 10, Duration::from_millis(1)).unwrap();
    std::thread::sleep(BLINK);
    assert_eq!(cache.get_with_blocking(1, || 11), 11);
    removals.are(&[(1, 10, RemovalCause::Expired)]);
}

#[test]
fn clean_up_removes_expired_entries_and_reports_them() {
    let (removals, cache) = Removals::of(local::<u32, u32>());
    cache.insert_with_ttl(1, 10, Duration::from_millis(1)).unwrap();
    cache.insert(2, 20).unwrap();
    std::thread::sleep(Duration::from_millis(1) + SWEEP);
    cache.run_pending_tasks();
    assert_eq!(cache.entry_count(), 1);
    removals.are(&[(1, 10, RemovalCause::Expired)]);
}

#[test]
fn a_loader_that_throws_leaves_no_entry() {
    let cache = numbers();
    let failed = cache.try_get_with_blocking(1, || Err::<u32, _>(NoRow));
    assert!(matches!(failed, Err(FillError::Failed(error)) if *error == NoRow));
    assert!(!cache.contains_key(&1));
    assert_eq!(cache.get_with_blocking(1, || 10), 10);
}

#[test]
fn a_loader_that_finds_nothing_leaves_no_entry() {
    // Differs: coming-from-other-caches.md, "Caffeine", "a loader returns `null`"
    let cache: Cache<u32, Option<u32>> = local().open().unwrap();
    let nothing = cache.fill_with_blocking(1, || Ok::<_, NoRow>(Filled::uncached(None)));
    assert_eq!(nothing.unwrap(), None);
    assert_eq!((cache.entry_count(), cache.stats().fills.uncached), (0, 1));
}

#[test]
fn a_recursive_load_of_one_key_is_an_error() {
    let cache = numbers();
    let load = || Ok::<_, NoRow>(u32::from(cache.try_get_with_blocking(1, || Ok::<_, NoRow>(2)).is_err()));
    assert_eq!(cache.try_get_with_blocking(1, load).unwrap(), 1, "the inner call is refused");
}

#[tokio::test]
async fn a_put_during_a_load_does_not_wait_and_wins() {
    // Differs: coming-from-other-caches.md, "Shared by several", "a write waits for a computation of its key"
    let cache = numbers();
    let (end, load) = held(10);
    let mut loading = Box::pin(cache.get_with(1, load));
    begin(&mut loading).await;
    cache.insert(1, 99).unwrap();
    assert_eq!(cache.get(&1), Some(99));
    end.send(()).unwrap();
    loading.await;
    assert_eq!((cache.get(&1), cache.stats().fills.lost), (Some(99), 1));
}

#[tokio::test]
async fn an_invalidation_during_a_load_discards_what_is_loaded() {
    for all in [false, true] {
        let cache = numbers();
        let (end, load) = held(10);
        let mut loading = Box::pin(cache.get_with(1, load));
        begin(&mut loading).await;
        if all {
            cache.invalidate_all()
        } else {
            cache.invalidate(&1)
        }
        end.send(()).unwrap();
        assert_eq!(loading.await, 10, "its caller gets it");
        assert_eq!(cache.get(&1), None, "a later reader does not");
    }
}

#[tokio::test]
async fn a_load_in_progress_is_not_in_the_cache() {
    // Differs: coming-from-other-caches.md, "Caffeine", "`AsyncCache` holds the future"
    let cache = numbers();
    let (end, load) = held(10);
    let mut loading = Box::pin(cache.get_with(1, load));
    begin(&mut loading).await;
    assert_eq!((cache.get(&1), cache.contains_key(&1), cache.entry_count()), (None, false, 0));
    assert_eq!(cache.stats().fills.running, 1);
    end.send(()).unwrap();
    assert_eq!(loading.await, 10);
    assert_eq!((cache.get(&1), cache.stats().fills.running), (Some(10), 0));
}

#[test]
fn a_quiet_look_up_counts_neither_as_use_nor_in_the_statistics() {
    let cache = at_most(2);
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    assert_eq!(cache.entry(&1).map(|found| *found.value()), Some(1));
    assert_eq!(cache.hits_and_misses(), (0, 0));
    cache.insert(3, 3).unwrap();
    assert_eq!(keys(&cache), [2, 3]);
}

#[test]
fn the_age_and_the_time_left_of_an_entry_can_be_read() {
    let cache = numbers();
    cache.insert_with_ttl(1, 10, HOUR).unwrap();
    cache.insert(2, 20).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    let (timed, untimed) = (cache.entry(&1).unwrap(), cache.entry(&2).unwrap());
    assert!(timed.age() >= Duration::from_millis(2), "{:?}", timed.age());
    assert!(timed.expires_in().is_some_and(|left| left < HOUR));
    assert_eq!((untimed.expires_in(), timed.is_fresh()), (None, true));
}

#[test]
fn the_capacity_is_fixed_while_the_cache_is_open() {
    // Differs: coming-from-other-caches.md, "Shared by several", "the capacity of an open cache can be changed"
    let cache = at_most(2);
    cache.insert_many((0..5).map(|key| (key, key))).unwrap();
    assert_eq!((cache.policy().max_capacity, cache.entry_count()), (Some(2), 2));
}

#[test]
fn no_entry_is_refreshed_behind_a_read() {
    // Differs: coming-from-other-caches.md, "Caffeine", "`refreshAfterWrite`"
    let (cache, calls) = (numbers(), AtomicUsize::new(0));
    let load = || {
        calls.fetch_add(1, Ordering::SeqCst);
        10
    };
    cache.insert_with_ttl(1, 10, Duration::from_millis(1)).unwrap();
    std::thread::sleep(BLINK);
    assert_eq!(cache.get(&1), None, "an expired value is never returned");
    assert_eq!(cache.get_with_blocking(1, load), 10);
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the reader that misses runs the fill");
}

#[test]
fn a_value_stays_although_no_other_reference_to_it_exists() {
    // Differs: coming-from-other-caches.md, "Caffeine", "`weakKeys`"
    let cache: Cache<String, Vec<u8>> = local().open().unwrap();
    cache.insert("key".to_owned(), vec![1; 1_000]).unwrap();
    cache.run_pending_tasks();
    assert_eq!(cache.get("key").map(|value| value.len()), Some(1_000));
}

#[test]
fn a_change_of_a_returned_value_does_not_reach_the_cache() {
    // Differs: coming-from-other-caches.md, "Shared by several", "a read returns the stored object"
    let cache: Cache<u32, Vec<u8>> = local().open().unwrap();
    cache.insert(1, vec![1]).unwrap();
    let mut copy = cache.get(&1).unwrap();
    copy.push(2);
    assert_eq!(cache.get(&1), Some(vec![1]));
}

#[test]
fn settings_come_from_text_and_a_mistake_is_named() {
    // Differs: coming-from-other-caches.md, "Caffeine", "`CaffeineSpec`"
    let text = r#"{ "max_capacity": 3, "time_to_live": "10m", "eviction": "segmented_lru" }"#;
    let settings: CacheSettings = serde_json::from_str(text).unwrap();
    let cache: Cache<u32, u32> = local().settings(settings).open().unwrap();
    assert_eq!((cache.policy().max_capacity, cache.policy().time_to_live), (Some(3), Some(Duration::from_secs(600))));
    let mistake = serde_json::from_str::<CacheSettings>(r#"{ "maximum_size": 3 }"#).unwrap_err().to_string();
    assert!(mistake.contains("maximum_size"), "{mistake}");
}

#[test]
fn an_entry_that_is_written_during_iteration_breaks_nothing() {
    let cache = numbers();
    cache.insert_many((0..600).map(|key| (key, key))).unwrap();
    for (key, value) in &cache {
        cache.insert(*key, value + 1_000).unwrap();
    }
    assert!((0..600).all(|key| cache.get(&key).is_some_and(|value| value > key)));
    assert_eq!(cache.entry_count(), 600);
}

#[test]
fn equal_values_written_again_are_an_update() {
    let (removals, cache) = Removals::of(local::<u32, u32>());
    cache.insert(1, 10).unwrap();
    cache.insert(1, 10).unwrap();
    removals.are(&[(1, 10, RemovalCause::Replaced)]);
}

#[test]
fn a_removal_on_one_node_calls_the_listener_of_another() {
    let name = fresh_name();
    let one: Cache<u32, u32> = pair()[0].cache(&name).open().unwrap();
    let (removals, two) = Removals::of(pair()[1].cache(&name));
    one.insert(1, 10).unwrap();
    arrives(&two, &1, &Some(10));
    one.invalidate(&1);
    removals.are(&[(1, 10, RemovalCause::Explicit)]);
}
