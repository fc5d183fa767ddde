//! Stopping: twice, at once, by drop, in the middle; nothing may remain.

use std::{net::UdpSocket, time::Duration};

use tokio::time::{Instant, timeout};

use crate::common::*;

fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim() == "driftless-mesh")
        .count()
}

fn port_is_free(addr: std::net::SocketAddr) -> bool {
    UdpSocket::bind(addr).is_ok() && std::net::TcpListener::bind(addr).is_ok()
}

// scenario 88
#[tokio::test]
async fn shutdown_twice_and_at_once_releases_the_port() {
    let mut nodes = cluster(3, |_| {}).await;
    let mut node = nodes.pop().unwrap();
    let addr = node.addr();
    let start = Instant::now();
    tokio::join!(node.mesh.shutdown(SHORT), node.mesh.shutdown(SHORT), node.mesh.shutdown(SHORT));
    node.mesh.shutdown(SHORT).await;
    assert!(start.elapsed() < SHORT + Duration::from_millis(500), "{:?}", start.elapsed());
    assert!(port_is_free(addr));
    assert!(nodes.iter().all(|n| n.sees(1)));
    while node.events.recv().await.is_some() {}
    let peer = nodes[0].mesh.members().pop().unwrap();
    assert!(node.mesh.send_stream(&peer, "x".into(), SHORT).await.is_err());
    assert!(node.mesh.send_datagram(&peer, "x".into()).await.is_err());
}

// scenario 88
#[tokio::test]
async fn dropping_releases_the_port() {
    let node = Node::start(config("test")).await;
    let (addr, mut events) = (node.addr(), node.events);
    drop(node.mesh);
    assert!(timeout(PATIENCE, async { while events.recv().await.is_some() {} }).await.is_ok());
    assert!(port_is_free(addr));
}

// scenario 88
#[test]
fn many_cycles_leave_no_thread_or_descriptor() {
    if std::env::var_os("MESH_CYCLE_CHILD").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ending::many_cycles_leave_no_thread_or_descriptor"])
            .env("MESH_CYCLE_CHILD", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(cycles(100));
}

async fn cycles(n: usize) {
    let seed = Node::start(config("test")).await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (before, running) = (descriptors(), threads());
    for cycle in 0..n {
        let mut config = seeded("test", seed.addr());
        config.name = format!("cycler-{}", cycle % 3);
        match cycle % 4 {
            // In the middle of the start.
            0 => drop(timeout(Duration::from_micros(200), driftless::node::mesh::Mesh::start(config)).await),
            // In the middle of the join.
            1 => drop(Node::start(config).await),
            2 => Node::start(config).await.mesh.shutdown(Duration::ZERO).await,
            _ => {
                let node = Node::start(config).await;
                until("joined", || node.sees(1)).await;
                node.mesh.shutdown(Duration::from_millis(300)).await;
            }
        }
    }
    until("threads end", || threads() == running).await;
    until("descriptors close", || descriptors() <= before + 4).await;
}
