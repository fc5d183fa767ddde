//! Tests of hostile connections: silent, stalled, malformed, oversized.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::{Instant, sleep, timeout},
};

use crate::common::*;

/// The start of every frame of the test cluster: `[labeled, 4, "test"]`.
const LABEL: &[u8] = &[12, 4, b't', b'e', b's', b't'];

async fn hold(addr: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    socket
}

/// Returns the CPU time of this process. Other tests run in the same process, so compare generously.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

// scenario 82: silent connections shut out no member.
#[tokio::test]
async fn silent_connections_cost_nothing_and_block_no_member() {
    let mut nodes = cluster(2, |c| {
        c.max_inbound = 8;
        c.failure.header_timeout = Duration::from_secs(60);
        c.failure.stream_timeout = Duration::from_secs(60);
    })
    .await;
    let addr = nodes[0].addr();
    let mut held = Vec::new();
    for prefix in [&LABEL[..0], &LABEL[..1], &LABEL[..2], &[9u8], LABEL, &[12, 4, b't', b'e', b's', b't', 9]] {
        for _ in 0..4 {
            held.push(hold(addr, prefix).await);
        }
    }
    let late = Node::start(seeded("test", addr)).await;
    until("a third joins", || late.sees(2) && nodes.iter().all(|n| n.sees(2))).await;
    let mut a = nodes.remove(0);
    for text in ["one", "two", "three"] {
        exchange(&nodes[0], &mut a, text).await;
    }
    let stats = a.mesh.counters();
    assert!(stats.shed_connections > 0, "{stats:?}");
    assert_eq!(stats.refused_connections, 0, "{stats:?}");
    drop(held);
}

// scenario 82: in a process of its own, because it measures the CPU time of the process.
#[test]
fn a_one_byte_connection_does_not_spin() {
    if std::env::var_os("MESH_SPIN_CHILD").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hostile::a_one_byte_connection_does_not_spin"])
            .env("MESH_SPIN_CHILD", "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut config = config("test");
        config.failure.header_timeout = Duration::from_secs(60);
        config.failure.stream_timeout = Duration::from_secs(60);
        let node = Node::start(config).await;
        let mut held = Vec::new();
        for prefix in [&LABEL[..1], &[9u8], &[12, 4, b't', b'e', b's', b't', 9], LABEL] {
            held.push(hold(node.addr(), prefix).await);
        }
        sleep(Duration::from_millis(200)).await;
        let before = cpu();
        sleep(Duration::from_secs(1)).await;
        let used = cpu() - before;
        assert!(used < Duration::from_millis(300), "{used:?} of CPU in one second");
        drop(held);
    });
}

#[tokio::test]
async fn a_connection_without_header_or_end_is_closed() {
    let node = Node::start(config("test")).await;
    let mut silent = hold(node.addr(), LABEL).await;
    let mut half = hold(node.addr(), &[LABEL, &[9, 100, 1, 2, 3]].concat()).await;
    let mut buf = [0; 1];
    for socket in [&mut silent, &mut half] {
        let closed = timeout(PATIENCE, socket.read(&mut buf)).await.unwrap();
        assert!(matches!(closed, Ok(_) | Err(_)));
    }
    until("both counted", || {
        let s = node.mesh.counters();
        s.header_timeouts >= 1 && s.deadline_kills >= 1
    })
    .await;
}

/// Checks a header that arrives in many segments. memberlist's own reader uses its buffered bytes twice if a header
/// comes in two segments.
#[tokio::test]
async fn a_header_split_into_segments_is_read_right() {
    let mut node = Node::start(config("test")).await;
    // User data: tag 9, varint length 200 (two bytes), payload, and the mesh's trailer for "stream".
    let mut payload = vec![b'x'; 199];
    payload.push(2);
    let frame = [LABEL, &[9, 0xc8, 0x01], &payload].concat();
    let mut socket = TcpStream::connect(node.addr()).await.unwrap();
    socket.set_nodelay(true).unwrap();
    for piece in frame[..20].chunks(1) {
        socket.write_all(piece).await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    socket.write_all(&frame[20..]).await.unwrap();
    let (bytes, reliable) = node.message().await;
    assert_eq!((bytes.len(), reliable), (199, true));
}

// scenario 75: a frame that announces four gigabytes is refused before memory is allocated.
#[tokio::test]
async fn four_gigabytes_in_a_header_allocate_nothing() {
    let node = Node::start(config("test")).await;
    let before = resident();
    for tail in [&[9, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[1, 2, 0xff, 0xff, 0xff, 0xff]] {
        let mut socket = hold(node.addr(), &[LABEL, tail, b"tenbytes!!"].concat()).await;
        let mut buf = [0; 1];
        drop(timeout(PATIENCE, socket.read(&mut buf)).await.unwrap());
    }
    until("both refused", || node.mesh.counters().oversize_frames == 2).await;
    assert!(resident() < before + (256 << 20));
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn garbage_kills_no_task() {
    let mut nodes = cluster(2, |_| {}).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    for round in 0..3000 {
        let mut bytes: Vec<u8> = (0..rng.usize(..64)).map(|_| rng.u8(..)).collect();
        if round % 3 > 0 {
            bytes.splice(0..0, LABEL.iter().copied());
        }
        if round % 3 == 2 && bytes.len() > 6 {
            bytes[6] = rng.u8(1..16);
        }
        socket.send_to(&bytes, nodes[0].addr()).await.unwrap();
        if round % 20 == 0 {
            let mut tcp = hold(nodes[0].addr(), &bytes).await;
            drop(tcp.shutdown().await);
            sleep(Duration::from_millis(1)).await;
        }
    }
    let mut a = nodes.remove(0);
    exchange(&nodes[0], &mut a, "still here").await;
    let packets = a.mesh.counters().datagrams_in;
    let peer = nodes[0].peer(a.addr()).unwrap();
    nodes[0].mesh.send_datagram(&peer, Bytes::from_static(b"by packet")).await.unwrap();
    assert_eq!(a.message().await.0, "by packet");
    assert!(a.mesh.counters().datagrams_in > packets);
    assert_eq!(a.mesh.counters().rebuilds, 0, "a task died: {:?}", a.mesh.counters());
}

// scenario 85: a slow reader is a peer that accepts the connection and never reads. Only the kernel's buffer takes
// data.
#[tokio::test]
async fn a_peer_that_stops_reading_costs_one_deadline() {
    let nodes = cluster(2, |c| c.max_frame = 32 << 20).await;
    let stuck = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = nodes[0].mesh.members().pop().unwrap();
    peer.addr = stuck.local_addr().unwrap();
    let start = Instant::now();
    let sent = nodes[0].mesh.send_stream(&peer, Bytes::from(vec![0; 32 << 20]), Duration::from_millis(300)).await;
    assert!(sent.is_err());
    assert!(start.elapsed() < SHORT);
    let peer = nodes[0].mesh.members().pop().unwrap();
    assert!(nodes[0].mesh.send_stream(&peer, Bytes::from_static(b"x"), SHORT).await.is_ok());
}

#[tokio::test]
async fn a_full_inbox_drops_and_counts() {
    let mut nodes = cluster(2, |c| c.inbox = 4).await;
    let peer = nodes[0].peer(nodes[1].addr()).unwrap();
    for _ in 0..20 {
        nodes[0].mesh.send_stream(&peer, Bytes::from_static(b"m"), PATIENCE).await.unwrap();
    }
    let b = nodes.pop().unwrap();
    // One of four places is reserved for other senders.
    until("seventeen dropped", || b.mesh.counters().inbox_dropped == 17).await;
    assert_eq!((b.mesh.counters().messages_in, b.mesh.counters().inbox_over_share), (3, 17));
}
