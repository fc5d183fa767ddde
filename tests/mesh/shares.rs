//! Tests of fair shares: one sender tries to fill the queue of messages, the table of connections, or the memory for
//! frames being read.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use driftless::node::mesh::{FailureTiming, MeshConfig, MeshEvent};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream, UdpSocket},
};

use crate::common::*;

const LABEL: &[u8] = &[12, 4, b't', b'e', b's', b't'];

/// The most attempts to exceed a share. A sender that has not been stopped by then will not be.
const TIRED: usize = 50_000;

/// Returns a user message as memberlist frames it: label, tag, length, bytes, and the mesh's trailer.
fn frame(body: &[u8], trailer: u8) -> Vec<u8> {
    let len = u8::try_from(body.len() + 1).unwrap();
    assert!(len < 0x80, "a length of one byte");
    [LABEL, &[9, len], body, &[trailer]].concat()
}

/// Opens a connection from another address of this machine.
async fn dial_from(ip: [u8; 4], to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((ip, 0).into()).unwrap();
    socket.connect(to).await.ok()
}

/// Returns all messages that wait for the consumer, as text.
fn waiting(node: &mut Node) -> Vec<String> {
    let text = |event| match event {
        MeshEvent::Message { bytes, .. } => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    };
    node.drain().into_iter().filter_map(text).collect()
}

// scenario 85: the consumer is slow, and one member sends more than the queue holds.
#[tokio::test]
async fn a_member_that_talks_too_much_leaves_room_for_the_others() {
    let mut nodes = cluster(3, |c| c.inbox = 1_300).await;
    let mut behind = nodes.remove(0);
    let to = |node: &Node| node.peer(behind.addr()).unwrap();
    let (loud, quiet) = (&nodes[0], &nodes[1]);
    let (from_loud, from_quiet) = (to(loud), to(quiet));
    for _ in 0..TIRED {
        if behind.mesh.counters().inbox_over_share >= 100 {
            break;
        }
        loud.mesh.send_datagram(&from_loud, Bytes::from_static(b"loud")).await.unwrap();
        tokio::task::yield_now().await;
    }
    let held = behind.mesh.counters().messages_in;
    assert!(behind.mesh.counters().inbox_over_share >= 100, "it never received the signal to stop");
    assert!((890..=901).contains(&held), "nine thirteenths for one: {held}");
    for number in 0..5 {
        quiet.mesh.send_datagram(&from_quiet, Bytes::from(format!("quiet {number}"))).await.unwrap();
        quiet.mesh.send_stream(&from_quiet, Bytes::from(format!("sure {number}")), PATIENCE).await.unwrap();
    }
    until("all messages of the quiet sender arrived", || behind.mesh.counters().messages_in == held + 10).await;
    let texts = waiting(&mut behind);
    assert_eq!(texts.iter().filter(|text| *text != "loud").count(), 10, "{texts:?}");
    let dropped = behind.mesh.counters().inbox_over_share;
    loud.mesh.send_datagram(&from_loud, Bytes::from_static(b"welcome again")).await.unwrap();
    assert_eq!(behind.message().await.0, "welcome again", "what was taken is free again");
    assert_eq!(behind.mesh.counters().inbox_over_share, dropped);
}

// scenario 85: the same for a stranger that uses many ports of one address.
#[tokio::test]
async fn a_sender_with_many_ports_is_one_address() {
    let mut nodes = cluster(2, |c| c.inbox = 130).await;
    let mut behind = nodes.remove(0);
    let junk = frame(b"junk", 1);
    // Each socket stays below a share. Together they are one address, which exceeds it.
    for _ in 0..TIRED {
        if behind.mesh.counters().inbox_over_share >= 100 {
            break;
        }
        let socket = UdpSocket::bind("127.0.0.9:0").await.unwrap();
        for _ in 0..4 {
            socket.send_to(&junk, behind.addr()).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    let held = behind.mesh.counters().messages_in;
    assert!(behind.mesh.counters().inbox_over_share >= 100, "it never received the signal to stop");
    assert!(held <= 98, "three quarters for one address: {held}");
    let peer = nodes[0].peer(behind.addr()).unwrap();
    for _ in 0..10 {
        nodes[0].mesh.send_stream(&peer, Bytes::from_static(b"member"), PATIENCE).await.unwrap();
    }
    until("messages of the member arrive", || behind.mesh.counters().messages_in >= held + 10).await;
    assert_eq!(waiting(&mut behind).iter().filter(|text| *text == "member").count(), 10);
}

// scenario 82: connections that sent a header and then stall. They look like connections of slow members.
#[tokio::test]
async fn an_address_that_holds_connections_leaves_some_for_the_others() {
    let mut nodes = cluster(2, |c| {
        c.max_inbound = 26;
        c.failure.header_timeout = Duration::from_secs(60);
        c.failure.stream_timeout = Duration::from_secs(60);
    })
    .await;
    let mut a = nodes.remove(0);
    let half = frame(b"never finished", 2);
    let mut held = Vec::new();
    for _ in 0..40 {
        if let Some(mut socket) = dial_from([127, 0, 0, 9], a.addr()).await {
            let _ = socket.write_all(&half[..half.len() - 1]).await;
            held.push(socket);
        }
    }
    // Some connections are closed in favour of newer ones from that address before they have sent a header; the rest
    // are refused.
    until("it has its share", || a.mesh.counters().crowded_connections >= 15).await;
    let stats = a.mesh.counters();
    assert!(stats.refused_connections + stats.shed_connections >= 15, "{stats:?}");
    for text in ["one", "two", "three"] {
        exchange(&nodes[0], &mut a, text).await;
    }
    let late = Node::start(seeded("test", a.addr())).await;
    until("a third joins", || late.sees(2) && a.sees(2)).await;
    drop(held);
}

// scenario 75: the announced length is reserved before it is read, per address and in total.
#[tokio::test]
async fn an_address_that_announces_much_leaves_room_to_read_for_the_others() {
    let mut nodes = cluster(2, |c| {
        c.max_frame = 16 << 20;
        c.failure.stream_timeout = Duration::from_secs(60);
    })
    .await;
    let mut a = nodes.remove(0);
    // First 16 MiB each, then 1 MiB each, to use up the remaining memory.
    let lengths: [&[u8]; 2] = [&[0x80, 0x80, 0x80, 0x08], &[0x80, 0x80, 0x40]];
    let mut held = Vec::new();
    for number in 0..60 {
        let mut socket = dial_from([127, 0, 0, 9], a.addr()).await.expect("accepted");
        let _ = socket.write_all(&[LABEL, &[9], lengths[usize::from(number >= 20)], &[1, 2, 3]].concat()).await;
        held.push(socket);
    }
    until("the rest is not read", || a.mesh.counters().crowded_frames >= 5).await;
    assert_eq!(a.mesh.counters().oversize_frames, 0);
    let peer = nodes[0].peer(a.addr()).unwrap();
    let large = Bytes::from(vec![7; 15 << 20]);
    nodes[0].mesh.send_stream(&peer, large.clone(), PATIENCE).await.unwrap();
    assert_eq!(a.message().await.0, large);
    drop(held);
}

async fn speak(node: &Node, to: SocketAddr) {
    let peer = node.peer(to).unwrap();
    node.mesh.send_datagram(&peer, Bytes::from_static(b"short")).await.unwrap();
    node.mesh.send_stream(&peer, Bytes::from(vec![1; 20_000]), PATIENCE).await.unwrap();
}

/// Checks a cluster behind one address: shares are then counted per port, and every member has enough.
#[tokio::test]
async fn sixty_members_on_one_address_have_room() {
    const MEMBERS: usize = 60;
    // Timing for a LAN: with fast timing, sixty members would leave no processor time to concurrent tests.
    let usual = |mut config: MeshConfig| {
        config.failure = FailureTiming::lan();
        config
    };
    let mut nodes = vec![Node::start(usual(config("test"))).await];
    for _ in 1..MEMBERS {
        nodes.push(Node::start(usual(seeded("test", nodes[0].addr()))).await);
    }
    let mut first = nodes.remove(0);
    let found = || first.sees(MEMBERS - 1) && nodes.iter().all(|node| node.peer(first.addr()).is_some());
    until("the first member sees all members, and all see it", found).await;
    futures_util::future::join_all(nodes.iter().map(|node| speak(node, first.addr()))).await;
    let mut long = 0;
    while long < MEMBERS - 1 {
        long += usize::from(first.message().await.1);
    }
    let stats = first.mesh.counters();
    let turned_away =
        [stats.inbox_over_share, stats.crowded_connections, stats.crowded_frames, stats.refused_connections];
    assert_eq!(turned_away, [0; 4], "{stats:?}");
}
