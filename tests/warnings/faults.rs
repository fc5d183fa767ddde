//! Caps, types, floods, and parts of a node that die.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use driftless::{Cache, Node, ReplicaConfig};

use crate::common::{SOON, eventually};
use crate::table::{Expected, Row, begin, blames_only, builder, end, warnings};

fn on<'a>(node: &'a Node, name: &'a str, about: &str, advice: &'a str) -> Expected<'a> {
    Expected { on: node, name, about: about.into(), source: Vec::new(), advice }
}

pub async fn too_many_tombstones() -> Vec<Row> {
    let case = "too many tombstones";
    let node = builder("w-caps", "a", &[]).start().await.unwrap();
    // A second node that is gone for good makes tombstones necessary: without any peer they would not stay.
    let other = builder("w-caps", "b", &[&node]).start().await.unwrap();
    let config = || {
        let mut config = ReplicaConfig::default();
        config.max_tombstones = 100;
        config.gc_grace = Duration::from_secs(1);
        config
    };
    let open = |node: &Node| -> Cache<String, String> { node.cache("test").replication(config()).open().unwrap() };
    let (here, there) = (open(&node), open(&other));
    assert!(there.ready(SOON).await.is_ready());
    eventually("a member", || here.members(), |members| *members == 1);
    for n in 0..90 {
        here.insert(format!("key-{n}"), "value".into()).unwrap();
    }
    let cause = Instant::now();
    (0..90).for_each(|n| drop(here.remove(&format!("key-{n}"))));
    let mut rows = begin(case, cause, &[on(&node, "tombstones-near-cap", "test", "Raise max_tombstones")]).await;
    // They are collected once both nodes have seen them for longer than the grace period.
    end(&mut rows, &[&node], Instant::now()).await;
    node.shutdown().await;
    other.shutdown().await;
    rows
}

pub async fn another_type() -> Vec<Row> {
    let case = "another type";
    let a = builder("w-types", "a", &[]).start().await.unwrap();
    let b = builder("w-types", "b", &[&a]).start().await.unwrap();
    let text: Cache<String, String> = a.cache("test").open().unwrap();
    let number: Cache<String, u64> = b.cache("test").open().unwrap();
    assert!(number.ready(SOON).await.is_ready());
    eventually("members", || (text.members(), number.members()), |seen| *seen == (1, 1));
    let cause = Instant::now();
    text.insert("key".into(), "no number".into()).unwrap();
    let mut rows = begin(case, cause, &[on(&b, "undecodable-entries", "test", "the same types")]).await;
    blames_only(case, &[&a], &[]);
    // A fault of the past is shown for half a minute.
    end(&mut rows, &[&b], Instant::now()).await;
    a.shutdown().await;
    b.shutdown().await;
    rows
}

/// Floods a node whose driver is held up, from another address of this machine.
pub async fn a_flood_from_one_host() -> Vec<Row> {
    let case = "a flood from one host";
    let node = builder("w-flood", "a", &[]).start().await.unwrap();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(blocked);
    let builder = node.cache::<u32, u32>("test").time_to_live(Duration::from_millis(100));
    // The driver makes expired values tombstones, and calls the listener, which waits here.
    let wait = move |_, _, _| {
        let _ = blocked.lock().unwrap().recv();
    };
    let cache = builder.eviction_listener(wait).open().unwrap();
    cache.insert(1, 1).unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let cause = Instant::now();
    let socket = UdpSocket::bind("127.0.0.9:0").unwrap();
    let label = [&[12, 7], &b"w-flood"[..]].concat();
    let frame = [&label[..], &[9, 5], b"loud", &[1]].concat();
    let over_share = || {
        let report = driftless::inspect::Inspector::new(&node).summary();
        report.network["inbox_over_share"]
    };
    for round in 0..200_000 {
        let _ = socket.send_to(&frame, node.local_addr());
        if round % 64 == 0 {
            tokio::task::yield_now().await;
        }
        if round % 4_096 == 0 && over_share() > 100 {
            break;
        }
    }
    assert!(over_share() > 100, "the flood was received");
    let source = vec!["127.0.0.9".to_owned()];
    let expected = Expected { source, ..on(&node, "source-over-share", "127.0.0.9", "find out what it sends") };
    let mut rows = begin(case, cause, &[expected]).await;
    release.send(()).unwrap();
    drop(release);
    end(&mut rows, &[&node], Instant::now()).await;
    node.shutdown().await;
    rows
}

pub async fn a_task_that_dies() -> Vec<Row> {
    let case = "a task dies";
    let node = builder("w-task", "a", &[]).start().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let cause = Instant::now();
    assert!(node.kill_network_task("watchdog").contains(&"watchdog"));
    let mut rows = begin(case, cause, &[on(&node, "task-restarted", "watchdog", "report the log lines")]).await;
    end(&mut rows, &[&node], Instant::now()).await;
    node.shutdown().await;
    rows
}

pub async fn an_open_port_and_a_shutdown() -> Vec<Row> {
    let case = "an open port, a shutdown";
    let port = crate::addresses::unused_port();
    let advertised = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let cause = Instant::now();
    let open = builder("w-open", "a", &[]).bind(([0, 0, 0, 0], port).into()).advertise(advertised);
    let node = open.start().await.unwrap();
    let mut rows = begin(case, cause, &[on(&node, "unencrypted", &advertised.to_string(), "set encryption_key")]).await;
    let cause = Instant::now();
    node.shutdown().await;
    rows.extend(begin(case, cause, &[on(&node, "shut-down", "a", "no longer replicated")]).await);
    assert_eq!(warnings(&node).len(), 2, "a node that was shut down is not a node whose driver died");
    rows
}
