//! Tests of the mesh without enough processor time or descriptors, and of queries during events.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use driftless::node::mesh::MeshEvent;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    time::sleep,
};

use crate::common::*;

// scenario 71: the consumer of events and another thread query the members while members come and go. Promise: no
// deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_can_be_queried_while_members_come_and_go() {
    let mut nodes = cluster(2, |_| {}).await;
    let mut asked = nodes.remove(0);
    let stop = Arc::new(AtomicBool::new(false));
    let done = stop.clone();
    let asked_mesh = Arc::new(asked.mesh);
    let mesh = asked_mesh.clone();
    let asking = std::thread::spawn(move || {
        let mut answers = 0_u64;
        while !done.load(Ordering::Relaxed) {
            answers += u64::from(!mesh.members().is_empty());
            std::thread::sleep(Duration::from_micros(100));
        }
        answers
    });
    let (mut ups, mut downs) = (0, 0);
    for _ in 0..5 {
        let passing = Node::start(seeded("test", asked_mesh.local_addr())).await;
        let address = passing.addr();
        let wait = async {
            loop {
                match asked.events.recv().await.expect("running") {
                    MeshEvent::Up(peer) if peer.addr == address => {
                        ups += 1;
                        assert!(asked_mesh.members().contains(&peer));
                        passing.mesh.shutdown(SHORT).await;
                    }
                    MeshEvent::Down { peer, .. } if peer.addr == address => {
                        downs += 1;
                        return assert!(!asked_mesh.members().contains(&peer));
                    }
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE * 2, wait).await.expect("no deadlock");
        asked_mesh.rebuild();
    }
    stop.store(true, Ordering::Relaxed);
    assert!(asking.join().unwrap() > 0);
    assert_eq!((ups, downs), (5, 5));
}

// scenario 72: a node that had no processor for seconds has missed every reply it waited for. It must not declare peers
// dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starved_member_does_not_call_the_healthy_dead() {
    let mut nodes = cluster(4, |_| {}).await;
    let Node { mesh: starved, mut events } = nodes.remove(0);
    // Events are taken at once: a departure and a return between two reads would not be reported.
    let deaths = Arc::new(AtomicUsize::new(0));
    let seen = deaths.clone();
    let listening = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            seen.fetch_add(usize::from(matches!(event, MeshEvent::Down { .. })), Ordering::Relaxed);
        }
    });
    starved.starve(Duration::from_secs(12));
    until("the other nodes declare it dead", || nodes.iter().all(|node| node.sees(2))).await;
    let whole = || starved.members().len() == 3 && nodes.iter().all(|node| node.sees(3));
    until("they are together again", whole).await;
    // Within this time the node would declare dead the members that it suspects.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(deaths.load(Ordering::Relaxed), 0, "it declared healthy nodes dead");
    until("they still are", whole).await;
    starved.shutdown(SHORT).await;
    listening.await.unwrap();
}

/// Runs the process whose descriptors run out: it prints its address, and answers each input line with its counters.
async fn without_descriptors() {
    let node = Node::start(config("test")).await;
    println!("AT {}", node.addr());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let stats = node.mesh.counters();
        println!("{line} {} {} {}", stats.socket_errors, stats.task_restarts, node.mesh.members().len());
    }
}

// scenario 89: a full descriptor table ends no loop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_descriptor_table_ends_no_loop() {
    if std::env::var_os("MESH_DESCRIPTORS_CHILD").is_some() {
        return without_descriptors().await;
    }
    tokio::time::timeout(PATIENCE * 3, exhaust_a_process()).await.expect("it goes on");
}

async fn exhaust_a_process() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "scarce::a_full_descriptor_table_ends_no_loop", "--nocapture"])
        .env("MESH_DESCRIPTORS_CHILD", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = child.id().unwrap();
    let mut say = child.stdin.take().unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut answer = async |question: &str| -> Vec<String> {
        if !question.is_empty() {
            say.write_all(format!("{question}\n").as_bytes()).await.unwrap();
        }
        let wanted = if question.is_empty() { "AT" } else { question };
        loop {
            let line = told.next_line().await.unwrap().expect("the process is there");
            // The test harness prints on the same line before the first reply.
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if let Some(at) = words.iter().position(|word| word == wanted) {
                return words[at + 1..].to_vec();
            }
        }
    };
    let address: std::net::SocketAddr = answer("").await[0].parse().unwrap();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    limit_descriptors(pid, open).await;
    // The kernel completes the connections, but the process cannot accept them.
    let mut knocking = Vec::new();
    for _ in 0..4 {
        knocking.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    while answer("COUNTS").await[0] == "0" {
        sleep(Duration::from_millis(50)).await;
    }
    limit_descriptors(pid, 1_024).await;
    let node = Node::start(seeded("test", address)).await;
    until("it is a member again", || node.sees(1)).await;
    while answer("MEMBERS").await[2] != "1" {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(answer("RESTARTS").await[1], "0", "its loops went on");
    drop(knocking);
}

async fn limit_descriptors(pid: u32, most: usize) {
    let limit = Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={most}:")]).status().await;
    assert!(limit.expect("util-linux").success());
}
