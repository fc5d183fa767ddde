//! The outermost bytes: first the screen alone, then a live member of an unencrypted cluster, as a stranger can reach
//! it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use driftless::node::mesh::probe::Screen;
use driftless::node::mesh::{FailureTiming, Mesh, MeshConfig, MeshEvent, MeshEvents};
use tokio::runtime::Runtime;

use super::Verdict;

pub const CLUSTER: &str = "test";
const MAX_FRAME: usize = 64 << 10;
/// Bytes for label, headers, nonce and tag, as the screen allows.
const OVERHEAD: usize = 512 + 512;
/// The number of inputs between two checks that the member still works.
const LOOK_EVERY: u64 = 512;

/// Runs one input, as a datagram and as the start of a stream.
pub fn run(data: &[u8]) -> Verdict {
    let mut verdict = Verdict::default();
    for encrypted in [false, true] {
        screen(&Screen::new(CLUSTER, encrypted, MAX_FRAME), data, &mut verdict);
    }
    stage().lock().unwrap_or_else(|poisoned| poisoned.into_inner()).receive(data);
    verdict
}

fn screen(screen: &Screen, data: &[u8], verdict: &mut Verdict) {
    verdict.note(screen.datagram(data).is_ok());
    let whole = screen.frame_len(data);
    verdict.note(whole.is_ok());
    if let Ok(Some(len)) = whole {
        assert!(len <= MAX_FRAME + OVERHEAD, "a frame of {len} bytes was let in");
    }
    // A verdict on a prefix must not change when more bytes arrive.
    let mut given = None;
    for cut in 0..=data.len().min(300) {
        let here = screen.frame_len(&data[..cut]);
        if let Some(given) = &given {
            assert_eq!(&here, given, "another verdict with {cut} bytes");
        } else if here != Ok(None) {
            given = Some(here);
        }
    }
}

struct Stage {
    runtime: Runtime,
    member: Mesh,
    events: MeshEvents,
    friend: Mesh,
    udp: UdpSocket,
    at: SocketAddr,
    received: u64,
}

static STAGE: OnceLock<Mutex<Stage>> = OnceLock::new();

fn stage() -> &'static Mutex<Stage> {
    STAGE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = |seed: Option<SocketAddr>| {
            let mut config = MeshConfig::new(CLUSTER, ([127, 0, 0, 1], 0).into());
            config.failure = FailureTiming::local();
            config.max_frame = MAX_FRAME;
            config.seeds = seed.map(|seed| seed.to_string()).into_iter().collect();
            config
        };
        let (member, events) = runtime.block_on(Mesh::start(config(None))).unwrap();
        let at = member.local_addr();
        let (friend, _) = runtime.block_on(Mesh::start(config(Some(at)))).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        Mutex::new(Stage { runtime, member, events, friend, udp, at, received: 0 })
    })
}

impl Stage {
    fn receive(&mut self, data: &[u8]) {
        self.received += 1;
        let _ = self.udp.send_to(&data[..data.len().min(60_000)], self.at);
        if self.received.is_multiple_of(4)
            && let Ok(mut stream) = TcpStream::connect(self.at)
        {
            let _ = stream.write_all(data);
        }
        if self.received.is_multiple_of(LOOK_EVERY) {
            self.look();
        }
        while self.events.try_recv().is_some() {}
    }

    /// Checks that a message of a well-behaved member still arrives, and that no task had to be restarted.
    fn look(&mut self) {
        let word = Bytes::from(format!("word {}", self.received));
        let Self { runtime, member, events, friend, at, .. } = self;
        let start = Instant::now();
        let heard = runtime.block_on(async {
            while start.elapsed() < Duration::from_secs(60) {
                if let Some(peer) = friend.members().into_iter().find(|peer| peer.addr == *at) {
                    let _ = friend.send_stream(&peer, word.clone(), Duration::from_secs(2)).await;
                }
                let listen = async {
                    loop {
                        match events.recv().await {
                            Some(MeshEvent::Message { bytes, .. }) if bytes == word => return true,
                            Some(_) => {}
                            None => return false,
                        }
                    }
                };
                if tokio::time::timeout(Duration::from_millis(500), listen).await == Ok(true) {
                    return true;
                }
            }
            false
        });
        let stats = member.counters();
        assert!(heard, "a valid message does not arrive any more: {stats:?}");
        assert_eq!(stats.task_restarts, 0, "a task died: {stats:?}");
    }
}
