//! Benchmarks of three nodes in three processes on loopback, and of other ways to move data between processes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use driftless::{Cache, Node};
use driftless_rivals::args::Options;
use driftless_rivals::child;
use driftless_rivals::contestants::key;
use driftless_rivals::fleet::{Fleet, Kind};
use driftless_rivals::member::{self, Burst, Join, KEY_BYTES};
use driftless_rivals::pattern::zipf;
use driftless_rivals::redis::Redis;
use driftless_rivals::rounds::{Turn, interleave};
use driftless_rivals::table::{Row, Table};

const VALUE_BYTES: usize = 100;

struct Bench {
    options: Options,
    table: Table,
}

fn main() {
    if child::is_child() {
        return child::run();
    }
    let sections: [(&str, fn(&mut Bench)); 11] = [
        ("visible", Bench::visible),
        ("replicated", Bench::replicated),
        ("sustained", Bench::sustained),
        ("writers", Bench::writers),
        ("join", Bench::join),
        ("idle", Bench::idle),
        ("caches", Bench::caches),
        ("nodes", Bench::nodes),
        ("sizes", Bench::sizes),
        ("entries", Bench::entries),
        ("redis", Bench::redis),
    ];
    let options = Options::parse("cluster", &sections.map(|(name, _)| name));
    let mut bench = Bench { options, table: Table::default() };
    for (name, section) in sections {
        if bench.options.wants(name) {
            eprintln!("{name}");
            section(&mut bench);
        }
    }
    bench.table.finish("cluster: processes on loopback", &bench.options.json);
}

/// Extracts one number from the results of each round.
fn column<T>(of: &[(String, Vec<T>)], number: impl Fn(&T) -> f64) -> Vec<(String, Vec<f64>)> {
    of.iter().map(|(name, samples)| (name.clone(), samples.iter().map(&number).collect())).collect()
}

impl Bench {
    fn rounds(&self) -> usize {
        self.options.rounds.min(5)
    }

    fn kinds(&self) -> Vec<Kind> {
        let all = [Kind::Driftless, Kind::Encrypted, Kind::Reconcile];
        all.into_iter().filter(|kind| self.options.admits(kind.name())).collect()
    }

    /// Runs `run` for each kind of cluster, in turns.
    fn each<T>(&self, rounds: usize, run: impl Fn(Kind) -> T) -> Vec<(String, Vec<T>)> {
        let kinds = self.kinds();
        let mut all: Vec<(String, Vec<T>)> = kinds.iter().map(|kind| (kind.name().to_owned(), Vec::new())).collect();
        for round in 0..rounds {
            for step in 0..kinds.len() {
                let index = (round + step) % kinds.len();
                all[index].1.push(run(kinds[index]));
            }
        }
        all
    }

    fn visible(&mut self) {
        let count = self.options.scaled(2_000) as u64;
        let (mut hop50, mut hop99) = (Vec::new(), Vec::new());
        let all = self.each(self.rounds(), |kind| member::visibility(kind, count, 1_000));
        for _ in 0..self.rounds() {
            let (p50, p99) = member::raw_hop(count, 1_000);
            hop50.push(p50 / 1_000.0);
            hop99.push(p99 / 1_000.0);
        }
        let hop = "memberlist hop";
        let row = Row::new("a write until another node reads it, p50", "us").cells(column(&all, |it| it.0 / 1_000.0));
        self.table.push(row.cell(hop, hop50.clone()).against(hop).at_most(2.0).note("bcache quoted: 372-388"));
        let row = Row::new("a write until another node reads it, p99", "us").cells(column(&all, |it| it.1 / 1_000.0));
        self.table.push(
            row.cell("hop p50", hop50)
                .cell(hop, hop99)
                .against("hop p50")
                .at_most(8.0)
                .note("bcache quoted: 6,000-22,000"),
        );
    }

    /// Measures `wait_replicated` for all members while nothing else is written.
    fn replicated(&mut self) {
        let count = self.options.scaled(1_000) as u64;
        let mut waits: [Vec<f64>; 3] = Default::default();
        for _ in 0..self.rounds() {
            let (p50, p99) = member::acknowledgement(count, 2_000);
            let (visible, _) = member::visibility(Kind::Driftless, count, 2_000);
            [p50, p99, visible * 1.5 + 2e6].iter().zip(&mut waits).for_each(|(ns, all)| all.push(ns / 1_000.0));
        }
        let [p50, p99, limit] = waits;
        let row = Row::new("wait_replicated for both other nodes, p50", "us").cell("driftless", p50);
        self.table.push(row.cell("1.5x visible + 2 ms", limit).against("1.5x visible + 2 ms").at_most(1.0));
        self.table.push(Row::new("wait_replicated for both other nodes, p99", "us").cell("driftless", p99));
    }

    /// Measures many idle caches on three nodes.
    fn caches(&mut self) {
        let seconds = if self.options.quick { 10 } else { 60 };
        for count in [1, 100, 1_000] {
            let idle = member::idle_caches(count, seconds);
            let row = Row::new(format!("{count} idle caches on three nodes, processor of each node"), "%");
            self.table.push(row.cell("driftless", vec![idle.cpu]).against_number("2 %", 2.0).at_most(1.0));
            let row = Row::new(format!("{count} idle caches on three nodes, sent by each node"), "B/s");
            self.table.push(row.cell("driftless", vec![idle.sent]).against_number("5 kB/s", 5_000.0).at_most(1.0));
        }
    }

    fn sustained(&mut self) {
        for count in [100_000, 1_000_000] {
            if count > 100_000 && self.options.quick {
                continue;
            }
            let all = self.each(self.rounds(), |kind| match kind {
                Kind::Reconcile if count > 100_000 => Burst::default(),
                kind => member::burst(kind, 1, count, VALUE_BYTES),
            });
            self.burst_rows(&format!("one writer, {count} new keys"), &all);
        }
    }

    fn writers(&mut self) {
        let count = if self.options.quick { 30_000 } else { 300_000 };
        let all = self.each(self.rounds(), |kind| member::burst(kind, 3, count, VALUE_BYTES));
        self.burst_rows(&format!("three writers, {count} new keys"), &all);
    }

    fn burst_rows(&mut self, what: &str, all: &[(String, Vec<Burst>)]) {
        let all: Vec<_> = all
            .iter()
            .map(|(name, bursts)| {
                (name.clone(), bursts.iter().filter(|it| it.per_second > 0.0).copied().collect::<Vec<_>>())
            })
            .collect();
        let row = Row::new(format!("{what}, until all hold all"), "entries/s").cells(column(&all, |it| it.per_second));
        self.table.push(row.against_number("500k", 500_000.0).at_least(1.0).note("bcache quoted: 15k-40k"));
        let row = Row::new(format!("{what}, runs with keys missing after 2 min"), "runs");
        self.table.push(
            row.cells(
                all.iter()
                    .map(|(name, bursts)| (name.clone(), vec![bursts.iter().filter(|it| !it.complete).count() as f64]))
                    .collect(),
            ),
        );
        let ours: Vec<_> = all.iter().filter(|(name, _)| name != "reconcile").cloned().collect();
        let row = Row::new(format!("{what}, wire for each entry and receiver"), "B").cells(column(&ours, |it| it.wire));
        let payload = (KEY_BYTES + VALUE_BYTES) as f64;
        self.table.push(row.against_number("key+value", payload).at_most(1.3).note("reconcile quoted: 134-165"));
        let row = Row::new(format!("{what}, processor time of the first writer"), "ns/entry")
            .cells(column(&all, |it| it.sender));
        self.table.push(row);
        let row = Row::new(format!("{what}, processor time of the last node"), "ns/entry")
            .cells(column(&all, |it| it.receiver));
        self.table.push(row);
        let row = Row::new(format!("{what}, resident growth of the last node"), "B/entry")
            .cells(column(&all, |it| it.resident));
        self.table.push(row);
    }

    fn join(&mut self) {
        for (count, target) in [(100_000, 0.25), (1_000_000, 2.5)] {
            if count > 100_000 && self.options.quick {
                continue;
            }
            let rounds = if count > 100_000 { self.rounds().min(3) } else { self.rounds() };
            let all = self.each(rounds, |kind| match kind {
                // Too slow to measure here: each run takes half a minute and 4 GB. A recorded figure is quoted instead.
                Kind::Reconcile if count > 100_000 => Join::default(),
                kind => member::join(kind, count),
            });
            let all: Vec<_> = all
                .into_iter()
                .map(|(name, joins)| (name, joins.into_iter().filter(|it| it.seconds > 0.0).collect::<Vec<_>>()))
                .collect();
            let quoted =
                if count > 100_000 { "reconcile quoted: 25-32; bcache: never" } else { "bcache quoted: never" };
            let row = Row::new(format!("a fourth node joins, {count} keys, until it holds all"), "s");
            self.table.push(
                row.cells(column(&all, |it| it.seconds)).against_number("target", target).at_most(1.0).note(quoted),
            );
            let row = Row::new(format!("a fourth node joins, {count} keys, growth of a serving node"), "MB");
            self.table.push(row.cells(column(&all, |it| it.growth / 1e6)));
            let row = Row::new(format!("a fourth node joins, {count} keys, p99.9 of reads meanwhile"), "ns");
            let idle = all.first().map(|(_, joins)| joins.iter().map(|it| it.idle).collect()).unwrap_or_default();
            self.table.push(row.cells(column(&all, |it| it.busy)).cell("idle", idle).against("idle"));
        }
    }

    fn idle(&mut self) {
        let seconds = if self.options.quick { 5 } else { 20 };
        let bare = member::idle_traffic(None, seconds);
        for keys in [0, 100_000, 1_000_000] {
            if keys > 100_000 && self.options.quick {
                continue;
            }
            let all = member::idle_traffic(Some(keys), seconds);
            let row = Row::new(format!("idle with {keys} keys, sent by each node above memberlist's own"), "B/s");
            let row = row.cell("driftless", vec![all - bare]).cell("memberlist alone", vec![bare]);
            self.table.push(row.against_number("300 B/s", 300.0).at_most(1.0));
        }
    }

    /// Measures clusters of many nodes in this process.
    fn nodes(&mut self) {
        for count in [3, 10, 30, 60] {
            if count > 10 && self.options.quick {
                continue;
            }
            let writes = 2_000;
            let outcome = crowd(count, writes);
            let row =
                Row::new(format!("{count} nodes in one process, {writes} writes on one, until all hold all"), "ms");
            self.table.push(row.cell("driftless", vec![outcome.millis]));
            let row = Row::new(format!("{count} nodes in one process, sent by each node for each write"), "B");
            self.table.push(
                row.cell("driftless", vec![outcome.bytes])
                    .against_number("key+value", (KEY_BYTES + VALUE_BYTES) as f64),
            );
            let row = Row::new(format!("{count} nodes in one process, one write until all have it"), "ms");
            self.table.push(row.cell("driftless", outcome.single));
        }
    }

    fn sizes(&mut self) {
        for (size, count) in
            [(16, 200_000), (100, 200_000), (1_000, 100_000), (10_000, 20_000), (100_000, 2_000), (1_000_000, 200)]
        {
            let count = self.options.scaled(count) as u64;
            let bursts: Vec<_> =
                (0..self.rounds().min(3)).map(|_| member::burst(Kind::Driftless, 1, count, size)).collect();
            let row = Row::new(format!("values of {size} B: replicated to two"), "MB/s");
            self.table.push(row.cell("driftless", bursts.iter().map(|it| it.per_second * size as f64 / 1e6).collect()));
            let row = Row::new(format!("values of {size} B: wire for each entry and receiver"), "B");
            let payload = (size + KEY_BYTES) as f64;
            self.table.push(
                row.cell("driftless", bursts.iter().map(|it| it.wire).collect())
                    .against_number("key+value", payload)
                    .at_most(1.3),
            );
        }
    }

    /// Measures the same three nodes with ten times as many entries in each step.
    fn entries(&mut self) {
        let mut fleet = Fleet::start(Kind::Driftless, 3);
        let mut held = 0;
        let most = if self.options.big {
            10_000_000
        } else if self.options.quick {
            100_000
        } else {
            1_000_000
        };
        let mut first = None;
        for total in [1_000, 10_000, 100_000, 1_000_000, 10_000_000].into_iter().filter(|total| *total <= most) {
            grow(&mut fleet, held, total);
            held = total;
            // The extra work is the same at each size.
            let extra = 20_000;
            let burst = grow(&mut fleet, held, held + extra);
            held += extra;
            let time = (burst.sender + burst.receiver) / 1_000.0;
            let row =
                Row::new(format!("{extra} more on top of {total}: processor time, writer and a receiver"), "us/entry");
            self.table.push(
                row.cell("driftless", vec![time]).against_number("with 1,000", *first.get_or_insert(time)).at_most(1.5),
            );
        }
    }

    fn redis(&mut self) {
        let Some(redis) = Redis::start() else {
            eprintln!("  skipped Redis: redis-server is not installed");
            return;
        };
        let redis = std::sync::Mutex::new(redis);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
        let node = runtime.block_on(Node::builder().cluster("bench").start()).expect("the node starts");
        let cache: Cache<String, Bytes> = node.cache("bench").open().expect("the cache opens");
        let moka = moka::sync::Cache::<String, Bytes>::new(200_000);
        let names: Vec<_> = (0..100_000).map(key).collect();
        let value = Bytes::from(vec![7; VALUE_BYTES]);
        let order = zipf(names.len(), 0.99, self.options.scaled(100_000), 80);
        let order: Vec<_> = order.iter().map(|number| &names[*number as usize]).collect();
        preload(&redis, &names, &value);
        names.iter().for_each(|name| {
            cache.insert(name.clone(), value.clone()).expect("the entry is accepted");
            moka.insert(name.clone(), value.clone());
        });
        for set in [false, true] {
            let per_op = |start: Instant, operations: usize| start.elapsed().as_nanos() as f64 / operations as f64;
            let piped = |batch: usize| {
                let (redis, order, value) =
                    (&redis, &order[..if batch == 1 { order.len() / 10 } else { order.len() }], &value);
                move |_| {
                    let start = Instant::now();
                    let mut redis = redis.lock().expect("nobody panicked");
                    order.chunks(batch).for_each(|part| exchange(&mut redis, part, value, set));
                    per_op(start, order.len())
                }
            };
            let turns: Vec<Turn<'_>> = vec![
                (
                    "driftless".into(),
                    Box::new(|_| {
                        let start = Instant::now();
                        for name in &order {
                            if set {
                                let _ = std::hint::black_box(cache.insert((*name).clone(), value.clone()));
                            } else {
                                std::hint::black_box(cache.get(name.as_str()));
                            }
                        }
                        per_op(start, order.len())
                    }),
                ),
                (
                    "moka".into(),
                    Box::new(|_| {
                        let start = Instant::now();
                        for name in &order {
                            if set {
                                moka.insert((*name).clone(), value.clone());
                            } else {
                                std::hint::black_box(moka.get(name.as_str()));
                            }
                        }
                        per_op(start, order.len())
                    }),
                ),
                ("redis, 100 piped".into(), Box::new(piped(100))),
                ("redis".into(), Box::new(piped(1))),
            ];
            let cells = interleave(self.options.rounds, turns);
            let row = Row::new(if set { "set, one thread, no peers" } else { "get, one thread" }, "ns").cells(cells);
            self.table.push(row.against("redis"));
        }
        let cells = interleave(self.options.rounds, storefront(&cache, &moka, &redis, &order, &value));
        let row = Row::new("a page: get, else read the row and put; one in twenty an update", "ns").cells(cells);
        self.table.push(row.against("redis"));
    }
}

/// Measures the cache operations of a shop's page view, one after another: a request cannot be pipelined with that of
/// the next visitor. The row itself costs nothing here, so that only the cache is measured.
fn storefront<'a>(
    cache: &'a Cache<String, Bytes>,
    moka: &'a moka::sync::Cache<String, Bytes>,
    redis: &'a std::sync::Mutex<Redis>,
    order: &'a [&'a String],
    value: &'a Bytes,
) -> Vec<Turn<'a>> {
    let visit =
        |order: &'a [&'a String], mut put: Box<dyn FnMut(&str) + 'a>, mut read: Box<dyn FnMut(&str) -> bool + 'a>| {
            move |round: usize| {
                let names: Vec<_> = order.iter().map(|name| format!("{round}/{name}")).collect();
                let start = Instant::now();
                for (number, name) in names.iter().enumerate() {
                    if number % 20 == 0 || !read(name) {
                        put(name);
                    }
                }
                start.elapsed().as_nanos() as f64 / names.len() as f64
            }
        };
    let ours = visit(
        order,
        Box::new(|name| {
            cache.insert(name.to_owned(), value.clone()).expect("the entry is accepted");
        }),
        Box::new(|name| cache.get(name).is_some()),
    );
    let theirs = visit(
        order,
        Box::new(|name| moka.insert(name.to_owned(), value.clone())),
        Box::new(|name| moka.get(name).is_some()),
    );
    // The length of a Redis answer differs on a miss, so the keys that were set are remembered.
    let has = std::rc::Rc::new(std::cell::RefCell::new(std::collections::HashSet::new()));
    let had = std::rc::Rc::clone(&has);
    let remote = visit(
        &order[..order.len() / 10],
        Box::new(move |name| {
            exchange(&mut redis.lock().expect("nobody panicked"), &[&name.to_owned()], value, true);
            has.borrow_mut().insert(name.to_owned());
        }),
        Box::new(move |name| {
            let hit = had.borrow().contains(name);
            let mut redis = redis.lock().expect("nobody panicked");
            redis.queue_get(name);
            redis.exchange(if hit { 6 + value.len() + 2 } else { 5 });
            hit
        }),
    );
    vec![("driftless".into(), Box::new(ours)), ("moka".into(), Box::new(theirs)), ("redis".into(), Box::new(remote))]
}

fn exchange(redis: &mut Redis, part: &[&String], value: &[u8], set: bool) {
    for name in part {
        if set {
            redis.queue_set(name, value);
        } else {
            redis.queue_get(name);
        }
    }
    // The answer is `+OK`, or the length and the value.
    let answer = if set { 5 } else { 6 + value.len() + 2 };
    redis.exchange(part.len() * answer);
}

fn preload(redis: &std::sync::Mutex<Redis>, names: &[String], value: &[u8]) {
    let names: Vec<_> = names.iter().collect();
    let mut redis = redis.lock().expect("nobody panicked");
    names.chunks(100).for_each(|part| exchange(&mut redis, part, value, true));
}

fn grow(fleet: &mut Fleet, from: u64, to: u64) -> Burst {
    let request = |what: &str| serde_json::json!({ "do": what });
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::NAN);
    std::thread::sleep(Duration::from_millis(500));
    let before = fleet.all(&request("usage"));
    fleet.nodes[0].ask(&serde_json::json!({ "do": "write", "from": from, "count": to - from, "size": VALUE_BYTES }));
    fleet.all(&serde_json::json!({ "do": "await", "count": to, "timeout_ms": 120_000 }));
    std::thread::sleep(Duration::from_millis(100));
    let after = fleet.all(&request("usage"));
    let cpu = |node: usize| (number(&after[node]["cpu"]) - number(&before[node]["cpu"])) / (to - from) as f64;
    Burst { sender: cpu(0), receiver: cpu(2), ..Burst::default() }
}

struct Crowd {
    millis: f64,
    bytes: f64,
    single: Vec<f64>,
}

/// Measures `count` nodes in this process, of which one writes.
fn crowd(count: usize, writes: u32) -> Crowd {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..count {
        let seeds: Vec<_> = nodes.iter().take(1).map(|node| node.local_addr().to_string()).collect();
        nodes.push(runtime.block_on(Node::builder().cluster("crowd").seeds(seeds).start()).expect("the node starts"));
    }
    let caches: Vec<Cache<String, Bytes>> =
        nodes.iter().map(|node| node.cache("crowd").open().expect("the cache opens")).collect();
    wait_for(|| caches.iter().all(|cache| cache.members() == count - 1));
    std::thread::sleep(Duration::from_secs(2));
    let sent = || nodes.iter().map(|node| node.traffic().bytes_out).sum::<u64>();
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let (before, start) = (sent(), Instant::now());
    for number in 0..writes {
        caches[0].insert(key(number), value.clone()).expect("the entry is accepted");
    }
    wait_for(|| caches.iter().all(|cache| cache.entry_count() >= u64::from(writes)));
    let millis = start.elapsed().as_secs_f64() * 1_000.0;
    std::thread::sleep(Duration::from_millis(500));
    let bytes = (sent() - before) as f64 / count as f64 / f64::from(writes);
    let single = (0..20)
        .map(|number| {
            std::thread::sleep(Duration::from_millis(50));
            let (name, start) = (format!("single-{number}"), Instant::now());
            caches[0].insert(name.clone(), value.clone()).expect("the entry is accepted");
            wait_for(|| caches.iter().all(|cache| cache.contains_key(name.as_str())));
            start.elapsed().as_secs_f64() * 1_000.0
        })
        .collect();
    drop(caches);
    runtime.block_on(async {
        for node in &nodes {
            let _ = tokio::time::timeout(Duration::from_secs(1), node.shutdown()).await;
        }
    });
    Crowd { millis, bytes, single }
}

fn wait_for(done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < until, "two minutes were not enough");
        std::thread::sleep(Duration::from_micros(200));
    }
}
