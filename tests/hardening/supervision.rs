//! Tests that a dead task is reported (scenario 73), and of user types that panic on the node's threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use driftless::inspect::Inspector;
use driftless::inspect::http::{HttpConfig, HttpServer};
use driftless::{Cache, Node};
use serde::{Deserialize, Serialize};

use crate::{http, log};

/// Records the log of all threads from now on.
fn listen() {
    log::listen("warn,memberlist_core=off");
}

fn logged(words: &str) -> usize {
    log::text().matches(words).count()
}

pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn node(cluster: &str, seeds: &[&Node]) -> Node {
    let seeds: Vec<_> = seeds.iter().map(|node| node.local_addr().to_string()).collect();
    Node::builder().cluster(cluster).seeds(seeds).local_timing().start().await.unwrap()
}

async fn get(server: &HttpServer, path: &str) -> (u16, String) {
    http::get(server.local_addr(), path).await
}

fn warnings(node: &Node) -> Vec<String> {
    Inspector::new(node).summary().warnings.into_iter().map(|warning| warning.name).collect()
}

// scenario 73: a task that can be replaced is restarted, and the restart is reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_network_task_is_restarted_and_reported() {
    listen();
    let one = node("dead-tasks", &[]).await;
    let two = node("dead-tasks", &[&one]).await;
    let (here, there): (Cache<u32, Vec<u8>>, Cache<u32, Vec<u8>>) =
        (one.cache("c").open().unwrap(), two.cache("c").open().unwrap());
    until("they meet", || here.members() == 1 && there.members() == 1).await;
    let server = HttpServer::start(Inspector::new(&one), HttpConfig::new(([127, 0, 0, 1], 0).into())).await.unwrap();
    assert!(warnings(&one).is_empty());
    let restarts = || Inspector::new(&one).node().network["task_restarts"];
    let tasks = one.kill_network_task("none of them");
    assert_eq!(tasks, ["datagrams", "rejoin", "streams", "watchdog"], "those that are killed below");
    for (number, task) in (1..).zip(tasks) {
        let line = format!("a mesh task died and is restarted task=\"{task}\"");
        let before = logged(&line);
        one.kill_network_task(task);
        until("its death is counted", || restarts() == u64::from(number)).await;
        until("and logged", || logged(&line) == before + 1).await;
        // Small values go by datagram and large ones by stream; both directions are checked.
        for (key, (from, to)) in (number * 4..).zip([(&here, &there), (&there, &here)]) {
            from.insert(key, vec![1; 8]).unwrap();
            from.insert(key + 2, vec![2; 100_000]).unwrap();
            until("both arrive", || to.get(&key).is_some() && to.get(&(key + 2)).is_some()).await;
        }
    }
    assert_eq!(warnings(&one), ["task-restarted"; 4], "one for each task");
    assert!(get(&server, "/metrics").await.1.contains("\ndriftless_network_events_total{event=\"task_restarts\"} 4\n"));
    assert_eq!(get(&server, "/health/ready").await.0, 200, "it works");
    two.shutdown().await;
    one.shutdown().await;
}

/// Starts two nodes that know each other, each with a cache, and the debug interface of the first node.
async fn two_that_met(cluster: &str) -> (Node, Cache<u32, u32>, Node, Cache<u32, u32>, HttpServer) {
    listen();
    let one = node(cluster, &[]).await;
    let two = node(cluster, &[&one]).await;
    let (here, there): (Cache<u32, u32>, Cache<u32, u32>) =
        (one.cache("c").open().unwrap(), two.cache("c").open().unwrap());
    until("they meet", || here.members() == 1 && there.members() == 1).await;
    let server = HttpServer::start(Inspector::new(&one), HttpConfig::new(([127, 0, 0, 1], 0).into())).await.unwrap();
    (one, here, two, there, server)
}

// scenario 73: a part that cannot be replaced stops the node, which is reported as a failure and not as a shutdown.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_network_thread_is_reported_by_health_metrics_log_and_members() {
    let (one, here, two, _there, server) = two_that_met("dead-thread").await;
    let before = logged("the network of this node has died");
    one.kill_network_task("thread");
    until("it says so", || !one.is_running()).await;
    assert_eq!((get(&server, "/health/ready").await.0, get(&server, "/health/live").await.0), (503, 503));
    assert!(get(&server, "/metrics").await.1.contains("\ndriftless_driver_alive 0\n"));
    assert_eq!(logged("the network of this node has died"), before + 1);
    assert_eq!(warnings(&one), ["task-died"]);
    here.insert(1, 1).unwrap();
    assert_eq!(here.get(&1), Some(1), "it is a local cache from now on");
    until("others know", || two.members().is_empty()).await;
    two.shutdown().await;
    one.shutdown().await;
}

// scenario 73: the same for the driver.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_driver_is_reported_by_health_metrics_log_and_members() {
    let (one, here, two, there, server) = two_that_met("dead-driver").await;
    here.insert(1, 1).unwrap();
    until("arrived", || there.get(&1) == Some(1)).await;
    assert_eq!((get(&server, "/health/ready").await.0, get(&server, "/health/live").await.0), (200, 200));
    let before = logged("the driver of this node panicked");

    one.kill_driver();
    until("it says so", || !one.is_running()).await;
    assert_eq!((get(&server, "/health/ready").await.0, get(&server, "/health/live").await.0), (503, 503));
    assert!(get(&server, "/metrics").await.1.contains("\ndriftless_driver_alive 0\n"));
    assert_eq!(warnings(&one), ["task-died"], "and not that it was shut down");
    assert_eq!(logged("the driver of this node panicked"), before + 1);
    assert!(one.cache::<u32, u32>("another").open().is_err(), "no cache is opened on a dead node");
    // A node without a driver leaves the cluster: a member that only answers pings would hold back collection on all
    // replicas.
    until("others know", || two.members().is_empty() && there.members() == 0).await;
    assert_eq!(here.get(&1), Some(1), "what is here can be read");
    here.insert(2, 2).unwrap();
    assert_eq!(here.get(&2), Some(2));
    two.shutdown().await;
    one.shutdown().await;
}

static ARMED: AtomicBool = AtomicBool::new(false);

/// A value that panics once, when it is dropped on a thread of the node.
#[derive(Clone, Serialize, Deserialize)]
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        let ours = std::thread::current().name().is_some_and(|name| name.starts_with("driftless "));
        if ours && !std::thread::panicking() && ARMED.swap(false, Ordering::SeqCst) {
            panic!("the user's Drop");
        }
    }
}

// scenario 90: a user's `Drop` panics on the driver's thread, which drops expired and replaced values.
#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_value_costs_one_cache_one_call() {
    listen();
    let one = node("bomb", &[]).await;
    let two = node("bomb", &[&one]).await;
    let (bombs, far): (Cache<u32, Bomb>, Cache<u32, Bomb>) =
        (one.cache("bombs").open().unwrap(), two.cache("bombs").open().unwrap());
    let (plain, other): (Cache<u32, u32>, Cache<u32, u32>) =
        (one.cache("plain").open().unwrap(), two.cache("plain").open().unwrap());
    until("they meet", || [bombs.members(), far.members(), plain.members(), other.members()] == [1; 4]).await;
    for number in 0..20 {
        far.insert_with_ttl(number, Bomb(number), Duration::from_millis(300)).unwrap();
    }
    until("arrived", || bombs.contains_key(&19)).await;
    ARMED.store(true, Ordering::SeqCst);
    until("it went off", || !ARMED.load(Ordering::SeqCst)).await;
    assert!(one.is_running() && two.is_running());
    plain.insert(1, 1).unwrap();
    until("the other cache works", || other.get(&1) == Some(1)).await;
    far.insert(100, Bomb(100)).unwrap();
    until("so does this one", || bombs.get(&100).is_some() && bombs.entry_count() == 1).await;
    bombs.insert(101, Bomb(101)).unwrap();
    until("both ways", || far.get(&101).is_some()).await;
    one.shutdown().await;
    two.shutdown().await;
}

// scenario 80: however often a stranger tries to join, the log has one line.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_one_line_in_the_log() {
    listen();
    let ours = Node::builder().cluster("strangers").encryption_key([1; 32]).local_timing().start().await.unwrap();
    let before = logged("refused a sender with another cluster name or key");
    let seed = ours.local_addr().to_string();
    let builder = || Node::builder().seeds([seed.clone()]).local_timing();
    let plain = builder().cluster("strangers").start().await.unwrap();
    let wrong = builder().cluster("strangers").encryption_key([2; 32]).start().await.unwrap();
    let foreign = builder().cluster("others").encryption_key([1; 32]).start().await.unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..200 {
        udp.send_to(b"hello", ours.local_addr()).unwrap();
    }
    until("refused", || {
        let network = Inspector::new(&ours).node().network;
        ["foreign_label", "refused_plaintext"].iter().all(|name| network[*name] > 0)
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(ours.members().is_empty());
    assert_eq!(logged("refused a sender with another cluster name or key"), before + 1);
    for node in [&ours, &plain, &wrong, &foreign] {
        node.shutdown().await;
    }
}
