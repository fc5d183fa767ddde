//! The cost of a cluster as it grows, with real replicas, real bytes and a simulated network.
//!
//! `cargo run --release --example scale --features sim` prints the table of `src/docs/scaling.md`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::time::Instant;

use bytes::Bytes;
use clap::Parser;
use driftless::hlc::Now;
use driftless::item::{Body, Item, ItemRef, Key};
use driftless::message::Message;
use driftless::replica::{Effect, Replica, Transmit, Write};
use driftless::wire::{self, Envelope, Intake, Limits, MessageKind, Peeked};
use driftless::{Counters, ReplicaConfig, ReplicaId};

#[derive(Parser)]
struct Args {
    /// Cluster sizes
    #[arg(long, value_delimiter = ',', default_values_t = [3, 10, 30, 100, 300, 1_000])]
    replicas: Vec<usize>,
    /// Percentage of messages that are lost
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 1.0])]
    loss: Vec<f64>,
    /// Number of writes to measure
    #[arg(long, default_value_t = 50)]
    writes: u32,
    /// Simulated milliseconds between two writes, each on a random replica
    #[arg(long, default_value_t = 100)]
    gap: u64,
    /// Size of a value, in bytes
    #[arg(long, default_value_t = 100)]
    value: usize,
    /// Seconds that the cluster idles before the first write
    #[arg(long, default_value_t = 10)]
    warm_up: u64,
    /// Number of rings along which a push travels, in clusters that do not broadcast
    #[arg(long)]
    fanout: Option<usize>,
    /// Seed of the random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Measure only the size of a digest
    #[arg(long)]
    digests: bool,
}

type Core = Replica<u32, String>;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000_000_000_000;
const CACHE: &str = "sessions";
/// Simulated time limit, in nanoseconds, within which all writes must have reached all replicas.
const PATIENCE: u64 = 120 * SECOND;

struct Taken;

impl Intake<u32, String> for Taken {
    fn hash(&self, key: &Key<u32>) -> u64 {
        hash_of(key.known().copied().unwrap_or_default())
    }

    fn weigh(&self, _: &u32, _: &String) -> u32 {
        1
    }
}

fn hash_of(key: u32) -> u64 {
    u64::from(key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn now(at: u64) -> Now {
    Now { wall: START + at, mono: at }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive { to: usize, bytes: Bytes },
    Sent { from: usize, to: usize },
    Wake { node: usize },
}

/// Messages and bytes, by kind of message.
#[derive(Clone, Default)]
struct Traffic(BTreeMap<&'static str, (u64, u64)>);

impl Traffic {
    fn add(&mut self, kind: &'static str, bytes: usize) {
        let count = self.0.entry(kind).or_default();
        count.0 += 1;
        count.1 += bytes as u64;
    }

    fn of(&self, kinds: &[&str]) -> (u64, u64) {
        let these = self.0.iter().filter(|(kind, _)| kinds.contains(kind));
        these.fold((0, 0), |sum, (_, count)| (sum.0 + count.0, sum.1 + count.1))
    }
}

struct Cluster {
    nodes: Vec<Core>,
    numbers: HashMap<ReplicaId, usize>,
    wakes: Vec<u64>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    at: u64,
    random: fastrand::Rng,
    loss: f64,
    traffic: Traffic,
    /// Bytes sent by each node, without digests.
    sent: Vec<u64>,
    /// For each key: the time of its write, the nodes that still lack it, and the time of its last arrival.
    writes: BTreeMap<u32, (u64, BTreeSet<usize>, u64)>,
    handled: u64,
}

impl Cluster {
    fn new(size: usize, loss: f64, config: &ReplicaConfig, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut nodes = Vec::new();
        for _ in 0..size {
            let id = ReplicaId::from_bytes(random.u128(..).to_be_bytes());
            nodes.push(Core::new(id, config.clone(), random.u64(..), now(0)).expect("valid settings"));
        }
        let numbers = nodes.iter().enumerate().map(|(number, node)| (node.view().id(), number)).collect();
        let mut cluster = Self {
            wakes: vec![u64::MAX; size],
            sent: vec![0; size],
            nodes,
            numbers,
            events: BinaryHeap::new(),
            sequence: 0,
            at: 0,
            random,
            loss,
            traffic: Traffic::default(),
            writes: BTreeMap::new(),
            handled: 0,
        };
        cluster.introduce();
        cluster
    }

    /// Makes every replica known to every other replica. The cost of joining is not measured, so the replies are
    /// dropped.
    fn introduce(&mut self) {
        let digests: Vec<_> = self.nodes.iter_mut().map(|node| (node.view().id(), node.greeting(now(0)))).collect();
        for node in &mut self.nodes {
            for (from, digest) in &digests {
                if *from != node.view().id() {
                    node.handle_message(now(0), *from, Message::Digest(digest.clone()));
                    while let Some(transmit) = node.poll_transmit(now(0)) {
                        transmit.to.iter().filter(|_| transmit.bulk).for_each(|to| node.handle_sent(now(0), *to, true));
                    }
                }
            }
        }
        (0..self.nodes.len()).for_each(|number| self.settle(number));
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.at + after, self.sequence, event)));
    }

    /// Returns the latency of one network hop: 0.2 to 1 ms.
    fn latency(&mut self) -> u64 {
        self.random.u64(MILLI / 5..=MILLI)
    }

    fn run_until(&mut self, until: u64) {
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at <= until) {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.at = at;
            self.handle(event);
        }
        self.at = until;
    }

    fn handle(&mut self, event: Event) {
        let now = now(self.at);
        let number = match event {
            Event::Arrive { to, bytes } => {
                let decoded = wire::decode(&bytes, &Taken, &Limits::default()).expect("what was encoded decodes");
                let from = decoded.envelope.from;
                if let Some(message) = decoded.message {
                    self.nodes[to].handle_message(now, from, message);
                }
                to
            }
            Event::Sent { from, to } => {
                let id = self.nodes[to].view().id();
                self.nodes[from].handle_sent(now, id, true);
                from
            }
            Event::Wake { node } => {
                // An earlier deadline has replaced this one.
                if self.wakes[node] != self.at {
                    return;
                }
                self.wakes[node] = u64::MAX;
                self.nodes[node].handle_timeout(now);
                node
            }
        };
        self.handled += 1;
        self.settle(number);
    }

    fn settle(&mut self, number: usize) {
        let now = now(self.at);
        while let Some(change) = self.nodes[number].poll_change() {
            let key = change.after.as_ref().and_then(|item| item.key.known());
            if let (Effect::Inserted, Some(key)) = (change.effect, key)
                && let Some((_, lacking, last)) = self.writes.get_mut(key)
                && lacking.remove(&number)
            {
                *last = self.at;
            }
        }
        while let Some(transmit) = self.nodes[number].poll_transmit(now) {
            self.send(number, transmit);
        }
        let wake = self.nodes[number].poll_timeout(now).max(self.at);
        if wake < self.wakes[number] {
            self.wakes[number] = wake;
            self.schedule(wake - self.at, Event::Wake { node: number });
        }
    }

    fn send(&mut self, from: usize, transmit: Transmit<u32, String>) {
        let id = self.nodes[from].view().id();
        let envelope = Envelope { cache: CACHE, from: id, node: id.as_uuid() };
        let bytes = match &transmit.message {
            Message::Push(push) if !push.raw.is_empty() => wire::forward(&envelope, &push.raw),
            message => wire::encode(&envelope, message),
        };
        let bytes = bytes.expect("what a replica sends can be encoded");
        let kind = kind_of(&bytes);
        for to in transmit.to {
            let to = self.numbers[&to];
            self.traffic.add(kind, bytes.len());
            self.sent[from] += if kind == "digest" { 0 } else { bytes.len() as u64 };
            let after = self.latency();
            if transmit.bulk {
                self.schedule(after, Event::Sent { from, to });
            }
            if self.random.f64() * 100.0 >= self.loss {
                self.schedule(after, Event::Arrive { to, bytes: bytes.clone() });
            }
        }
    }

    fn write(&mut self, key: u32, bytes: usize) {
        let number = self.random.usize(0..self.nodes.len());
        let lacking = (0..self.nodes.len()).filter(|other| *other != number).collect();
        self.writes.insert(key, (self.at, lacking, self.at));
        self.put(number, key, bytes);
        self.settle(number);
    }

    fn put(&mut self, number: usize, key: u32, bytes: usize) {
        let item = ItemRef::new(Item { key: Key::Known(key), body: Body::Known("x".repeat(bytes)) });
        let write = Write { hash: hash_of(key), item, expires: 0, size: bytes as u32 + 8, weight: 1 };
        self.nodes[number].write(now(self.at), write);
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let mut sum = Counters::default();
        self.nodes.iter().for_each(|node| sum.add(node.view().counters()));
        sum.each().collect()
    }

    fn is_converged(&self) -> bool {
        self.writes.values().all(|(_, lacking, _)| lacking.is_empty())
    }
}

fn kind_of(bytes: &Bytes) -> &'static str {
    match wire::peek(bytes) {
        Ok(Peeked::Message { kind: MessageKind::Digest, .. }) => "digest",
        Ok(Peeked::Message { kind: MessageKind::Push, .. }) => "push",
        Ok(Peeked::Message { kind: MessageKind::Ack, .. }) => "ack",
        Ok(Peeked::Message { kind: MessageKind::Frame, .. }) => "frame",
        _ => "audit",
    }
}

fn measure(args: &Args, size: usize, loss: f64) {
    let started = Instant::now();
    let mut config = ReplicaConfig::default();
    config.fanout = args.fanout.unwrap_or(config.fanout);
    let mut cluster = Cluster::new(size, loss, &config, args.seed);
    cluster.run_until(args.warm_up * SECOND);
    let before = (std::mem::take(&mut cluster.traffic), cluster.at);
    // The traffic of an idle cluster, over 5 s.
    cluster.run_until(cluster.at + 5 * SECOND);
    let idle = std::mem::take(&mut cluster.traffic);
    cluster.sent.iter_mut().for_each(|sent| *sent = 0);
    let counted = cluster.counters();
    let set_up = started.elapsed();
    for key in 0..args.writes {
        cluster.write(key, args.value);
        cluster.run_until(cluster.at + args.gap * MILLI);
    }
    let end = cluster.at;
    while !cluster.is_converged() && cluster.at < end + PATIENCE {
        cluster.run_until(cluster.at + 100 * MILLI);
    }
    let writing = cluster.at - before.1 - 5 * SECOND;
    report(args, &cluster, loss, &idle, writing);
    eprintln!(
        "{size} replicas: set up {:.0} s, all {:.0} s, {} events; before {:?}; idle {:?}; writing {:?}",
        set_up.as_secs_f64(),
        started.elapsed().as_secs_f64(),
        cluster.handled,
        before.0.0,
        idle.0,
        cluster.traffic.0,
    );
    let changed = cluster.counters().into_iter().zip(counted).filter(|((_, after), (_, before))| after != before);
    let changed: Vec<_> = changed.map(|((name, after), (_, before))| format!("{name} {}", after - before)).collect();
    eprintln!("  while writing: {}", changed.join(", "));
}

fn report(args: &Args, cluster: &Cluster, loss: f64, idle: &Traffic, writing: u64) {
    let size = cluster.nodes.len() as f64;
    let mut times: Vec<f64> = cluster.writes.values().map(|(from, _, last)| (last - from) as f64 / 1e6).collect();
    times.sort_by(f64::total_cmp);
    let lacking = cluster.writes.values().filter(|(_, lacking, _)| !lacking.is_empty()).count();
    let writes = f64::from(args.writes);
    let (messages, bytes) = cluster.traffic.of(&["push", "ack", "frame"]);
    let (digests, _) = cluster.traffic.of(&["digest"]);
    let (idle_digests, idle_bytes) = idle.of(&["digest", "frame", "audit", "ack"]);
    let expected = idle_digests as f64 / 5e9 * writing as f64;
    let busiest = cluster.sent.iter().max().copied().unwrap_or_default() as f64;
    let (count, all) = idle.of(&["digest"]);
    println!(
        "| {} | {loss} % | {:.1} | {:.1} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.1} | {:.0} | {:.2} |{}",
        cluster.nodes.len(),
        times[times.len() / 2],
        times[times.len() - 1],
        messages as f64 / writes,
        bytes as f64 / writes,
        messages as f64 / writes / size,
        bytes as f64 / writes / size,
        busiest / writes,
        (digests as f64 - expected).max(0.0) / writes,
        all.checked_div(count).unwrap_or_default(),
        idle_bytes as f64 / 5.0 / size / 1024.0,
        if lacking > 0 { format!(" {lacking} writes not everywhere after {PATIENCE} ns") } else { String::new() },
    );
}

/// Prints the size of a digest, which must not grow with the number of keys or of departed replicas.
fn digest_sizes() {
    let config = ReplicaConfig::default();
    let size = |cluster: &mut Cluster| {
        let at = now(cluster.at);
        let id = cluster.nodes[0].view().id();
        let digest = cluster.nodes[0].greeting(at);
        let envelope = Envelope { cache: CACHE, from: id, node: id.as_uuid() };
        wire::encode(&envelope, &Message::<u32, String>::Digest(digest)).expect("a digest").len()
    };
    println!("\n| 30 replicas and | bytes of a digest |\n| --- | --- |");
    let mut cluster = Cluster::new(30, 0.0, &config, 1);
    cluster.run_until(60 * SECOND);
    println!("| nothing else | {} |", size(&mut cluster));
    for key in 0..10_000 {
        cluster.put(key as usize % 30, key, 16);
    }
    (0..30).for_each(|number| cluster.settle(number));
    cluster.run_until(cluster.at + 60 * SECOND);
    println!("| 10,000 keys | {} |", size(&mut cluster));
    let mut cluster = Cluster::new(130, 0.0, &config, 1);
    cluster.run_until(60 * SECOND);
    println!("| 100 more that are there (130 in all) | {} |", size(&mut cluster));
    let gone: Vec<_> = cluster.nodes[30..].iter().map(|it| it.view().id()).collect();
    for number in 0..30 {
        let at = now(cluster.at);
        gone.iter().for_each(|id| cluster.nodes[number].handle_member_left(at, *id));
    }
    println!("| 100 more that have left | {} |", size(&mut cluster));
}

fn main() {
    let args = Args::parse();
    if args.digests {
        return digest_sizes();
    }
    println!(
        "| replicas | loss | everywhere after, median ms | worst ms | messages per write | bytes per write | messages per node and write | bytes per node and write | busiest node, bytes per write | extra digests per write | bytes of a digest | idle KiB/s per node |"
    );
    println!("|{}", " --- |".repeat(12));
    for &size in &args.replicas {
        for &loss in &args.loss {
            measure(&args, size, loss);
        }
    }
    digest_sizes();
}
