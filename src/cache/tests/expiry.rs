//! Tests of expiry: by absolute deadlines, and by each node's own clock.

use std::time::Duration;

use crate::cache::testing::{Cluster, alone};
use crate::{ChangeKind, InsertError, RemovalCause, SubscriptionError};

const SECOND: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);

#[test]
fn a_slow_clock_reads_no_longer_than_its_skew_and_nothing_comes_back() {
    // scenario 45: on a node whose clock is 500 ms behind, a value lives longer by at most the skew, and never returns.
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
    cluster.clocks[1].skew(-500);
    let (fast, slow) = (&cluster.caches[0], &cluster.caches[1]);
    fast.insert_with_ttl(1, 1, SECOND).unwrap();
    cluster.advance(Duration::from_millis(950));
    assert_eq!((fast.get(&1), slow.get(&1)), (Some(1), Some(1)));
    cluster.advance(STEP);
    assert_eq!((fast.get(&1), slow.get(&1)), (None, Some(1)), "staleness is bounded by the skew");
    cluster.advance(Duration::from_millis(500));
    for _ in 0..60 {
        assert_eq!((fast.get(&1), slow.get(&1)), (None, None));
        cluster.advance(SECOND);
    }
}

#[test]
fn a_refresh_wins_over_the_expiry_of_what_it_refreshed() {
    // scenario 46: the refresh arrives on a node that has already made an `Expired` tombstone of the old value.
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
    cluster.clocks[1].skew(200);
    let (a, b) = (&cluster.caches[0], &cluster.caches[1]);
    a.insert_with_ttl(1, 1, SECOND).unwrap();
    cluster.advance(Duration::from_millis(850));
    a.insert_with_ttl(1, 2, 10 * SECOND).unwrap();
    let refresh = cluster.take(0);
    cluster.tick(1, STEP);
    b.run_pending_tasks();
    assert_eq!(b.get(&1), None, "expired here before the refresh came");
    cluster.deliver(&refresh);
    assert_eq!(b.get(&1), Some(2));
    cluster.advance(5 * SECOND);
    assert_eq!((a.get(&1), b.get(&1)), (Some(2), Some(2)));
}

#[test]
fn no_time_to_live_is_expired_or_eternal_by_accident() {
    // scenario 47: the extremes of a time to live: zero, the largest durations, one nanosecond, none.
    let (cache, clock) = alone::<u32, u32>(|it| it);
    assert_eq!(cache.insert_with_ttl(1, 1, Duration::ZERO), Err(InsertError::ZeroTimeToLive));
    assert_eq!(cache.get(&1), None);
    let century = Duration::from_secs(100 * 365 * 86_400);
    for (key, ttl) in [(2, Duration::MAX), (3, Duration::from_secs(u64::MAX)), (4, Duration::from_secs(u64::MAX / 2))] {
        cache.insert_with_ttl(key, key, ttl).unwrap();
        assert_eq!(cache.get(&key), Some(key));
        assert_eq!(cache.entry(&key).unwrap().expires_in(), Some(century), "capped, and said so");
    }
    cache.insert_with_ttl(5, 5, Duration::from_nanos(1)).unwrap();
    assert_eq!(cache.get(&5), Some(5));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(cache.get(&5), None);
    cache.insert(6, 6).unwrap();
    clock.advance(century);
    assert_eq!((cache.get(&2), cache.get(&6)), (None, Some(6)));
}

#[test]
fn the_same_value_with_a_longer_time_to_live_is_a_change() {
    // scenario 48: the second write differs in its deadline only. It replicates, and subscribers see an update.
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
    let (a, b) = (&cluster.caches[0], &cluster.caches[1]);
    a.insert_with_ttl(1, 1, SECOND).unwrap();
    cluster.exchange();
    let mut changes = b.subscribe();
    a.insert_with_ttl(1, 1, 60 * SECOND).unwrap();
    cluster.exchange();
    assert_eq!(changes.try_recv().unwrap().kind(), ChangeKind::Updated);
    cluster.advance(2 * SECOND);
    assert_eq!((a.get(&1), b.get(&1)), (Some(1), Some(1)));
    assert!(b.entry(&1).unwrap().expires_in().unwrap() > 50 * SECOND);
}

#[test]
fn many_keys_that_expire_at_once_block_no_caller() {
    // scenario 49: expiry of many keys takes many short turns under the lock, and sends no message.
    let count = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it.time_to_live(60 * SECOND));
    for start in (0..count).step_by(10_000) {
        cluster.caches[0].insert_many((start..start + 10_000).map(|key| (key, key))).unwrap();
        cluster.exchange();
    }
    let sent = || cluster.caches[0].counters().pushes_out + cluster.caches[0].counters().frames_out;
    let before = sent();
    cluster.clocks.iter().for_each(|clock| clock.advance(61 * SECOND));
    let (mut most, mut turns) = (0, 0);
    let mut left = cluster.caches[0].entry_count();
    while left > 0 {
        cluster.tick(0, Duration::from_millis(1));
        let before = std::mem::replace(&mut left, cluster.caches[0].entry_count());
        most = most.max(before - left);
        turns += 1;
        assert!(turns < count, "expiry goes on");
    }
    assert!(most <= 1_024, "{most} of {count} at once under the lock, in {turns} turns");
    cluster.advance(SECOND);
    assert_eq!(sent(), before, "each replica expires it by its own clock, without a message");
    assert_eq!(cluster.caches[0].stats().removals.expired, u64::from(count));
}

#[test]
fn what_is_overwritten_after_its_time_expired_before() {
    let (told, heard) = std::sync::mpsc::channel();
    let cluster = Cluster::<u32, u32>::new(2, |index, it| {
        let told = told.clone();
        it.eviction_listener(move |key, value, cause| told.send((index, *key, value, cause)).unwrap())
    });
    let [a, b] = [&cluster.caches[0], &cluster.caches[1]];
    let mut changes = [a.subscribe(), b.subscribe()];
    a.insert_with_ttl(1, 1, SECOND).unwrap();
    a.insert_with_ttl(2, 2, SECOND).unwrap();
    a.insert_with_ttl(3, 3, SECOND).unwrap();
    cluster.exchange();
    cluster.clocks.iter().for_each(|clock| clock.advance(2 * SECOND));
    a.insert(1, 10).unwrap();
    assert_eq!(a.remove(&2), None);
    assert_eq!(a.get_with_blocking(3, || 30), 30);
    let parcels = cluster.take(0);
    cluster.deliver(&parcels);
    let expired = RemovalCause::Expired;
    let mut causes: Vec<_> = heard.try_iter().collect();
    causes.sort_by_key(|(index, key, ..)| (*index, *key));
    let all = [0, 1].map(|index| [1, 2, 3].map(|key| (index, key, key, expired)));
    assert_eq!(causes, all.concat());
    for changes in &mut changes {
        let kinds: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).map(|event| event.kind()).collect();
        let [new, gone] = [ChangeKind::Inserted, ChangeKind::Removed(expired)];
        assert_eq!(kinds, [new, new, new, gone, new, gone, gone, new]);
    }
}

#[test]
fn what_arrives_after_its_time_is_never_visible_and_what_arrived_expires() {
    // scenario 50: a push that arrives after the deadline is never visible; a value that arrived before it expires
    // here.
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
    let (a, b) = (&cluster.caches[0], &cluster.caches[1]);
    let mut changes = b.subscribe();
    a.insert_with_ttl(1, 1, SECOND).unwrap();
    let late = cluster.take(0);
    cluster.tick(1, 2 * SECOND);
    cluster.deliver(&late);
    assert_eq!((b.get(&1), b.contains_key(&1), b.iter().count()), (None, false, 0));
    assert_eq!(changes.try_recv().unwrap_err(), SubscriptionError::Empty);
    cluster.tick(0, 2 * SECOND);

    a.insert_with_ttl(2, 2, SECOND).unwrap();
    cluster.exchange();
    assert_eq!(b.get(&2), Some(2));
    (0..30).for_each(|_| cluster.tick(1, STEP));
    assert_eq!(b.entry_count(), 0, "a tombstone here, independently of its writer");
    assert_eq!(changes.try_recv().unwrap().kind(), ChangeKind::Inserted);
    assert_eq!(changes.try_recv().unwrap().kind(), ChangeKind::Removed(RemovalCause::Expired));
}

/// The time of key 1 has ended, and its timer is not due yet: an eviction or invalidation meets it.
#[test]
fn what_has_ended_is_expired_whatever_removes_it() {
    type Act = fn(&crate::Cache<u32, u32>);
    let (size, invalidated) = (RemovalCause::Size, RemovalCause::Invalidated);
    let acts: [(Act, &[(u32, RemovalCause)]); 4] = [
        (|cache| drop(cache.insert(3, 3)), &[]),
        (|cache| (3..5).for_each(|key| drop(cache.insert(key, key))), &[(2, size)]),
        (crate::Cache::invalidate_all, &[(2, invalidated)]),
        (
            |cache| {
                cache.invalidate_all();
                drop((cache.insert(1, 10), cache.insert(2, 20)));
            },
            &[(2, invalidated)],
        ),
    ];
    for (act, others) in acts {
        let (told, heard) = std::sync::mpsc::channel();
        let (cache, clock) = alone::<u32, u32>(|it| {
            it.max_capacity(2).eviction_listener(move |key, _, cause| told.send((*key, cause)).unwrap())
        });
        let mut changes = cache.subscribe();
        cache.insert(2, 2).unwrap();
        cache.insert_with_ttl(1, 1, SECOND + STEP / 4).unwrap();
        clock.advance(SECOND + STEP / 2);
        act(&cache);
        cache.run_pending_tasks();
        let mut causes: Vec<_> = heard.try_iter().collect();
        causes.sort_by_key(|(key, _)| *key);
        let expected: Vec<_> = [(1, RemovalCause::Expired)].into_iter().chain(others.iter().copied()).collect();
        assert_eq!(causes, expected);
        let events: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
        let removed = |kind| events.iter().filter(|event| event.kind() == ChangeKind::Removed(kind)).count();
        assert_eq!(removed(RemovalCause::Expired), 1, "{events:?}");
        assert_eq!(cache.stats().removals.expired, 1);
    }
}

#[test]
fn what_ends_after_an_invalidation_and_before_the_sweep_was_invalidated() {
    let (told, heard) = std::sync::mpsc::channel();
    let (cache, clock) =
        alone::<u32, u32>(|it| it.eviction_listener(move |key, _, cause| told.send((*key, cause)).unwrap()));
    cache.insert_with_ttl(1, 1, SECOND).unwrap();
    cache.invalidate_all();
    cache.insert_with_ttl(2, 2, SECOND).unwrap();
    clock.advance(2 * SECOND);
    cache.invalidate_all();
    cache.run_pending_tasks();
    let mut causes: Vec<_> = heard.try_iter().collect();
    causes.sort_by_key(|(key, _)| *key);
    assert_eq!(causes, [(1, RemovalCause::Invalidated), (2, RemovalCause::Expired)]);
}

/// Of many values that ended, each insert beyond the capacity takes one, and those that live stay.
#[test]
fn values_that_ended_make_room_before_values_that_live() {
    let (cache, clock) = alone::<u32, u32>(|it| it.max_capacity(1_000));
    let put = |keys: std::ops::Range<u32>| {
        for key in keys {
            cache.insert(key, key).unwrap();
        }
    };
    put(0..500);
    // Deadlines of values that were overwritten stay in the index, and stand for no value.
    for key in (500..1_000).chain(500..600) {
        cache.insert_with_ttl(key, key, SECOND).unwrap();
    }
    clock.advance(SECOND + STEP / 2);
    put(1_000..1_500);
    assert!((0..500).all(|key| cache.contains_key(&key)));
    assert_eq!((cache.stats().removals.size, cache.stats().removals.expired), (0, 500));
    cache.insert(1_500, 0).unwrap();
    assert!(!cache.contains_key(&0) && cache.weighted_size() == 1_000);
}

/// Checks that `run_pending_tasks` leaves no value whose deadline has passed, not even for the rest of a timer step.
#[test]
fn pending_tasks_remove_what_has_just_expired() {
    let (cache, clock) = alone::<u32, u32>(|it| it);
    let mut changes = cache.subscribe();
    cache.insert_with_ttl(1, 1, Duration::from_millis(1)).unwrap();
    cache.insert_with_ttl(2, 2, Duration::from_millis(60)).unwrap();
    clock.advance(Duration::from_millis(40));
    cache.run_pending_tasks();
    assert_eq!((cache.entry_count(), cache.get(&2)), (1, Some(2)));
    let removed = std::iter::from_fn(|| changes.try_recv().ok()).filter(|event| event.value().is_none());
    let removed: Vec<_> = removed.map(|event| (*event.key(), event.kind())).collect();
    assert_eq!(removed, [(1, ChangeKind::Removed(RemovalCause::Expired))]);
}

/// A time of the write's own wins over the function, the function over the default. The writer alone calls it, once.
#[test]
fn the_writer_alone_decides_how_long_a_value_lives() {
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let cluster = Cluster::<u32, u32>::new(2, |index, it| {
        let asked = asked.clone();
        it.time_to_live(60 * SECOND).expire_after(move |key, value| {
            asked.lock().unwrap().push((index, *key));
            (*value > 0).then_some(SECOND * *value)
        })
    });
    let [a, b] = [&cluster.caches[0], &cluster.caches[1]];
    a.insert(1, 5).unwrap();
    a.insert(2, 0).unwrap();
    a.insert_with_ttl(3, 5, 7 * SECOND).unwrap();
    a.insert_many([(4, 9)]).unwrap();
    b.get_with_blocking(5, || 11);
    assert!(a.insert_if_absent_local(6, 13).unwrap().is_some());
    let forever = a.insert_if_absent_local_with_ttl(7, 13, None).unwrap().unwrap();
    a.replace_if(7, 14, forever.stamp).unwrap();
    b.fill_with_blocking(8, || Ok::<_, std::convert::Infallible>(crate::Filled::new(15).forever())).unwrap();
    cluster.exchange();
    let left = |key: u32| [a, b].map(|cache| cache.entry(&key).unwrap().expires_in());
    let seconds = |count: u32| [Some(SECOND * count); 2];
    assert_eq!([1, 2, 3, 4, 5, 6].map(left), [5, 60, 7, 9, 11, 13].map(seconds));
    assert_eq!([7, 8].map(left), [[None; 2]; 2]);
    assert_eq!(*asked.lock().unwrap(), [(0, 1), (0, 2), (0, 4), (1, 5), (0, 6)]);
}

#[test]
fn a_function_that_returns_zero_or_panics_refuses_the_write() {
    let (cache, _) = alone::<u32, u32>(|it| {
        it.expire_after(|_, value| if *value == 0 { Some(Duration::ZERO) } else { panic!("no time for {value}") })
    });
    assert_eq!(cache.insert(1, 0), Err(InsertError::ZeroTimeToLive));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.insert(1, 1))).is_err());
    let filled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.get_with_blocking(1, || 1)));
    assert!(filled.is_err(), "the caller of the fill gets the panic");
    assert_eq!((cache.get(&1), cache.get_with_blocking(2, || 0), cache.get(&2)), (None, 0, None));
}

/// With jitter, values that are loaded together expire over a tenth of their time, and each at one moment on all nodes.
#[test]
fn jitter_spreads_expiry_over_time_and_not_over_nodes() {
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it.time_to_live(100 * SECOND).ttl_jitter(0.1));
    let [a, b] = [&cluster.caches[0], &cluster.caches[1]];
    a.insert_many((0..1_000).map(|key| (key, key))).unwrap();
    b.insert_with_ttl(1_000, 0, 50 * SECOND).unwrap();
    cluster.exchange();
    let left = |cache: &crate::Cache<u32, u32>, key| cache.entry(&key).unwrap().expires_in().unwrap();
    for key in 0..1_000 {
        assert_eq!(left(a, key), left(b, key));
        assert!((90 * SECOND..=100 * SECOND).contains(&left(a, key)));
    }
    assert_eq!(left(a, 1_000), 50 * SECOND, "a time of its own is kept exactly");
    let soon = (0..1_000).filter(|key| left(a, *key) < 95 * SECOND).count();
    assert!((400..600).contains(&soon), "{soon} of 1,000 in the first half");
}
