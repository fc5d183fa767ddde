//! The faults: how each one begins and ends, and the proof that it had an effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;

use crate::Error;
use crate::net::Net;
use crate::process::{Node, Nodes};
use crate::router::Link;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Partition,
    Isolation,
    OneWay,
    Loss,
    Delay,
    Reorder,
    Duplicate,
    Stop,
    Kill,
    KillAndMove,
    Terminate,
    Clock,
    Descriptors,
    Memory,
}

const NETWORK: [Kind; 7] =
    [Kind::Partition, Kind::Isolation, Kind::OneWay, Kind::Loss, Kind::Delay, Kind::Reorder, Kind::Duplicate];
const PROCESS: [Kind; 7] =
    [Kind::Stop, Kind::Kill, Kind::KillAndMove, Kind::Terminate, Kind::Clock, Kind::Descriptors, Kind::Memory];

/// The largest clock step, in milliseconds: five times what replicas tolerate (`max_drift`).
const MAX_STEP: i64 = 5_000;
/// The address space that a process may gain under the memory limit, in bytes. Threads and arenas reserve more than
/// they use.
const HEADROOM: u64 = 256 << 20;
/// The most nodes that have a process fault at one time, so that some nodes always serve.
const MAX_SICK: usize = 2;

/// A fault in progress.
struct Active {
    kind: Kind,
    until: Instant,
    /// The node with the fault; none for a network fault.
    node: Option<usize>,
    /// The treatment of packets, as (sender, receiver, link).
    links: Vec<(usize, usize, Link)>,
    /// Packets that had this treatment before the fault began.
    before: u64,
    what: String,
}

/// Counts per kind: faults begun, and faults proven to have had an effect.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    begun: usize,
    proven: usize,
}

pub struct Faults {
    net: Arc<Net>,
    nodes: Nodes,
    rng: Rng,
    start: Instant,
    active: Vec<Active>,
    tally: BTreeMap<Kind, Tally>,
    problems: Vec<String>,
    only: Vec<String>,
}

impl Faults {
    pub fn new(net: Arc<Net>, nodes: Nodes, rng: Rng, start: Instant) -> Self {
        Self {
            net,
            nodes,
            rng,
            start,
            active: Vec::new(),
            tally: BTreeMap::new(),
            problems: Vec::new(),
            only: Vec::new(),
        }
    }

    fn kinds(&self) -> Vec<Kind> {
        let network = if self.net.router().is_some() { &NETWORK[..] } else { &[] };
        let wanted = |kind: &Kind| self.only.is_empty() || self.only.contains(&format!("{kind:?}"));
        network.iter().chain(&PROCESS).copied().filter(wanted).collect()
    }

    /// Restricts the run to these kinds.
    pub fn only(&mut self, kinds: &[String]) {
        self.only = kinds.to_vec();
    }

    /// Injects faults one after another, several active at a time. Each round contains every kind once, in random
    /// order.
    pub fn inject(&mut self, count: usize, pace: u64) -> Result<(), Error> {
        let mut round = Vec::new();
        for number in 0..count {
            if round.is_empty() {
                round = self.kinds();
                self.rng.shuffle(&mut round);
            }
            let kind = round.pop().ok_or("no faults are possible here")?;
            self.end_what_is_over(Instant::now())?;
            while PROCESS.contains(&kind) && self.sick() >= MAX_SICK {
                std::thread::sleep(Duration::from_millis(50));
                self.end_what_is_over(Instant::now())?;
            }
            let what = self.begin(kind)?;
            println!("{:7.1} s  fault {:3}: {what}", self.start.elapsed().as_secs_f64(), number + 1);
            let pause = Duration::from_millis(self.rng.u64(pace / 2..=pace * 3 / 2));
            let until = Instant::now() + pause;
            while Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
                self.end_what_is_over(Instant::now())?;
            }
        }
        Ok(())
    }

    /// Ends every fault and restarts every process that is not running.
    pub fn heal(&mut self) -> Result<(), Error> {
        let far = Instant::now() + Duration::from_secs(3_600);
        self.end_what_is_over(far)?;
        self.net.set(vec![vec![Link::default(); self.nodes.len()]; self.nodes.len()]);
        for number in 0..self.nodes.len() {
            self.revive(number)?;
            let _ = self.nodes[number].client().and_then(|mut client| client.clock(0));
        }
        println!("{:7.1} s  healed", self.start.elapsed().as_secs_f64());
        Ok(())
    }

    fn sick(&self) -> usize {
        self.active.iter().filter(|fault| fault.node.is_some()).count()
    }

    fn begin(&mut self, kind: Kind) -> Result<String, Error> {
        self.tally.entry(kind).or_default().begun += 1;
        let fault = if NETWORK.contains(&kind) { self.begin_network(kind) } else { self.begin_process(kind)? };
        let what = fault.what.clone();
        self.active.push(fault);
        self.apply_links();
        Ok(what)
    }

    /// Returns a random duration: mostly shorter than the timeout of the failure detector, sometimes longer.
    fn duration(&mut self) -> Duration {
        let millis = if self.rng.u8(0..6) == 0 { self.rng.u64(9_000..16_000) } else { self.rng.u64(500..4_000) };
        Duration::from_millis(millis)
    }

    fn begin_network(&mut self, kind: Kind) -> Active {
        let nodes = self.nodes.len();
        let lasts = self.duration();
        let one = self.rng.usize(0..nodes);
        let pairs = |wanted: &dyn Fn(usize, usize) -> bool| -> Vec<(usize, usize)> {
            let all = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
            all.filter(|(from, to)| from != to && wanted(*from, *to)).collect()
        };
        let cut = Link { cut: true, ..Link::default() };
        let (pairs, link) = match kind {
            Kind::Partition => {
                // If the random split puts all nodes on one side, only `one` is cut off, so that some packets are cut.
                let side: Vec<bool> = (0..nodes).map(|node| node == one || self.rng.bool()).collect();
                (
                    pairs(&|from, to| {
                        side[from] != side[to] || (side.iter().all(|s| *s) && (from == one || to == one))
                    }),
                    cut,
                )
            }
            Kind::Isolation => (pairs(&|from, to| from == one || to == one), cut),
            Kind::OneWay => (pairs(&|from, _| from == one), cut),
            Kind::Loss => (pairs(&|_, _| true), Link { loss: self.rng.f64() * 0.29 + 0.01, ..Link::default() }),
            Kind::Delay => {
                let delay = Duration::from_millis(self.rng.u64(5..250));
                (pairs(&|_, _| true), Link { delay, jitter: delay / 2, ..Link::default() })
            }
            Kind::Reorder => (pairs(&|_, _| true), Link { reorder: 0.25, ..Link::default() }),
            _ => (pairs(&|_, _| true), Link { duplicate: 0.2, ..Link::default() }),
        };
        let links: Vec<_> = pairs.into_iter().map(|(from, to)| (from, to, link)).collect();
        let what = match kind {
            Kind::Loss => format!("{:.0} % loss for {lasts:.1?}", link.loss * 100.0),
            Kind::Delay => format!("delay of {:?} and more for {lasts:.1?}", link.delay),
            Kind::Isolation | Kind::OneWay => format!("{kind:?} of node {one} for {lasts:.1?}"),
            _ => format!("{kind:?} for {lasts:.1?}"),
        };
        Active { kind, until: Instant::now() + lasts, node: None, links, before: self.treated(kind), what }
    }

    /// Returns how many packets have had the treatment of this kind.
    fn treated(&self, kind: Kind) -> u64 {
        let name = match kind {
            Kind::Partition | Kind::Isolation | Kind::OneWay => "cut",
            Kind::Loss => "lost",
            Kind::Delay => "delayed",
            Kind::Reorder => "reordered",
            _ => "duplicated",
        };
        let counts = self.net.router().map(|router| router.counts.all());
        counts.into_iter().flatten().find(|(what, _)| *what == name).map_or(0, |(_, count)| count)
    }

    fn begin_process(&mut self, kind: Kind) -> Result<Active, Error> {
        let healthy: Vec<usize> = (0..self.nodes.len())
            .filter(|number| self.active.iter().all(|fault| fault.node != Some(*number)))
            .collect();
        let number = self.rng.choice(healthy).ok_or("every node already has a fault")?;
        self.revive(number)?;
        let lasts = self.duration();
        let node = Arc::clone(&self.nodes[number]);
        let what = match kind {
            Kind::Stop => {
                node.signal("-STOP")?;
                self.prove(kind, eventually(|| node.state() == Some('T')));
                format!("SIGSTOP of node {number} for {lasts:.1?}")
            }
            Kind::Kill | Kind::KillAndMove => {
                node.signal("-KILL")?;
                // A busy kernel may take long to end the process. That is not a finding, so the limit is high.
                let how = node.wait(Duration::from_secs(30))?;
                self.prove(kind, how.contains("signal: 9"));
                let place = if kind == Kind::Kill { "at the same" } else { "at another" };
                format!("SIGKILL of node {number}, back after {lasts:.1?} {place} address")
            }
            Kind::Terminate => {
                node.signal("-TERM")?;
                // A shutdown waits about two seconds for open connections, and about five for the handover to peers.
                match node.wait(Duration::from_secs(15)) {
                    Ok(how) => self.prove(kind, how.contains("exit status: 0")),
                    Err(error) => self.problems.push(format!("SIGTERM: {error}")),
                }
                format!("SIGTERM of node {number}, back after {lasts:.1?}")
            }
            Kind::Clock => self.step_clock(&node)?,
            Kind::Descriptors => self.fill_descriptors(&node)?,
            _ => self.limit_memory(&node)?,
        };
        Ok(Active { kind, until: Instant::now() + lasts, node: Some(number), links: Vec::new(), before: 0, what })
    }

    fn step_clock(&mut self, node: &Node) -> Result<String, Error> {
        let millis = self.rng.i64(-MAX_STEP..=MAX_STEP);
        let mut client = node.client()?;
        client.clock(millis)?;
        // Clocks check for a step once a millisecond.
        std::thread::sleep(Duration::from_millis(20));
        let (time, _) = client.set(&format!("clock-{}", node.number), "x")?;
        let ours = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as i128;
        let ahead = (i128::from(time) - ours) / 1_000_000;
        // A replica does not follow a clock that steps back: its stamps keep rising.
        self.prove(Kind::Clock, if millis > 0 { ahead > i128::from(millis) - 500 } else { ahead > -6_000 });
        Ok(format!("clock of node {} stepped by {millis} ms; its stamps are {ahead} ms ahead", node.number))
    }

    /// Uses up the descriptors: open ones stay, but the node can accept and dial no more.
    fn fill_descriptors(&mut self, node: &Node) -> Result<String, Error> {
        let open = node.descriptors().ok_or("no process")?;
        node.limit(&format!("--nofile={}:", open.saturating_sub(1)))?;
        // The node's own connections close and leave some descriptors free. These clients are held until a connection
        // fails.
        let mut held = Vec::new();
        let refused = (0..16).any(|_| {
            let answer = node.client().and_then(|mut client| client.counters().map(|_| client));
            answer.map(|client| held.push(client)).is_err()
        });
        self.prove(Kind::Descriptors, refused);
        Ok(format!("no descriptors on node {} beyond its {open}", node.number))
    }

    /// Limits the process to the memory that it has, plus `HEADROOM`.
    fn limit_memory(&mut self, node: &Node) -> Result<String, Error> {
        let pages =
            node.proc("statm").and_then(|text| text.split(' ').next()?.parse::<u64>().ok()).ok_or("no process")?;
        let limit = pages * 4_096 + HEADROOM;
        node.limit(&format!("--as={limit}:"))?;
        let limits = node.proc("limits").unwrap_or_default();
        self.prove(
            Kind::Memory,
            limits.lines().any(|line| line.contains("address space") && line.contains(&limit.to_string())),
        );
        Ok(format!("memory of node {} limited to {} MiB of address space", node.number, limit >> 20))
    }

    fn prove(&mut self, kind: Kind, proven: bool) {
        self.tally.entry(kind).or_default().proven += usize::from(proven);
    }

    fn end_what_is_over(&mut self, now: Instant) -> Result<(), Error> {
        let (over, active) =
            std::mem::take(&mut self.active).into_iter().partition(|fault: &Active| fault.until <= now);
        self.active = active;
        for fault in over {
            self.end(&fault)?;
        }
        self.apply_links();
        Ok(())
    }

    fn end(&mut self, fault: &Active) -> Result<(), Error> {
        let Some(number) = fault.node else {
            let bitten = self.treated(fault.kind) > fault.before;
            self.prove(fault.kind, bitten);
            return Ok(());
        };
        let node = Arc::clone(&self.nodes[number]);
        match fault.kind {
            Kind::Stop => node.signal("-CONT")?,
            Kind::Kill | Kind::Terminate => node.start(&self.nodes, false)?,
            Kind::KillAndMove => node.start(&self.nodes, true)?,
            Kind::Clock => drop(node.client().and_then(|mut client| client.clock(0))),
            Kind::Descriptors => drop(node.limit("--nofile=4096:")),
            _ => drop(node.limit("--as=unlimited:")),
        }
        self.revive(number)
    }

    /// Records a process that ended without a fault as a finding, and starts a new one.
    fn revive(&mut self, number: usize) -> Result<(), Error> {
        let node = Arc::clone(&self.nodes[number]);
        if let Some(how) = node.ended() {
            self.problems.push(format!("the process of node {number} ended by itself: {how}"));
            node.start(&self.nodes, false)?;
        }
        Ok(())
    }

    fn apply_links(&self) {
        let nodes = self.nodes.len();
        let mut links = vec![vec![Link::default(); nodes]; nodes];
        for (from, to, link) in self.active.iter().flat_map(|fault| &fault.links) {
            links[*from][*to] = links[*from][*to].and(*link);
        }
        self.net.set(links);
    }

    /// Returns the problems, and the kinds that were never seen to have an effect.
    pub fn unproven(&self, planned: usize) -> Vec<String> {
        let mut findings = self.problems.clone();
        let begun: usize = self.tally.values().map(|tally| tally.begun).sum();
        if begun != planned {
            findings.push(format!("{begun} faults of {planned}"));
        }
        let kinds = self.kinds();
        for kind in kinds.iter().take(planned) {
            let tally = self.tally.get(kind).copied().unwrap_or_default();
            if tally.begun > 0 && tally.proven == 0 {
                findings.push(format!("{kind:?} never had a visible effect ({} times)", tally.begun));
            }
        }
        findings
    }

    pub fn report(&self) {
        for (kind, tally) in &self.tally {
            println!("fault {kind:?}: {} times, with a visible effect {} times", tally.begun, tally.proven);
        }
        if let Some(router) = self.net.router() {
            let counts: Vec<_> = router.counts.all().iter().map(|(what, count)| format!("{count} {what}")).collect();
            println!("packets: {}", counts.join(", "));
        }
    }
}

fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    (0..100).any(|_| {
        let now = holds();
        if !now {
            std::thread::sleep(Duration::from_millis(10));
        }
        now
    })
}
