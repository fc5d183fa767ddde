//! Real nodes on loopback, and what the tests share.
#![allow(dead_code, missing_docs)]

use std::time::Duration;

use async_trait::async_trait;
use driftless::{Cache, Node};
use driftless_tower_sessions::DriftlessStore;
use time::OffsetDateTime;
use tower_sessions::session::{Id, Record};
use tower_sessions::{SessionStore, session_store};

/// A lifetime that does not end during a test.
pub const SOON: Duration = Duration::from_secs(1_800);
/// The time limit for what happens within milliseconds on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Starts nodes that know each other.
pub async fn nodes(count: usize) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..count {
        let seeds: Vec<String> = nodes.iter().map(|node| node.local_addr().to_string()).collect();
        nodes.push(Node::builder().cluster("sessions").seeds(seeds).start().await.unwrap());
    }
    for node in &nodes {
        node.wait_for_members(count - 1, PATIENCE).await.unwrap();
    }
    nodes
}

/// Opens a store on each node, with a logout that waits for long: tests assert what holds once the wait has succeeded.
pub async fn stores(nodes: &[Node]) -> Vec<DriftlessStore> {
    let open = |node| DriftlessStore::builder(node).logout_wait(PATIENCE).open().unwrap();
    let stores: Vec<_> = nodes.iter().map(open).collect();
    for store in &stores {
        assert!(store.ready(PATIENCE).await.is_ready());
    }
    stores
}

pub fn record(lifetime: Duration) -> Record {
    Record { id: Id::default(), data: Default::default(), expiry_date: OffsetDateTime::now_utc() + lifetime }
}

/// Waits until a condition holds.
pub async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it holds in time");
}

/// A store without revocations: the last write of a session wins. Shows that the checks can fail.
#[derive(Clone, Debug)]
pub struct Naive(Cache<String, String>);

impl Naive {
    pub fn open(node: &Node) -> Self {
        Self(node.cache("naive").open().unwrap())
    }

    pub async fn ready(&self) {
        assert!(self.0.ready(PATIENCE).await.is_ready());
    }
}

#[async_trait]
impl SessionStore for Naive {
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        self.save(record).await
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        self.0.insert(record.id.to_string(), serde_json::to_string(record).unwrap()).unwrap();
        Ok(())
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        Ok(self.0.get(id.to_string().as_str()).map(|text| serde_json::from_str(&text).unwrap()))
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.0.invalidate(id.to_string().as_str());
        Ok(())
    }
}
