//! Expectations of users of golang-lru 2 (`lru`, `2q`, `expirable`).

use std::time::Duration;

use driftless::{Cache, Eviction, RemovalCause};

use super::support::{Removals, at_most, keys, local, numbers};

const BLINK: Duration = Duration::from_millis(40);

#[test]
fn adding_beyond_the_size_evicts_the_oldest() {
    let (removals, cache) = Removals::of(local::<u32, u32>().max_capacity(128));
    cache.insert_many((0..256).map(|key| (key, key))).unwrap();
    assert_eq!((cache.entry_count(), keys(&cache)), (128, (128..256).collect()));
    let expected: Vec<_> = (0..128).map(|key| (key, key, RemovalCause::Size)).collect();
    removals.are(&expected);
}

#[test]
fn a_size_of_zero_is_no_error() {
    // Differs: coming-from-other-caches.md, "Shared by several", "a capacity of zero"
    let cache: Cache<u32, u32> = local().max_capacity(0).open().unwrap();
    cache.insert(1, 10).unwrap();
    assert_eq!(cache.get(&1), None);
}

#[test]
fn an_eviction_shows_in_the_listener_and_not_in_the_result_of_a_write() {
    // Differs: coming-from-other-caches.md, "golang-lru", "`Add` returns true"
    let (removals, cache) = Removals::of(local::<u32, u32>().max_capacity(1));
    assert!(cache.insert(1, 10).is_ok());
    assert!(cache.insert(2, 20).is_ok());
    removals.are(&[(1, 10, RemovalCause::Size)]);
    assert_eq!(cache.stats().removals.size, 1);
}

#[test]
fn an_overwrite_calls_the_callback() {
    // Differs: coming-from-other-caches.md, "golang-lru", "`onEvict` is not called for an overwrite"
    let (removals, cache) = Removals::of(local::<u32, u32>().max_capacity(2));
    cache.insert(1, 10).unwrap();
    cache.insert(1, 11).unwrap();
    removals.are(&[(1, 10, RemovalCause::Replaced)]);
}

#[test]
fn contains_does_not_update_the_recency() {
    let cache = at_most(2);
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    assert!(cache.contains_key(&1));
    cache.insert(3, 3).unwrap();
    assert!(!cache.contains_key(&1));
}

#[test]
fn contains_or_add_does_not_update_the_recency_of_what_it_finds() {
    let cache = at_most(2);
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    assert!(cache.insert_if_absent_local(1, 9).unwrap().is_none());
    cache.insert(3, 3).unwrap();
    assert_eq!(keys(&cache), [2, 3]);
}

#[test]
fn peek_or_add_returns_what_is_there() {
    let cache = at_most(2);
    cache.insert(1, 1).unwrap();
    let peek_or_add = |key, value| {
        let found = cache.entry(&key).map(|found| found.into_value());
        if found.is_none() {
            cache.insert_if_absent_local(key, value).unwrap();
        }
        found
    };
    assert_eq!((peek_or_add(1, 9), peek_or_add(2, 9), peek_or_add(2, 8)), (Some(1), None, Some(9)));
}

#[test]
fn an_overwrite_makes_an_entry_the_newest() {
    let cache = at_most(2);
    cache.insert(1, 1).unwrap();
    cache.insert(2, 2).unwrap();
    cache.insert(1, 11).unwrap();
    cache.insert(3, 3).unwrap();
    assert_eq!(keys(&cache), [1, 3]);
}

#[test]
fn the_reads_that_came_last_decide_what_stays() {
    // Differs: coming-from-other-caches.md, "golang-lru", "the order of use is exact"
    let cache = at_most(1_000);
    cache.insert_many((0..1_000).map(|key| (key, key))).unwrap();
    assert!((0..1_000).rev().all(|key| cache.get(&key).is_some()));
    cache.insert_many((1_000..1_400).map(|key| (key, key))).unwrap();
    assert!((0..500).all(|key| cache.contains_key(&key)));
}

#[test]
fn remove_tells_if_the_key_was_there() {
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    assert_eq!((cache.remove(&1).is_some(), cache.remove(&1).is_some()), (true, false));
}

#[test]
fn the_oldest_entry_cannot_be_asked_for() {
    // Differs: coming-from-other-caches.md, "Shared by several", "keys in the order of their use"
    let (removals, cache) = Removals::of(local::<u32, u32>().max_capacity(3));
    cache.insert_many((0..3).map(|key| (key, key))).unwrap();
    assert_eq!(keys(&cache), [0, 1, 2], "sorted by the test: the iterator has no order");
    cache.insert(3, 3).unwrap();
    removals.are(&[(0, 0, RemovalCause::Size)]);
}

#[test]
fn purge_empties_the_cache_and_calls_the_callback_for_each_entry() {
    let (removals, cache) = Removals::of(local::<u32, u32>().max_capacity(10));
    cache.insert_many((0..5).map(|key| (key, key))).unwrap();
    cache.invalidate_all();
    cache.run_pending_tasks();
    assert_eq!(cache.entry_count(), 0);
    super::support::eventually("callbacks", || removals.now().len(), |seen| *seen == 5);
    assert!(removals.now().iter().all(|(_, _, cause)| *cause == RemovalCause::Invalidated));
}

#[test]
fn an_entry_used_twice_outlives_a_stream_of_new_ones() {
    let cache: Cache<u32, u32> = local().max_capacity(10).eviction(Eviction::SegmentedLru).open().unwrap();
    cache.insert_many((0..10).map(|key| (key, key))).unwrap();
    assert_eq!(cache.get(&1), Some(1));
    cache.insert_many((100..200).map(|key| (key, key))).unwrap();
    assert_eq!(cache.get(&1), Some(1));
}

#[test]
fn the_policies_are_lru_segmented_lru_and_sieve() {
    // Differs: coming-from-other-caches.md, "Shared by several", "eviction policies"
    let names =
        [Eviction::Lru, Eviction::SegmentedLru, Eviction::Sieve].map(|policy| serde_json::to_string(&policy).unwrap());
    assert_eq!(names, ["\"lru\"", "\"segmented_lru\"", "\"sieve\""]);
    assert!(serde_json::from_str::<Eviction>("\"arc\"").is_err());
}

#[test]
fn a_size_can_be_left_out() {
    // Differs: coming-from-other-caches.md, "golang-lru", "a size of 0 in `expirable`"
    let cache: Cache<u32, u32> = local().time_to_live(Duration::from_secs(60)).open().unwrap();
    cache.insert_many((0..1_000).map(|key| (key, key))).unwrap();
    assert_eq!((cache.entry_count(), cache.policy().max_capacity), (1_000, None));
}

#[test]
fn a_time_to_live_of_zero_does_not_mean_for_ever() {
    // Differs: coming-from-other-caches.md, "Shared by several", "a time to live of zero"
    assert!(local::<u32, u32>().time_to_live(Duration::ZERO).open().is_err());
    assert_eq!(numbers().policy().time_to_live, None, "left out, it means for ever");
}

#[test]
fn an_expired_entry_is_absent_for_get_peek_and_contains() {
    let cache: Cache<u32, u32> = local().time_to_live(BLINK).max_capacity(10).open().unwrap();
    cache.insert(1, 10).unwrap();
    std::thread::sleep(BLINK);
    assert!(cache.get(&1).is_none() && cache.entry(&1).is_none() && !cache.contains_key(&1));
    assert!(keys(&cache).is_empty());
}

#[test]
fn adding_an_expired_key_again_revives_it() {
    let cache = numbers();
    cache.insert_with_ttl(1, 10, Duration::from_millis(1)).unwrap();
    std::thread::sleep(BLINK);
    cache.insert(1, 11).unwrap();
    assert_eq!((cache.get(&1), cache.entry_count()), (Some(11), 1));
}

#[test]
fn many_routines_add_the_same_keys_and_the_length_is_exact() {
    let cache = numbers();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let cache = &cache;
            scope.spawn(move || assert!((0..100).all(|key| cache.insert(key, thread).is_ok())));
        }
    });
    assert_eq!(cache.entry_count(), 100);
}

#[test]
fn a_zero_value_is_a_value() {
    let cache: Cache<u32, String> = local().open().unwrap();
    cache.insert(1, String::new()).unwrap();
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(String::new()), None));
}
