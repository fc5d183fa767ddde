//! The whole life of a node in a process without a runtime.
#![cfg(feature = "node")]

mod common;

use std::time::Duration;

use common::{SOON, eventually};
use driftless::{Cache, Members, Node, Ready};

fn node(seeds: &[String]) -> Node {
    Node::builder().cluster("blocking").bind(([127, 0, 0, 1], 0).into()).seeds(seeds).start_blocking().unwrap()
}

fn open(node: &Node) -> Cache<String, u32> {
    node.cache("plain").open().unwrap()
}

#[test]
fn nothing_needs_a_runtime() {
    let first = node(&[]);
    let second = node(&[first.local_addr().to_string()]);
    let (here, there) = (open(&first), open(&second));
    let ready = there.ready_blocking(SOON);
    assert!(matches!(ready, Ready::CaughtUp { .. } | Ready::First { .. }), "{ready:?}");
    assert!(!matches!(here.ready_blocking(SOON), Ready::TimedOut { .. }));

    let written = here.insert("a".into(), 1).unwrap();
    eventually("they meet", || here.members(), |members| *members == 1);
    let replicated = here.wait_replicated_blocking(written, Members::Count(1), SOON).unwrap();
    assert_eq!(replicated.seen, [there.replica_id()]);
    assert_eq!(there.get("a"), Some(1));

    second.shutdown_blocking();
    first.shutdown_blocking();
    first.shutdown_blocking();
    assert_eq!(here.get("a"), Some(1), "what is here stays readable");
}

#[test]
fn waiting_in_vain_ends_when_the_time_is_up() {
    let alone = node(&[]);
    let cache = open(&alone);
    assert!(matches!(cache.ready_blocking(SOON), Ready::Alone));
    let written = cache.insert("a".into(), 1).unwrap();
    let missing = cache.wait_replicated_blocking(written, Members::Count(1), Duration::from_millis(50)).unwrap_err();
    assert!(missing.seen.is_empty());
    alone.shutdown_blocking();
}

#[test]
fn a_port_that_is_taken_is_an_error_with_its_cause() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let started = Node::builder().cluster("blocking").bind(taken.local_addr().unwrap()).start_blocking();
    let error = std::error::Error::source(&started.unwrap_err()).map(ToString::to_string);
    assert!(error.is_some_and(|why| why.contains("in use")));
}

#[test]
fn a_cache_can_be_walked_with_a_for_loop() {
    let alone = node(&[]);
    let cache = open(&alone);
    (0..1_000).for_each(|n| {
        cache.insert(n.to_string(), n).unwrap();
    });
    let mut sum = 0;
    for (key, value) in &cache {
        assert_eq!(key.parse(), Ok(value));
        sum += value;
    }
    assert_eq!(sum, 499_500);
    alone.shutdown_blocking();
}
