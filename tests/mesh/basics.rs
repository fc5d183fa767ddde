//! Tests of the mesh: joining, sending, leaving.

use bytes::Bytes;
use driftless::node::mesh::{Mesh, MeshConfig, MeshError, MeshEvent, SendError};

use crate::common::*;

#[tokio::test]
async fn two_members_meet_talk_and_part() {
    let mut nodes = cluster(2, |_| {}).await;
    let mut b = nodes.pop().unwrap();
    let mut a = nodes.pop().unwrap();
    let peer = a.peer(b.addr()).unwrap();
    a.expect("up", |e| matches!(e, MeshEvent::Up(p) if *p == peer).then_some(())).await;
    a.mesh.send_datagram(&peer, Bytes::from_static(b"small")).await.unwrap();
    assert_eq!(b.message().await, (Bytes::from_static(b"small"), false));
    let large = Bytes::from(vec![7; 1 << 20]);
    a.mesh.send_stream(&peer, large.clone(), PATIENCE).await.unwrap();
    assert_eq!(b.message().await, (large, true));
    b.mesh.shutdown(SHORT).await;
    let left = a.expect("down", |e| matches!(e, MeshEvent::Down { left, .. } if *left).then_some(())).await;
    assert_eq!(left, ());
    assert!(a.sees(0));
}

#[tokio::test]
async fn limits_are_errors_at_the_writer() {
    let nodes = cluster(2, |c| c.max_frame = 100_000).await;
    let peer = nodes[0].mesh.members().pop().unwrap();
    let send = |n: usize| nodes[0].mesh.send_stream(&peer, Bytes::from(vec![0; n]), SHORT);
    assert!(send(100_000).await.is_ok());
    assert!(matches!(send(100_001).await, Err(SendError::TooLarge { len: 100_001, max: 100_000 })));
    let datagram = nodes[0].mesh.send_datagram(&peer, Bytes::from(vec![0; 1301])).await;
    assert!(matches!(datagram, Err(SendError::TooLarge { .. })));
}

#[tokio::test]
async fn a_start_that_cannot_work_says_why() {
    let refused = |c: MeshConfig| async move { Mesh::start(c).await.err().unwrap() };
    let mut c = config("test");
    c.bind = "0.0.0.0:0".parse().unwrap();
    assert!(matches!(refused(c).await, MeshError::NoAdvertise(_)));
    let mut c = config("test");
    c.seeds = vec!["nowhere".into()];
    assert!(matches!(refused(c).await, MeshError::BadSeed(s) if s == "nowhere"));
    assert!(matches!(refused(config("")).await, MeshError::Invalid(_)));
    let a = Node::start(config("test")).await;
    let mut c = config("test");
    c.bind = a.addr();
    assert!(matches!(refused(c).await, MeshError::Bind { .. }));
}

#[tokio::test]
async fn one_connection_carries_many_messages() {
    let mut nodes = cluster(2, |_| {}).await;
    let mut b = nodes.pop().unwrap();
    let a = nodes.pop().unwrap();
    let peer = a.peer(b.addr()).unwrap();
    let before = a.mesh.counters().streams_out;
    for n in 0..500_u32 {
        let size = [4, 5000, 4096, 70_000][n as usize % 4];
        let mut bytes = vec![0; size];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        a.mesh.send_stream(&peer, bytes.into(), PATIENCE).await.unwrap();
        let (bytes, _) = b.message().await;
        assert_eq!((&bytes[..4], bytes.len()), (&n.to_be_bytes()[..], size));
    }
    assert!(a.mesh.counters().streams_out - before < 30, "{:?}", a.mesh.counters());
}

/// Checks that a connection kept open to an ended process does not swallow messages to its successor.
#[tokio::test]
async fn a_kept_connection_does_not_outlive_its_peer() {
    let mut nodes = cluster(2, |_| {}).await;
    let mut b = nodes.pop().unwrap();
    let addr = b.addr();
    for _ in 0..5 {
        let a = &nodes[0];
        exchange(a, &mut b, "before").await;
        b.mesh.shutdown(SHORT).await;
        let mut again = seeded("test", a.addr());
        again.bind = addr;
        b = Node::start(again).await;
        until("back", || a.peer(addr).is_some()).await;
        exchange(a, &mut b, "after").await;
    }
}

/// Checks that concurrent sends from many tasks share connections without mixing frames.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_messages_stay_whole() {
    let mut nodes = cluster(2, |c| {
        c.keys = vec![[4; 32]];
        // A machine under load may take half a second to read a header, or two seconds to read a message, which is then
        // lost although it was sent. This test is not about those limits.
        c.failure.header_timeout = PATIENCE;
        c.failure.stream_timeout = PATIENCE;
    })
    .await;
    let mut b = nodes.pop().unwrap();
    let a = std::sync::Arc::new(nodes.pop().unwrap().mesh);
    let peer = a.members().pop().unwrap();
    let senders: Vec<_> = (0..8_u8)
        .map(|lane| {
            let (a, peer) = (a.clone(), peer.clone());
            tokio::spawn(async move {
                for n in 0..50 {
                    let bytes = Bytes::from(vec![lane; 1 + n * 97]);
                    a.send_stream(&peer, bytes, PATIENCE).await.unwrap();
                }
            })
        })
        .collect();
    for _ in 0..400 {
        let (bytes, _) = b.message().await;
        assert!(bytes.iter().all(|x| *x == bytes[0]));
    }
    for sender in senders {
        sender.await.unwrap();
    }
}
