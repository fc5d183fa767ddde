//! Processes of `driftless serve` that end with the test.

use super::{
    addresses::{unused, unused_port},
    client::{Client, Reply},
};
use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, mpsc},
    thread,
    time::{Duration, Instant},
};

/// The time limit from the start of a process to its `ready` line.
const START: Duration = Duration::from_secs(20);

/// Held by the running cluster, so that one runs at a time: the tests are about the sidecar, not about a busy machine.
static TURN: Mutex<()> = Mutex::new(());

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_driftless");

/// Repeats a check until it returns `Ok`. Panics with the last error after `within`.
#[track_caller]
pub fn eventually(within: Duration, mut look: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    loop {
        let Err(seen) = look() else { return };
        assert!(start.elapsed() < within, "still after {within:?}: {seen}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The flags with which all processes of a cluster start.
#[derive(Default, Clone, Copy)]
pub struct Flags<'a> {
    pub extra: &'a [&'a str],
}

#[derive(Debug, Clone, Copy)]
pub enum Signal {
    Kill,
    Terminate,
    Stop,
    Continue,
}

/// One process.
pub struct Sidecar {
    child: Child,
    redis: SocketAddr,
    gossip: SocketAddr,
}

impl Sidecar {
    /// Starts a process and waits for its `ready` line.
    fn start(redis: &str, gossip: &str, flags: &[String]) -> Self {
        let mut child = Command::new(BINARY)
            .args(["serve", "--redis", redis, "--bind", gossip])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let line = first_line(&mut child);
        let (redis, gossip) = addresses(&line).unwrap_or_else(|| {
            let _ = child.kill();
            panic!("want a ready line within {START:?}, got {line:?}")
        });
        Self { child, redis, gossip }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.redis)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the first line that the process prints, or an empty string after [`START`].
fn first_line(child: &mut Child) -> String {
    let output = child.stdout.take().expect("piped");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let mut output = BufReader::new(output);
        let _ = output.read_line(&mut line);
        let _ = sender.send(line);
        // Keep the pipe open as long as the process runs: it must not get an error when it writes.
        let _ = output.read_to_end(&mut Vec::new());
    });
    receiver.recv_timeout(START).unwrap_or_default()
}

/// Parses the `ready` line: `ready: redis 127.0.0.1:1, gossip 127.0.0.1:2, ..`
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut parts = line.strip_prefix("ready: ")?.split(", ");
    let redis = parts.next()?.strip_prefix("redis ")?.parse().ok()?;
    let gossip = parts.next()?.strip_prefix("gossip ")?.parse().ok()?;
    Some((redis, gossip))
}

/// A cluster of processes. The first is the seed of all.
pub struct Cluster {
    sidecars: Vec<Sidecar>,
    flags: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    pub fn start(count: usize, flags: Flags<'_>) -> Self {
        let turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let flags = flags.extra.iter().map(|&flag| flag.to_owned()).collect();
        let mut cluster = Self { sidecars: Vec::new(), flags, _turn: turn };
        for index in 0..count {
            // A process that restarts binds the same addresses. Clients connect to a port of 127.0.0.1.
            let (redis, gossip) = (format!("127.0.0.1:{}", unused_port()), unused().to_string());
            let sidecar = Sidecar::start(&redis, &gossip, &cluster.flags_of(index));
            cluster.sidecars.push(sidecar);
        }
        cluster
    }

    fn flags_of(&self, index: usize) -> Vec<String> {
        let mut flags = self.flags.clone();
        flags.extend(["--name".to_owned(), format!("node-{index}")]);
        if index > 0 {
            flags.extend(["--seed".to_owned(), self.gossip(0).to_string()]);
        }
        flags
    }

    /// Starts a process with this cluster's seed, but other flags.
    pub fn stranger(&self, flags: &[&str]) -> Sidecar {
        let seed = self.gossip(0).to_string();
        let flags =
            flags.iter().chain(&["--wait", "1", "--seed", &seed]).map(|&flag| flag.to_owned()).collect::<Vec<_>>();
        Sidecar::start("127.0.0.1:0", "127.0.0.1:0", &flags)
    }

    pub fn redis(&self, index: usize) -> SocketAddr {
        self.sidecars[index].redis
    }

    pub fn gossip(&self, index: usize) -> SocketAddr {
        self.sidecars[index].gossip
    }

    /// Opens a new connection to a process.
    pub fn client(&self, index: usize) -> Client {
        self.sidecars[index].client()
    }

    #[track_caller]
    pub fn eventually_everywhere(&self, within: Duration, words: &[&str], expected: &Reply) {
        for index in 0..self.sidecars.len() {
            eventually(within, || {
                self.client(index).wants(words, expected).map_err(|seen| format!("node {index}: {seen}"))
            });
        }
    }

    pub fn signal(&self, index: usize, signal: Signal) {
        let name = match signal {
            Signal::Kill => "-KILL",
            Signal::Terminate => "-TERM",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        let status = Command::new("kill").args([name, &self.sidecars[index].child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {name}");
    }

    /// Waits until a process has ended with success, without a signal from this call.
    #[track_caller]
    pub fn ends(&mut self, index: usize, within: Duration) {
        eventually(within, || match self.sidecars[index].child.try_wait() {
            Ok(Some(status)) if status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Restarts a killed process with the same addresses.
    pub fn restart(&mut self, index: usize) {
        let _ = self.sidecars[index].child.wait();
        let (redis, gossip) = (self.redis(index).to_string(), self.gossip(index).to_string());
        self.sidecars[index] = Sidecar::start(&redis, &gossip, &self.flags_of(index));
    }
}

/// Starts a process that must refuse to run, and returns its error output.
#[track_caller]
pub fn refused(flags: &[&str]) -> String {
    let mut child = Command::new(BINARY)
        .arg("serve")
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    let start = Instant::now();
    while child.try_wait().expect("its state").is_none() {
        if start.elapsed() > START {
            let _ = child.kill();
            panic!("{flags:?} must be refused");
        }
        thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().expect("its output");
    assert!(!output.status.success(), "{flags:?} must be refused");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
