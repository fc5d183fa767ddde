//! Tests of the end of a mesh: twice, concurrently, by drop, during a start. Promise: nothing remains.

use std::{net::UdpSocket, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::common::*;

fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim() == "driftless-mesh")
        .count()
}

/// Returns the target of each open descriptor.
fn descriptors() -> Vec<String> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|fd| Some(std::fs::read_link(fd.ok()?.path()).ok()?.display().to_string())).collect()
}

fn port_is_free(addr: std::net::SocketAddr) -> bool {
    UdpSocket::bind(addr).is_ok() && std::net::TcpListener::bind(addr).is_ok()
}

// scenario 88: repeated and concurrent shutdowns return in time and release the port.
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

// scenario 88: a drop releases the port.
#[tokio::test]
async fn dropping_releases_the_port() {
    let node = Node::start(config("test")).await;
    let (addr, mut events) = (node.addr(), node.events);
    drop(node.mesh);
    assert!(timeout(PATIENCE, async { while events.recv().await.is_some() {} }).await.is_ok());
    assert!(port_is_free(addr));
}

// scenario 88: starts and ends leave no thread and no descriptor.
#[test]
fn many_cycles_leave_no_thread_or_descriptor() {
    in_a_process_of_its_own("ending::many_cycles_leave_no_thread_or_descriptor", cycles(100));
}

/// Checks an end during a suspicion. Each suspicion and each indirect ping that is open when memberlist ends keeps it
/// alive, and with it the descriptors of its runtime.
// scenario 88
#[test]
fn ending_while_a_member_is_suspected_leaves_no_descriptor() {
    in_a_process_of_its_own("ending::ending_while_a_member_is_suspected_leaves_no_descriptor", suspicions());
}

async fn suspicions() {
    let warm_up = Node::start(config("test")).await;
    warm_up.mesh.shutdown(SHORT).await;
    drop(warm_up);
    let before = descriptors().len();
    let mut suspected = 0;
    for _ in 0..6 {
        let mut nodes = cluster(3, |_| {}).await;
        drop(nodes.pop());
        // Within this time a probe fails, and another member is asked to probe. The suspicion that follows lasts
        // longer: the member is not declared dead yet.
        sleep(config("test").failure.probe_interval * 2).await;
        suspected += nodes.iter().filter(|node| node.sees(2)).count();
        // One node ends with a goodbye, and the last one is dropped.
        nodes.pop().unwrap().mesh.shutdown(Duration::from_millis(100)).await;
    }
    assert!(suspected > 6, "only {suspected} ended within the suspicion");
    close_to(before).await;
}

/// Waits until no more descriptors are open than at the start.
async fn close_to(before: usize) {
    let close = async {
        while descriptors().len() > before {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, close).await.is_ok(), "at most {before} expected, left open: {:#?}", descriptors());
}

/// Runs a test in a process of its own, in which no other test opens or closes anything.
fn in_a_process_of_its_own(name: &str, test: impl Future<Output = ()>) {
    if std::env::var_os("MESH_CHILD").is_some() {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let status = child.args(["--exact", name]).env("MESH_CHILD", "1").status().unwrap();
    assert!(status.success());
}

async fn cycles(n: usize) {
    let seed = Node::start(config("test")).await;
    let (before, running) = (descriptors().len(), threads());
    for cycle in 0..n {
        let mut config = seeded("test", seed.addr());
        config.name = format!("cycler-{}", cycle % 3);
        match cycle % 4 {
            // During the start.
            0 => drop(timeout(Duration::from_micros(200), driftless::node::mesh::Mesh::start(config)).await),
            // During the join.
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
    // The seed has a connection to itself, and may have another.
    close_to(before + 4).await;
}
