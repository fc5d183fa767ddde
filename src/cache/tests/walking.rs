//! Iteration while entries change, and removals by a predicate or by a stamp.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cache::TimeSource as _;
use crate::cache::testing::{Cluster, alone};
use crate::{ChangeKind, RemovalCause};

#[test]
fn iteration_returns_nothing_older_than_what_was_read_before() {
    let (cache, clock) = alone::<u32, u32>(|it| it);
    let keys = 0..199;
    cache.insert_many(keys.clone().map(|key| (key, 0))).unwrap();
    let (mut round, mut seen) = (0, BTreeSet::new());
    let mut walk = cache.iter();
    loop {
        round += 1;
        cache.insert_many(keys.clone().map(|key| (key, round))).unwrap();
        let Some((key, value)) = walk.next() else { break };
        assert_eq!(value, round, "a get before it returned {round}");
        assert!(seen.insert(*key), "{key} comes twice");
    }
    assert_eq!(seen.len(), keys.len(), "every key is there throughout");

    // What a reader no longer finds is not returned either: deleted, expired, or invalidated.
    let (mut walk, mut seen) = (cache.iter(), BTreeSet::new());
    seen.insert(*walk.next().unwrap().0);
    let mut rest = keys.clone().filter(|key| !seen.contains(key));
    let deleted = rest.next().unwrap();
    let expiring = rest.next().unwrap();
    cache.remove(&deleted);
    cache.insert_with_ttl(expiring, 1, Duration::from_secs(1)).unwrap();
    clock.advance(Duration::from_secs(1));
    seen.extend((0..50).map(|_| *walk.next().unwrap().0));
    assert!(!seen.contains(&deleted) && !seen.contains(&expiring));
    cache.invalidate_all();
    assert!(walk.next().is_none());
}

#[test]
fn iteration_returns_no_key_twice_and_all_that_stay_while_others_come_and_go() {
    let (cache, _) = alone::<u32, u32>(|it| it.max_capacity(2_000));
    let stay = 0..500;
    cache.insert_many((0..2_000).map(|key| (key, key))).unwrap();
    let (mut seen, mut fresh) = (BTreeSet::new(), 10_000);
    for (key, value) in &cache {
        assert_eq!(*key, value);
        assert!(seen.insert(*key), "{key} comes twice");
        stay.clone().for_each(|key| _ = cache.get(&key));
        // Each round evicts some keys that were returned already. They come back in other places.
        cache.insert_many((0..20).map(|n| (fresh + n, fresh + n))).unwrap();
        fresh += 20;
        if !cache.contains_key(&*key) {
            cache.insert(*key, value).unwrap();
        }
        let earlier: Vec<_> = seen.iter().copied().filter(|key| !cache.contains_key(key)).take(5).collect();
        cache.insert_many(earlier.into_iter().map(|key| (key, key))).unwrap();
    }
    assert!(stay.clone().all(|key| seen.contains(&key)), "a key that stayed was not returned");
}

#[test]
fn what_a_predicate_accepts_is_deleted_on_every_node() {
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
    let [a, b] = [&cluster.caches[0], &cluster.caches[1]];
    a.insert_many((0..1_000).map(|key| (key, key % 10))).unwrap();
    cluster.exchange();
    assert_eq!(b.remove_if(|_, value| *value == 3), 100);
    assert_eq!(b.remove_if(|_, value| *value == 3), 0);
    assert_eq!(b.retain(|key, _| *key < 500), 450);
    cluster.exchange();
    for cache in [a, b] {
        assert_eq!(cache.entry_count(), 450);
        assert!(cache.iter().all(|(key, value)| *key < 500 && value != 3));
    }
    assert_eq!(b.stats().removals.explicit, 550);
    assert_eq!(b.last_written().unwrap().stamp.replica, b.replica_id(), "each is a delete of this node");
}

#[test]
fn what_was_written_after_the_predicate_looked_stays() {
    let (cache, clock) = alone::<u32, u32>(|it| it);
    cache.insert_many((0..100).map(|key| (key, 1))).unwrap();
    // The predicate may call the cache: no lock is held. Of each key it writes a new value, which it never accepted.
    let removed = cache.remove_if(|key, value| {
        if *key % 2 == 0 {
            cache.insert(*key, 2).unwrap();
        }
        *value == 1
    });
    assert_eq!((removed, cache.entry_count()), (50, 50));
    assert!(cache.iter().all(|(key, value)| *key % 2 == 0 && value == 2));
    // A value that expires meanwhile is not counted, and its removal is reported as an expiry.
    let mut changes = cache.subscribe();
    cache.insert_with_ttl(1, 1, Duration::from_secs(1)).unwrap();
    let late = |key: &u32, _: &u32| {
        if *key == 1 {
            clock.advance(Duration::from_secs(1));
        }
        *key == 1
    };
    assert_eq!(cache.remove_if(late), 0);
    cache.run_pending_tasks();
    let kinds: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).map(|event| event.kind()).collect();
    assert_eq!(kinds, [ChangeKind::Inserted, ChangeKind::Removed(RemovalCause::Expired)]);
}

#[test]
fn a_predicate_that_panics_leaves_the_cache_usable() {
    let (cache, _) = alone::<u32, u32>(|it| it);
    cache.insert_many((0..1_000).map(|key| (key, key))).unwrap();
    let mut calls = 0;
    let removing = std::panic::AssertUnwindSafe(|| {
        cache.remove_if(|_, _| {
            calls += 1;
            assert!(calls < 500, "a predicate that panics");
            true
        })
    });
    assert!(std::panic::catch_unwind(removing).is_err());
    let left = usize::try_from(cache.entry_count()).unwrap();
    assert_eq!(left, cache.iter().count());
    assert!((501..1_000).contains(&left), "{left}: no key is deleted that the predicate did not accept");
    assert_eq!(cache.remove_if(|_, _| true), left);
}

#[test]
fn a_removal_by_stamp_spares_every_other_value() {
    let cluster = Cluster::<String, u32>::new(2, |_, it| it);
    let [a, b] = [&cluster.caches[0], &cluster.caches[1]];
    let first = a.insert("key".into(), 1).unwrap().stamp;
    let second = a.insert("key".into(), 2).unwrap().stamp;
    cluster.exchange();
    assert_eq!((b.remove_if_stamp("key", first), b.remove_if_stamp("none", second)), (None, None));
    assert_eq!(b.last_written(), None, "neither is a delete");
    assert_eq!(b.remove_if_stamp("key", second), Some(2));
    assert_eq!(b.remove_if_stamp("key", second), None);
    cluster.exchange();
    assert_eq!((a.get("key"), b.get("key")), (None, None));

    let third = a.insert_with_ttl("key".into(), 3, Duration::from_secs(1)).unwrap().stamp;
    cluster.clocks[0].advance(Duration::from_secs(1));
    assert_eq!(a.remove_if_stamp("key", third), None, "it has expired");
}

#[test]
fn pages_return_every_key_that_stays_and_none_twice() {
    let (cache, clock) = alone::<u32, u32>(|it| it);
    cache.insert_many((0..1_000).map(|key| (key, key))).unwrap();
    (500..1_000).for_each(|key| _ = cache.remove(&key));
    cache.insert_with_ttl(0, 0, Duration::from_secs(1)).unwrap();
    clock.advance(Duration::from_secs(1));
    let (mut seen, mut cursor, mut pages) = (BTreeSet::new(), Some(0), 0);
    while let Some(from) = cursor {
        let page = cache.pages().scan(from, 7);
        assert!(page.entries.len() <= 7);
        for (key, value) in page.entries {
            assert_eq!(*key, value);
            assert!(seen.insert(*key), "{key} comes twice");
        }
        // Keys that come meanwhile do not move those that stay.
        cache.insert(10_000 + pages, 10_000 + pages).unwrap();
        pages += 1;
        cursor = page.next;
    }
    assert!((1..500).all(|key| seen.contains(&key)), "a key that stayed was not returned");
    assert!(
        !seen.contains(&0) && (500..1_000).all(|key| !seen.contains(&key)),
        "deleted and expired keys are not here"
    );
    assert!(pages > 100, "a page is not everything: {pages}");
    // No number is a mistake, and a limit of 0 makes progress.
    assert!(cache.pages().scan(u64::MAX, 10).next.is_none());
    assert!(cache.pages().scan(0, 0).next.is_some_and(|next| next != 0));
}

#[test]
fn samples_come_from_all_over_and_are_empty_only_if_the_cache_is() {
    let (cache, clock) = alone::<u32, u32>(|it| it);
    assert!(cache.pages().sample(7, 5).is_empty());
    cache.insert(1, 1).unwrap();
    // Scattered, so that any seed of the test reaches many places.
    let numbers = || (0..2_000u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    assert!(
        numbers().all(|number| *cache.pages().sample(number, 1)[0].0 == 1),
        "the only key is found from everywhere"
    );
    cache.insert_many((0..200).map(|key| (key, key))).unwrap();
    let seen: BTreeSet<_> = numbers().map(|number| *cache.pages().sample(number, 1)[0].0).collect();
    assert!(seen.len() > 150, "{} of 200 keys", seen.len());
    cache.insert_with_ttl(7, 7, Duration::from_secs(1)).unwrap();
    cache.retain(|key, _| *key == 7);
    assert_eq!(cache.stats().expiring, 1);
    clock.advance(Duration::from_secs(1));
    assert!(cache.pages().sample(7, 5).is_empty(), "an expired value is not here");
    cache.run_pending_tasks();
    assert_eq!(cache.stats().expiring, 0);
}

#[test]
fn a_deadline_is_the_time_that_its_writer_set() {
    let (cache, clock) = alone::<u32, u32>(|it| it);
    cache.insert_with_ttl(1, 1, Duration::from_secs(60)).unwrap();
    let set = Duration::from_nanos(clock.wall()) + Duration::from_secs(60);
    clock.advance(Duration::from_secs(20));
    assert_eq!(cache.entry(&1).unwrap().expires_at(), Some(set), "however late it is read");
    cache.insert(1, 2).unwrap();
    assert_eq!(cache.entry(&1).unwrap().expires_at(), None);
}
