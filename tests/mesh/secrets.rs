//! Tests of encryption keys: refusal of strangers, secrecy on the wire, rotation.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use driftless::node::mesh::{KeyError, MeshConfig, MeshEvent};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    time::sleep,
};

use crate::{addresses, common::*};

const OLD: [u8; 32] = [1; 32];
const NEW: [u8; 32] = [2; 32];

fn keyed(keys: &[[u8; 32]]) -> impl Fn(&mut MeshConfig) {
    let keys = keys.to_vec();
    move |c| c.keys = keys.clone()
}

// scenario 80: nodes without a key or with a wrong key are refused.
#[tokio::test]
async fn no_key_and_the_wrong_key_are_refused() {
    let nodes = cluster(2, keyed(&[OLD])).await;
    let plain = Node::start(seeded("test", nodes[0].addr())).await;
    let mut wrong = seeded("test", nodes[0].addr());
    wrong.keys = vec![NEW];
    let wrong = Node::start(wrong).await;
    sleep(Duration::from_secs(2)).await;
    assert!(plain.sees(0) && wrong.sees(0));
    assert!(nodes.iter().all(|n| n.sees(1)));
    assert!(nodes[0].mesh.counters().refused_plaintext > 0);
}

/// Records all traffic between a member and the address it advertises.
async fn tap(listen: (TcpListener, UdpSocket), to: SocketAddr, seen: Arc<Mutex<Vec<u8>>>) {
    let (tcp, udp) = listen;
    let packets = async {
        let mut buf = [0; 2048];
        loop {
            let (n, _) = udp.recv_from(&mut buf).await.unwrap();
            seen.lock().extend_from_slice(&buf[..n]);
            drop(udp.send_to(&buf[..n], to).await);
        }
    };
    let streams = async {
        loop {
            let (mut from, _) = tcp.accept().await.unwrap();
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut to = TcpStream::connect(to).await.unwrap();
                let (mut fr, mut fw) = from.split();
                let (mut tr, mut tw) = to.split();
                let forth = copy(&mut fr, &mut tw, &seen);
                let back = copy(&mut tr, &mut fw, &seen);
                tokio::join!(forth, back)
            });
        }
    };
    tokio::join!(packets, streams);
}

async fn copy(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin), seen: &Mutex<Vec<u8>>) {
    let mut buf = [0; 4096];
    while let Ok(n) = from.read(&mut buf).await {
        if n == 0 {
            break;
        }
        seen.lock().extend_from_slice(&buf[..n]);
        drop(to.write_all(&buf[..n]).await);
    }
    drop(to.shutdown().await);
}

/// Returns all bytes on the wire to a member whose name and messages contain `SECRET`.
async fn overheard(keys: &[[u8; 32]]) -> Vec<u8> {
    let public = addresses::unused();
    let tcp = TcpListener::bind(public).await.unwrap();
    let udp = UdpSocket::bind(public).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut config = config("test");
    config.name = "SECRET-name".into();
    config.advertise = Some(public);
    config.keys = keys.to_vec();
    let mut b = Node::start(config).await;
    let tapped = tokio::spawn(tap((tcp, udp), b.addr(), seen.clone()));
    let mut config = seeded("test", public);
    config.keys = keys.to_vec();
    let a = Node::start(config).await;
    until("they meet", || a.sees(1) && b.sees(1)).await;
    let peer = a.peer(public).unwrap();
    a.mesh.send_stream(&peer, Bytes::from_static(b"SECRET by stream"), PATIENCE).await.unwrap();
    assert_eq!(b.message().await.0, "SECRET by stream");
    a.mesh.send_datagram(&peer, Bytes::from_static(b"SECRET by packet")).await.unwrap();
    assert_eq!(b.message().await.0, "SECRET by packet");
    tapped.abort();
    std::mem::take(&mut *seen.lock())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

// scenario 80: with a key, only the label is readable on the wire.
#[tokio::test]
async fn nothing_readable_is_on_the_wire() {
    assert!(contains(&overheard(&[]).await, b"SECRET"), "the proxy sees traffic");
    let seen = overheard(&[OLD]).await;
    assert!(contains(&seen, b"test"), "the label is in the clear, so traffic was seen");
    assert!(!contains(&seen, b"SECRET"));
}

// scenario 80: a rotation loses no message, and the old key is refused afterwards.
#[tokio::test]
async fn a_rotation_loses_nothing() {
    let mut nodes = cluster(2, keyed(&[OLD])).await;
    let mut b = nodes.pop().unwrap();
    let a = nodes.pop().unwrap();
    let peer = a.peer(b.addr()).unwrap();
    let mut sent = 0;
    for step in 0..6 {
        match step {
            0 => a.mesh.add_key(NEW).unwrap(),
            1 => b.mesh.add_key(NEW).unwrap(),
            2 => a.mesh.use_key(NEW).unwrap(),
            3 => b.mesh.use_key(NEW).unwrap(),
            4 => a.mesh.remove_key(OLD).unwrap(),
            _ => {
                // Messages in transit under the old key would be lost, so an operator waits before this step.
                until("caught up", || b.mesh.counters().messages_in == sent).await;
                b.mesh.remove_key(OLD).unwrap();
            }
        }
        for _ in 0..20 {
            a.mesh.send_stream(&peer, Bytes::from_static(b"m"), PATIENCE).await.unwrap();
            sent += 1;
        }
    }
    until("all arrived", || b.mesh.counters().messages_in == sent).await;
    sleep(Duration::from_secs(1)).await;
    let downs = b.drain().iter().filter(|e| matches!(e, MeshEvent::Down { .. })).count();
    assert_eq!((downs, a.sees(1), b.sees(1)), (0, true, true));
    let mut late = seeded("test", b.addr());
    late.keys = vec![OLD];
    let late = Node::start(late).await;
    sleep(Duration::from_secs(1)).await;
    assert!(late.sees(0), "the old key is refused now");
    // A rebuilt instance must not bring the old key back.
    b.mesh.rebuild();
    b.expect("rebuilt", |e| matches!(e, MeshEvent::Rebuilt { .. }).then_some(())).await;
    exchange(&a, &mut b, "with the new key").await;
}

#[tokio::test]
async fn key_mistakes_are_errors() {
    let plain = Node::start(config("test")).await;
    assert_eq!(plain.mesh.add_key(NEW), Err(KeyError::Plaintext));
    let mut c = config("test");
    c.keys = vec![OLD];
    let node = Node::start(c).await;
    assert_eq!(node.mesh.use_key(NEW), Err(KeyError::Unknown));
    assert_eq!(node.mesh.remove_key(OLD), Err(KeyError::Primary));
}
