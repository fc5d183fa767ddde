//! Helpers: small clusters on loopback.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::Bytes;
use driftless::node::mesh::{FailureTiming, Mesh, MeshConfig, MeshEvent, MeshEvents, Peer};

use crate::addresses;

pub const SHORT: Duration = Duration::from_secs(2);
pub const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    /// The address of this test, different for each test. Members retry the addresses of lost members without limit. So
    /// a test with a port from the kernel could meet members of another test.
    static HOME: Ipv4Addr = addresses::unused_host();
}

pub fn config(cluster: &str) -> MeshConfig {
    let mut config = MeshConfig::new(cluster, addresses::unused_on(HOME.with(Ipv4Addr::clone)));
    config.failure = FailureTiming::local();
    config
}

pub fn seeded(cluster: &str, seed: SocketAddr) -> MeshConfig {
    let mut config = config(cluster);
    config.seeds = vec![seed.to_string()];
    config
}

pub struct Node {
    pub mesh: Mesh,
    pub events: MeshEvents,
}

impl Node {
    pub async fn start(config: MeshConfig) -> Self {
        let (mesh, events) = Mesh::start(config).await.unwrap();
        Self { mesh, events }
    }

    pub fn addr(&self) -> SocketAddr {
        self.mesh.local_addr()
    }

    pub fn peer(&self, addr: SocketAddr) -> Option<Peer> {
        self.mesh.members().into_iter().find(|p| p.addr == addr)
    }

    pub fn sees(&self, n: usize) -> bool {
        self.mesh.members().len() == n
    }

    /// Waits for an event for which `f` returns a value, and skips all other events.
    pub async fn expect<T>(&mut self, what: &str, mut f: impl FnMut(&MeshEvent) -> Option<T>) -> T {
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("mesh stopped");
                if let Some(found) = f(&event) {
                    return found;
                }
            }
        };
        let seen = tokio::time::timeout(PATIENCE, wait).await;
        seen.unwrap_or_else(|_| panic!("never saw {what}: {:?}", self.mesh.counters()))
    }

    pub async fn message(&mut self) -> (Bytes, bool) {
        self.expect("a message", |e| match e {
            MeshEvent::Message { bytes, reliable } => Some((bytes.clone(), *reliable)),
            _ => None,
        })
        .await
    }

    pub fn drain(&mut self) -> Vec<MeshEvent> {
        std::iter::from_fn(|| self.events.try_recv()).collect()
    }
}

pub async fn until(what: &str, mut f: impl FnMut() -> bool) {
    let start = Instant::now();
    while !f() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Starts `n` members and waits until all see each other. The first is the only seed.
pub async fn cluster(n: usize, prepare: impl Fn(&mut MeshConfig)) -> Vec<Node> {
    let mut first = config("test");
    prepare(&mut first);
    let mut nodes = vec![Node::start(first).await];
    for _ in 1..n {
        let mut config = seeded("test", nodes[0].addr());
        prepare(&mut config);
        nodes.push(Node::start(config).await);
    }
    until("every member sees every member", || nodes.iter().all(|node| node.sees(n - 1))).await;
    nodes
}

/// Sends one message by stream from `a` to `b`.
pub async fn exchange(a: &Node, b: &mut Node, text: &'static str) {
    // After a fault the member may be declared dead briefly before it returns.
    until("b is a member", || a.peer(b.addr()).is_some()).await;
    let peer = a.peer(b.addr()).expect("just seen");
    a.mesh.send_stream(&peer, Bytes::from_static(text.as_bytes()), PATIENCE).await.unwrap();
    b.expect(text, |e| match e {
        MeshEvent::Message { bytes, .. } if bytes == text => Some(()),
        _ => None,
    })
    .await
}
