//! A node in a process of its own. It reads requests from its standard input, one line of JSON each, and writes the
//! answers to its standard output in the same form.

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use driftless::node::mesh::{FailureTiming, Mesh, MeshConfig, MeshEvent};
use driftless::{Cache, Members, Node};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::contestants::key;
use crate::pattern::zipf;
use crate::table::percentile;
use crate::usage::{processor, resident, wall};

const FLAG: &str = "--as-a-node";

/// Returns true if this process was started by [`crate::fleet`].
pub fn is_child() -> bool {
    std::env::args().nth(1).as_deref() == Some(FLAG)
}

/// Returns the arguments that make a process a child.
pub(crate) fn arguments(config: &Value) -> [String; 2] {
    [FLAG.to_owned(), config.to_string()]
}

/// The operations that every kind of replicated map supports in this benchmark.
trait Replicated: Send + Sync {
    fn put(&self, key: String, value: Vec<u8>);
    fn read(&self, key: &str) -> bool;
    fn entries(&self) -> u64;
    fn members(&self) -> usize;
    /// Receives `count` probes and returns their ages on arrival in nanoseconds.
    fn watch(&self, count: usize) -> Vec<u64>;
    /// Opens further empty caches, and returns how many are open in all.
    fn open_more(&self, _count: u64) -> u64 {
        0
    }
    /// Writes `count` keys, `gap_us` apart, and returns the time until all members had each, in nanoseconds.
    fn acknowledged(&self, _count: u64, _gap_us: u64) -> Vec<u64> {
        Vec::new()
    }
    /// Returns the bytes sent and received, the datagrams and streams sent, and the counters of the replica.
    fn traffic(&self) -> Value;
}

struct Ours {
    node: Node,
    cache: Option<Cache<String, Bytes>>,
    further: Mutex<Vec<Cache<String, Bytes>>>,
    _runtime: Arc<Runtime>,
}

impl Ours {
    fn start(config: &Value, runtime: Arc<Runtime>) -> (Self, String) {
        let seeds: Vec<_> =
            config["seeds"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let mut builder = Node::builder().cluster("bench").seeds(seeds);
        if config["encrypted"] == true {
            builder = builder.encryption_key([7; 32]);
        }
        let node = runtime.block_on(builder.start()).expect("the node starts");
        let addr = node.local_addr().to_string();
        let cache = (config["open"] != false).then(|| node.cache("bench").open().expect("the cache opens"));
        (Self { node, cache, further: Mutex::default(), _runtime: runtime }, addr)
    }

    fn cache(&self) -> &Cache<String, Bytes> {
        self.cache.as_ref().expect("the cache is open")
    }
}

impl Replicated for Ours {
    fn put(&self, key: String, value: Vec<u8>) {
        self.cache().insert(key, value.into()).expect("the entry is accepted");
    }

    fn read(&self, key: &str) -> bool {
        self.cache().get(key).is_some()
    }

    fn entries(&self) -> u64 {
        self.cache.as_ref().map_or(0, Cache::entry_count)
    }

    fn members(&self) -> usize {
        self.cache.as_ref().map_or_else(|| self.node.members().len(), Cache::members)
    }

    fn watch(&self, count: usize) -> Vec<u64> {
        let mut changes = self.cache().subscribe();
        let mut ages = Vec::with_capacity(count);
        while ages.len() < count {
            let Ok(change) = changes.recv_timeout(Duration::from_secs(5)) else { break };
            if change.key().starts_with("probe")
                && let Some(value) = self.cache().get(change.key())
            {
                ages.push(age(&value));
            }
        }
        ages
    }

    fn open_more(&self, count: u64) -> u64 {
        let mut further = self.further.lock().expect("no thread panicked");
        let first = further.len() as u64;
        let open = |number| self.node.cache(&format!("further-{number:05}")).open().expect("the cache opens");
        further.extend((first..first + count).map(open));
        further.len() as u64 + u64::from(self.cache.is_some())
    }

    fn acknowledged(&self, count: u64, gap_us: u64) -> Vec<u64> {
        let mut took = Vec::new();
        for number in 0..count {
            std::thread::sleep(Duration::from_micros(gap_us));
            let began = Instant::now();
            let written = self.cache().insert(key(number as u32), vec![7; 100].into()).expect("the entry is accepted");
            let outcome = self.cache().wait_replicated_blocking(written, Members::All, Duration::from_secs(10));
            took.push(if outcome.is_ok() { began.elapsed().as_nanos() as u64 } else { u64::MAX });
        }
        took
    }

    fn traffic(&self) -> Value {
        let t = self.node.traffic();
        let counters = self.cache.as_ref().map(|cache| format!("{:?}", cache.counters()));
        json!({
            "out": t.bytes_out, "in": t.bytes_in, "datagrams": t.datagrams_out, "streams": t.streams_out,
            "counters": counters,
        })
    }
}

struct Theirs {
    map: reconcile::ReplicatedMap<String, Vec<u8>>,
    runtime: Arc<Runtime>,
    started: Instant,
}

impl Theirs {
    fn start(config: &Value, runtime: Arc<Runtime>) -> (Self, String) {
        let address =
            |name: &Value| name.as_str().expect("an address").parse::<std::net::IpAddr>().expect("an address");
        let listen = address(&config["listen"]);
        let settings = reconcile::replicated_map::Config::new(config["port"].as_u64().expect("a port") as u16)
            .with_listen_addr(listen)
            .with_net("127.0.0.0/8".parse().expect("a network"))
            .expect("a network")
            .with_insecure_no_key();
        let map = runtime.block_on(async {
            let mut map = reconcile::ReplicatedMap::new(settings).await.expect("the socket binds");
            for seed in config["seeds"].as_array().into_iter().flatten() {
                map = map.with_seed(address(seed));
            }
            tokio::spawn(map.clone().run(reconcile::tokio_util::sync::CancellationToken::new()));
            map
        });
        (Self { map, runtime, started: Instant::now() }, listen.to_string())
    }
}

impl Replicated for Theirs {
    fn put(&self, key: String, value: Vec<u8>) {
        // The map spawns its sends on the runtime.
        let _inside = self.runtime.enter();
        self.map.insert(key, value);
    }

    fn read(&self, key: &str) -> bool {
        self.map.get_cloned(&key.to_owned()).is_some()
    }

    fn entries(&self) -> u64 {
        self.map.len() as u64
    }

    fn members(&self) -> usize {
        // The map does not report its peers. Two reconciliation intervals are enough to find them on loopback.
        if self.started.elapsed() > Duration::from_secs(2) { usize::MAX } else { 0 }
    }

    fn watch(&self, count: usize) -> Vec<u64> {
        let (sender, ages) = std::sync::mpsc::channel();
        self.map.set_pre_insert(move |key, entry| {
            if key.starts_with("probe")
                && let Some(value) = entry.value()
            {
                let _ = sender.send(age(value));
            }
        });
        let mut seen = Vec::new();
        while seen.len() < count {
            let Ok(age) = ages.recv_timeout(Duration::from_secs(5)) else { break };
            seen.push(age);
        }
        seen
    }

    fn traffic(&self) -> Value {
        json!({})
    }
}

/// Returns the nanoseconds since the time that a probe carries.
fn age(value: &[u8]) -> u64 {
    let sent = value.get(..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    wall().saturating_sub(sent)
}

/// Runs a node of memberlist alone. Its probes go by datagram to the first other member.
fn run_mesh(config: &Value, runtime: &Runtime) {
    let seeds = config["seeds"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let settings =
        MeshConfig { seeds, failure: FailureTiming::lan(), ..MeshConfig::new("bench", ([127, 0, 0, 1], 0).into()) };
    runtime.block_on(async {
        let (mesh, mut events) = Mesh::start(settings).await.expect("the mesh starts");
        say(&json!({ "addr": mesh.local_addr().to_string() }));
        loop {
            let request = tokio::task::spawn_blocking(hear).await.ok().flatten();
            let Some(request) = request else { return };
            match request["do"].as_str() {
                Some("await_members") => {
                    while mesh.members().is_empty() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    say(&json!({ "members": mesh.members().len() }));
                }
                Some("probe") => {
                    let peer = mesh.members().remove(0);
                    for _ in 0..request["count"].as_u64().unwrap_or(0) {
                        let mut probe = wall().to_le_bytes().to_vec();
                        probe.resize(120, 0);
                        let _ = mesh.send_datagram(&peer, probe.into()).await;
                        tokio::time::sleep(Duration::from_micros(request["gap_us"].as_u64().unwrap_or(1_000))).await;
                    }
                    say(&json!({ "probed": true }));
                }
                Some("watch") => {
                    say(&json!({ "watching": true }));
                    let count = request["count"].as_u64().unwrap_or(0) as usize;
                    let mut ages = Vec::new();
                    while ages.len() < count {
                        match tokio::time::timeout(Duration::from_secs(2), events.recv()).await {
                            Ok(Some(MeshEvent::Message { bytes, .. })) => ages.push(age(&bytes)),
                            Ok(Some(_)) => {}
                            Ok(None) | Err(_) => break,
                        }
                    }
                    // The next line of input requests the ages.
                    let _ = tokio::task::spawn_blocking(hear).await;
                    say(&json!({ "ages": ages }));
                }
                _ => return,
            }
        }
    });
}

fn say(answer: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{answer}").and_then(|()| out.flush());
}

fn hear() -> Option<Value> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).ok()?;
    (read > 0).then(|| serde_json::from_str(&line).expect("a request is JSON"))
}

/// Runs the node until its standard input ends.
pub fn run() {
    let config: Value = serde_json::from_str(&std::env::args().nth(2).expect("a configuration")).expect("JSON");
    let runtime = Arc::new(Runtime::new().expect("a runtime starts"));
    let began = wall();
    let (map, addr): (Arc<dyn Replicated>, _) = match config["kind"].as_str() {
        Some("mesh") => return run_mesh(&config, &runtime),
        Some("reconcile") => {
            let (theirs, addr) = Theirs::start(&config, runtime);
            (Arc::new(theirs), addr)
        }
        _ => {
            let (ours, addr) = Ours::start(&config, runtime);
            (Arc::new(ours), addr)
        }
    };
    say(&json!({ "addr": addr, "began": began }));
    let mut desk = Desk { map, watcher: None, reader: None };
    while let Some(request) = hear() {
        say(&desk.answer(&request));
    }
    // Exits without waiting for the map's threads.
    std::process::exit(0);
}

/// A thread that reads until it is stopped, and returns the duration of each read in nanoseconds.
type Reader = (Arc<AtomicBool>, JoinHandle<Vec<u64>>);

struct Desk {
    map: Arc<dyn Replicated>,
    watcher: Option<JoinHandle<Vec<u64>>>,
    reader: Option<Reader>,
}

impl Desk {
    fn answer(&mut self, request: &Value) -> Value {
        let number = |name: &str| request[name].as_u64().unwrap_or(0);
        match request["do"].as_str().unwrap_or("") {
            "write" => self.write(number("from"), number("count"), number("size") as usize),
            "await" => self.wait(number("timeout_ms"), |map| map.entries() >= number("count")),
            "await_members" => self.wait(number("timeout_ms"), |map| map.members() as u64 >= number("count")),
            "usage" => self.usage(),
            "open" => json!({ "open": self.map.open_more(number("count")) }),
            "acknowledge" => json!({ "ages": self.map.acknowledged(number("count"), number("gap_us")) }),
            "probe" => self.probe(number("count"), number("gap_us")),
            "watch" => {
                let (map, count) = (Arc::clone(&self.map), number("count") as usize);
                self.watcher = Some(std::thread::spawn(move || map.watch(count)));
                std::thread::sleep(Duration::from_millis(50));
                json!({ "watching": true })
            }
            "watched" => json!({ "ages": self.watcher.take().and_then(|it| it.join().ok()) }),
            "read" => self.read(number("keys") as usize),
            "read_stop" => self.read_stop(),
            other => json!({ "error": format!("unknown request {other}") }),
        }
    }

    fn write(&self, from: u64, count: u64, size: usize) -> Value {
        let (began, cpu) = (wall(), processor());
        for number in from..from + count {
            let mut value = vec![0; size];
            value.iter_mut().zip(number.to_le_bytes()).for_each(|(to, byte)| *to = byte);
            self.map.put(key(number as u32), value);
        }
        json!({ "began": began, "ended": wall(), "cpu": processor() - cpu })
    }

    fn wait(&self, timeout_ms: u64, done: impl Fn(&dyn Replicated) -> bool) -> Value {
        let until = Instant::now() + Duration::from_millis(if timeout_ms == 0 { 120_000 } else { timeout_ms });
        while !done(self.map.as_ref()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        json!({ "at": wall(), "ok": done(self.map.as_ref()), "entries": self.map.entries() })
    }

    fn usage(&self) -> Value {
        let traffic = self.map.traffic();
        json!({
            "cpu": processor(), "rss": resident(std::process::id()), "entries": self.map.entries(),
            "members": self.map.members(), "traffic": traffic, "at": wall(),
        })
    }

    fn probe(&self, count: u64, gap_us: u64) -> Value {
        for number in 0..count {
            let mut value = wall().to_le_bytes().to_vec();
            value.resize(100, 0);
            self.map.put(format!("probe-{number:06}"), value);
            std::thread::sleep(Duration::from_micros(gap_us));
        }
        json!({ "probed": true })
    }

    fn read(&mut self, keys: usize) -> Value {
        let stop = Arc::new(AtomicBool::new(false));
        let (map, stopped) = (Arc::clone(&self.map), Arc::clone(&stop));
        let reader = std::thread::spawn(move || {
            let names: Vec<_> = (0..keys as u32).map(key).collect();
            let order = zipf(keys, 0.99, 200_000, 70);
            // Touch the pages now, before the growth of this process is measured.
            let mut took = vec![1; 20_000_000];
            took.clear();
            while !stopped.load(Ordering::Relaxed) && took.len() < 20_000_000 {
                for number in &order {
                    let start = Instant::now();
                    std::hint::black_box(map.read(&names[*number as usize]));
                    took.push(start.elapsed().as_nanos() as u64);
                }
            }
            took
        });
        self.reader = Some((stop, reader));
        json!({ "reading": true })
    }

    fn read_stop(&mut self) -> Value {
        let Some((stop, reader)) = self.reader.take() else { return json!({ "error": "nobody reads" }) };
        stop.store(true, Ordering::Relaxed);
        let mut took = reader.join().unwrap_or_default();
        let reads = took.len();
        json!({
            "reads": reads, "p50": percentile(&mut took, 0.5), "p99": percentile(&mut took, 0.99),
            "p999": percentile(&mut took, 0.999), "max": percentile(&mut took, 1.0),
        })
    }
}
