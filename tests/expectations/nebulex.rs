//! Expectations of users of Nebulex 3 (Elixir; the key-value, time and replicated adapters).

use std::time::Duration;

use driftless::{Cache, Filled, Members, OpenError};

use super::support::{NoRow, SOON, arrives, both, eventually, fresh_name, keys, local, lone, numbers};

const HOUR: Duration = Duration::from_secs(3_600);
const BLINK: Duration = Duration::from_millis(40);

#[test]
fn put_then_fetch_returns_the_value_and_a_second_put_replaces_it() {
    let cache = numbers();
    cache.insert_many((1..=4).map(|n| (n, n))).unwrap();
    cache.insert_many((3..=4).map(|n| (n, n * n))).unwrap();
    assert_eq!(cache.get_many([&1, &2, &3, &4]), [Some(1), Some(2), Some(9), Some(16)]);
}

#[test]
fn nil_and_booleans_are_values() {
    let options: Cache<String, Option<bool>> = local().open().unwrap();
    for (key, value) in [("nil", None), ("false", Some(false)), ("true", Some(true))] {
        options.insert(key.into(), value).unwrap();
        assert_eq!((options.get(key), options.contains_key(key)), (Some(value), true));
    }
    assert_eq!(options.remove("nil"), Some(None));
    assert_eq!(options.get("nil"), None);
}

#[test]
fn keys_of_several_kinds_are_the_variants_of_an_enum() {
    // Differs: coming-from-other-caches.md, "Nebulex", "a key or value is any term"
    #[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
    enum Term {
        Number(u32),
        Text(String),
        Pair(u32, u32),
    }
    let cache: Cache<Term, u32> = local().open().unwrap();
    let terms = [Term::Number(1), Term::Text("1".into()), Term::Pair(1, 1)];
    cache.insert_many(terms.iter().cloned().zip(0..)).unwrap();
    assert_eq!(cache.get_many(&terms), [Some(0), Some(1), Some(2)]);
}

#[test]
fn put_new_writes_only_if_there_is_nothing() {
    // Differs: coming-from-other-caches.md, "Nebulex", "`put_new`"
    let cache = numbers();
    assert!(cache.insert_if_absent_local(1, 10).unwrap().is_some());
    assert!(cache.insert_if_absent_local(1, 11).unwrap().is_none());
    assert_eq!(cache.get(&1), Some(10));
}

#[test]
fn put_new_all_is_a_write_for_each_key() {
    // Differs: coming-from-other-caches.md, "Nebulex", "`put_new_all`"
    let cache = numbers();
    cache.insert(1, 1).unwrap();
    let written: Vec<_> = [1, 2].map(|key| cache.insert_if_absent_local(key, 99).unwrap().is_some()).into();
    assert_eq!((written, cache.get(&1), cache.get(&2)), (vec![false, true], Some(1), Some(99)));
}

#[test]
fn put_all_of_nothing_does_nothing() {
    let cache = numbers();
    assert!(cache.insert_many([]).unwrap().is_empty());
    assert_eq!((cache.entry_count(), cache.last_written()), (0, None));
}

#[test]
fn put_all_with_one_bad_entry_writes_nothing() {
    let cache: Cache<u32, String> = local().max_value_bytes(10).open().unwrap();
    let entries = [(1, "short".to_owned()), (2, "x".repeat(20)), (3, "short".to_owned())];
    assert!(cache.insert_many(entries).is_err());
    assert_eq!(cache.entry_count(), 0);
}

#[test]
fn fetch_of_a_missing_key_is_none_and_get_takes_a_default() {
    // Differs: coming-from-other-caches.md, "Nebulex", "`fetch!`"
    let cache = numbers();
    assert_eq!((cache.get(&1), cache.get(&1).unwrap_or(7)), (None, 7));
}

#[test]
fn delete_of_a_missing_key_is_no_error() {
    let cache = numbers();
    cache.insert(2, 20).unwrap();
    cache.invalidate(&1);
    assert_eq!(keys(&cache), [2]);
}

#[test]
fn take_returns_and_removes_and_an_expired_value_cannot_be_taken() {
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    assert_eq!((cache.remove(&1), cache.remove(&1)), (Some(10), None));
    cache.insert_with_ttl(2, 20, Duration::from_millis(1)).unwrap();
    std::thread::sleep(BLINK);
    assert_eq!(cache.remove(&2), None);
}

#[test]
fn a_counter_is_a_conditional_write_on_one_node() {
    // Differs: coming-from-other-caches.md, "Shared by several", "an atomic update of one entry"
    let cache = numbers();
    let add = |amount| loop {
        let written = match cache.entry(&1) {
            Some(found) => cache.replace_if(1, found.value() + amount, found.stamp()).unwrap(),
            None => cache.insert_if_absent_local(1, amount).unwrap(),
        };
        if written.is_some() {
            break;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| add(1)));
        }
    });
    assert_eq!(cache.get(&1), Some(200), "no increment of this node is lost");
}

#[test]
fn ttl_is_none_for_a_missing_key_and_unlimited_for_an_entry_without_one() {
    let cache = numbers();
    assert!(cache.entry(&1).is_none());
    cache.insert(1, 10).unwrap();
    assert_eq!(cache.entry(&1).unwrap().expires_in(), None);
    cache.insert_with_ttl(1, 10, HOUR).unwrap();
    assert!(cache.entry(&1).unwrap().expires_in().is_some_and(|left| left > HOUR / 2));
}

#[test]
fn a_new_time_to_live_is_a_new_write() {
    // Differs: coming-from-other-caches.md, "Shared by several", "a call changes only the time to live"
    let cache = numbers();
    let first = cache.insert_with_ttl(1, 10, HOUR).unwrap();
    let value = cache.get(&1).unwrap();
    let second = cache.insert_with_ttl(1, value, 2 * HOUR).unwrap();
    assert!(second > first);
    assert!(cache.entry(&1).unwrap().expires_in().is_some_and(|left| left > HOUR));
}

#[test]
fn a_put_without_a_time_takes_the_default_of_the_cache() {
    // Differs: coming-from-other-caches.md, "Nebulex", "`keep_ttl`"
    let cache = numbers();
    cache.insert_with_ttl(1, 10, HOUR).unwrap();
    cache.insert(1, 11).unwrap();
    assert_eq!(cache.entry(&1).unwrap().expires_in(), None);
}

#[test]
fn many_entries_with_one_time_expire_together() {
    let cache: Cache<u32, u32> = local().time_to_live(BLINK).open().unwrap();
    cache.insert_many((0..10).map(|key| (key, key))).unwrap();
    std::thread::sleep(BLINK);
    assert!((0..10).all(|key| cache.get(&key).is_none()));
}

#[test]
fn count_all_delete_all_and_stream_see_every_entry() {
    let cache = numbers();
    cache.insert_many((0..10).map(|key| (key, key))).unwrap();
    assert_eq!((cache.entry_count(), cache.iter().count()), (10, 10));
    cache.invalidate_all();
    cache.run_pending_tasks();
    assert_eq!((cache.entry_count(), cache.iter().count()), (0, 0));
}

#[test]
fn a_query_is_an_iteration_with_a_filter() {
    // Differs: coming-from-other-caches.md, "Shared by several", "queries, predicates and prefixes"
    let cache = numbers();
    cache.insert_many((0..10).map(|key| (key, key * key))).unwrap();
    let mut large: Vec<_> = cache.iter().filter(|(_, value)| *value > 50).map(|(key, _)| *key).collect();
    large.sort_unstable();
    assert_eq!(large, [8, 9]);
}

#[test]
fn a_decorator_caches_only_what_matches() {
    let cache: Cache<u32, Option<u32>> = local().open().unwrap();
    let look_up = |id| {
        let filled = cache.fill_with_blocking(id, || {
            let row = (id < 10).then_some(id * 2);
            Ok::<_, NoRow>(if row.is_some() { Filled::new(row) } else { Filled::uncached(row) })
        });
        filled.unwrap()
    };
    assert_eq!((look_up(1), look_up(11)), (Some(2), None));
    assert_eq!(keys(&cache), [1]);
}

#[test]
fn several_caches_live_on_one_node_and_share_no_keys() {
    let [one, two] = [numbers(), numbers()];
    one.insert(1, 10).unwrap();
    assert_eq!((two.get(&1), one.name() == two.name()), (None, false));
}

#[test]
fn one_name_with_other_types_is_refused() {
    let name = fresh_name();
    let _cache: Cache<u32, u32> = lone().cache(&name).open().unwrap();
    let other = lone().cache::<String, u32>(&name).open();
    assert_eq!(other.unwrap_err(), OpenError::OtherTypes(name));
}

#[test]
fn replicated_puts_deletes_and_flushes_reach_every_node() {
    let [one, two] = both::<u32, u32>();
    one.insert_many((0..10).map(|key| (key, key))).unwrap();
    eventually("puts", || keys(&two).len(), |seen| *seen == 10);
    two.invalidate(&1);
    arrives(&one, &1, &None);
    one.invalidate_all();
    eventually("the flush", || keys(&two), |seen| seen.is_empty());
}

#[test]
fn a_put_does_not_wait_for_other_nodes_unless_asked_to() {
    // Differs: coming-from-other-caches.md, "Nebulex", "a replicated `put` calls every node"
    let [one, two] = both::<u32, u32>();
    let written = one.insert(1, 10).unwrap();
    one.wait_replicated_blocking(written, Members::All, SOON).unwrap();
    assert_eq!(two.get(&1), Some(10));
    one.remove(&1);
    one.wait_replicated_blocking(one.last_written().unwrap(), Members::All, SOON).unwrap();
    assert_eq!(two.get(&1), None);
}

#[test]
fn a_node_that_joins_later_receives_the_entries_and_their_times() {
    let name = fresh_name();
    let one: Cache<u32, u32> = super::support::pair()[0].cache(&name).open().unwrap();
    one.insert(1, 10).unwrap();
    one.insert_with_ttl(2, 20, HOUR).unwrap();
    let two: Cache<u32, u32> = super::support::pair()[1].cache(&name).open().unwrap();
    assert!(two.ready_blocking(SOON).is_ready());
    arrives(&two, &1, &Some(10));
    let left = || two.entry(&2).and_then(|found| found.expires_in());
    eventually("the time left", left, |seen| seen.is_some_and(|left| left <= HOUR));
}

#[test]
fn statistics_count_hits_misses_and_removals_by_cause() {
    let cache: Cache<u32, u32> = local().max_capacity(2).open().unwrap();
    cache.insert_many((0..3).map(|key| (key, key))).unwrap();
    cache.insert(2, 22).unwrap();
    cache.remove(&2);
    assert_eq!((cache.get(&1), cache.get(&9)), (Some(1), None));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries), (1, 1, 1));
    assert_eq!((stats.removals.size, stats.removals.replaced, stats.removals.explicit), (1, 1, 1));
}

#[test]
fn several_keys_are_no_transaction() {
    // Differs: coming-from-other-caches.md, "Nebulex", "`transaction`"
    let cache = numbers();
    let stamps = cache.insert_many([(1, 10), (2, 20)]).unwrap();
    assert!(stamps[0] < stamps[1], "each write has a stamp of its own");
}
