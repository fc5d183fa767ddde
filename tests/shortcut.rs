//! Small messages between real nodes without a hand-over to the driver.
#![cfg(feature = "node")]

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{SOON, cluster, eventually, node, stop};
use driftless::{Cache, Node};
use serde::{Deserialize, Deserializer, Serialize};

/// Opens the cache `slow`. Its listener reports each call, and then blocks until it is released.
fn open_slow(node: &Node) -> (Cache<u32, u32>, Receiver<()>, Sender<()>) {
    let ((called, calls), (release, released)) = (channel(), channel::<()>());
    let (called, released) = (Mutex::new(called), Mutex::new(released));
    let listener = move |_, _, _| {
        let _ = called.lock().unwrap_or_else(PoisonError::into_inner).send(());
        let _ = released.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(SOON * 3);
    };
    (node.cache("slow").eviction_listener(listener).open().unwrap(), calls, release)
}

/// The driver of a node is blocked by a listener. A lone write on that node is read elsewhere all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_lone_write_leaves_on_its_own_thread() {
    let (nodes, caches) = cluster("own-thread", 2).await;
    let (slow, calls, release) = open_slow(&nodes[0]);
    let other: Cache<u32, u32> = nodes[1].cache("slow").open().unwrap();
    assert!(slow.ready(SOON).await.is_ready() && other.ready(SOON).await.is_ready());
    other.insert(1, 1).unwrap();
    eventually("the value", || slow.get(&1), |seen| *seen == Some(1));
    other.insert(1, 2).unwrap();
    calls.recv_timeout(SOON).expect("the driver calls the listener");
    // Streams and bursts before this are over.
    std::thread::sleep(Duration::from_millis(100));
    caches[0].insert("key".into(), "value".into()).unwrap();
    eventually("the write", || caches[1].get("key"), |seen| seen.as_deref() == Some("value"));
    drop(release);
    stop(nodes).await;
}

/// The names of the threads on which values were decoded, each with the value.
static DECODED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// A value that records where it is decoded.
#[derive(Clone, Serialize)]
#[serde(transparent)]
struct Traced(String);

impl<'de> Deserialize<'de> for Traced {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = String::deserialize(from)?;
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        DECODED.lock().unwrap_or_else(PoisonError::into_inner).push((thread, value.clone()));
        Ok(Self(value))
    }
}

/// Returns true if this value was decoded on the mesh's thread.
fn by_the_mesh(value: &str) -> bool {
    let decoded = DECODED.lock().unwrap_or_else(PoisonError::into_inner);
    decoded.iter().any(|(thread, of)| thread == "driftless-mesh" && of == value)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_write_is_merged_where_it_is_read_unless_there_is_a_listener() {
    let first = node("where-read", &[]).await;
    let second = node("where-read", &[&first]).await;
    let nodes = vec![first, second];
    let open = |node: &Node, name| -> Cache<u32, Traced> { node.cache(name).open().unwrap() };
    let (plain, _plain) = (open(&nodes[0], "plain"), open(&nodes[1], "plain"));
    let listened = open(&nodes[0], "listened");
    let _listened: Cache<u32, Traced> = nodes[1].cache("listened").eviction_listener(|_, _, _| ()).open().unwrap();
    eventually("members", || (plain.members(), listened.members()), |seen| *seen == (1, 1));
    let (mut key, mut values) = (0, Vec::new());
    let write = || {
        key += 1;
        plain.insert(key, Traced(format!("plain-{key}"))).unwrap();
        listened.insert(key, Traced(format!("listened-{key}"))).unwrap();
        values.push((format!("plain-{key}"), format!("listened-{key}")));
        std::thread::sleep(Duration::from_millis(20));
        values.iter().filter(|(plain, _)| by_the_mesh(plain)).count()
    };
    // The driver merges what arrives while it is busy, so not every write is merged by the mesh.
    eventually("ten writes that the mesh merged", write, |merged| *merged >= 10);
    assert!(!values.iter().any(|(_, listened)| by_the_mesh(listened)), "a listener may block");
    stop(nodes).await;
}
