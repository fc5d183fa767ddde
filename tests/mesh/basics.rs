//! Join, talk, leave.

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
    a.mesh.send_stream(&peer, large.clone(), SHORT).await.unwrap();
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
