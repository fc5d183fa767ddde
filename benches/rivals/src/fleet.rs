//! Nodes in processes of their own, from the outside.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::child;

/// One process. Dropping it ends it.
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Where it is reached.
    pub addr: String,
    /// When it began to start its node, wall time in nanoseconds.
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

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to do something. The answer is to be read with [`answer`](Self::answer).
    pub fn tell(&mut self, request: &Value) {
        writeln!(self.input, "{request}").expect("the node process is there");
    }

    /// Its next answer.
    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).expect("the node process answers");
        assert!(read > 0, "the node process ended");
        serde_json::from_str(&line).expect("an answer is JSON")
    }

    /// Both.
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

/// What kind of cluster.
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

/// Some processes that know each other.
pub struct Fleet {
    pub kind: Kind,
    pub nodes: Vec<Process>,
    port: u16,
}

static PORT: AtomicU16 = AtomicU16::new(0);

impl Fleet {
    /// Nobody yet.
    pub fn empty(kind: Kind) -> Self {
        let base = 21_000 + (std::process::id() % 20_000) as u16;
        Self { kind, nodes: Vec::new(), port: base + PORT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Starts so many nodes and waits until they know each other.
    pub fn start(kind: Kind, count: usize) -> Self {
        let mut fleet = Self::empty(kind);
        for _ in 0..count {
            fleet.add();
        }
        fleet.meet(count - 1);
        fleet
    }

    /// Adds a node, and does not wait.
    pub fn add(&mut self) -> &mut Process {
        let number = self.nodes.len();
        let config = match self.kind {
            Kind::Reconcile => {
                // One port for all, so every node has an address of its own.
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

    /// Waits until each knows so many others.
    pub fn meet(&mut self, others: usize) {
        let met = self.all(&json!({ "do": "await_members", "count": others, "timeout_ms": 20_000 }));
        assert!(met.iter().all(|answer| answer["ok"] == true), "the nodes did not meet: {met:?}");
    }

    /// Asks all at once.
    pub fn all(&mut self, request: &Value) -> Vec<Value> {
        self.nodes.iter_mut().for_each(|node| node.tell(request));
        self.nodes.iter_mut().map(Process::answer).collect()
    }
}
