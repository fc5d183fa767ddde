//! Nodes in processes of their own, so that they can be paused and killed. Each is this test binary again.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use driftless::inspect::Inspector;
use driftless::inspect::http::{HttpConfig, HttpServer};
use driftless::{Cache, Node};

/// The variable with the name, address and seed of a node: `NAME ADDRESS SEED TIMING`.
const SETTINGS: &str = "DRIFTLESS_PAGE_NODE";

/// A node in a process of its own. It is killed at the end of the test.
pub struct Process {
    child: Child,
    /// Stays open: the harness of tests writes a line after a minute, and would end for a closed pipe.
    _output: BufReader<ChildStdout>,
    pub addr: SocketAddr,
    pub http: SocketAddr,
}

impl Process {
    pub fn start(name: &str, bind: &str, seed: Option<SocketAddr>, timing: &str) -> Self {
        let seed = seed.map_or("-".to_owned(), |seed| seed.to_string());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "process::a_node_for_other_tests", "--ignored", "--nocapture"]);
        command.env(SETTINGS, format!("{name} {bind} {seed} {timing}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let ready = output
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("ready ").map(|it| it.1.to_owned()));
        let ready = ready.expect("the node starts");
        let (addr, http) = ready.split_once(' ').unwrap();
        Self { child, _output: output, addr: addr.parse().unwrap(), http: http.parse().unwrap() }
    }

    /// Sends a signal: `STOP`, `CONT` or `KILL`.
    pub fn signal(&mut self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "{signal} was sent");
        if signal == "KILL" {
            self.child.wait().unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a cluster under load. Node `n1` is the seed of all.
pub fn cluster(count: usize, timing: &str) -> Vec<Process> {
    let mut all = vec![Process::start("n1", "127.0.0.1:0", None, timing)];
    for number in 2..=count {
        all.push(Process::start(&format!("n{number}"), "127.0.0.1:0", Some(all[0].addr), timing));
    }
    all
}

/// Is no test of its own: it is the node of a [`Process`].
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a node of another test"]
async fn a_node_for_other_tests() {
    let Ok(settings) = std::env::var(SETTINGS) else { return };
    let [name, bind, seed, timing] = settings.split(' ').collect::<Vec<_>>()[..] else { panic!("{settings}") };
    let builder = Node::builder().cluster("page").name(name).bind(bind.parse().unwrap());
    let builder = if timing == "local" { builder.local_timing() } else { builder };
    let node = builder.seeds((seed != "-").then_some(seed)).start().await.unwrap();
    // A hundred keys more than there is room for: every node evicts.
    let prices: Cache<String, String> = node.cache("prices").max_capacity(900).open().unwrap();
    let sessions: Cache<String, String> = node.cache("sessions").time_to_live(Duration::from_secs(20)).open().unwrap();
    let server = HttpServer::start(Inspector::new(&node), HttpConfig::new(([127, 0, 0, 1], 0).into())).await.unwrap();
    println!("ready {} {}", node.local_addr(), server.local_addr());
    load(name, &prices, &sessions).await;
}

/// Reads and writes until the process is killed: about 600 reads a second, 40 % of them of one key.
async fn load(name: &str, prices: &Cache<String, String>, sessions: &Cache<String, String>) {
    let mut random = numbers(name);
    for turn in 0_u64.. {
        for _ in 0..12 {
            let number = random();
            let key = if number % 10 < 4 { "item-0042".to_owned() } else { format!("item-{:04}", number % 1_000) };
            let read = prices.get(&key);
            if read.is_none() && number.is_multiple_of(3) {
                let value = format!("price {number} of {name}");
                prices.get_with(key, move || async move { value }).await;
            }
        }
        if turn.is_multiple_of(5) {
            prices.insert(format!("item-{:04}", random() % 1_000), format!("price {turn} of {name}")).unwrap();
            sessions.insert(format!("session-{name}-{:03}", turn % 200), "user".into()).unwrap();
        }
        if turn.is_multiple_of(40) {
            sessions.remove(&format!("session-{name}-{:03}", random() % 200));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns a generator of numbers that is the same in each run.
fn numbers(seed: &str) -> impl FnMut() -> u64 {
    let mut state =
        seed.bytes().fold(0x9E37_79B9_7F4A_7C15, |state: u64, byte| (state ^ u64::from(byte)).wrapping_mul(31));
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    }
}
