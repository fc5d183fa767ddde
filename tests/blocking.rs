//! The whole life of a node in a process without an async runtime.
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

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let start = |set: &dyn Fn(driftless::NodeBuilder) -> driftless::NodeBuilder| {
        let builder = Node::builder().cluster("blocking").bind(([127, 0, 0, 1], 0).into());
        set(builder).start_blocking().map(|node| node.shutdown_blocking()).unwrap_err().to_string()
    };
    assert!(start(&|it| it.encryption_keys([])).contains("no key"), "not an unencrypted cluster");
    assert!(start(&|it| it.name("a\0b")).contains("control characters"));
    for seed in
        ["127.0.0.1:7946,127.0.0.1:7947", "http://localhost:7946", " 127.0.0.1:7946", "::1:7946", "[]:1", ":1", "a:0"]
    {
        assert!(start(&|it| it.seeds([seed])).contains("host:port"), "{seed}");
    }
    for address in ["224.0.0.1:1", "255.255.255.255:1", "[::1]:1", "0.0.0.0:1", "127.0.0.1:0"] {
        assert!(start(&|it| it.advertise(address.parse().unwrap())).contains("advertise"), "{address}");
    }
}

#[test]
fn the_longest_intervals_are_taken() {
    let alone = node(&[]);
    let mut config = driftless::ReplicaConfig::default();
    config.audit_interval = Duration::MAX;
    let cache = alone.cache::<u32, u32>("seldom").replication(config).open().unwrap();
    cache.insert(1, 1).unwrap();
    cache.run_pending_tasks();
    assert_eq!(cache.get(&1), Some(1));
    alone.shutdown_blocking();
}

/// Checks that `shutdown` needs neither the timers nor the sockets of a runtime.
#[test]
fn any_runtime_can_wait_for_the_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { node(&[]).shutdown().await });
    let other = node(&[]);
    let mut shutdown = std::pin::pin!(other.shutdown());
    let thread = std::thread::current();
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(thread)));
    while shutdown.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending() {
        std::thread::park();
    }
    assert!(!other.is_running());
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

/// Checks a wait with a time limit while a listener blocks the driver. The driver calls the listener for expired
/// values, and would also answer the wait.
#[test]
fn a_listener_that_blocks_does_not_hold_up_a_wait_with_a_time_limit() {
    let alone = node(&[]);
    let (told, entered) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let listener = move |_, _, _| {
        let _ = told.send(());
        let _ = released.lock().unwrap().recv();
    };
    let cache: Cache<String, u32> = alone.cache("plain").eviction_listener(listener).open().unwrap();
    cache.insert_with_ttl("a".into(), 1, Duration::from_millis(10)).unwrap();
    entered.recv_timeout(SOON).unwrap();
    let (done, answer) = std::sync::mpsc::channel();
    let asking = cache.clone();
    std::thread::spawn(move || done.send(asking.ready_blocking(Duration::from_millis(50))));
    let answer = answer.recv_timeout(SOON);
    drop(release);
    let Ready::TimedOut { waiting_for, .. } = answer.unwrap() else { panic!("the driver is blocked") };
    assert_eq!(waiting_for, ["this node, whose driver is blocked"]);
    alone.shutdown_blocking();
}
