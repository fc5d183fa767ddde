//! The network between the namespaces: every packet passes through this router, which may lose or change it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tun_rs::SyncDevice;

/// The treatment of packets from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    pub cut: bool,
    /// Probabilities, from 0 to 1.
    pub loss: f64,
    pub reorder: f64,
    pub duplicate: f64,
    pub delay: Duration,
    pub jitter: Duration,
}

impl Link {
    /// Combines two treatments: the stronger value of each field.
    pub fn and(self, other: Self) -> Self {
        Self {
            cut: self.cut || other.cut,
            loss: self.loss.max(other.loss),
            reorder: self.reorder.max(other.reorder),
            duplicate: self.duplicate.max(other.duplicate),
            delay: self.delay.max(other.delay),
            jitter: self.jitter.max(other.jitter),
        }
    }
}

/// Counts of packets by treatment.
#[derive(Default)]
pub struct Counts {
    pub forwarded: AtomicU64,
    pub cut: AtomicU64,
    pub lost: AtomicU64,
    pub delayed: AtomicU64,
    pub reordered: AtomicU64,
    pub duplicated: AtomicU64,
}

impl Counts {
    pub fn all(&self) -> [(&'static str, u64); 6] {
        [
            ("forwarded", self.forwarded.load(Relaxed)),
            ("cut", self.cut.load(Relaxed)),
            ("lost", self.lost.load(Relaxed)),
            ("delayed", self.delayed.load(Relaxed)),
            ("reordered", self.reordered.load(Relaxed)),
            ("duplicated", self.duplicated.load(Relaxed)),
        ]
    }
}

type Waiting = BinaryHeap<Reverse<(Instant, u64, usize, Vec<u8>)>>;

/// The most packets that wait in the queue. Beyond it packets are lost, as in any router.
const MAX_WAITING: usize = 200_000;

pub struct Router {
    devices: Vec<SyncDevice>,
    links: RwLock<Vec<Vec<Link>>>,
    pub counts: Counts,
    waiting: Mutex<Waiting>,
    came: Condvar,
    serial: AtomicU64,
}

impl Router {
    /// Takes the devices, one per node, and starts the threads that forward packets.
    pub fn start(devices: Vec<SyncDevice>) -> Arc<Self> {
        let nodes = devices.len();
        let router = Arc::new(Self {
            devices,
            links: RwLock::new(vec![vec![Link::default(); nodes]; nodes]),
            counts: Counts::default(),
            waiting: Mutex::default(),
            came: Condvar::new(),
            serial: AtomicU64::new(0),
        });
        for node in 0..nodes {
            let router = Arc::clone(&router);
            std::thread::spawn(move || router.receive(node));
        }
        let sender = Arc::clone(&router);
        std::thread::spawn(move || sender.send_in_time());
        router
    }

    /// Replaces the treatment of all links from now on.
    pub fn set(&self, links: Vec<Vec<Link>>) {
        *self.links.write().unwrap_or_else(PoisonError::into_inner) = links;
    }

    fn receive(&self, from: usize) {
        let mut rng = fastrand::Rng::with_seed(from as u64);
        let mut packet = vec![0; 1 << 16];
        loop {
            let Ok(len) = self.devices[from].recv(&mut packet) else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            let Some(to) = super::net::node_of(&packet[..len]).filter(|to| *to < self.devices.len() && *to != from)
            else {
                continue;
            };
            let link = self.links.read().unwrap_or_else(PoisonError::into_inner)[from][to];
            self.forward(to, &packet[..len], link, &mut rng);
        }
    }

    fn forward(&self, to: usize, packet: &[u8], link: Link, rng: &mut fastrand::Rng) {
        if link.cut {
            self.counts.cut.fetch_add(1, Relaxed);
            return;
        }
        if rng.f64() < link.loss {
            self.counts.lost.fetch_add(1, Relaxed);
            return;
        }
        if rng.f64() < link.duplicate {
            self.counts.duplicated.fetch_add(1, Relaxed);
            self.queue(to, packet, Duration::from_millis(rng.u64(1..20)));
        }
        let mut wait = link.delay + link.jitter.mul_f64(rng.f64());
        if rng.f64() < link.reorder {
            self.counts.reordered.fetch_add(1, Relaxed);
            wait += Duration::from_millis(rng.u64(2..40));
        }
        self.counts.forwarded.fetch_add(1, Relaxed);
        if wait.is_zero() {
            let _ = self.devices[to].send(packet);
        } else {
            self.counts.delayed.fetch_add(1, Relaxed);
            self.queue(to, packet, wait);
        }
    }

    fn queue(&self, to: usize, packet: &[u8], wait: Duration) {
        let number = self.serial.fetch_add(1, Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.push(Reverse((Instant::now() + wait, number, to, packet.to_vec())));
        }
        drop(waiting);
        self.came.notify_one();
    }

    fn send_in_time(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = Instant::now();
            let due = waiting.peek().map(|Reverse((at, ..))| *at);
            match due {
                Some(at) if at <= now => {
                    if let Some(Reverse((_, _, to, packet))) = waiting.pop() {
                        let _ = self.devices[to].send(&packet);
                    }
                }
                due => {
                    let patience = due.map_or(Duration::from_secs(1), |at| at - now);
                    waiting = match self.came.wait_timeout(waiting, patience) {
                        Ok((guard, _)) => guard,
                        Err(poisoned) => poisoned.into_inner().0,
                    };
                }
            }
        }
    }
}
