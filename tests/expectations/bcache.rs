//! Expectations of users of iwanbk/bcache (Go). `tests/bcache.rs` has its failures.

use std::time::Duration;

use driftless::{Cache, FillError, Node, NodeSettings, StartError};

use super::support::{NoRow, SOON, arrives, at_most, both, eventually, fresh_name, numbers, pair};

const HOUR: Duration = Duration::from_secs(3_600);
const BLINK: Duration = Duration::from_millis(40);

#[test]
fn each_of_two_peers_reads_what_its_peer_sets() {
    let [one, two] = both::<String, String>();
    one.insert("key1".into(), "val1".into()).unwrap();
    arrives(&two, &"key1".to_owned(), &Some("val1".to_owned()));
    two.insert("key2".into(), "val2".into()).unwrap();
    arrives(&one, &"key2".to_owned(), &Some("val2".to_owned()));
}

#[test]
fn a_peer_that_joins_later_gets_what_was_set_before() {
    let name = fresh_name();
    let one: Cache<u32, u32> = pair()[0].cache(&name).open().unwrap();
    one.insert_many((0..15).map(|key| (key, key))).unwrap();
    let two: Cache<u32, u32> = pair()[1].cache(&name).open().unwrap();
    assert!(two.ready_blocking(SOON).is_ready());
    assert!((0..15).all(|key| two.get(&key) == Some(key)));
}

#[test]
fn a_filler_fills_and_a_filler_that_fails_returns_its_error() {
    let cache = numbers();
    assert_eq!(cache.try_get_with_blocking(1, || Ok::<_, NoRow>(10)).unwrap(), 10);
    assert_eq!(cache.get(&1), Some(10));
    let failed = cache.try_get_with_blocking(2, || Err::<u32, _>(NoRow));
    assert!(matches!(failed, Err(FillError::Failed(error)) if *error == NoRow));
    assert_eq!(cache.get(&2), None);
}

#[test]
fn an_address_without_a_port_or_with_a_bad_one_is_refused() {
    for address in ["127.0.0.1", "127.0.0.1:abcd"] {
        assert!(address.parse::<std::net::SocketAddr>().is_err());
        let text = format!(r#"{{ "bind": "{address}" }}"#);
        assert!(serde_json::from_str::<NodeSettings>(&text).is_err(), "{address}");
    }
}

#[test]
fn an_address_in_use_is_an_error_of_the_start() {
    let taken = pair()[0].local_addr();
    let result = Node::builder().cluster("other").bind(taken).start_blocking();
    assert!(matches!(result, Err(StartError::Network { .. })), "{result:?}");
}

#[test]
fn an_expired_value_is_not_returned() {
    // Differs: migrating-from-bcache.md, "What to change in your code", "**Drop the check for expiry**"
    let cache = numbers();
    cache.insert_with_ttl(1, 10, Duration::from_millis(1)).unwrap();
    std::thread::sleep(BLINK);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn an_expiry_time_is_no_version() {
    // Differs: migrating-from-bcache.md, "What to change in your code", "**Drop the timestamps.**"
    let cache = numbers();
    cache.insert_with_ttl(1, 10, HOUR).unwrap();
    cache.insert_with_ttl(1, 11, HOUR / 60).unwrap();
    assert_eq!(cache.get(&1), Some(11), "a shorter time does not lose");
    cache.remove(&1);
    assert_eq!(cache.get(&1), None, "a delete needs no time");
}

#[test]
fn a_set_without_an_expiry_stays() {
    let cache = numbers();
    cache.insert(1, 10).unwrap();
    assert_eq!(cache.entry(&1).unwrap().expires_in(), None);
}

#[test]
fn the_number_of_keys_is_bounded_on_each_node() {
    // Differs: migrating-from-bcache.md, "Configuration", "on each node separately"
    let cache = at_most(100);
    cache.insert_many((0..1_000).map(|key| (key, key))).unwrap();
    assert_eq!(cache.entry_count(), 100);
}

#[test]
fn each_start_draws_an_id() {
    // Differs: migrating-from-bcache.md, "Configuration", "every start draws a fresh id"
    let [one, two] = both::<u32, u32>();
    assert_ne!(one.replica_id(), two.replica_id());
}

#[test]
fn a_node_has_any_number_of_caches_of_any_type() {
    // Differs: migrating-from-bcache.md, "Configuration", "one cache for a process"
    let numbers = numbers();
    let texts: Cache<String, Vec<u8>> = super::support::local().open().unwrap();
    numbers.insert(1, 10).unwrap();
    texts.insert("key".into(), vec![1]).unwrap();
    assert_eq!((numbers.get(&1), texts.get("key")), (Some(10), Some(vec![1])));
}

#[test]
fn close_frees_the_port_and_can_be_called_twice() {
    let address = crate::addresses::unused();
    let node = Node::builder().cluster("closing").bind(address).start_blocking().unwrap();
    assert!(node.shutdown_blocking().is_empty());
    assert!(node.shutdown_blocking().is_empty());
    assert!(!node.is_running());
    let again = || Node::builder().cluster("closing").bind(address).start_blocking().is_ok();
    eventually("the port", again, |started| *started);
}
