//! Tests of leases: fills whose work the application does itself.

use std::time::Duration;

use super::ACTS;
use crate::cache::testing::{Cluster, alone};
use crate::{Filled, InsertError};

#[test]
fn a_local_write_delete_or_invalidation_beats_a_lease_from_before_it() {
    for (what, act, expected) in ACTS {
        let (cache, _) = alone::<u32, u32>(|it| it);
        let lease = cache.begin_fill(1);
        act(&cache);
        assert_eq!(lease.complete(1), Ok(false), "{what}");
        assert_eq!((cache.get(&1), cache.stats().fills.lost), (expected, 1), "{what}");
        assert_eq!((cache.begin_fill(1).complete(3), cache.get(&1)), (Ok(true), Some(3)), "{what}: later leases work");
    }
}

#[test]
fn a_remote_write_delete_or_invalidation_beats_a_lease_that_began_before_it() {
    for (what, act, expected) in ACTS {
        for skew in [0, -900, 900] {
            for before_the_end in [true, false] {
                let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
                cluster.clocks[1].skew(skew);
                let case = format!("{what}, clock {skew} ms, arrives before the end: {before_the_end}");
                let lease = cluster.caches[0].begin_fill(1);
                cluster.advance(Duration::from_millis(5));
                act(&cluster.caches[1]);
                if before_the_end {
                    cluster.exchange();
                }
                assert_eq!(lease.complete(1), Ok(!before_the_end), "{case}");
                cluster.advance(Duration::from_secs(3));
                for cache in &cluster.caches {
                    assert_eq!(cache.get(&1), expected, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_lease_replaces_a_value_from_before_it_and_loses_to_a_newer_fill() {
    let (cache, clock) = alone::<u32, u32>(|it| it);
    cache.insert(1, 1).unwrap();
    clock.advance(Duration::from_millis(5));
    let refresh = cache.begin_fill(1);
    assert_eq!((refresh.complete(2), cache.get(&1)), (Ok(true), Some(2)));

    clock.advance(Duration::from_millis(5));
    let older = cache.begin_fill(1);
    clock.advance(Duration::from_millis(5));
    let newer = cache.begin_fill(1);
    assert_eq!((newer.complete(4), older.complete(3), cache.get(&1)), (Ok(true), Ok(false), Some(4)));
}

/// Checks that a lease holds back the collection of tombstones until it is dropped, and at most for `fill_hold`.
#[test]
fn a_dropped_lease_holds_nothing_back_and_an_old_one_stores_nothing() {
    for drops in [true, false] {
        let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
        let lease = cluster.caches[0].begin_fill(1);
        cluster.advance(Duration::from_secs(1));
        cluster.caches[1].remove(&1);
        cluster.advance(Duration::from_secs(20));
        assert_eq!(cluster.caches[1].stats().tombstones, 1, "a lease holds collection back");
        if drops {
            drop(lease);
            cluster.advance(Duration::from_secs(8));
            assert_eq!(cluster.caches[1].stats().tombstones, 0, "a dropped lease does not");
            assert_eq!(cluster.caches[0].stats().fills.lost, 0);
        } else {
            cluster.advance(Duration::from_secs(30));
            assert_eq!(cluster.caches[1].stats().tombstones, 0, "nor one older than `fill_hold`");
            assert_eq!(lease.complete(1), Ok(false));
            assert_eq!((cluster.caches[0].get(&1), cluster.caches[0].stats().fills.lost), (None, 1));
        }
    }
}

#[test]
fn the_value_of_a_lease_is_kept_as_it_says_and_refused_as_an_insert() {
    let (cache, clock) = alone::<u32, String>(|it| it.time_to_live(Duration::from_secs(10)).max_value_bytes(64));
    let lease = cache.begin_fill(1);
    clock.advance(Duration::from_secs(8));
    assert_eq!(lease.complete("a".into()), Ok(true));
    let time_left = |key: u32| cache.entry(&key).and_then(|entry| entry.expires_in());
    assert_eq!(time_left(1), Some(Duration::from_secs(10)), "counted from the end of the fill");
    let complete = |key: u32, filled: Filled<&str>| {
        let Filled { value, keep } = filled;
        cache.begin_fill(key).complete_with(Filled { value: value.to_owned(), keep })
    };
    assert_eq!(complete(2, Filled::new("b").ttl(Duration::from_secs(3))), Ok(true));
    assert_eq!(complete(3, Filled::new("c").forever()), Ok(true));
    assert_eq!((time_left(2), time_left(3)), (Some(Duration::from_secs(3)), None));
    assert_eq!(complete(4, Filled::uncached("d")), Ok(false));
    let refused = cache.begin_fill(5).complete("x".repeat(100));
    assert!(matches!(refused, Err(InsertError::ValueTooLarge { limit: 64, .. })), "{refused:?}");
    let fills = cache.stats().fills;
    assert_eq!((fills.filled, fills.uncached, fills.refused, fills.lost), (5, 1, 1, 0));
    assert_eq!((cache.get(&4), cache.get(&5), cache.get(&3)), (None, None, Some("c".into())));
}

/// Checks that a lease keeps its cache open, as a handle does.
#[test]
fn a_lease_is_completed_after_the_last_handle_is_gone() {
    let (cache, _) = alone::<u32, u32>(|it| it);
    let lease = cache.begin_fill(1);
    assert!(format!("{lease:?}").starts_with("FillLease { cache: \"test\", stamp: Some("), "{lease:?}");
    drop(cache);
    assert_eq!(lease.complete(1), Ok(true));
}
