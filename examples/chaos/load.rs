//! The load: a writer and a reader per node, and the history of their operations.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::{Client, Stamp};
use crate::process::{Node, Nodes};

/// A write or a delete that was attempted.
#[derive(Clone, Debug)]
pub struct Act {
    pub node: usize,
    /// The number of the process on this node, counted from its first.
    pub life: u32,
    pub key: usize,
    /// The value written; `None` for a delete.
    pub value: Option<String>,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// An acknowledged write with this stamp.
    Written(Stamp),
    /// An acknowledged delete with a stamp between these two.
    Deleted(Stamp, Stamp),
    /// No reply: the operation may have happened, or may still happen.
    Unknown,
}

/// The history of all operations.
pub struct History {
    acts: Vec<Mutex<Vec<Act>>>,
    findings: Mutex<Vec<String>>,
    pub reads: AtomicU64,
    pub failures: AtomicU64,
}

impl History {
    pub fn new(nodes: usize) -> Self {
        let acts = (0..nodes).map(|_| Mutex::default()).collect();
        Self { acts, findings: Mutex::default(), reads: AtomicU64::new(0), failures: AtomicU64::new(0) }
    }

    fn note(&self, act: Act) {
        self.acts[act.node].lock().unwrap_or_else(PoisonError::into_inner).push(act);
    }

    /// Returns all operations, grouped by key.
    pub fn by_key(&self, keys: usize) -> Vec<Vec<Act>> {
        let mut all = vec![Vec::new(); keys];
        for acts in &self.acts {
            for act in acts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                all[act.key].push(act.clone());
            }
        }
        all
    }

    pub fn findings(&self) -> Vec<String> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(&self, what: String) {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

/// The threads of the load.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn stop(self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

pub fn key(number: usize) -> String {
    format!("key-{number}")
}

pub fn start(nodes: &Nodes, history: &Arc<History>, keys: usize) -> Load {
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for node in nodes {
        let works: [fn(&Node, &History, &AtomicBool, usize); 2] = [write, read];
        for work in works {
            let (node, history, stop) = (Arc::clone(node), Arc::clone(history), Arc::clone(&stop));
            threads.push(std::thread::spawn(move || work(&node, &history, &stop, keys)));
        }
    }
    Load { stop, threads }
}

/// Returns a connection to the current process of a node, or `None` while there is none.
fn connected<'a>(slot: &'a mut Option<(u32, Client)>, node: &Node) -> Option<&'a mut (u32, Client)> {
    let life = node.life();
    if slot.as_ref().is_none_or(|(of, _)| *of != life) {
        let client = node.client().ok();
        // If another process started meanwhile, the connection may be to either one. It is dropped, and the next call
        // reconnects.
        *slot = client.filter(|_| node.life() == life).map(|client| (life, client));
    }
    slot.as_mut()
}

fn write(node: &Node, history: &History, stop: &AtomicBool, keys: usize) {
    let mut rng = fastrand::Rng::with_seed(node.number as u64);
    let (mut slot, mut serial) = (None, 0_u64);
    while !stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(rng.u64(1..8)));
        let Some((life, client)) = connected(&mut slot, node) else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        serial += 1;
        let number = rng.usize(0..keys);
        let value = (rng.f64() >= 0.25).then(|| format!("{}-{serial}", node.number));
        let done = match &value {
            Some(value) => client.set(&key(number), value).map(Outcome::Written),
            None => client.delete(&key(number)).map(|(below, above)| Outcome::Deleted(below, above)),
        };
        let life = *life;
        let outcome = done.unwrap_or_else(|_| {
            history.failures.fetch_add(1, Relaxed);
            // A late reply could be taken for that of the next command.
            slot = None;
            Outcome::Unknown
        });
        history.note(Act { node: node.number, life, key: number, value, outcome });
    }
}

/// Checks that a process never serves an older value of a key than it served before.
fn read(node: &Node, history: &History, stop: &AtomicBool, keys: usize) {
    let mut rng = fastrand::Rng::with_seed(1_000 + node.number as u64);
    let mut slot = None;
    let mut newest: HashMap<usize, Stamp> = HashMap::new();
    let mut of = 0;
    while !stop.load(Relaxed) {
        std::thread::sleep(Duration::from_millis(rng.u64(0..4)));
        let Some((life, client)) = connected(&mut slot, node) else {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if of != *life {
            of = *life;
            newest.clear();
        }
        let number = rng.usize(0..keys);
        match client.get(&key(number)) {
            Ok(None) => {}
            Ok(Some((stamp, value))) => {
                let before = newest.insert(number, stamp.clone());
                if before.as_ref().is_some_and(|before| *before > stamp) {
                    let life = of;
                    history.find(format!(
                        "node {} (process {life}) served {} = {value} of {stamp:?} after {before:?}",
                        node.number,
                        key(number)
                    ));
                }
            }
            Err(_) => {
                slot = None;
                continue;
            }
        }
        history.reads.fetch_add(1, Relaxed);
    }
}
