//! Tests of fills that have to move clocks. `tests/fills.rs` has the tests that run on real nodes.

use std::sync::mpsc;
use std::time::Duration;

use super::ACTS;
use crate::cache::testing::{Cluster, RUNTIME, alone};
use crate::{Cache, Filled};

/// A fill that has begun, and ends when the test sends its value.
struct SlowFill {
    end: mpsc::Sender<u32>,
    thread: std::thread::JoinHandle<u32>,
}

fn begin(cache: &Cache<u32, u32>, key: u32) -> SlowFill {
    let (end, told) = mpsc::channel();
    let (started, running) = mpsc::channel();
    let cache = cache.clone();
    let thread = std::thread::spawn(move || {
        cache.get_with_blocking(key, || {
            started.send(()).unwrap();
            told.recv().unwrap()
        })
    });
    running.recv().unwrap();
    SlowFill { end, thread }
}

impl SlowFill {
    fn end(self, value: u32) -> u32 {
        self.end.send(value).unwrap();
        self.thread.join().unwrap()
    }
}

#[test]
fn a_local_write_delete_or_invalidation_beats_a_running_fill() {
    // scenario 55, scenario 57: a change of the key on the same node, while the filler runs.
    for (what, act, expected) in ACTS {
        let (cache, _) = alone::<u32, u32>(|it| it);
        let fill = begin(&cache, 1);
        act(&cache);
        assert_eq!(fill.end(1), 1, "{what}: its caller gets the value");
        assert_eq!(cache.get(&1), expected, "{what}");
        assert_eq!(cache.stats().fills.lost, 1, "{what}");
        if expected.is_none() {
            assert_eq!(cache.get_with_blocking(1, || 3), 3);
            assert_eq!(cache.get(&1), Some(3), "{what}: later fills work");
        }
    }
}

#[test]
fn a_remote_write_delete_or_invalidation_beats_a_fill_that_began_before_it() {
    // scenario 56: a change on another node, also if its clock is behind or ahead within the drift bound.
    for (what, act, expected) in ACTS {
        for skew in [0, -900, 900] {
            for before_the_end in [true, false] {
                let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
                cluster.clocks[1].skew(skew);
                let case = format!("{what}, clock {skew} ms, arrives before the end: {before_the_end}");
                let fill = begin(&cluster.caches[0], 1);
                cluster.clocks.iter().for_each(|clock| clock.advance(Duration::from_millis(5)));
                act(&cluster.caches[1]);
                if before_the_end {
                    cluster.exchange();
                    cluster.advance(Duration::from_secs(2));
                }
                assert_eq!(fill.end(1), 1, "{case}");
                cluster.advance(Duration::from_secs(3));
                for cache in &cluster.caches {
                    assert_eq!(cache.get(&1), expected, "{case}");
                }
                let next = cluster.caches[0].get_with_blocking(1, || 3);
                cluster.exchange();
                assert_eq!(cluster.caches[1].get(&1), Some(next), "{case}: later fills work and travel");
            }
        }
    }
}

#[test]
fn a_delete_that_all_replicas_have_forgotten_still_wins_against_a_fill_from_before_it() {
    // scenario 61: past `fill_hold` the running fill no longer holds back collection, and the floor decides.
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
    let fill = begin(&cluster.caches[0], 1);
    cluster.advance(Duration::from_secs(1));
    cluster.caches[1].remove(&1);
    cluster.advance(Duration::from_secs(25));
    assert_eq!(cluster.caches[1].stats().tombstones, 1, "a running fill holds collection back");
    cluster.advance(Duration::from_secs(30));
    assert_eq!(cluster.caches[1].stats().tombstones, 0, "but not for ever");
    assert_eq!(fill.end(1), 1);
    cluster.advance(Duration::from_secs(3));
    assert_eq!((cluster.caches[0].get(&1), cluster.caches[1].get(&1)), (None, None));
    assert_eq!(cluster.caches[0].stats().fills.lost, 1);
}

#[test]
fn a_filled_value_expires_counted_from_the_end_of_its_fill() {
    let (cache, clock) = alone::<u32, u32>(|it| it.time_to_live(Duration::from_secs(10)));
    let fill = begin(&cache, 1);
    clock.advance(Duration::from_secs(8));
    fill.end(1);
    clock.advance(Duration::from_secs(9));
    assert_eq!(cache.get(&1), Some(1));
    clock.advance(Duration::from_secs(1));
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.get_with_blocking(1, || 2), 2, "an expired value is a miss");
    let forever = cache.fill_with_blocking(2, || Ok::<_, std::fmt::Error>(Filled::new(5).forever()));
    assert_eq!(forever.unwrap(), 5);
    clock.advance(Duration::from_secs(1_000_000));
    assert_eq!(cache.get(&2), Some(5));
}

/// Checks that a filler may fail with any type, and that its callers get the error itself.
#[test]
fn a_filler_may_fail_with_anything_that_can_be_shared() {
    type Boxed = Box<dyn std::error::Error + Send + Sync>;

    #[derive(PartialEq, Eq)]
    struct Plain(u32); // Not even `Debug`.

    let (cache, _) = alone::<u32, u32>(|it| it);
    let text = cache.try_get_with_blocking(1, || Err::<u32, _>("no row".to_owned())).unwrap_err();
    assert_eq!(text.error().unwrap(), "no row");
    let plain = cache.fill_with_blocking(1, || Err(Plain(7))).err().unwrap();
    assert!(plain.error() == Some(&Plain(7)) && plain.clone().error() == Some(&Plain(7)));
    assert_eq!(plain.to_string(), "the filler failed");
    let boxed = RUNTIME.block_on(cache.try_get_with(1, || async { Err::<u32, Boxed>("no row".into()) })).unwrap_err();
    assert_eq!(boxed.error().unwrap().to_string(), "no row");
    let by_ref = RUNTIME.block_on(cache.try_get_with_by_ref(&1, || async { Err::<u32, _>(Plain(8)) }));
    assert!(by_ref.is_err_and(|error| error.error() == Some(&Plain(8))));
    let panicked =
        cache.try_get_with_by_ref_blocking(&1, || -> Result<u32, Plain> { panic!("no luck") }).err().unwrap();
    assert!(panicked.error().is_none() && panicked.to_string().contains("no luck"));
    // An error that is one is the source.
    let error = cache.try_get_with_blocking(1, || Err::<u32, _>(std::io::Error::other("no disk"))).unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no disk");
    assert_eq!(cache.stats().fills.failed, 5);
    assert_eq!(cache.get_with_blocking(1, || 2), 2);
}

#[test]
fn a_value_that_is_too_large_is_returned_and_not_cached() {
    let (cache, _) = alone::<u32, String>(|it| it.max_value_bytes(10));
    assert_eq!(cache.get_with_blocking(1, || "x".repeat(100)).len(), 100);
    assert!(!cache.contains_key(&1));
    assert_eq!(cache.stats().fills.refused, 1);
}

#[test]
fn a_runtime_that_ends_tells_those_who_wait() {
    let (cache, _) = alone::<u32, u32>(|it| it);
    let waiter = {
        let cache = cache.clone();
        std::thread::spawn(move || {
            let filler = || async { Err::<u32, _>(std::fmt::Error) };
            std::thread::sleep(Duration::from_millis(50));
            RUNTIME.block_on(cache.try_get_with(1, filler))
        })
    };
    // A flight whose task is dropped before the flight ends.
    let flight = match crate::cache::fill_join::lead_for_test(&cache.shared, &1) {
        Some(flight) => flight,
        None => panic!("the key already has a flight"),
    };
    std::thread::sleep(Duration::from_millis(100));
    let work: crate::cache::work::Work<u32, u32> = Box::pin(std::future::pending());
    drop(crate::cache::fill_task::FillTask::new(&cache.shared, &flight, None).with_work(work));
    assert!(matches!(waiter.join().unwrap(), Err(crate::FillError::Abandoned)));
    assert_eq!(cache.get_with_blocking(1, || 2), 2);
}

#[test]
fn a_fill_of_a_closed_cache_keeps_nothing_alive() {
    let (cache, _) = alone::<u32, u32>(|it| it);
    let shared = std::sync::Arc::downgrade(&cache.shared);
    let (started, running) = mpsc::channel();
    let filler = move || async move {
        started.send(()).unwrap();
        std::future::pending::<u32>().await
    };
    let caller = RUNTIME.spawn({
        let cache = cache.clone();
        async move { cache.get_with(1, filler).await }
    });
    running.recv().unwrap();
    caller.abort();
    drop(cache);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while shared.strong_count() > 0 {
        assert!(std::time::Instant::now() < deadline, "a filler that never ends keeps the cache");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn after_an_invalidation_every_key_can_be_filled_at_once() {
    // scenario 57: fills of different keys may all begin just above the epoch of the invalidation.
    let (cache, _) = alone::<u32, u32>(|it| it);
    cache.invalidate_all();
    for key in 0..1_000 {
        assert_eq!(cache.get_with_blocking(key, || key), key);
        assert_eq!(cache.get(&key), Some(key), "cached, though all begin above one epoch");
    }
    assert_eq!(cache.stats().fills.lost, 0);
}

#[test]
fn a_fill_for_which_there_is_no_stamp_is_shared_all_the_same() {
    let (cache, clock) = alone::<u32, u32>(|it| it);
    cache.invalidate_all();
    while cache.stats().fills.lost == 0 {
        // Each fill takes a stamp just above the epoch and stores nothing, until no such stamp is left for the key.
        cache.insert(1, 0).unwrap();
        cache.remove(&1);
        for _ in 0..20 {
            let uncached = cache.fill_with_blocking(1, || Ok::<_, std::fmt::Error>(Filled::uncached(1)));
            assert_eq!(uncached.unwrap(), 1);
        }
        assert_eq!(cache.get_with_blocking(1, || 1), 1);
    }
    let fill = begin(&cache, 1);
    let joins = || {
        let cache = cache.clone();
        std::thread::spawn(move || cache.get_with_blocking(1, || 8))
    };
    let waiters: Vec<_> = (0..10).map(|_| joins()).collect();
    std::thread::sleep(Duration::from_millis(50));
    cache.invalidate_all();
    assert_eq!(joins().join().unwrap(), 8, "a caller after an invalidation starts a new fill");
    assert_eq!(fill.end(7), 7);
    assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap() == 7));
    clock.advance(Duration::from_secs(2));
    assert_eq!(cache.get_with_blocking(1, || 9), 8);
}

#[test]
fn a_fill_older_than_its_bound_is_not_joined() {
    let (cache, clock) = alone::<u32, u32>(|it| it);
    let slow = begin(&cache, 1);
    clock.advance(Duration::from_secs(31));
    assert_eq!(cache.get_with_blocking(1, || 2), 2);
    assert_eq!(RUNTIME.block_on(cache.get_with(1, || async { 3 })), 2, "it is cached");
    assert_eq!(slow.end(1), 1, "its own caller gets its value");
    assert_eq!((cache.get(&1), cache.stats().fills.running), (Some(2), 0));
}
