//! Expectations of users of chitchat 0.13 (a key-value state for each node, spread by gossip).

use std::time::Duration;

use driftless::{Cache, ChangeKind, Members, Node, RemovalCause};

use super::support::{
    SOON, arrives, both, both_with, collecting_soon, eventually, fresh_name, keys, lone, numbers, pair,
};

const BLINK: Duration = Duration::from_millis(40);

#[test]
fn any_node_may_write_any_key() {
    // Differs: coming-from-other-caches.md, "chitchat", "each node has key-values of its own"
    let [one, two] = both::<String, u32>();
    one.insert("load".into(), 1).unwrap();
    arrives(&two, &"load".to_owned(), &Some(1));
    two.insert("load".into(), 2).unwrap();
    arrives(&one, &"load".to_owned(), &Some(2));
}

#[test]
fn the_writer_of_a_value_can_be_read() {
    let [one, two] = both::<u32, u32>();
    one.insert(1, 10).unwrap();
    arrives(&two, &1, &Some(10));
    assert_eq!(two.entry(&1).unwrap().origin(), one.replica_id());
}

#[test]
fn the_version_of_a_key_rises_with_each_set_also_of_an_equal_value() {
    let cache = numbers();
    let stamps: Vec<_> = (0..10).map(|_| cache.insert(1, 10).unwrap().stamp).collect();
    assert!(stamps.is_sorted_by(|before, after| before < after));
    assert_eq!(cache.entry(&1).unwrap().stamp(), stamps[9]);
}

#[test]
fn a_deleted_key_is_a_tombstone_and_can_be_set_again() {
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    cache.remove(&1);
    assert_eq!((cache.get(&1), cache.entry_count()), (None, 0));
    cache.insert(1, 11).unwrap();
    assert_eq!(cache.get(&1), Some(11));
}

#[test]
fn delete_after_a_time_is_a_write_with_a_time_to_live() {
    // Differs: coming-from-other-caches.md, "chitchat", "`delete_after_ttl`"
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    let value = cache.get(&1).unwrap();
    cache.insert_with_ttl(1, value, BLINK).unwrap();
    std::thread::sleep(BLINK);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn set_with_a_time_to_live_deletes_everywhere() {
    let [one, two] = both::<u32, u32>();
    one.insert_with_ttl(1, 10, Duration::from_millis(200)).unwrap();
    arrives(&one, &1, &None);
    arrives(&two, &1, &None);
}

#[test]
fn tombstones_go_once_all_nodes_know_and_not_after_a_fixed_time() {
    // Differs: coming-from-other-caches.md, "chitchat", "`marked_for_deletion_grace_period`"
    let [one, two] = both_with::<u32, u32>(collecting_soon);
    one.insert(1, 10).unwrap();
    one.remove(&1);
    assert_eq!(one.stats().removals.explicit, 1);
    eventually("collection", || (one.stats().tombstones, two.stats().tombstones), |seen| *seen == (0, 0));
}

#[test]
fn keys_with_a_prefix_are_found_by_iteration() {
    // Differs: coming-from-other-caches.md, "Shared by several", "queries, predicates and prefixes"
    let cache: Cache<String, u32> = lone().cache(&fresh_name()).open().unwrap();
    for key in ["node/a", "node/b", "task/a"] {
        cache.insert(key.into(), 1).unwrap();
    }
    let mut found: Vec<_> = cache.iter().filter(|(key, _)| key.starts_with("node/")).map(|(key, _)| key).collect();
    found.sort();
    assert_eq!(found.iter().map(|key| key.as_str()).collect::<Vec<_>>(), ["node/a", "node/b"]);
}

#[test]
fn a_subscriber_sees_each_change_and_filters_by_prefix_itself() {
    // Differs: coming-from-other-caches.md, "chitchat", "a listener for the keys with a prefix"
    let [one, two] = both::<String, u32>();
    let mut changes = two.subscribe();
    one.insert("task/a".into(), 1).unwrap();
    one.insert("node/a".into(), 2).unwrap();
    let event = loop {
        let event = changes.recv_timeout(SOON).unwrap();
        if event.key().starts_with("node/") {
            break event;
        }
    };
    assert_eq!((event.kind(), event.value()), (ChangeKind::Inserted, Some(&2)));
}

#[test]
fn a_subscriber_also_hears_of_deletions() {
    let [one, two] = both::<u32, u32>();
    one.insert(1, 10).unwrap();
    arrives(&two, &1, &Some(10));
    let mut changes = two.subscribe();
    one.remove(&1);
    assert_eq!(changes.recv_timeout(SOON).unwrap().kind(), ChangeKind::Removed(RemovalCause::Explicit));
}

#[test]
fn the_values_of_a_node_that_left_stay() {
    // Differs: coming-from-other-caches.md, "chitchat", "the state of a dead node is collected"
    let start = |seeds: &[&Node]| {
        let seeds: Vec<_> = seeds.iter().map(|node| node.local_addr().to_string()).collect();
        Node::builder().cluster("leaving").seeds(seeds).local_timing().start_blocking().unwrap()
    };
    let one = start(&[]);
    let two = start(&[&one]);
    two.wait_for_members_blocking(1, SOON).unwrap();
    let [here, there]: [Cache<u32, u32>; 2] = [&one, &two].map(|node| node.cache("state").open().unwrap());
    there.insert(1, 10).unwrap();
    there.wait_replicated_blocking(there.last_written().unwrap(), Members::Count(1), SOON).unwrap();
    two.shutdown_blocking();
    eventually("departure", || (one.members().len(), here.members()), |seen| *seen == (0, 0));
    assert_eq!(here.get(&1), Some(10));
    one.shutdown_blocking();
}

#[test]
fn the_live_nodes_can_be_listed() {
    // Differs: coming-from-other-caches.md, "chitchat", "a stream of live nodes"
    let [one, two] = pair();
    let names = one.members().into_iter().map(|member| member.name).collect::<Vec<_>>();
    assert_eq!(names, [two.name()]);
}

#[test]
fn the_failure_detector_has_no_settings() {
    // Differs: coming-from-other-caches.md, "chitchat", "`FailureDetectorConfig`"
    let refused =
        serde_json::from_str::<driftless::NodeSettings>(r#"{ "phi_threshold": 8.0 }"#).unwrap_err().to_string();
    assert!(refused.contains("unknown field `phi_threshold`"), "{refused}");
}

#[test]
fn nodes_of_another_cluster_name_are_not_met() {
    let other = Node::builder()
        .cluster("another cluster")
        .seeds([lone().local_addr().to_string()])
        .local_timing()
        .start_blocking()
        .unwrap();
    assert!(other.wait_for_members_blocking(1, Duration::from_millis(300)).is_err());
    assert!(other.members().is_empty() && lone().members().is_empty());
}

#[test]
fn a_state_larger_than_a_datagram_is_spread() {
    let [one, two] = both::<u32, String>();
    one.insert_many((0..100).map(|key| (key, "x".repeat(5_000)))).unwrap();
    eventually("all", || two.entry_count(), |seen| *seen == 100);
    assert_eq!(keys(&two), (0..100).collect::<Vec<_>>());
}
