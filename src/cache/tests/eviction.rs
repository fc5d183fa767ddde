//! Tests of eviction: it is local, strict and bounded.

use std::time::Duration;

use crate::cache::TimeSource;
use crate::cache::testing::{Cluster, alone};
use crate::cache::tick::tick;
use crate::{Cache, Eviction, RemovalCause};

fn keys(cache: &Cache<u32, u32>) -> Vec<u32> {
    let mut keys: Vec<_> = cache.iter().map(|(key, _)| *key).collect();
    keys.sort_unstable();
    keys
}

fn put(cache: &Cache<u32, u32>, keys: std::ops::Range<u32>, weight: u32) {
    for key in keys {
        cache.insert(key, weight).unwrap();
    }
}

#[test]
fn the_least_recently_used_goes_first() {
    let (cache, _) = alone::<u32, u32>(|it| it.max_capacity(3));
    for key in 0..3 {
        cache.insert(key, key).unwrap();
    }
    assert_eq!(cache.get(&0), Some(0));
    cache.insert(3, 3).unwrap();
    assert_eq!(keys(&cache), [0, 2, 3]);
    cache.insert(2, 22).unwrap();
    cache.insert(4, 4).unwrap();
    assert_eq!(keys(&cache), [2, 3, 4], "a write is a use");
}

/// Writes are direct until the cache is nearly full. Walks take no lock, so they would return what waits to be evicted.
#[test]
fn direct_writes_do_not_pass_the_capacity() {
    let (cache, _) = alone::<u32, u32>(|it| it.max_capacity(2_048));
    for key in 0..6_000 {
        cache.insert(key, key).unwrap();
        if key % 16 == 0 {
            assert!(cache.iter().count() <= 2_048, "after {key}");
        }
    }
    assert_eq!(keys(&cache), (3_952..6_000).collect::<Vec<_>>());
}

/// A cache with a capacity writes directly while it has room, not once it is nearly full, and again once it has room. A
/// read of a value whose write was not absorbed counts as a use.
#[test]
fn writes_are_direct_while_there_is_room() {
    let (cache, _) = alone::<u32, u32>(|it| it.max_capacity(2_048).eviction(crate::Eviction::SegmentedLru));
    let write = |keys: std::ops::Range<u32>| -> Vec<usize> {
        let waiting = |key| {
            cache.insert(key, key).unwrap();
            cache.shared.writer.waiting()
        };
        keys.map(waiting).collect()
    };
    // The first write asks for a stripe, the next call opens it. A budget of four notes is absorbed by the fourth.
    let first = write(0..1_000);
    assert_eq!(first[..7], [0, 1, 2, 3, 0, 1, 2]);
    assert_eq!(first.iter().filter(|waiting| **waiting > 0).count(), 750, "{first:?}");
    write(1_000..1_700);
    assert_eq!(cache.entry_count(), 1_700);
    assert!(write(1_700..1_720).iter().all(|waiting| *waiting == 0), "13/16 are used");
    assert_eq!(cache.remove_if(|key, _| key % 3 == 0), 574);
    assert_eq!(cache.entry_count(), 1_146);
    assert_eq!(write(2_000..2_003), [1, 2, 3]);
    assert_eq!(cache.get(&2_000), Some(2_000));
    write(3_000..6_000);
    assert!(cache.contains_key(&2_000) && !cache.contains_key(&2_001), "used again, so protected");
}

/// Values that end in the call that makes room do not take the places of values that it has to evict.
#[test]
fn one_call_expires_and_evicts_as_much_as_it_must() {
    for eviction in [crate::Eviction::Lru, crate::Eviction::SegmentedLru, crate::Eviction::Sieve] {
        let weigh = |_: &u32, weight: &u32| *weight;
        let (cache, clock) = alone::<u32, u32>(|it| it.max_capacity(1_000).weigher(weigh).eviction(eviction));
        let second = std::time::Duration::from_secs(1);
        for key in 0..1_000 {
            let written = if key < 300 { cache.insert_with_ttl(key, 1, second) } else { cache.insert(key, 1) };
            assert!(written.is_ok());
        }
        clock.advance(second + second / 20);
        cache.insert(1_000, 500).unwrap();
        assert_eq!(cache.weighted_size(), 1_000, "{eviction:?}");
        assert_eq!((cache.stats().removals.expired, cache.stats().removals.size), (300, 200));
    }
}

#[test]
fn looking_and_merging_is_no_use() {
    // scenario 44: `contains_key`, `entry`, `iter`, `stats` and merges do not refresh the order of use.
    let cluster = Cluster::<u32, u32>::new(2, |index, it| if index == 0 { it.max_capacity(3) } else { it });
    let (small, other) = (&cluster.caches[0], &cluster.caches[1]);
    for key in 0..3 {
        small.insert(key, key).unwrap();
    }
    cluster.exchange();
    assert!(small.contains_key(&0) && small.entry(&0).is_some());
    assert_eq!(small.iter().count(), 3);
    let _ = small.stats();
    other.insert(0, 100).unwrap();
    cluster.exchange();
    assert_eq!(small.entry(&0).unwrap().into_value(), 100);
    small.insert(3, 3).unwrap();
    assert_eq!(keys(small), [1, 2, 3]);
}

#[test]
fn capacity_holds_after_every_write_also_by_weight() {
    let (cache, _) = alone::<u32, u32>(|it| it.max_capacity(1_000).weigher(|_, weight| *weight));
    for round in 0..5_000u32 {
        cache.insert(round % 700, round * 37 % 90).unwrap();
        assert!(cache.weighted_size() <= 1_000, "{}", cache.weighted_size());
        let held: u64 = if round % 100 == 0 { cache.iter().map(|(_, weight)| u64::from(weight)).sum() } else { 0 };
        assert!(held <= 1_000);
    }
}

#[test]
fn an_entry_heavier_than_everything_evicts_nothing_else() {
    let (cache, _) = alone::<u32, u32>(|it| it.max_capacity(10).weigher(|_, weight| *weight));
    for key in 0..5 {
        cache.insert(key, 2).unwrap();
    }
    cache.insert(9, 11).unwrap();
    assert_eq!(keys(&cache), [0, 1, 2, 3, 4]);
    cache.insert(0, 11).unwrap();
    assert_eq!(keys(&cache), [1, 2, 3, 4], "its old value is gone all the same");
    assert_eq!(cache.get_with_blocking(9, || 12), 12, "and a fill is handed out");
    assert_eq!(keys(&cache), [1, 2, 3, 4]);
}

#[test]
fn a_capacity_of_nothing_holds_nothing_and_still_replicates() {
    let cluster = Cluster::<u32, u32>::new(2, |index, it| if index == 0 { it.max_capacity(0) } else { it });
    cluster.caches[0].insert(1, 1).unwrap();
    assert_eq!(cluster.caches[0].entry_count(), 0);
    cluster.exchange();
    assert_eq!(cluster.caches[1].get(&1), Some(1));
}

#[test]
fn a_small_member_evicts_for_itself_and_the_traffic_ends() {
    // scenario 39, scenario 40: eviction on a small member leaves the values of its peers, and causes no lasting
    // traffic.
    let cluster = Cluster::<u32, u32>::new(3, |index, it| if index == 0 { it.max_capacity(10) } else { it });
    for key in 0..1_000 {
        cluster.caches[1].insert(key, key).unwrap();
    }
    cluster.advance(Duration::from_secs(30));
    let sent = || -> u64 {
        let sum = |it: crate::Counters| it.pushes_out + it.frames_out + it.sessions_out + it.writes;
        cluster.caches.iter().map(|cache| sum(cache.counters())).sum()
    };
    let before = sent();
    cluster.advance(Duration::from_secs(60));
    assert_eq!(sent(), before, "nothing evicted is offered again and again");
    assert_eq!(cluster.caches[0].entry_count(), 10);
    assert_eq!(cluster.caches[1].entry_count(), 1_000);
    assert_eq!(cluster.caches[2].entry_count(), 1_000);
    assert_eq!(cluster.caches[0].stats().removals.size, 990);
}

#[test]
fn evicted_then_deleted_then_put_again_from_the_past_stays_deleted() {
    // scenario 41: an old push for an evicted and then deleted key is delivered again, before and after the tombstone
    // is collected.
    let cluster = Cluster::<u32, u32>::new(2, |index, it| if index == 1 { it.max_capacity(1) } else { it });
    let (writer, small) = (&cluster.caches[0], &cluster.caches[1]);
    writer.insert(1, 1).unwrap();
    let put = cluster.take(0);
    cluster.deliver(&put);
    small.insert(2, 2).unwrap();
    assert_eq!(small.get(&1), None, "evicted");
    writer.remove(&1);
    cluster.exchange();
    cluster.deliver(&put);
    assert_eq!(small.get(&1), None);
    cluster.advance(Duration::from_secs(60));
    cluster.deliver(&put);
    cluster.advance(Duration::from_secs(5));
    assert_eq!((writer.get(&1), small.get(&1)), (None, None), "also after every replica has forgotten the delete");
}

#[test]
fn an_evicted_key_can_be_filled_again() {
    // scenario 42: a fill of an evicted key is kept, and replicates.
    let cluster = Cluster::<u32, u32>::new(2, |index, it| if index == 0 { it.max_capacity(1) } else { it });
    let small = &cluster.caches[0];
    small.insert(1, 1).unwrap();
    small.insert(2, 2).unwrap();
    assert_eq!(small.get(&1), None);
    assert_eq!(small.get_with_blocking(1, || 10), 10);
    assert_eq!(small.get(&1), Some(10));
    cluster.advance(Duration::from_secs(3));
    assert_eq!((small.get(&1), cluster.caches[1].get(&1)), (Some(10), Some(10)));
}

#[test]
fn a_storm_of_reused_keys_at_capacity_stays_bounded() {
    // scenario 43: four threads write, read, fill and delete 1,000 keys at a capacity of 100. Log and tombstones stay
    // bounded.
    let (cache, clock) = alone::<u32, u32>(|it| it.max_capacity(100).eviction_listener(|_, _, _| ()));
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (cache, clock) = (&cache, &clock);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(u64::from(thread));
                for round in 0..10_000u32 {
                    let key = random.u32(..1_000);
                    match random.u8(..10) {
                        0 => drop(cache.remove(&key)),
                        1..=4 => drop(cache.get(&key)),
                        5 => drop(cache.get_with_blocking(key, || round)),
                        _ => drop(cache.insert(key, round).unwrap()),
                    }
                    if round % 100 == 0 {
                        clock.advance(Duration::from_millis(10));
                    }
                }
            });
        }
    });
    cache.run_pending_tasks();
    assert!(cache.entry_count() <= 100, "{}", cache.entry_count());
    assert!(cache.stats().fills.running == 0);
    let (log, tombstones) = cache.shared.writer.look(|engine| {
        let view = engine.replica.view();
        (view.log_len(), view.tombstone_len())
    });
    assert!(log <= 4 * 1_000 + 64, "{log}");
    assert!(tombstones <= 1_000);
}

#[test]
fn the_cause_of_an_eviction_is_its_size() {
    let (told, heard) = std::sync::mpsc::channel();
    let (cache, _) = alone::<u32, u32>(|it| {
        it.max_capacity(1).eviction_listener(move |key, value, cause| told.send((*key, value, cause)).unwrap())
    });
    cache.insert(1, 10).unwrap();
    cache.insert(2, 20).unwrap();
    cache.insert(2, 21).unwrap();
    cache.remove(&2);
    let heard: Vec<_> = heard.try_iter().collect();
    assert_eq!(heard, [(1, 10, RemovalCause::Size), (2, 20, RemovalCause::Replaced), (2, 21, RemovalCause::Explicit)]);
}

#[test]
fn entries_without_weight_are_left_alone() {
    for eviction in [Eviction::Lru, Eviction::SegmentedLru, Eviction::Sieve] {
        let (cache, _) = alone::<u32, u32>(|it| it.max_capacity(100).weigher(|_, weight| *weight).eviction(eviction));
        put(&cache, 0..20_000, 0);
        put(&cache, 20_000..20_150, 1);
        assert_eq!((cache.weighted_size(), cache.entry_count()), (100, 20_100));
        assert!((0..20_000).all(|key| cache.contains_key(&key)));
        assert_eq!(cache.stats().removals.size, 50);
        // Overwritten with weight, an entry is the most recently used; without it, it makes room and stays.
        cache.insert(0, 1).unwrap();
        assert!(cache.contains_key(&0) && !cache.contains_key(&20_050));
        cache.insert(20_149, 0).unwrap();
        cache.insert(1, 1).unwrap();
        assert!(cache.contains_key(&20_149) && cache.contains_key(&20_051));
        assert_eq!(cache.weighted_size(), 100);
        assert_eq!(
            cache.shared.writer.look(|engine| engine.by_recency(&cache.shared.writer.reads).count()) as u64,
            cache.entry_count()
        );
    }
}

#[test]
fn a_merge_that_changes_the_weight_changes_what_may_be_evicted() {
    let cluster =
        Cluster::<u32, u32>::new(
            2,
            |index, it| {
                if index == 0 { it.max_capacity(3).weigher(|_, weight| *weight) } else { it }
            },
        );
    let (small, other) = (&cluster.caches[0], &cluster.caches[1]);
    for (key, weight) in [(0, 0), (1, 1), (2, 1), (3, 1)] {
        small.insert(key, weight).unwrap();
    }
    cluster.exchange();
    other.insert(1, 0).unwrap();
    cluster.exchange();
    small.insert(4, 1).unwrap();
    assert_eq!(keys(small), [0, 1, 2, 3, 4], "the least recently used weighs nothing now");
    other.insert(0, 1).unwrap();
    cluster.exchange();
    assert_eq!(keys(small), [0, 1, 3, 4], "what weighs something now is as recent as a value that has just arrived");
    for key in [5, 6, 7] {
        small.insert(key, 1).unwrap();
    }
    assert_eq!(keys(small), [1, 5, 6, 7], "and is evicted in its turn");
}

/// One value takes the place of 5,000. No call evicts more than 512 of them, and the node's timer is due until the last
/// is gone.
#[test]
fn a_call_evicts_a_bounded_number_and_the_timer_the_rest() {
    let (cache, clock) = alone::<u32, u32>(|it| it.max_capacity(5_000).weigher(|_, weight| *weight));
    put(&cache, 0..5_000, 1);
    cache.insert(5_000, 5_000).unwrap();
    let mut left = cache.entry_count();
    assert_eq!(left, 5_001 - 513, "512, and one for the write");
    while cache.weighted_size() > 5_000 {
        let next = tick(&cache.shared);
        assert!(cache.weighted_size() <= 5_000 || next == clock.now().mono, "the timer is due at once");
        let now = cache.entry_count();
        assert!((1..=512).contains(&(left - now)), "{left} to {now}");
        left = now;
    }
    assert_eq!(keys(&cache), [5_000]);
    assert!(tick(&cache.shared) > clock.now().mono, "and then at rest");
    // Later writes evict as well, and `run_pending_tasks` all of it.
    put(&cache, 0..5_000, 1);
    cache.insert(5_000, 4_990).unwrap();
    put(&cache, 0..10, 1);
    assert!(cache.weighted_size() <= 5_000, "{}", cache.weighted_size());
    put(&cache, 0..5_000, 1);
    cache.insert(5_000, 5_000).unwrap();
    cache.run_pending_tasks();
    assert_eq!(keys(&cache), [5_000]);
}
