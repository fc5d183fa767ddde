//! Scenarios for clusters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fleet::{Fleet, Kind, Process};
use crate::table::{Row, percentile};
use crate::usage::resident;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// The length of `key-000123` in bytes.
pub const KEY_BYTES: usize = 10;

/// Measures p99.9 of reads on one node: alone, and while another process writes new keys to it.
pub fn read_tail(rounds: usize, seconds: u64) -> Vec<Row> {
    let (mut idle, mut busy, mut rate) = (Vec::new(), Vec::new(), Vec::new());
    let (mut idle50, mut busy50) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut fleet = Fleet::start(Kind::Driftless, 2);
        fleet.nodes[0].ask(&json!({ "do": "write", "from": 0, "count": 100_000, "size": 100 }));
        fleet.nodes[1].ask(&json!({ "do": "await", "count": 100_000 }));
        std::thread::sleep(Duration::from_millis(300));
        let read = |fleet: &mut Fleet, writes: u64| {
            fleet.nodes[1].ask(&json!({ "do": "read", "keys": 100_000 }));
            let before = fleet.nodes[1].ask(&json!({ "do": "usage" }));
            if writes > 0 {
                fleet.nodes[0].ask(&json!({ "do": "write", "from": 100_000, "count": writes, "size": 100 }));
                fleet.nodes[1].ask(&json!({ "do": "await", "count": 100_000 + writes }));
            } else {
                std::thread::sleep(Duration::from_secs(seconds));
            }
            let after = fleet.nodes[1].ask(&json!({ "do": "usage" }));
            let merged = number(&after["entries"]) - number(&before["entries"]);
            let per_second = merged * 1e9 / (number(&after["at"]) - number(&before["at"]));
            (fleet.nodes[1].ask(&json!({ "do": "read_stop" })), per_second)
        };
        let (alone, _) = read(&mut fleet, 0);
        let (merging, per_second) = read(&mut fleet, seconds * 200_000);
        idle.push(number(&alone["p999"]));
        busy.push(number(&merging["p999"]));
        idle50.push(number(&alone["p50"]));
        busy50.push(number(&merging["p50"]));
        rate.push(per_second);
    }
    vec![
        Row::new("get p99.9 while remote entries are merged", "ns")
            .cell("driftless", busy)
            .cell("idle", idle)
            .against("idle")
            .at_most(3.0),
        Row::new("get p50 while remote entries are merged", "ns")
            .cell("driftless", busy50)
            .cell("idle", idle50)
            .against("idle"),
        Row::new("merged meanwhile, with the reader at work", "entries/s")
            .cell("driftless", rate)
            .against_number("500k", 500_000.0),
    ]
}

/// Measures the time from a write until a subscriber on another node has read it: p50 and p99, in nanoseconds.
pub fn visibility(kind: Kind, count: u64, gap_us: u64) -> (f64, f64) {
    let mut fleet = Fleet::start(kind, 3);
    fleet.nodes[0].ask(&json!({ "do": "write", "from": 0, "count": 1_000, "size": 100 }));
    fleet.nodes[1].ask(&json!({ "do": "await", "count": 1_000, "timeout_ms": 10_000 }));
    std::thread::sleep(Duration::from_millis(500));
    fleet.nodes[1].ask(&json!({ "do": "watch", "count": count }));
    fleet.nodes[0].ask(&json!({ "do": "probe", "count": count, "gap_us": gap_us }));
    ages(fleet.nodes[1].ask(&json!({ "do": "watched" })))
}

/// Measures one datagram through memberlist, from application to application.
pub fn raw_hop(count: u64, gap_us: u64) -> (f64, f64) {
    let mut one = Process::start(&json!({ "kind": "mesh" }));
    let mut two = Process::start(&json!({ "kind": "mesh", "seeds": [one.addr] }));
    one.ask(&json!({ "do": "await_members" }));
    two.ask(&json!({ "do": "await_members" }));
    two.ask(&json!({ "do": "watch", "count": count }));
    one.ask(&json!({ "do": "probe", "count": count, "gap_us": gap_us }));
    ages(two.ask(&json!({ "do": "watched" })))
}

fn ages(answer: Value) -> (f64, f64) {
    let mut ages: Vec<u64> = answer["ages"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    (percentile(&mut ages, 0.5), percentile(&mut ages, 0.99))
}

/// The result of a burst of new keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Burst {
    /// The rate from before the first write until every node holds all entries.
    pub per_second: f64,
    /// True if every node came to hold all entries.
    pub complete: bool,
    /// The bytes sent by the writer for each entry and receiver.
    pub wire: f64,
    /// The processor time for each entry in nanoseconds: of the writer, with its inserts, and of one receiver.
    pub sender: f64,
    pub receiver: f64,
    /// The resident bytes of a receiver for each entry.
    pub resident: f64,
}

/// Measures a burst: `writers` of three nodes write `count` new keys in all, as fast as they can.
pub fn burst(kind: Kind, writers: u64, count: u64, size: usize) -> Burst {
    let mut fleet = Fleet::start(kind, 3);
    burst_on(&mut fleet, writers, count, size)
}

/// Measures a burst as [`burst`] does, on nodes that already run.
pub fn burst_on(fleet: &mut Fleet, writers: u64, count: u64, size: usize) -> Burst {
    std::thread::sleep(Duration::from_millis(300));
    let before = fleet.all(&json!({ "do": "usage" }));
    let share = count / writers;
    for (writer, node) in fleet.nodes.iter_mut().take(writers as usize).enumerate() {
        node.tell(&json!({ "do": "write", "from": writer as u64 * share, "count": share, "size": size }));
    }
    let mut began = f64::INFINITY;
    for node in fleet.nodes.iter_mut().take(writers as usize) {
        began = began.min(number(&node.answer()["began"]));
    }
    let held = fleet.all(&json!({ "do": "await", "count": share * writers, "timeout_ms": 120_000 }));
    let ended = held.iter().map(|answer| number(&answer["at"])).fold(0.0, f64::max);
    // Lets messages in transit arrive, so that they are counted.
    std::thread::sleep(Duration::from_millis(200));
    let after = fleet.all(&json!({ "do": "usage" }));
    let used = |node: usize, what: &str| number(&after[node][what]) - number(&before[node][what]);
    let sent = number(&after[0]["traffic"]["out"]) - number(&before[0]["traffic"]["out"]);
    let entries = count as f64;
    Burst {
        per_second: entries * 1e9 / (ended - began),
        complete: held.iter().all(|answer| answer["ok"] == true),
        wire: sent / (share as f64) / 2.0,
        sender: used(0, "cpu") / entries,
        receiver: used(2, "cpu") / entries,
        resident: used(2, "rss") / entries,
    }
}

/// The cost of a late member.
#[derive(Clone, Copy, Debug, Default)]
pub struct Join {
    /// The time from its start until it holds all entries.
    pub seconds: f64,
    /// The largest growth of a serving node at any moment, in bytes.
    pub growth: f64,
    /// p99.9 of reads on the first node in nanoseconds: alone, and during the join.
    pub idle: f64,
    pub busy: f64,
}

/// Measures a fourth node that joins three nodes with `count` keys.
pub fn join(kind: Kind, count: u64) -> Join {
    let mut fleet = Fleet::start(kind, 3);
    fleet.nodes[0].ask(&json!({ "do": "write", "from": 0, "count": count, "size": 100 }));
    let held = fleet.all(&json!({ "do": "await", "count": count, "timeout_ms": 120_000 }));
    assert!(held.iter().all(|answer| answer["ok"] == true), "the three never held all");
    std::thread::sleep(Duration::from_secs(2));
    fleet.nodes[0].ask(&json!({ "do": "read", "keys": count.min(100_000) }));
    std::thread::sleep(Duration::from_millis(500));
    let alone = fleet.nodes[0].ask(&json!({ "do": "read_stop" }));
    fleet.nodes[0].ask(&json!({ "do": "read", "keys": count.min(100_000) }));
    std::thread::sleep(Duration::from_millis(500));
    let pids: Vec<_> = fleet.nodes.iter().map(Process::pid).collect();
    let before: Vec<_> = pids.iter().map(|pid| resident(*pid)).collect();
    let watch = Watch::start(pids);
    let joined = fleet.add();
    let began = joined.began as f64;
    let held = joined.ask(&json!({ "do": "await", "count": count, "timeout_ms": 60_000 }));
    let most = watch.stop();
    let meanwhile = fleet.nodes[0].ask(&json!({ "do": "read_stop" }));
    let growth = most.iter().zip(&before).map(|(most, before)| most.saturating_sub(*before)).max().unwrap_or(0);
    Join {
        seconds: if held["ok"] == true { (number(&held["at"]) - began) / 1e9 } else { f64::INFINITY },
        growth: growth as f64,
        idle: number(&alone["p999"]),
        busy: number(&meanwhile["p999"]),
    }
}

/// A thread that samples the resident bytes of processes every 2 ms.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

impl Watch {
    fn start(pids: Vec<u32>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut most = vec![0; pids.len()];
            while !stopped.load(Ordering::Relaxed) {
                for (most, pid) in most.iter_mut().zip(&pids) {
                    *most = resident(*pid).max(*most);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            most
        });
        Self { stop, thread }
    }

    /// Stops the thread and returns the maximum of each process.
    fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch ends")
    }
}

/// Measures the bytes per second that an idle node sends: the mean of three nodes, over `seconds` seconds.
pub fn idle_traffic(keys: Option<u64>, seconds: u64) -> f64 {
    let mut fleet = match keys {
        Some(_) => Fleet::start(Kind::Driftless, 3),
        None => no_cache(),
    };
    if let Some(keys) = keys.filter(|keys| *keys > 0) {
        fleet.nodes[0].ask(&json!({ "do": "write", "from": 0, "count": keys, "size": 100 }));
        let held = fleet.all(&json!({ "do": "await", "count": keys, "timeout_ms": 120_000 }));
        assert!(held.iter().all(|answer| answer["ok"] == true), "they are not idle: {held:?}");
    }
    std::thread::sleep(Duration::from_secs(3));
    let out = |answers: Vec<Value>| answers.iter().map(|answer| number(&answer["traffic"]["out"])).sum::<f64>();
    let before = out(fleet.all(&json!({ "do": "usage" })));
    std::thread::sleep(Duration::from_secs(seconds));
    (out(fleet.all(&json!({ "do": "usage" }))) - before) / seconds as f64 / 3.0
}

/// Measures the time from a write until the writer knows that both other nodes have it: p50 and p99, in nanoseconds.
pub fn acknowledgement(count: u64, gap_us: u64) -> (f64, f64) {
    let mut fleet = Fleet::start(Kind::Driftless, 3);
    std::thread::sleep(Duration::from_millis(500));
    ages(fleet.nodes[0].ask(&json!({ "do": "acknowledge", "count": count, "gap_us": gap_us })))
}

/// The cost of idle caches on each of three nodes, the mean of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdleCaches {
    /// The share of one core, in percent.
    pub cpu: f64,
    /// The bytes that each node sends per second, memberlist's own included.
    pub sent: f64,
}

/// Measures `count` empty caches that are open on three nodes, over `seconds` seconds.
pub fn idle_caches(count: u64, seconds: u64) -> IdleCaches {
    let mut fleet = Fleet::start(Kind::Driftless, 3);
    let open = fleet.all(&json!({ "do": "open", "count": count - 1 }));
    assert!(open.iter().all(|answer| answer["open"] == count), "not all caches are open: {open:?}");
    // All caches have met their members, and a newcomer is a newcomer no more.
    std::thread::sleep(Duration::from_secs(20));
    let sum = |answers: &[Value], number_of: fn(&Value) -> f64| answers.iter().map(number_of).sum::<f64>();
    let before = fleet.all(&json!({ "do": "usage" }));
    std::thread::sleep(Duration::from_secs(seconds));
    let after = fleet.all(&json!({ "do": "usage" }));
    let each = |number_of| (sum(&after, number_of) - sum(&before, number_of)) / 3.0;
    let took = (sum(&after, |it| number(&it["at"])) - sum(&before, |it| number(&it["at"]))) / 3.0 / 1e9;
    IdleCaches {
        cpu: each(|it| number(&it["cpu"])) / 1e9 / took * 100.0,
        sent: each(|it| number(&it["traffic"]["out"])) / took,
    }
}

/// Starts three nodes without a cache, to measure the traffic of memberlist alone.
fn no_cache() -> Fleet {
    let mut fleet = Fleet::empty(Kind::Driftless);
    for _ in 0..3 {
        let seeds: Vec<_> = fleet.nodes.iter().take(1).map(|node| node.addr.clone()).collect();
        fleet.nodes.push(Process::start(&json!({ "kind": "driftless", "seeds": seeds, "open": false })));
    }
    fleet.meet(2);
    fleet
}
