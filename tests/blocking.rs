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

/// Returns an error and its sources, as a log of a whole chain prints them.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn an_address_that_cannot_be_used_is_named_with_the_fix_and_the_system_is_quoted_once() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap();
    let refused = |bind: &str| {
        let error = Node::builder().cluster("blocking").bind(bind.parse().unwrap()).start_blocking().unwrap_err();
        (error.to_string(), chain(&error))
    };
    // 192.0.2.0/24 is reserved for documentation (RFC 5737): no machine has such an address.
    for (bind, fix) in
        [(taken.to_string(), "another process uses"), ("192.0.2.1:7946".into(), "not one of this machine")]
    {
        let (said, chain) = refused(&bind);
        assert!(said.contains("`bind`") && said.contains(&bind) && said.contains(fix), "{said}");
        assert_eq!(chain.matches("os error").count(), 1, "{chain}");
    }
    drop(held);
}

#[test]
fn host_names_are_taken_where_addresses_are() {
    let start = |bind: &str, advertise: Option<&str>| {
        let builder = Node::builder().cluster("blocking").bind_host(bind);
        advertise.map_or(builder.clone(), |it| builder.advertise_host(it)).start_blocking()
    };
    let node = start("localhost:0", None).unwrap();
    assert!(node.local_addr().ip().is_loopback() && node.local_addr().port() != 0);
    node.shutdown_blocking();
    let node = start("127.0.0.1:0", Some("localhost:7946")).unwrap();
    assert_eq!(node.name(), "127.0.0.1:7946", "of the family of the bound address");
    node.shutdown_blocking();
    let mut settings = driftless::NodeSettings::default();
    settings.bind = "localhost:0".parse().unwrap();
    let node = Node::builder().settings(settings).start_blocking().unwrap();
    assert!(node.local_addr().is_ipv4());
    node.shutdown_blocking();
    for (bind, advertise, parts) in [
        ("localhost", None, ["`bind`", "\"localhost\"", "localhost:7946"]),
        ("no-such-host.invalid:1", None, ["`bind`", "no-such-host.invalid:1", "does not resolve"]),
        ("127.0.0.1:0", Some("nowhere"), ["`advertise`", "\"nowhere\"", "`host:port`"]),
        ("127.0.0.1:0", Some("localhost:0"), ["`advertise`", "127.0.0.1:0", "must be"]),
    ] {
        let error = start(bind, advertise).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

/// The keys that `iter` yields are taken by every operation on keys, as are borrowed forms.
#[test]
fn the_keys_of_an_iterator_can_be_looked_up() {
    let alone = node(&[]);
    let cache = open(&alone);
    for n in 0..10 {
        cache.insert(n.to_string(), n).unwrap();
    }
    for (key, value) in &cache {
        assert_eq!(cache.entry(&key).map(|entry| entry.into_value()), Some(value));
        assert_eq!(
            (cache.get(&key), cache.get(&*key), cache.get(key.as_str())),
            (Some(value), Some(value), Some(value))
        );
        assert!(cache.contains_key(&key));
    }
    let keys: Vec<_> = cache.iter().map(|(key, _)| key).collect();
    assert!(cache.get_many(&keys).iter().all(Option::is_some));
    assert!(cache.remove(&keys[0]).is_some());
    cache.invalidate(&keys[1]);
    assert_eq!(cache.remove_many(&keys[..5]), 3);
    assert_eq!(cache.remove_many([keys[0].as_str(), keys[5].as_str()]), 1);
    alone.shutdown_blocking();
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
