//! Measurements without a verdict: `cargo test --release --test mesh measure -- --ignored --nocapture`.

use std::time::Duration;

use bytes::Bytes;
use driftless::node::mesh::{MeshConfig, MeshStats};
use tokio::time::Instant;

use crate::common::*;

fn median(mut of: Vec<Duration>) -> (Duration, Duration) {
    of.sort();
    (of[of.len() / 2], of[of.len() * 99 / 100])
}

async fn latency(a: &Node, b: &mut Node, stream: bool) -> (Duration, Duration) {
    let peer = a.peer(b.addr()).unwrap();
    let mut took = Vec::new();
    for _ in 0..3000 {
        let start = Instant::now();
        let bytes = Bytes::from_static(&[1; 100]);
        if stream {
            a.mesh.send_stream(&peer, bytes, SHORT).await.unwrap();
        } else {
            a.mesh.send_datagram(&peer, bytes).await.unwrap();
        }
        b.message().await;
        took.push(start.elapsed());
    }
    median(took)
}

async fn throughput(a: &Node, b: &mut Node, size: usize, count: usize, lanes: usize) -> f64 {
    let peer = a.peer(b.addr()).unwrap();
    let payload = Bytes::from(vec![5; size]);
    let start = Instant::now();
    let send = async {
        let lane = || async {
            for _ in 0..count / lanes {
                a.mesh.send_stream(&peer, payload.clone(), SHORT).await.unwrap();
            }
        };
        futures_util::future::join_all((0..lanes).map(|_| lane())).await;
    };
    let arrived = |s: MeshStats| s.messages_in + s.inbox_dropped;
    let goal = arrived(b.mesh.counters()) + (count / lanes * lanes) as u64;
    let receive = async {
        let limit = Instant::now() + PATIENCE;
        while arrived(b.mesh.counters()) < goal {
            assert!(Instant::now() < limit, "lost messages: {:?} {:?}", a.mesh.counters(), b.mesh.counters());
            while b.events.try_recv().is_some() {}
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::join!(send, receive);
    (size * count) as f64 / start.elapsed().as_secs_f64()
}

async fn burst_loss(a: &Node, b: &Node) -> f64 {
    let peer = a.peer(b.addr()).unwrap();
    let before = b.mesh.counters().messages_in + b.mesh.counters().inbox_dropped;
    for _ in 0..20_000 {
        a.mesh.send_datagram(&peer, Bytes::from_static(&[1; 1024])).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = b.mesh.counters().messages_in + b.mesh.counters().inbox_dropped;
    1.0 - (after - before) as f64 / 20_000.0
}

async fn figures(prepare: impl Fn(&mut MeshConfig)) {
    let mut nodes = cluster(2, |c| {
        prepare(c);
        c.inbox = 1 << 16;
    })
    .await;
    let mut b = nodes.pop().unwrap();
    let a = nodes.pop().unwrap();
    println!("datagram 100 B p50/p99 {:?}", latency(&a, &mut b, false).await);
    println!("stream   100 B p50/p99 {:?}", latency(&a, &mut b, true).await);
    println!("streams  100 B /s      {:.0}", throughput(&a, &mut b, 100, 20_000, 1).await / 100.0);
    for lanes in [1, 4] {
        let bytes = throughput(&a, &mut b, 256 << 10, 4000, lanes).await;
        println!("streams 256 KiB x{lanes}     {:.0} MB/s", bytes / 1e6);
    }
    println!("burst of 20,000 x 1 KiB datagrams, lost {:.1} %", burst_loss(&a, &b).await * 100.0);
    println!("{:?}", b.mesh.counters());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn plaintext() {
    figures(|_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn encrypted() {
    figures(|c| c.keys = vec![[9; 32]]).await;
}
