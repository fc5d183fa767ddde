//! Control of nodes in processes of their own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::child;

/// A node process. Dropping it kills the process.
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The address at which the node is reached.
    pub addr: String,
    /// The wall time at which the process began to start its node, in nanoseconds.
    pub began: u64,
}

impl Process {
    /// Starts this executable again as a node.
    pub fn start(config: &Value) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this executable has a path"));
        command.args(child::arguments(config)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the process starts");
        let input = child.stdin.take().expect("standard input is piped");
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut process = Self { child, input, output, addr: String::new(), began: 0 };
        let hello = process.answer();
        process.addr = hello["addr"].as_str().expect("it says where it is").to_owned();
        process.began = hello["began"].as_u64().unwrap_or(0);
        process
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request. Read the answer with [`answer`](Self::answer).
    pub fn tell(&mut self, request: &Value) {
        writeln!(self.input, "{request}").expect("the node process is there");
    }

    /// Reads the next answer.
    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).expect("the node process answers");
        assert!(read > 0, "the node process ended");
        serde_json::from_str(&line).expect("an answer is JSON")
    }

    /// Sends a request and reads the answer.
    pub fn ask(&mut self, request: &Value) -> Value {
        self.tell(request);
        self.answer()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kind of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Driftless,
    Encrypted,
    Reconcile,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Driftless => "driftless",
            Self::Encrypted => "encrypted",
            Self::Reconcile => "reconcile",
        }
    }
}

/// Node processes that form a cluster.
pub struct Fleet {
    pub kind: Kind,
    pub nodes: Vec<Process>,
    port: u16,
}

static PORT: AtomicU16 = AtomicU16::new(0);

impl Fleet {
    /// Creates a fleet without nodes.
    pub fn empty(kind: Kind) -> Self {
        let base = 21_000 + (std::process::id() % 20_000) as u16;
        Self { kind, nodes: Vec::new(), port: base + PORT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Starts `count` nodes and waits until each knows all of them.
    pub fn start(kind: Kind, count: usize) -> Self {
        let mut fleet = Self::empty(kind);
        for _ in 0..count {
            fleet.add();
        }
        fleet.meet(count - 1);
        fleet
    }

    /// Adds a node, without waiting until the nodes know it.
    pub fn add(&mut self) -> &mut Process {
        let number = self.nodes.len();
        let config = match self.kind {
            Kind::Reconcile => {
                // All nodes of this kind use one port, so each needs an address of its own.
                let seeds: Vec<_> = self.nodes.iter().map(|node| node.addr.clone()).collect();
                json!({ "kind": "reconcile", "listen": format!("127.0.0.{}", number + 1), "port": self.port, "seeds": seeds })
            }
            kind => {
                let seeds: Vec<_> = self.nodes.iter().take(1).map(|node| node.addr.clone()).collect();
                json!({ "kind": "driftless", "seeds": seeds, "encrypted": kind == Kind::Encrypted })
            }
        };
        self.nodes.push(Process::start(&config));
        self.nodes.last_mut().expect("just added")
    }

    /// Waits until each node knows `others` other nodes.
    pub fn meet(&mut self, others: usize) {
        let met = self.all(&json!({ "do": "await_members", "count": others, "timeout_ms": 20_000 }));
        assert!(met.iter().all(|answer| answer["ok"] == true), "the nodes did not meet: {met:?}");
    }

    /// Sends a request to all nodes, then reads all answers.
    pub fn all(&mut self, request: &Value) -> Vec<Value> {
        self.nodes.iter_mut().for_each(|node| node.tell(request));
        self.nodes.iter_mut().map(Process::answer).collect()
    }
}
