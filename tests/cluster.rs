//! Tests of several real nodes over loopback: the promises that a user of several processes sees.

#[path = "common/addresses.rs"]
mod addresses;
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::{SOON, cluster, converge_to, eventually, node, open, stop};
use driftless::{Cache, Node, OpenError, Ready, RemovalCause};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_read_and_a_delete_is_seen_everywhere() {
    let (nodes, caches) = cluster("rw", 3).await;
    caches[0].insert("key".into(), "value".into()).unwrap();
    for cache in &caches {
        eventually("read", || cache.get("key"), |seen| seen.as_deref() == Some("value"));
    }
    assert_eq!(caches[1].remove("key").as_deref(), Some("value"));
    for cache in &caches {
        eventually("delete", || cache.get("key"), Option::is_none);
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_catches_up() {
    let a = node("join", &[]).await;
    let first = open(&a);
    assert_eq!(first.ready(SOON).await, Ready::Alone);
    for n in 0..20_000 {
        first.insert(format!("key-{n}"), format!("value-{n}")).unwrap();
    }
    let b = node("join", &[&a]).await;
    let second = open(&b);
    let ready = second.ready(SOON).await;
    assert!(matches!(ready, Ready::CaughtUp { .. }), "{ready}");
    assert_eq!(second.entry_count(), 20_000);
    assert_eq!(second.get("key-19999").as_deref(), Some("value-19999"));
    stop(vec![a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_after_deletes_and_an_epoch_sees_none_of_what_is_gone() {
    let (mut nodes, mut caches) = cluster("join-after", 2).await;
    for n in 0..2_000 {
        caches[0].insert(format!("old-{n}"), "old".into()).unwrap();
    }
    caches[1].invalidate_all();
    for n in 0..100 {
        caches[0].insert(format!("new-{n}"), "new".into()).unwrap();
    }
    // The writer may not have received the epoch when it wrote these. So the expected state is the one both nodes agree
    // on.
    eventually("agreement", || (caches[0].entry_count(), caches[1].entry_count()), |(a, b)| a == b && *a <= 100);
    let joiner = node("join-after", &[&nodes[1]]).await;
    caches.push(open(&joiner));
    nodes.push(joiner);
    assert!(caches[2].ready(SOON).await.is_ready());
    let expected: BTreeMap<_, _> = caches[0].iter().map(|(key, value)| (key.to_string(), value)).collect();
    converge_to(&caches, &expected);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_caches_share_one_node_and_keep_apart() {
    let (nodes, _) = cluster("caches", 2).await;
    let open = |node: &Node, name| -> Cache<u64, u64> { node.cache(name).open().unwrap() };
    let (a1, a2) = (open(&nodes[0], "one"), open(&nodes[0], "two"));
    let (b1, b2) = (open(&nodes[1], "one"), open(&nodes[1], "two"));
    a1.insert(1, 10).unwrap();
    a2.insert(1, 20).unwrap();
    eventually("one", || b1.get(&1), |seen| *seen == Some(10));
    eventually("two", || b2.get(&1), |seen| *seen == Some(20));
    b1.invalidate_all();
    eventually("one is empty", || a1.get(&1), Option::is_none);
    assert_eq!(a2.get(&1), Some(20));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_others_do_not_have_open_is_first_and_is_found_later() {
    // scenario 70: a cache that no peer has open is `First`; a peer that opens it later catches up.
    let (nodes, _) = cluster("late-open", 2).await;
    let early: Cache<String, String> = nodes[0].cache("late").open().unwrap();
    assert_eq!(early.ready(SOON).await, Ready::First { members: 1 });
    early.insert("k".into(), "v".into()).unwrap();
    let late: Cache<String, String> = nodes[1].cache("late").open().unwrap();
    assert!(matches!(late.ready(SOON).await, Ready::CaughtUp { .. }));
    assert_eq!(late.get("k").as_deref(), Some("v"));
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_opened_with_other_types_is_an_error_and_with_the_same_types_the_same_cache() {
    let a = node("types", &[]).await;
    let first: Cache<String, u32> = a.cache("c").open().unwrap();
    let again: Cache<String, u32> = a.cache("c").open().unwrap();
    assert_eq!(first.replica_id(), again.replica_id());
    let other = a.cache::<String, String>("c").open();
    assert_eq!(other.unwrap_err(), OpenError::OtherTypes("c".into()));
    drop((first, again));
    let reopened: Cache<String, String> = a.cache("c").open().unwrap();
    assert_eq!(reopened.entry_count(), 0, "every opening is a new replica");
    stop(vec![a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_another_type_are_kept_and_relayed() {
    // scenario 84: node `b` reads the values as numbers, `a` and `c` as text. A value that does not decode is kept and
    // relayed.
    let a = node("opaque", &[]).await;
    let b = node("opaque", &[&a]).await;
    let text: Cache<String, String> = a.cache("c").open().unwrap();
    let numbers: Cache<String, u64> = b.cache("c").open().unwrap();
    assert!(numbers.ready(SOON).await.is_ready());
    text.insert("word".into(), "hello".into()).unwrap();
    numbers.insert("number".into(), 7).unwrap();
    eventually("both count", || (text.entry_count(), numbers.entry_count()), |seen| *seen == (2, 2));
    assert_eq!(numbers.get("word"), None, "does not decode here");
    assert_eq!(numbers.get("number"), Some(7));
    let c = node("opaque", &[&b]).await;
    let late: Cache<String, String> = c.cache("c").open().unwrap();
    assert!(late.ready(SOON).await.is_ready());
    eventually("relayed", || late.get("word"), |seen| seen.as_deref() == Some("hello"));
    stop(vec![a, b, c]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_the_same_name_comes_back_empty_and_catches_up() {
    // scenario 64: a restart under the same name is a new replica, whose writes count.
    let a = node("restart", &[]).await;
    let named = |seed: String| Node::builder().cluster("restart").name("b").seeds([seed]).local_timing().start();
    let seed = a.local_addr().to_string();
    let b = named(seed.clone()).await.unwrap();
    let (first, second) = (open(&a), open(&b));
    assert!(second.ready(SOON).await.is_ready());
    second.insert("before".into(), "1".into()).unwrap();
    eventually("arrives", || first.get("before"), Option::is_some);
    b.shutdown().await;
    drop((second, b));
    let b = named(seed).await.unwrap();
    let second = open(&b);
    assert!(second.ready(SOON).await.is_ready());
    assert_eq!(second.get("before").as_deref(), Some("1"));
    second.insert("after".into(), "2".into()).unwrap();
    eventually("new writes count", || first.get("after"), |seen| seen.as_deref() == Some("2"));
    stop(vec![a, b]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_hands_over_what_was_just_written() {
    let (mut nodes, caches) = cluster("handover", 2).await;
    for n in 0..5_000 {
        caches[1].insert(format!("last-{n}"), "words".into()).unwrap();
    }
    nodes.pop().unwrap().shutdown().await;
    eventually("handed over", || caches[0].entry_count(), |seen| *seen == 5_000);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_longer_than_failure_detection_heals_with_seeds_only() {
    // scenario 62, scenario 18: the short form; the simulator runs the long one.
    let (nodes, caches) = cluster("cut", 3).await;
    for n in 0..300 {
        caches[0].insert(format!("key-{n}"), "old".into()).unwrap();
    }
    let before: BTreeMap<_, _> = (0..300).map(|n| (format!("key-{n}"), "old".to_owned())).collect();
    converge_to(&caches, &before);
    let lone = nodes[2].local_addr();
    let others = vec![nodes[0].local_addr(), nodes[1].local_addr()];
    nodes[0].sever(Some(vec![lone]));
    nodes[1].sever(Some(vec![lone]));
    nodes[2].sever(Some(others));
    eventually("cut is noticed", || nodes[2].members().len(), |seen| *seen == 0);
    eventually("cut is noticed", || nodes[0].members().len(), |seen| *seen == 1);
    for n in 0..100 {
        caches[0].remove(&format!("key-{n}"));
        caches[1].insert(format!("key-{}", n + 100), "new".into()).unwrap();
        caches[2].insert(format!("lone-{n}"), "alone".into()).unwrap();
    }
    nodes.iter().for_each(|node| node.sever(None));
    let mut expected: BTreeMap<_, _> =
        (100..300).map(|n| (format!("key-{n}"), if n < 200 { "new" } else { "old" }.to_owned())).collect();
    expected.extend((0..100).map(|n| (format!("lone-{n}"), "alone".to_owned())));
    converge_to(&caches, &expected);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_member_returns_and_nothing_is_resurrected() {
    // scenario 20: a member is forgotten while unreachable, its peers collect tombstones, and it returns with the old
    // values.
    let (nodes, _) = cluster("forgotten", 3).await;
    let mut replication = driftless::ReplicaConfig::default();
    replication.gc_grace = Duration::ZERO;
    replication.max_drift = Duration::from_millis(100);
    replication.digest_interval = Duration::from_millis(50);
    let open =
        |node: &Node| -> Cache<String, String> { node.cache("brief").replication(replication.clone()).open().unwrap() };
    let caches: Vec<_> = nodes.iter().map(open).collect();
    for cache in &caches {
        assert!(cache.ready(SOON).await.is_ready());
    }
    for n in 0..400 {
        caches[0].insert(format!("key-{n}"), "old".into()).unwrap();
    }
    eventually("spread", || caches[2].entry_count(), |seen| *seen == 400);
    let lone = nodes[2].local_addr();
    nodes[0].sever(Some(vec![lone]));
    nodes[1].sever(Some(vec![lone]));
    nodes[2].sever(Some(vec![nodes[0].local_addr(), nodes[1].local_addr()]));
    eventually("cut is noticed", || nodes[0].members().len(), |seen| *seen == 1);
    assert!(nodes[0].forget(nodes[2].name()).await && nodes[1].forget(nodes[2].name()).await);
    for n in 0..400 {
        caches[1].remove(&format!("key-{n}"));
    }
    eventually(
        "collected",
        || caches[..2].iter().map(|cache| cache.counters().collected).collect::<Vec<_>>(),
        |seen| seen.iter().all(|count| *count == 400),
    );
    nodes.iter().for_each(|node| node.sever(None));
    converge_to(&caches, &BTreeMap::new());
    assert!(caches[2].counters().reconciles_in > 0, "{:?}", caches[2].counters());
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eviction_is_local_and_a_small_node_spoils_nothing_for_others() {
    // scenario 39: evictions of a small node remove nothing on its peers.
    let (nodes, _) = cluster("small", 3).await;
    let small: Cache<u32, u32> = nodes[0].cache("c").max_capacity(10).open().unwrap();
    let large: Vec<Cache<u32, u32>> = nodes[1..].iter().map(|node| node.cache("c").open().unwrap()).collect();
    assert!(small.ready(SOON).await.is_ready());
    for cache in &large {
        assert!(cache.ready(SOON).await.is_ready());
    }
    eventually("knows the other nodes", || small.members(), |seen| *seen == 2);
    for n in 0..1_000 {
        small.insert(n, n).unwrap();
        assert!(small.entry_count() <= 10);
    }
    for cache in &large {
        eventually("nodes without a capacity keep all", || cache.entry_count(), |seen| *seen == 1_000);
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_receives_remote_changes_with_their_cause() {
    let (nodes, caches) = cluster("listen", 2).await;
    let (told, heard) = std::sync::mpsc::channel();
    let listening: Cache<String, String> = nodes[0]
        .cache("l")
        .eviction_listener(move |key: std::sync::Arc<String>, value, cause| {
            told.send((key.to_string(), value, cause)).unwrap()
        })
        .open()
        .unwrap();
    let other: Cache<String, String> = nodes[1].cache("l").open().unwrap();
    assert!(listening.ready(SOON).await.is_ready() && other.ready(SOON).await.is_ready());
    other.insert("k".into(), "1".into()).unwrap();
    eventually("arrives", || listening.get("k"), Option::is_some);
    other.insert("k".into(), "2".into()).unwrap();
    eventually("arrives", || listening.get("k"), |seen| seen.as_deref() == Some("2"));
    other.remove("k");
    let heard: Vec<_> = (0..2).map(|_| heard.recv_timeout(SOON).unwrap()).collect();
    let expected = [("1", RemovalCause::Replaced), ("2", RemovalCause::Explicit)];
    assert_eq!(heard, expected.map(|(value, cause)| ("k".to_owned(), value.to_owned(), cause)));
    drop(caches);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_nodes_share_and_a_plaintext_one_is_kept_out() {
    // scenario 80: a node without the key can neither join nor read.
    let key = [7; 32];
    let secret =
        |seeds: Vec<String>| Node::builder().cluster("secret").encryption_key(key).seeds(seeds).local_timing().start();
    let a = secret(vec![]).await.unwrap();
    let b = secret(vec![a.local_addr().to_string()]).await.unwrap();
    let plain = node("secret", &[&a]).await;
    let (first, second, outside) = (open(&a), open(&b), open(&plain));
    assert!(second.ready(SOON).await.is_ready());
    first.insert("k".into(), "v".into()).unwrap();
    eventually("shared", || second.get("k"), Option::is_some);
    let ready = outside.ready(Duration::from_millis(500)).await;
    assert!(matches!(&ready, Ready::TimedOut { waiting_for, .. } if waiting_for.len() == 1), "{ready}");
    assert_eq!(outside.get("k"), None);
    assert!(plain.members().is_empty() && a.members().len() == 1);
    stop(vec![a, b, plain]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seeds_that_are_down_do_not_fail_the_start_and_are_found_when_they_come() {
    let addr = addresses::unused();
    let early = Node::builder().cluster("late-seed").seeds([addr.to_string()]).local_timing().start().await.unwrap();
    let cache = open(&early);
    assert!(!cache.ready(Duration::from_millis(100)).await.is_ready());
    let seed = Node::builder().cluster("late-seed").bind(addr).local_timing().start().await.unwrap();
    let there = open(&seed);
    there.insert("k".into(), "v".into()).unwrap();
    eventually("found", || cache.get("k"), Option::is_some);
    stop(vec![early, seed]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_are_refused_with_what_to_do() {
    let refused = Node::builder().seeds(["nowhere"]).start().await.unwrap_err().to_string();
    assert!(refused.contains("host:port"), "{refused}");
    let refused = Node::builder().bind("0.0.0.0:0".parse().unwrap()).start().await.unwrap_err().to_string();
    assert!(refused.contains("advertise"), "{refused}");
    let taken = node("taken", &[]).await;
    let refused = Node::builder().bind(taken.local_addr()).start().await.unwrap_err().to_string();
    assert!(refused.contains("bind"), "{refused}");
    let a = node("bad", &[]).await;
    assert_eq!(a.cache::<u32, u32>("").open().unwrap_err(), OpenError::Name(0));
    let zero = a.cache::<u32, u32>("c").time_to_live(Duration::ZERO).open();
    let zero = zero.unwrap_err();
    assert_eq!(zero, OpenError::Settings { cache: "c".into(), error: Box::new(OpenError::ZeroTimeToLive) });
    assert!(["`c`", "time_to_live is 0s", "leave it out"].iter().all(|part| zero.to_string().contains(part)), "{zero}");
    a.shutdown().await;
    assert_eq!(a.cache::<u32, u32>("c").open().unwrap_err(), OpenError::NodeIsDown);
    stop(vec![taken]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shut_down_node_frees_its_port_and_its_threads() {
    // scenario 88: the short form.
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let addr = addresses::unused();
    let first = Node::builder().cluster("ports").bind(addr).local_timing().start().await.unwrap();
    first.shutdown().await;
    first.shutdown().await;
    drop(first);
    let before = threads();
    for _ in 0..20 {
        let again = Node::builder().cluster("ports").bind(addr).local_timing().start().await.unwrap();
        let cache = open(&again);
        cache.insert("k".into(), "v".into()).unwrap();
        again.shutdown().await;
        assert_eq!(cache.get("k").as_deref(), Some("v"), "still readable");
    }
    let start = Instant::now();
    while threads() > before + 8 && start.elapsed() < SOON {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(threads() <= before + 8, "{} threads, {before} before", threads());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_cache_holds_nothing_back() {
    let (nodes, mut caches) = cluster("closed", 2).await;
    assert_eq!(caches[0].members(), 1);
    drop(caches.pop());
    eventually("the departed member is forgotten", || caches[0].members(), |seen| *seen == 0);
    let again = open(&nodes[1]);
    assert!(again.ready(SOON).await.is_ready());
    caches[0].insert("k".into(), "v".into()).unwrap();
    eventually("a new replica takes part", || again.get("k"), Option::is_some);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_shut_down_says_so() {
    let (mut nodes, _caches) = cluster("says-so", 2).await;
    let gone = nodes.pop().unwrap();
    assert!(gone.is_running());
    gone.shutdown().await;
    eventually("stopped", || gone.is_running(), |running| !running);
    stop(nodes).await;
}

#[test]
fn a_cache_works_outside_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let a = runtime.block_on(node("outside", &[]));
    let b = runtime.block_on(node("outside", &[&a]));
    let (first, second) = (open(&a), open(&b));
    first.insert("k".into(), "v".into()).unwrap();
    eventually("no runtime is driven, yet it arrives", || second.get("k"), Option::is_some);
    drop((a, b, first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_the_last_handle_went_arrives() {
    let (nodes, mut caches) = cluster("last-words", 2).await;
    let there = caches.pop().unwrap();
    for round in 0..8 {
        let name = format!("short-lived-{round}");
        let here: Cache<u64, u64> = nodes[0].cache(&name).open().unwrap();
        let there: Cache<u64, u64> = nodes[1].cache(&name).open().unwrap();
        eventually("they meet", || here.members(), |seen| *seen == 1);
        here.insert(round, round).unwrap();
        drop(here);
        eventually("arrived", || there.get(&round), |seen| *seen == Some(round));
        // The closed replica is kept no longer than needed for the handover.
        eventually("closed", || there.members(), |seen| *seen == 0);
    }
    drop(there);
    stop(nodes).await;
}

#[test]
fn a_cache_whose_last_handle_is_gone_is_not_found_again() {
    let lone = Node::builder().cluster("reopened").start_blocking().unwrap();
    for round in 0..3_000 {
        let numbers: Cache<u64, u64> = lone.cache("c").open().unwrap();
        assert_eq!(numbers.entry_count(), 0);
        numbers.insert(round, round).unwrap();
        let again: Cache<u64, u64> = lone.cache("c").open().unwrap();
        drop(numbers);
        assert!(lone.cache::<String, String>("c").open().is_err());
        assert_eq!(again.get(&round), Some(round), "a handle is left");
        drop(again);
        let words: Cache<String, String> = lone.cache("c").open().unwrap();
        assert_eq!(words.entry_count(), 0);
    }
    lone.shutdown_blocking();
}

/// Checks that abandoned waits leave nothing behind: a prober calls `ready` 40,000 times and drops each future.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_stopped_waiting_costs_nothing() {
    let addr = addresses::unused();
    let early = Node::builder().cluster("probed").seeds([addr.to_string()]).local_timing().start().await.unwrap();
    let cache = open(&early);
    for _ in 0..40_000 {
        let asks = std::pin::pin!(cache.ready(Duration::MAX));
        assert!(asks.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
    }
    let seed = Node::builder().cluster("probed").bind(addr).local_timing().start().await.unwrap();
    let there = open(&seed);
    there.insert("k".into(), "v".into()).unwrap();
    eventually("found", || cache.get("k"), Option::is_some);
    assert!(cache.ready(SOON).await.is_ready());
    stop(vec![early, seed]).await;
}

/// Checks that a process may outlive its node and keep using its caches: waits end at once, and expired values are
/// swept.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_shutdown_nothing_is_waited_for_and_what_expires_goes() {
    let (nodes, caches) = cluster("alone-now", 2).await;
    let [here, there] = [caches[0].clone(), caches[1].clone()];
    stop(nodes).await;
    let written = here.insert("k".into(), "v".into()).unwrap();
    let waited = here.wait_replicated(written, driftless::Members::Count(1), Duration::MAX).await;
    assert!(waited.is_err(), "{waited:?}");
    for round in 0..2_000 {
        here.insert_with_ttl(round.to_string(), "short".into(), Duration::from_millis(1)).unwrap();
        there.insert(round.to_string(), "gone".into()).unwrap();
    }
    there.invalidate_all();
    eventually(
        "swept",
        || {
            here.insert("k".into(), "v".into()).unwrap();
            there.insert("k".into(), "v".into()).unwrap();
            (here.entry_count(), there.entry_count())
        },
        |counts| *counts == (1, 1),
    );
    assert_eq!((here.get("k").is_some(), here.stats().removals.expired), (true, 2_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_waits_no_longer_than_it_said_for_what_it_cannot_read() {
    let (nodes, _) = cluster("other-words", 2).await;
    let numbers: Cache<u64, u64> = nodes[0].cache("c").open().unwrap();
    let words: Cache<String, String> = nodes[1].cache("c").open().unwrap();
    eventually("they meet", || (numbers.members(), words.members()), |seen| *seen == (1, 1));
    let mut changes = words.subscribe();
    let (stop_writing, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut written = 0_u64;
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) && written < 2_000 {
            numbers.insert(written, written).unwrap();
            written += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        written
    });
    eventually("they arrive", || words.entry_count(), |count| *count > 2);
    let heard = tokio::task::spawn_blocking(move || changes.recv_timeout(Duration::from_millis(100))).await.unwrap();
    drop(stop_writing);
    assert_eq!(heard.unwrap_err(), driftless::SubscriptionError::Empty);
    assert!(writer.join().unwrap() < 2_000, "as long as other nodes wrote");
    stop(nodes).await;
}

thread_local! {
    /// True on the thread of the test, where a dropped value must not panic.
    static CAREFUL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

static EXPLOSIONS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Explosive(u64);

impl Drop for Explosive {
    fn drop(&mut self) {
        if !CAREFUL.get() && !std::thread::panicking() {
            EXPLOSIONS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            panic!("a value panics when it is dropped");
        }
    }
}

/// Checks that panics in `drop` do not end a node: the node's own thread may drop the last reference to a cache.
#[test]
fn values_that_panic_when_a_cache_is_closed_take_no_node_down() {
    CAREFUL.set(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (nodes, _caches) = runtime.block_on(cluster("explosive", 2));
    let exploded = || EXPLOSIONS.load(std::sync::atomic::Ordering::Relaxed);
    for round in 0..200 {
        let open = |node: &Node| -> Cache<u64, Explosive> { node.cache(&format!("explosive-{round}")).open().unwrap() };
        let (here, there) = (open(&nodes[0]), open(&nodes[1]));
        eventually("they meet", || here.members(), |seen| *seen == 1);
        // If a cache has writes that no peer has received, the node closes it, on its own thread.
        for key in 0..20 {
            here.insert(key, Explosive(key)).unwrap();
        }
        drop(here);
        drop(there);
        if exploded() > 0 {
            break;
        }
    }
    assert!(exploded() > 0, "the node's thread never was the last");
    std::thread::sleep(Duration::from_millis(100));
    assert!(nodes.iter().all(Node::is_running));
    runtime.block_on(stop(nodes));
}

/// scenario 34: two processes have one replica id, like clones of a machine. Promises: both take new ids, and all
/// replicas agree.
#[tokio::test(flavor = "multi_thread")]
async fn processes_with_one_replica_id_take_others_and_agree() {
    let id = uuid::Uuid::from_u128(34);
    let third = node("twins", &[]).await;
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let seed = third.local_addr().to_string();
        let builder = Node::builder().cluster("twins").seeds([seed]).local_timing().first_replica_id(id);
        nodes.push(builder.start().await.unwrap());
    }
    nodes.push(third);
    let caches: Vec<_> = nodes.iter().map(open).collect();
    let mut expected = BTreeMap::new();
    for round in 0..20 {
        for (number, cache) in caches.iter().enumerate() {
            let key = format!("{number}-{round}");
            cache.insert(key.clone(), "value".into()).unwrap();
            expected.insert(key, "value".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ids = || caches.iter().map(|cache| cache.replica_id().as_uuid()).collect::<BTreeSet<_>>();
    eventually("three ids", ids, |ids| ids.len() == 3);
    converge_to(&caches, &expected);
    caches[2].insert("after".into(), "all".into()).unwrap();
    caches[0].remove("0-0");
    expected.remove("0-0");
    expected.insert("after".into(), "all".into());
    converge_to(&caches, &expected);
    assert!(caches.iter().map(|cache| cache.counters().new_id).sum::<u64>() > 0);
    for cache in &caches {
        eventually("members", || cache.members(), |members| *members == 2);
    }
    stop(nodes).await;
}
