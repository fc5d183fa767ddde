//! A rolling deploy. Promise: a node of this release ignores the messages of a newer release, and loses nothing by it.

use std::time::Duration;

use bytes::Bytes;
use driftless::inspect::Inspector;
use driftless::node::mesh::{FailureTiming, Mesh, MeshConfig, MeshEvent, Peer};
use driftless::{Cache, Node};

use crate::supervision::{node, until};

const GOLDEN: &str = include_str!("../golden/wire-v1.txt");
/// The offset of the kind in a golden message, after version and array.
const KIND: usize = 2;
/// The bytes of the process id in a golden message, after the kind, the name of the cache and the replica.
const PROCESS: std::ops::Range<usize> = 30..46;
/// The cache of the golden messages.
const CACHE: &str = "sessions";
const DEADLINE: Duration = Duration::from_secs(10);

/// Returns the golden messages with this process as their sender.
fn messages(from: uuid::Uuid) -> Vec<Vec<u8>> {
    let lines = GOLDEN.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut messages: Vec<Vec<u8>> = lines.map(|line| unhex(line.split_once(' ').expect("name and bytes").1)).collect();
    for message in &mut messages {
        assert_eq!(message[PROCESS], [0xab; 16], "the place of the process");
        message[PROCESS].copy_from_slice(from.as_bytes());
    }
    messages
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

/// A member of a newer release: this release's membership, and messages of its own.
struct Newer {
    mesh: Mesh,
    events: driftless::node::mesh::MeshEvents,
    incarnation: uuid::Uuid,
    said: u64,
}

impl Newer {
    async fn join(cluster: &str, seed: &Node) -> Self {
        let mut config = MeshConfig::new(cluster, ([127, 0, 0, 1], 0).into());
        config.seeds = vec![seed.local_addr().to_string()];
        config.failure = FailureTiming::local();
        let incarnation = config.incarnation;
        let (mesh, events) = Mesh::start(config).await.unwrap();
        Self { mesh, events, incarnation, said: 0 }
    }

    fn peer(&self, node: &Node) -> Option<Peer> {
        self.mesh.members().into_iter().find(|peer| peer.addr == node.local_addr())
    }

    /// Sends a message by stream, because a datagram may be lost.
    async fn say(&mut self, to: &Node, bytes: Vec<u8>) {
        let peer = self.peer(to).expect("a member");
        self.mesh.send_stream(&peer, bytes.into(), DEADLINE).await.unwrap();
        self.said += 1;
    }

    fn heard(&mut self) -> Vec<Bytes> {
        let bytes = |event| match event {
            MeshEvent::Message { bytes, .. } => Some(bytes),
            _ => None,
        };
        std::iter::from_fn(|| self.events.try_recv()).filter_map(bytes).collect()
    }
}

fn count(node: &Node, what: &str) -> u64 {
    Inspector::new(node).node().network[what]
}

// scenario 79, with real nodes: unknown caches, versions and kinds come from a member that stays a member.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_member_is_not_understood_and_not_turned_away() {
    let one = node("versions", &[]).await;
    let two = node("versions", &[&one]).await;
    let mut newer = Newer::join("versions", &one).await;
    let (here, there): (Cache<u32, u32>, Cache<u32, u32>) =
        (one.cache("ours").open().unwrap(), two.cache("ours").open().unwrap());
    until("all meet", || one.members().len() == 2 && two.members().len() == 2 && newer.peer(&one).is_some()).await;
    until("both have it", || here.members() == 1 && there.members() == 1).await;
    assert_eq!(count(&one, "ignored_messages"), 0);

    // Messages for a cache that is not open here.
    for message in messages(newer.incarnation) {
        newer.say(&one, message).await;
    }
    until("all were ignored", || count(&one, "ignored_messages") == newer.said).await;
    let mut told = false;
    until("it is informed that the cache is not open here", || {
        told |= newer.heard().iter().any(|bytes| bytes.windows(CACHE.len()).any(|part| part == CACHE.as_bytes()));
        told
    })
    .await;

    // Messages of another version or kind, for a cache that is open.
    let (near, far): (Cache<String, String>, Cache<String, String>) =
        (one.cache(CACHE).open().unwrap(), two.cache(CACHE).open().unwrap());
    until("they meet in it", || near.members() == 1 && far.members() == 1).await;
    for message in messages(newer.incarnation) {
        let mut version = message.clone();
        version[0] = 2;
        newer.say(&one, version).await;
        let mut kind = message;
        kind[KIND] = 0x17;
        newer.say(&one, kind).await;
    }
    until("all were ignored", || count(&one, "ignored_messages") == newer.said).await;

    assert_eq!(near.entry_count(), 0, "nothing of it was applied");
    assert!(newer.peer(&one).is_some() && one.members().len() == 2, "it is still a member");
    assert_eq!(["malformed", "broken_streams", "contained_panics"].map(|what| count(&one, what)), [0; 3]);
    near.insert("k".into(), "v".into()).unwrap();
    there.insert(1, 2).unwrap();
    until("nothing is lost", || far.get("k").as_deref() == Some("v") && here.get(&1) == Some(2)).await;

    // Messages in this release's format are accepted.
    let before = count(&one, "ignored_messages");
    assert_eq!(near.members(), 1, "only the other node of this release");
    for message in messages(newer.incarnation) {
        newer.say(&one, message).await;
    }
    until("and its replica is met", || near.members() == 2).await;
    assert_eq!(count(&one, "ignored_messages"), before);
    for node in [&one, &two] {
        node.shutdown().await;
    }
    newer.mesh.shutdown(DEADLINE).await;
}
