//! Entries, conditional writes, batches, waits for members, and statistics.

use std::time::Duration;

use crate::cache::port::Port;
use crate::cache::testing::{Cluster, RUNTIME, alone};
use crate::{Cache, CacheSettings, InsertError, Members, OpenError};

#[test]
fn an_entry_says_what_is_known_of_it() {
    let (cache, clock) = alone::<u32, u32>(|it| it);
    let written = cache.insert_with_ttl(1, 10, Duration::from_secs(10)).unwrap();
    clock.advance(Duration::from_secs(4));
    let entry = cache.entry(&1).unwrap();
    assert_eq!((*entry.value(), entry.stamp(), entry.origin()), (10, written.stamp, cache.replica_id()));
    assert_eq!((entry.age(), entry.expires_in()), (Duration::from_secs(4), Some(Duration::from_secs(6))));
    assert!(entry.is_fresh());
    clock.advance(Duration::from_secs(6));
    assert!(!entry.is_fresh() && cache.entry(&1).is_none());
}

#[test]
fn replace_if_writes_only_over_what_was_seen() {
    let (cache, _) = alone::<u32, u32>(|it| it);
    let first = cache.insert(1, 1).unwrap();
    let second = cache.replace_if(1, 2, first.stamp).unwrap().unwrap();
    assert!(second.stamp > first.stamp);
    assert_eq!(cache.replace_if(1, 3, first.stamp).unwrap(), None);
    assert_eq!(cache.replace_if(9, 3, first.stamp).unwrap(), None);
    assert_eq!(cache.get(&1), Some(2));
    assert_eq!(cache.insert_if_absent_local(1, 4).unwrap(), None);
    assert!(cache.insert_if_absent_local(5, 5).unwrap().is_some());
}

#[test]
fn a_replacement_keeps_the_deadline_unless_it_has_its_own() {
    let second = Duration::from_secs(1);
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it.time_to_live(100 * second));
    let [a, b] = [&cluster.caches[0], &cluster.caches[1]];
    a.insert_with_ttl(1, 0, 10 * second).unwrap();
    a.insert(2, 0).unwrap();
    a.insert_if_absent_local_with_ttl(3, 0, None).unwrap();
    let left = |cache: &Cache<u32, u32>, key| cache.entry(&key).and_then(|entry| entry.expires_in());
    cluster.exchange();
    for round in 1..=2 {
        cluster.clocks.iter().for_each(|clock| clock.advance(2 * second));
        for key in 1..=3 {
            let stamp = a.entry(&key).unwrap().stamp();
            assert!(a.replace_if(key, round, stamp).unwrap().is_some());
        }
    }
    cluster.exchange();
    for cache in [a, b] {
        assert_eq!([1, 2, 3].map(|key| cache.get(&key)), [Some(2); 3]);
        assert_eq!([1, 2, 3].map(|key| left(cache, key)), [Some(6 * second), Some(96 * second), None]);
    }
    let stamp = a.entry(&1).unwrap().stamp();
    assert_eq!(a.replace_if_with_ttl(1, 3, stamp, Some(Duration::ZERO)), Err(InsertError::ZeroTimeToLive));
    let longer = a.replace_if_with_ttl(1, 3, stamp, Some(20 * second)).unwrap().unwrap();
    assert_eq!((a.get(&1), left(a, 1)), (Some(3), Some(20 * second)));
    assert_eq!(a.replace_if_with_ttl(1, 4, stamp, None).unwrap(), None, "it has another stamp by now");
    assert!(a.replace_if_with_ttl(1, 4, longer.stamp, None).unwrap().is_some());
    assert_eq!((a.get(&1), left(a, 1)), (Some(4), None));
}

#[test]
fn batches_are_written_whole_or_not_at_all_and_travel() {
    let cluster = Cluster::<u32, String>::new(2, |_, it| it.max_value_bytes(16));
    let (a, b) = (&cluster.caches[0], &cluster.caches[1]);
    let written = a.insert_many((0..2_500).map(|key| (key, key.to_string()))).unwrap();
    assert!(written.windows(2).all(|pair| pair[0] < pair[1]));
    let refused = a.insert_many([(9_000, "fits".to_owned()), (9_001, "x".repeat(100))]).unwrap_err();
    assert_eq!(refused.index, 1);
    assert!(matches!(refused.error, InsertError::ValueTooLarge { .. }));
    assert!(!a.contains_key(&9_000));
    cluster.exchange();
    assert_eq!(b.get_many(&[1, 9_000, 2_499]), [Some("1".to_owned()), None, Some("2499".to_owned())]);
    assert_eq!(b.remove_many(&[0, 1, 5_000]), 2);
    cluster.exchange();
    assert_eq!((a.entry_count(), b.entry_count()), (2_498, 2_498));
}

/// Plays the driver, which polls, then ticks, then sleeps until the time that the tick returned: a message that a timer
/// makes due must not wait for the next timer.
#[test]
fn what_a_timer_makes_due_is_sent_at_once() {
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
    let here = &cluster.caches[1].shared;
    for value in [1, 2] {
        cluster.caches[0].insert(1, value).unwrap();
        let parcels = cluster.take(0);
        cluster.deliver(&parcels);
    }
    assert_eq!(cluster.take(1).len(), 1, "the second acknowledgement waits to be sent with a later one");
    let due = here.tick();
    let wait = Duration::from_nanos(due - here.services.time.now().mono);
    assert!((1..=10).contains(&wait.as_millis()), "{wait:?}");
    cluster.clocks[1].advance(wait);
    assert_eq!(here.tick(), here.services.time.now().mono, "the next turn, which sends it, is now");
    assert_eq!(cluster.take(1).len(), 1);
    assert!(here.tick() > here.services.time.now().mono);
}

#[test]
fn a_write_is_waited_for_until_enough_have_it() {
    let cluster = Cluster::<u32, u32>::new(3, |_, it| it);
    let [a, ..] = &cluster.caches[..] else { panic!("three") };
    let written = a.insert(1, 1).unwrap();
    let soon = Duration::from_millis(20);
    let waiting = |members| RUNTIME.block_on(a.wait_replicated(written, members, soon));
    let error = waiting(Members::All).unwrap_err();
    assert_eq!((error.seen.len(), error.missing.len()), (0, 2));
    assert!(error.to_string().contains(&cluster.caches[1].replica_id().to_string()), "{error}");
    assert_eq!(a.stats().lags.iter().filter(|lag| lag.writes > 0).count(), 2);

    let parcels = cluster.take(0);
    let only_one: Vec<_> = parcels
        .into_iter()
        .map(|parcel| crate::cache::port::Parcel { to: vec![cluster.caches[1].replica_id()], ..parcel })
        .collect();
    cluster.deliver(&only_one);
    cluster.tick(1, Duration::from_millis(50));
    cluster.exchange();
    assert_eq!(waiting(Members::Count(1)).unwrap().seen, [cluster.caches[1].replica_id()]);
    assert!(waiting(Members::Count(2)).is_err());
    assert_eq!(waiting(Members::Count(9)).unwrap_err().missing, [cluster.caches[2].replica_id()]);

    let pending = {
        let a = a.clone();
        RUNTIME.spawn(async move { a.wait_replicated(written, Members::All, Duration::from_secs(20)).await })
    };
    std::thread::sleep(Duration::from_millis(50));
    cluster.down(2, false);
    let done = RUNTIME.block_on(pending).unwrap().unwrap();
    assert_eq!((done.seen.len(), done.departed), (1, vec![cluster.caches[2].replica_id()]));
}

#[test]
fn newer_writes_count_and_lag_goes_away() {
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
    let a = &cluster.caches[0];
    let first = a.insert(1, 1).unwrap();
    a.insert(1, 2).unwrap();
    cluster.exchange();
    cluster.advance(Duration::from_millis(100));
    let all = RUNTIME.block_on(a.wait_replicated(first, Members::All, Duration::from_secs(1)));
    assert_eq!(all.unwrap().seen.len(), 1);
    let lag = a.stats().lags[0];
    assert_eq!((lag.behind, lag.writes), (Duration::ZERO, 0));
    cluster.clocks[0].advance(Duration::from_millis(1));
    a.insert(2, 2).unwrap();
    cluster.clocks[0].advance(Duration::from_millis(250));
    let lag = a.stats().lags[0];
    assert_eq!((lag.behind, lag.writes), (Duration::from_millis(250), 1));
}

#[test]
fn statistics_count_what_was_done() {
    let (cache, _) = alone::<u32, u32>(|it| it.max_capacity(2));
    assert_eq!(cache.get(&1), None);
    assert_eq!(cache.get_with_blocking(1, || 1), 1);
    assert_eq!(cache.get_with_blocking(1, || 1), 1);
    let failed = cache.try_get_with_blocking(2, || Err(std::fmt::Error));
    assert!(failed.is_err());
    for key in 3..6 {
        cache.insert(key, key).unwrap();
    }
    cache.remove(&5);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (1, 3));
    assert_eq!((stats.fills.filled, stats.fills.failed, stats.fills.running), (1, 1, 0));
    assert_eq!((stats.removals.size, stats.removals.explicit), (2, 1));
    assert_eq!((stats.entries, stats.weight), (1, 1));
}

#[test]
fn settings_come_from_a_file_and_are_refused_with_a_reason() {
    let text = r#"{ "max_capacity": 1000, "time_to_live": "15m", "fill_timeout": "2s", "replication": { "fanout": 3, "max_drift": "250ms" } }"#;
    let settings: CacheSettings = serde_json::from_str(text).unwrap();
    assert_eq!(settings.time_to_live, Some(Duration::from_secs(900)));
    assert_eq!(settings.replication.max_drift, Duration::from_millis(250));
    let (cache, _) = alone::<u32, u32>(|it| it.settings(settings.clone()));
    assert_eq!(cache.settings(), &settings);
    assert_eq!(cache.policy().max_capacity, Some(1_000));
    let again: CacheSettings = serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
    assert_eq!(again, settings);
    assert!(serde_json::from_str::<CacheSettings>(r#"{ "max_capcity": 5 }"#).is_err(), "a misspelt knob is an error");
    assert!(serde_json::from_str::<CacheSettings>(r#"{ "time_to_live": "soon" }"#).is_err());

    let clock = crate::cache::testing::TestClock::new();
    let builder = crate::cache::testing::builder::<u32, u32>(&clock, 1);
    let error = builder.fill_timeout(Duration::from_secs(3_600)).open().map(|_: Cache<u32, u32>| ()).unwrap_err();
    let OpenError::Settings { cache, error: of } = &error else { panic!("{error}") };
    assert_eq!(cache, "test");
    assert!(matches!(**of, OpenError::Setting { setting: "fill_timeout", .. }), "{error}");
}
