//! Expectations of users of Hazelcast's `ReplicatedMap`.

use std::time::Duration;

use driftless::{Cache, ChangeEvent, ChangeKind, Members, Ready, RemovalCause, Subscription, SubscriptionError};

use super::support::{SOON, arrives, both, eventually, fresh_name, keys, local, numbers, pair};

const BLINK: Duration = Duration::from_millis(40);

/// Reads the next event.
fn next(changes: &mut Subscription<u32, u32>) -> ChangeEvent<u32, u32> {
    changes.recv_timeout(SOON).unwrap()
}

#[test]
fn what_one_member_puts_every_member_gets() {
    let [one, two] = both::<u32, u32>();
    for key in 0..100 {
        one.insert(key, key).unwrap();
    }
    eventually("puts", || two.entry_count(), |seen| *seen == 100);
    for key in 0..100 {
        two.insert(key, key + 1_000).unwrap();
    }
    eventually("updates", || one.iter().all(|(_, value)| value >= 1_000), |seen| *seen);
}

#[test]
fn a_member_reads_its_own_writes_at_once() {
    let [one, _two] = both::<u32, u32>();
    for round in 0..500 {
        one.insert(round % 10, round).unwrap();
        assert_eq!(one.get(&(round % 10)), Some(round));
        one.remove(&(round % 10));
        assert_eq!(one.get(&(round % 10)), None);
    }
}

#[test]
fn remove_returns_the_value_and_is_replicated() {
    let [one, two] = both::<u32, u32>();
    one.insert(1, 10).unwrap();
    arrives(&two, &1, &Some(10));
    assert_eq!((two.remove(&1), two.remove(&1)), (Some(10), None));
    arrives(&one, &1, &None);
}

#[test]
fn clear_empties_every_member() {
    let [one, two] = both::<u32, u32>();
    one.insert_many((0..50).map(|key| (key, key))).unwrap();
    eventually("all", || two.entry_count(), |seen| *seen == 50);
    two.invalidate_all();
    for cache in [&one, &two] {
        eventually("empty", || cache.entry_count(), |seen| *seen == 0);
    }
}

#[test]
fn contains_value_is_an_iteration() {
    // Differs: coming-from-other-caches.md, "Shared by several", "queries, predicates and prefixes"
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    assert!(cache.iter().any(|(_, value)| value == 10) && !cache.iter().any(|(_, value)| value == 11));
}

#[test]
fn an_entry_expires_on_every_member() {
    let [one, two] = both::<u32, u32>();
    one.insert_with_ttl(1, 10, Duration::from_millis(200)).unwrap();
    arrives(&one, &1, &None);
    arrives(&two, &1, &None);
    eventually("the sweep", || (one.entry_count(), two.entry_count()), |seen| *seen == (0, 0));
}

#[test]
fn a_time_to_live_of_zero_is_refused() {
    // Differs: coming-from-other-caches.md, "Shared by several", "a time to live of zero"
    assert!(numbers().insert_with_ttl(1, 10, Duration::ZERO).is_err());
}

#[test]
fn a_listener_hears_of_additions_updates_and_removals_with_old_and_new_values() {
    let [one, two] = both::<u32, u32>();
    let mut changes = two.subscribe();
    one.insert(1, 10).unwrap();
    let added = next(&mut changes);
    assert_eq!((added.kind(), added.value(), added.previous()), (ChangeKind::Inserted, Some(&10), None));
    one.insert(1, 11).unwrap();
    let updated = next(&mut changes);
    assert_eq!((updated.kind(), updated.value(), updated.previous()), (ChangeKind::Updated, Some(&11), Some(&10)));
    one.remove(&1);
    let removed = next(&mut changes);
    assert_eq!(removed.kind(), ChangeKind::Removed(RemovalCause::Explicit));
    assert_eq!((removed.value(), removed.previous(), removed.is_local()), (None, Some(&11), false));
}

#[test]
fn an_expiry_is_an_event_of_its_own_kind() {
    // Differs: coming-from-other-caches.md, "Hazelcast ReplicatedMap", "an expiry is reported as an eviction"
    let cache = numbers();
    let mut changes = cache.subscribe();
    cache.insert_with_ttl(1, 10, BLINK).unwrap();
    assert_eq!(next(&mut changes).kind(), ChangeKind::Inserted);
    assert_eq!(next(&mut changes).kind(), ChangeKind::Removed(RemovalCause::Expired));
}

#[test]
fn a_clear_is_an_event_for_each_entry() {
    // Differs: coming-from-other-caches.md, "Hazelcast ReplicatedMap", "`mapCleared`"
    let cache = numbers();
    cache.insert_many((0..3).map(|key| (key, key))).unwrap();
    let mut changes = cache.subscribe();
    cache.invalidate_all();
    cache.run_pending_tasks();
    let mut seen: Vec<_> = (0..3).map(|_| next(&mut changes)).map(|event| (*event.key(), event.kind())).collect();
    seen.sort_by_key(|(key, _)| *key);
    assert_eq!(seen, [0, 1, 2].map(|key| (key, ChangeKind::Removed(RemovalCause::Invalidated))));
}

#[test]
fn a_listener_for_one_key_filters_the_stream() {
    // Differs: coming-from-other-caches.md, "Hazelcast ReplicatedMap", "a listener for a key or a predicate"
    let cache = numbers();
    let mut changes = cache.subscribe();
    cache.insert_many((0..10).map(|key| (key, key))).unwrap();
    let all = std::iter::from_fn(|| changes.try_recv().ok());
    assert_eq!(all.filter(|event| *event.key() == 4).count(), 1);
}

#[test]
fn a_listener_that_falls_behind_is_told_how_much_it_lost() {
    let cache: Cache<u32, u32> = local().change_buffer(4).open().unwrap();
    let mut changes = cache.subscribe();
    cache.insert_many((0..10).map(|key| (key, key))).unwrap();
    assert_eq!(changes.try_recv().unwrap_err(), SubscriptionError::Lagged(6));
    assert_eq!(changes.try_recv().map(|event| *event.key()), Ok(6));
}

#[test]
fn a_new_member_is_filled_and_can_wait_for_it() {
    // Differs: coming-from-other-caches.md, "Hazelcast ReplicatedMap", "`asyncFillup`"
    let name = fresh_name();
    let one: Cache<u32, u32> = pair()[0].cache(&name).open().unwrap();
    one.insert_many((0..1_000).map(|key| (key, key))).unwrap();
    let two: Cache<u32, u32> = pair()[1].cache(&name).open().unwrap();
    two.insert(5_000, 1).unwrap();
    assert_eq!(two.get(&5_000), Some(1), "reads and writes work meanwhile");
    assert!(matches!(two.ready_blocking(SOON), Ready::CaughtUp { .. }));
    eventually("the entries", || two.entry_count(), |seen| *seen == 1_001);
}

#[test]
fn of_concurrent_writes_the_later_stamp_wins_on_every_member() {
    // Differs: coming-from-other-caches.md, "Hazelcast ReplicatedMap", "a merge policy"
    let [one, two] = both::<u32, u32>();
    let (a, b) = (one.insert(1, 10).unwrap(), two.insert(1, 20).unwrap());
    let winner = if a > b { 10 } else { 20 };
    arrives(&one, &1, &Some(winner));
    arrives(&two, &1, &Some(winner));
}

#[test]
fn writes_of_one_member_arrive_in_their_order_or_as_the_last() {
    let [one, two] = both::<u32, u32>();
    let mut changes = two.subscribe();
    for value in 0..200 {
        one.insert(1, value).unwrap();
    }
    arrives(&two, &1, &Some(199));
    let values = std::iter::from_fn(|| changes.try_recv().ok()).filter_map(|event| event.value().copied());
    assert!(values.collect::<Vec<_>>().is_sorted());
}

#[test]
fn hits_are_counted_for_the_cache_and_not_for_an_entry() {
    // Differs: coming-from-other-caches.md, "Hazelcast ReplicatedMap", "hits and last access of an entry"
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    assert_eq!((cache.get(&1), cache.get(&1)), (Some(10), Some(10)));
    assert_eq!(cache.stats().hits, 2);
    assert!(cache.entry(&1).unwrap().age() > Duration::ZERO, "an entry has an age, a stamp and a time left");
}

#[test]
fn a_member_that_does_not_open_the_map_holds_nothing_of_it() {
    // Differs: coming-from-other-caches.md, "Hazelcast ReplicatedMap", "a lite member"
    let one: Cache<u32, u32> = pair()[0].cache(&fresh_name()).open().unwrap();
    one.insert(1, 10).unwrap();
    assert!(one.ready_blocking(SOON).is_ready());
    assert_eq!(one.members(), 0);
}

#[test]
fn a_write_that_needs_a_number_of_members_waits_for_them() {
    // Differs: coming-from-other-caches.md, "Hazelcast ReplicatedMap", "split-brain protection"
    let [one, two] = both::<u32, u32>();
    let written = one.insert(1, 10).unwrap();
    assert!(one.wait_replicated_blocking(written, Members::Count(1), SOON).is_ok());
    let few = one.wait_replicated_blocking(written, Members::Count(2), BLINK).unwrap_err();
    assert_eq!((few.seen, two.get(&1)), (vec![two.replica_id()], Some(10)));
}

#[test]
fn a_map_with_a_capacity_evicts_on_each_member_alone() {
    // Differs: coming-from-other-caches.md, "Hazelcast ReplicatedMap", "no eviction by size"
    let name = fresh_name();
    let one: Cache<u32, u32> = pair()[0].cache(&name).max_capacity(10).open().unwrap();
    let two: Cache<u32, u32> = pair()[1].cache(&name).open().unwrap();
    for cache in [&one, &two] {
        assert!(cache.ready_blocking(SOON).is_ready());
        eventually("replicas", || cache.members(), |seen| *seen == 1);
    }
    two.insert_many((0..50).map(|key| (key, key))).unwrap();
    eventually("arrival", || one.get(&49), Option::is_some);
    assert_eq!((one.entry_count(), two.entry_count()), (10, 50));
}

#[test]
fn a_map_is_closed_by_its_last_handle_and_on_this_member_alone() {
    // Differs: coming-from-other-caches.md, "Hazelcast ReplicatedMap", "`destroy`"
    let [one, two] = both::<u32, u32>();
    let written = one.insert(1, 10).unwrap();
    one.wait_replicated_blocking(written, Members::All, SOON).unwrap();
    let mut changes = one.subscribe();
    drop(one);
    eventually("the end of the stream", || changes.try_recv().unwrap_err(), |end| *end == SubscriptionError::Closed);
    assert_eq!((two.get(&1), keys(&two)), (Some(10), vec![1]));
}
