//! Expectations of users of reconcile 0.5 (`ReplicatedMap`).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftless::{Cache, ChangeKind, InsertError, Members, Node, NodeBuilder};

use super::support::{
    SOON, arrives, both, both_with, collecting_soon, eventually, fresh_name, keys, lone, numbers, pair,
};

#[test]
fn an_insert_is_seen_on_the_writer_at_once_and_elsewhere_soon() {
    let [one, two] = both::<u32, u32>();
    one.insert(1, 10).unwrap();
    assert_eq!(one.get(&1), Some(10));
    arrives(&two, &1, &Some(10));
}

#[test]
fn a_remove_on_one_node_removes_everywhere() {
    let [one, two] = both::<u32, u32>();
    one.insert(1, 10).unwrap();
    arrives(&two, &1, &Some(10));
    assert_eq!(two.remove(&1), Some(10));
    arrives(&one, &1, &None);
}

#[test]
fn a_remove_wins_over_an_insert_that_arrives_later() {
    let [one, two] = both::<u32, u32>();
    for key in 0..50 {
        one.insert(key, key).unwrap();
        one.remove(&key);
    }
    one.insert(99, 99).unwrap();
    arrives(&two, &99, &Some(99));
    assert_eq!((keys(&one), keys(&two)), (vec![99], vec![99]));
}

#[test]
fn concurrent_writers_end_with_one_value() {
    let [one, two] = both::<u32, u32>();
    for round in 0..100 {
        one.insert(round % 5, round).unwrap();
        two.insert(round % 5, 1_000 + round).unwrap();
    }
    let values = |cache: &Cache<u32, u32>| (0..5).map(|key| cache.get(&key)).collect::<Vec<_>>();
    eventually("agreement", || (values(&one), values(&two)), |(here, there)| here == there);
}

#[test]
fn a_key_that_was_removed_can_be_inserted_again() {
    let [one, two] = both::<u32, u32>();
    one.insert(1, 10).unwrap();
    arrives(&two, &1, &Some(10));
    two.remove(&1);
    two.insert(1, 11).unwrap();
    arrives(&one, &1, &Some(11));
}

#[test]
fn tombstones_are_collected_once_every_member_has_seen_them() {
    let [one, two] = both_with::<u32, u32>(collecting_soon);
    one.insert_many((0..20).map(|key| (key, key))).unwrap();
    arrives(&two, &19, &Some(19));
    for key in 0..20 {
        two.remove(&key);
    }
    for cache in [&one, &two] {
        eventually("collection", || cache.stats().tombstones, |seen| *seen == 0);
    }
}

#[test]
fn one_call_inserts_many() {
    let [one, two] = both::<u32, u32>();
    one.insert_many((0..500).map(|key| (key, key))).unwrap();
    eventually("all", || two.entry_count(), |seen| *seen == 500);
}

#[test]
fn a_value_at_the_limit_is_accepted_and_one_beyond_is_refused_without_a_trace() {
    // Differs: coming-from-other-caches.md, "reconcile", "`insert` accepts any size"
    let cache: Cache<u32, String> = lone().cache(&fresh_name()).max_value_bytes(102).open().unwrap();
    assert!(cache.insert(1, "x".repeat(100)).is_ok(), "the text and two bytes of its header");
    let refused = cache.insert(1, "x".repeat(101)).unwrap_err();
    assert_eq!(refused, InsertError::ValueTooLarge { size: 103, limit: 102 });
    assert_eq!(cache.get(&1).map(|text| text.len()), Some(100));
}

#[test]
fn a_value_larger_than_a_datagram_arrives() {
    let [one, two] = both::<u32, String>();
    one.insert(1, "x".repeat(200_000)).unwrap();
    eventually("the value", || two.get(&1).map(|text| text.len()), |seen| *seen == Some(200_000));
}

#[test]
fn an_equal_value_inserted_again_is_a_new_write() {
    let cache = numbers();
    let mut changes = cache.subscribe();
    let (first, second) = (cache.insert(1, 10).unwrap(), cache.insert(1, 10).unwrap());
    assert!(second > first);
    assert_eq!(changes.try_recv().unwrap().kind(), ChangeKind::Inserted);
    assert_eq!(changes.try_recv().unwrap().kind(), ChangeKind::Updated);
}

#[test]
fn a_hook_on_updates_may_write_to_the_map() {
    // Differs: coming-from-other-caches.md, "reconcile", "`set_pre_insert`"
    let [one, two] = both::<u32, u32>();
    let mut changes = two.subscribe();
    one.insert(1, 10).unwrap();
    let event = changes.recv_timeout(SOON).unwrap();
    assert_eq!((*event.key(), event.value(), event.is_local()), (1, Some(&10), false));
    two.insert(2, 20).unwrap();
    arrives(&one, &2, &Some(20));
}

#[test]
fn every_node_counts_its_members() {
    let [one, two] = both::<u32, u32>();
    assert_eq!((one.members(), two.members()), (1, 1));
    assert!(pair().iter().all(|node| node.members().len() == 1));
}

#[test]
fn a_map_without_peers_works() {
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    assert_eq!((cache.get(&1), cache.members()), (Some(10), 0));
    assert!(cache.ready_blocking(SOON).is_ready());
}

#[test]
fn iteration_has_no_order() {
    // Differs: coming-from-other-caches.md, "reconcile", "keys are in order"
    let cache = numbers();
    cache.insert_many((0..100).rev().map(|key| (key, key))).unwrap();
    let mut range: Vec<_> = cache.iter().map(|(key, _)| *key).filter(|key| (10..20).contains(key)).collect();
    range.sort_unstable();
    assert_eq!(range, (10..20).collect::<Vec<_>>());
}

#[test]
fn an_update_of_a_present_value_is_a_read_and_a_conditional_write() {
    // Differs: coming-from-other-caches.md, "Shared by several", "an atomic update of one entry"
    let cache = numbers();
    let update = |change: fn(u32) -> u32| {
        let present = cache.entry(&1)?;
        cache.replace_if(1, change(*present.value()), present.stamp()).unwrap()
    };
    assert!(update(|value| value + 1).is_none(), "an absent key is reported");
    cache.insert(1, 10).unwrap();
    assert!(update(|value| value + 1).is_some());
    assert_eq!(cache.get(&1), Some(11));
}

#[test]
fn a_map_that_is_opened_again_starts_empty_and_is_filled_by_its_members() {
    // Differs: coming-from-other-caches.md, "Shared by several", "the data survives a restart"
    let [one, two] = both::<u32, u32>();
    let written = one.insert(1, 10).unwrap();
    one.wait_replicated_blocking(written, Members::All, SOON).unwrap();
    let name = one.name().to_owned();
    let id = one.replica_id();
    drop(one);
    let again = || {
        let cache: Cache<u32, u32> = pair()[0].cache(&name).open().unwrap();
        (cache.replica_id() != id).then_some(cache)
    };
    let kept = Mutex::new(None);
    eventually("a new replica", || *kept.lock().unwrap() = again(), |()| kept.lock().unwrap().is_some());
    let again = kept.into_inner().unwrap().unwrap();
    assert!(again.ready_blocking(SOON).is_ready());
    arrives(&again, &1, &Some(10));
    assert_eq!(two.get(&1), Some(10));
}

#[test]
fn a_node_can_wait_until_the_members_have_its_write() {
    let [one, two] = both::<u32, u32>();
    let written = one.insert(1, 10).unwrap();
    let replicated = one.wait_replicated_blocking(written, Members::All, SOON).unwrap();
    assert_eq!((replicated.seen, two.get(&1)), (vec![two.replica_id()], Some(10)));
}

/// Starts a node on a port of its own.
fn start(configure: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Node {
    configure(Node::builder().cluster(fresh_name())).local_timing().start_blocking().unwrap()
}

#[test]
fn a_seed_may_be_a_host_name() {
    let one = start(|node| node.cluster("by name"));
    let seed = format!("localhost:{}", one.local_addr().port());
    let two = start(|node| node.cluster("by name").seeds([seed]));
    two.wait_for_members_blocking(1, SOON).unwrap();
    two.shutdown_blocking();
    one.shutdown_blocking();
}

#[test]
fn nodes_with_different_cluster_keys_do_not_meet() {
    let one = start(|node| node.cluster("keyed").encryption_key([1; 32]));
    let seed = one.local_addr().to_string();
    let two = start(|node| node.cluster("keyed").encryption_key([2; 32]).seeds([seed]));
    assert!(two.wait_for_members_blocking(1, Duration::from_millis(300)).is_err());
    assert!(one.members().is_empty() && two.members().is_empty());
}

#[test]
fn every_node_may_write() {
    // Differs: coming-from-other-caches.md, "reconcile", "`ReadReplicaMap`"
    let [one, two] = both::<u32, u32>();
    let log = Arc::new(Mutex::new(Vec::new()));
    for (key, cache) in [(1, &one), (2, &two)] {
        log.lock().unwrap().push(cache.insert(key, key).unwrap());
    }
    arrives(&one, &2, &Some(2));
    arrives(&two, &1, &Some(1));
}
