//! scenario 88 with open caches: a node leaves no task, descriptor or memory behind, whenever and however it ends.

use std::process::Command;
use std::time::{Duration, Instant};

use driftless::{Cache, Node};

use crate::supervision::{node, until};

type Values = Cache<u64, Vec<u8>>;

/// The number of rounds in which memory has to grow to count as a leak.
const ROUNDS: usize = 3;

/// Runs the test in a process of its own, because it counts the threads and descriptors of the process.
fn alone(name: &str, cycles: usize) {
    if std::env::var("SHUTDOWN_CHILD").as_deref() != Ok(name) {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--exact", &format!("shutdown::{name}"), "--include-ignored", "--nocapture"]);
        assert!(child.env("SHUTDOWN_CHILD", name).status().unwrap().success());
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(cycles));
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Returns the target of each descriptor, for the message of a failure.
fn describe_descriptors() -> Vec<String> {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    let mut links: Vec<_> = links.map(|link| link.display().to_string()).collect();
    links.sort();
    links
}

fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("driftless")).count()
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

async fn run(cycles: usize) {
    let seed = node("cycles", &[]).await;
    let full: Values = seed.cache("c").open().unwrap();
    (0..2_000).for_each(|key| drop(full.insert(key, vec![1; 100]).map(|_| ())));
    // The first cycles warm up allocators and lazy statics.
    for cycle in 0..8 {
        end_one(&seed, cycle).await;
    }
    until("quiet", || seed.members().is_empty()).await;
    let before = (descriptors(), threads());
    // The allocator may keep the memory of one busy moment. A leak grows in every round.
    let (mut grown, bound) = (Vec::new(), 32 + cycles / 20);
    let is_bounded = |grown: &[usize]| grown.last().is_some_and(|grown| *grown < bound);
    for _ in 0..ROUNDS {
        let resident_before = resident();
        for cycle in 0..cycles {
            let start = Instant::now();
            end_one(&seed, cycle).await;
            assert!(start.elapsed() < Duration::from_secs(30), "cycle {cycle} took {:?}", start.elapsed());
        }
        until("threads end", || threads() <= before.1).await;
        grown.push(resident().saturating_sub(resident_before) >> 20);
        if is_bounded(&grown) {
            break;
        }
    }
    // Idle connections are kept for some time.
    let start = Instant::now();
    while descriptors() > before.0 + 4 {
        assert!(start.elapsed() < Duration::from_secs(30), "{before:?}, now {:?}", describe_descriptors());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{cycles} cycles: {} descriptors, {} threads, {grown:?} MiB more", descriptors(), threads());
    assert!(is_bounded(&grown), "{grown:?} MiB more, each after {cycles} cycles");
    assert_eq!(full.entry_count(), 2_000);
}

/// Starts a node and ends it, in one of eight situations.
async fn end_one(seed: &Node, cycle: usize) {
    let node = node("cycles", &[seed]).await;
    // Without a limit, a filler that never ends would stay in its caller's runtime, with the timer of the cache.
    let cache: Values = node.cache("c").fill_timeout(Duration::from_millis(200)).open().unwrap();
    match cycle % 8 {
        // While it joins, by dropping it.
        0 => {}
        // While it joins, by `shutdown`.
        1 => drop(node.shutdown().await),
        // While it receives the state of its peers.
        2 => {
            while cache.entry_count() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            node.shutdown().await;
        }
        // While a filler runs that never ends.
        3 => {
            let waiting = cache.clone();
            let fill = tokio::spawn(async move { waiting.get_with(9_999_999, std::future::pending::<Vec<u8>>).await });
            tokio::time::sleep(Duration::from_millis(5)).await;
            node.shutdown().await;
            fill.abort();
            let _ = fill.await;
        }
        // Several times concurrently, and once more.
        4 => {
            tokio::join!(node.shutdown(), node.shutdown(), node.shutdown());
            node.shutdown().await;
        }
        // With writes that no peer has.
        5 => {
            (0..500).for_each(|key| drop(cache.insert(key, vec![1; 100]).map(|_| ())));
            node.shutdown().await;
        }
        // The cache outlives the handle of the node.
        6 => {
            drop(node);
            assert!(cache.insert(1, vec![1; 100]).is_ok());
        }
        // While a caller waits for it to be ready.
        _ => {
            let waiting = cache.clone();
            let ready = tokio::spawn(async move { waiting.ready(Duration::from_secs(60)).await.is_ready() });
            node.shutdown().await;
            let _ = tokio::time::timeout(Duration::from_secs(20), ready).await.expect("an answer");
        }
    }
}

// scenario 88: the short form.
#[test]
fn forty_cycles_leave_nothing() {
    alone("forty_cycles_leave_nothing", 40);
}

// scenario 88: the full number of cycles, or that of `CYCLES`.
#[test]
#[ignore = "minutes"]
fn a_thousand_cycles_leave_nothing() {
    let cycles = std::env::var("CYCLES").map_or(1_000, |number| number.parse().expect("a number"));
    alone("a_thousand_cycles_leave_nothing", cycles);
}
