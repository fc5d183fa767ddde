//! Tests of resource limits: decompression bombs, bursts of writes, and states larger than one message.

use std::time::Duration;

use driftless::node::mesh::probe::Screen;
use driftless::{Cache, Node, ReplicaConfig};

use crate::supervision::{node, until};
use crate::targets::frame::CLUSTER;

// scenario 76: no node compresses, so a compressed message is refused without being decompressed.
#[test]
fn a_decompression_bomb_is_refused_unopened() {
    let mut bomb = vec![12, 4];
    bomb.extend(CLUSTER.as_bytes());
    bomb.extend([14, 1, 0xff, 0xff, 0xff, 0xff]);
    bomb.extend([0; 64]);
    let screen = Screen::new(CLUSTER, false, 1 << 20);
    assert_eq!(screen.datagram(&bomb), Err("Malformed".to_owned()));
    assert_eq!(screen.frame_len(&bomb), Err("Malformed".to_owned()));
}

async fn pair(name: &str) -> ([Node; 2], [Cache<u64, Vec<u8>>; 2]) {
    let one = node(name, &[]).await;
    let two = node(name, &[&one]).await;
    let caches = [one.cache("c").open().unwrap(), two.cache("c").open().unwrap()];
    until("they meet", || caches.iter().all(|cache: &Cache<u64, Vec<u8>>| cache.members() == 1)).await;
    ([one, two], caches)
}

// scenario 86, the short form; `examples/soak.rs` runs it for a minute and more. A key that is written faster than the
// network can send takes one register and few log entries. It is sent far less often than it is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_to_one_key_is_coalesced() {
    let (nodes, [here, there]) = pair("burst").await;
    const WRITES: u64 = 200_000;
    for number in 0..WRITES {
        here.insert(1, number.to_be_bytes().to_vec()).unwrap();
    }
    let last = (WRITES - 1).to_be_bytes().to_vec();
    until("the last arrives", || there.get(&1).as_ref() == Some(&last)).await;
    let (sent, merged) = (here.counters().writes, there.counters().merged);
    assert_eq!(sent, WRITES);
    assert!(merged < WRITES / 4, "{merged} of {WRITES} writes to one key went over the network");
    for key in 0..50_000 {
        here.insert(key, vec![7; 16]).unwrap();
    }
    until("all keys arrive", || there.entry_count() == 50_000).await;
    for node in &nodes {
        let report = driftless::inspect::Inspector::new(node).node();
        let log = report.caches[0].log_entries;
        assert!(log < 250_000, "{log} log entries for 50,000 keys");
        node.shutdown().await;
    }
}

// scenario 87: a state of hundreds of frames arrives, also after an interrupted session.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_many_frames_arrives_also_after_an_interruption() {
    let writer = node("frames", &[]).await;
    let one = node("frames", &[&writer]).await;
    let mut config = ReplicaConfig::default();
    config.max_frame_bytes = 4 << 10;
    config.session_idle = Duration::from_millis(500);
    let open = |node: &Node| node.cache::<u64, Vec<u8>>("c").replication(config.clone()).open().unwrap();
    let (written, full) = (open(&writer), open(&one));
    const KEYS: u64 = 60_000;
    (0..KEYS).for_each(|key| drop(written.insert(key, vec![1; 100]).map(|_| ())));
    until("the second has it", || full.entry_count() == KEYS).await;
    // The origin of the writes has departed, so they can only come in sessions, not as pushes.
    writer.shutdown().await;
    let two = node("frames", &[&one]).await;
    let empty = open(&two);
    until("it has begun", || empty.entry_count() > 0).await;
    two.sever(Some(vec![one.local_addr()]));
    one.sever(Some(vec![two.local_addr()]));
    // Data in the kernels' buffers still arrives. After that nothing does, until the receiver abandons the session.
    until("the session is aborted", || empty.counters().sessions_abandoned > 0).await;
    let at_the_cut = empty.entry_count();
    assert!(at_the_cut < KEYS, "it was over before it could be interrupted");
    [&one, &two].into_iter().for_each(|node| node.sever(None));
    until("everything is there", || empty.entry_count() == KEYS).await;
    let frames = empty.counters().frames_in;
    assert!(frames >= 100, "{frames} frames for a state of hundreds");
    println!("cut at {at_the_cut} of {KEYS}, {frames} frames");
    one.shutdown().await;
    two.shutdown().await;
}
