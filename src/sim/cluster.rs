//! The cluster: nodes, the network between them, and the order in which things happen.

use std::collections::BTreeMap;

use fastrand::Rng;
use uuid::Uuid;

use super::clock::{EPOCH, SimClock};
use super::hop::{clone_message, entries_in, hop};
use super::network::Network;
use super::node::{Node, State};
use super::oracle::Oracle;
use super::report::{Report, Violation};
use super::settings::Settings;
use super::workload::Workload;
use crate::replica::message::Message;
use crate::replica::{Change, Effect, Replica, Transmit};
use crate::replica_id::ReplicaId;

/// Messages that one event may cause on one node.
const MAX_BURST: usize = 20_000;
/// Events of one run.
const MAX_EVENTS: u64 = 1_000_000;
/// Wake-ups of one node at one instant.
const MAX_SPINS: u32 = 10_000;

/// What is going to happen.
#[allow(clippy::large_enum_variant)] // Most are messages.
pub(super) enum Event<K, V> {
    Deliver { from: usize, to: usize, message: Message<K, V> },
    Sent { node: usize, to: usize, ok: bool },
    FillDone { node: usize, fill: u64 },
    Left { node: usize, who: usize },
    Detector,
}

/// A cluster in one thread.
pub(super) struct Cluster<W: Workload> {
    pub(super) workload: W,
    pub(super) settings: Settings,
    pub(super) nodes: Vec<Node<W>>,
    pub(super) network: Network,
    pub(super) rng: Rng,
    pub(super) at: u64,
    events: BTreeMap<(u64, u64), Event<W::Key, W::Value>>,
    sequence: u64,
    pub(super) oracle: Oracle<W::Key>,
    pub(super) writes: u64,
    pub(super) next_fill: u64,
    pub(super) report: Report,
    pub(super) tracing: bool,
    /// No faults any more.
    pub(super) healed: bool,
}

impl<W: Workload> Cluster<W> {
    pub(super) fn new(workload: W, settings: Settings, seed: u64, tracing: bool) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0xC105_7E12);
        let network = Network::new(&settings, rng.u64(..));
        let replicas = settings.replicas;
        let mut cluster = Self {
            workload,
            settings,
            nodes: Vec::new(),
            network,
            rng,
            at: 0,
            events: BTreeMap::new(),
            sequence: 0,
            oracle: Oracle::new(),
            writes: 0,
            next_fill: 0,
            report: Report::default(),
            tracing,
            healed: false,
        };
        (0..replicas).for_each(|_| cluster.open(None));
        cluster.schedule(0, Event::Detector);
        cluster
    }

    /// Opens the cache on a new node, or again on one that is to restart.
    pub(super) fn open(&mut self, replaces: Option<usize>) {
        let id = ReplicaId::from_uuid(Uuid::from_u128(self.rng.u128(..)));
        let clock = match (replaces, self.healed) {
            (Some(old), _) => self.nodes[old].clock.clone(),
            (None, true) => SimClock::new(0, 0, self.at),
            (None, false) => self.new_clock(),
        };
        let now = clock.now(self.at);
        let replica = Replica::new(id, self.settings.config.clone(), self.rng.u64(..), now);
        let mut replica = replica.expect("the swarm picks valid settings");
        replica.set_bugs(self.settings.bugs);
        let wake = replica.poll_timeout(now);
        self.nodes.push(Node {
            id,
            replica,
            clock,
            state: State::Up,
            replaces,
            inbox: Vec::new(),
            wake,
            views: BTreeMap::new(),
            silent_since: BTreeMap::new(),
            fills: BTreeMap::new(),
            newest: BTreeMap::new(),
            mirror: BTreeMap::new(),
            spins: 0,
            last_timeout: 0,
        });
    }

    fn new_clock(&mut self) -> SimClock {
        let skew = self.settings.skew.as_nanos() as i64;
        let drift = i64::from(self.settings.drift_ppm);
        SimClock::new(self.rng.i64(-skew..=skew), self.rng.i64(-drift..=drift), self.at)
    }

    pub(super) fn schedule(&mut self, after: u64, event: Event<W::Key, W::Value>) {
        self.sequence += 1;
        self.events.insert((self.at + after, self.sequence), event);
    }

    pub(super) fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.tracing {
            let line = readable(&self.nodes, line());
            let line = format!("{:.6} {line}", self.at as f64 / 1e9);
            self.report.trace.push(line);
        }
    }

    pub(super) fn violation(&self, what: String) -> Violation {
        Violation { at: self.at, what }
    }

    pub(super) fn up(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].is_up()).collect()
    }

    /// Nodes that run, paused ones included.
    pub(super) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].runs()).collect()
    }

    pub(super) fn number_of(&self, id: &ReplicaId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == *id)
    }

    /// Lets everything happen that happens until then.
    pub(super) fn advance_to(&mut self, until: u64) -> Result<(), Violation> {
        loop {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let up = self.nodes.iter().enumerate().filter(|(_, node)| node.is_up());
            let timer = up.map(|(number, node)| (node.wake, number)).min();
            match (event, timer) {
                (Some(at), timer) if at <= until && timer.is_none_or(|(wake, _)| at <= wake) => {
                    self.at = self.at.max(at);
                    if let Some((_, event)) = self.events.pop_first() {
                        self.handle(event)?;
                    }
                }
                (_, Some((wake, node))) if wake <= until => {
                    self.at = self.at.max(wake);
                    self.wake(node)?;
                }
                _ => {
                    self.at = self.at.max(until);
                    return Ok(());
                }
            }
        }
    }

    fn wake(&mut self, number: usize) -> Result<(), Violation> {
        let at = self.at;
        let node = &mut self.nodes[number];
        node.spins = if node.last_timeout == at { node.spins + 1 } else { 0 };
        node.last_timeout = at;
        if node.spins > MAX_SPINS {
            return Err(self.violation(format!("n{number} wants to be woken at once for ever")));
        }
        let now = node.now(at);
        node.replica.handle_timeout(now);
        self.settle(number)
    }

    fn handle(&mut self, event: Event<W::Key, W::Value>) -> Result<(), Violation> {
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Sent { node, to, ok } => self.sent(node, to, ok),
            Event::FillDone { node, fill } => self.finish_fill(node, fill),
            Event::Left { node, who } => self.learn_of_leave(node, who),
            Event::Detector => self.detect(),
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message<W::Key, W::Value>) -> Result<(), Violation> {
        let node = &mut self.nodes[to];
        match node.state {
            State::Gone => return Ok(()),
            State::Paused => {
                if !self.settings.pause_drops {
                    node.inbox.push((from, message));
                }
                return Ok(());
            }
            State::Up => {}
        }
        self.trace(|| format!("n{from} -> n{to} {}", describe(&message)));
        let from = self.nodes[from].id;
        let node = &mut self.nodes[to];
        let now = node.now(self.at);
        node.replica.handle_message(now, from, message);
        self.settle(to)
    }

    fn sent(&mut self, number: usize, to: usize, ok: bool) -> Result<(), Violation> {
        match self.nodes[number].state {
            State::Gone => return Ok(()),
            State::Paused => {
                self.schedule(50_000_000, Event::Sent { node: number, to, ok });
                return Ok(());
            }
            State::Up => {}
        }
        let to = self.nodes[to].id;
        let node = &mut self.nodes[number];
        let now = node.now(self.at);
        node.replica.handle_sent(now, to, ok);
        self.settle(number)
    }

    /// Drains a node after anything was done to it, and checks it.
    pub(super) fn settle(&mut self, number: usize) -> Result<(), Violation> {
        self.report.events += 1;
        if self.report.events > MAX_EVENTS {
            return Err(self.violation("bounded: the run does not end".to_owned()));
        }
        while let Some(change) = self.nodes[number].replica.poll_change() {
            self.follow(number, &change)?;
        }
        let now = self.nodes[number].now(self.at);
        for _ in 0..MAX_BURST {
            let Some(transmit) = self.nodes[number].replica.poll_transmit(now) else {
                self.nodes[number].wake = self.nodes[number].replica.poll_timeout(now);
                while let Some(change) = self.nodes[number].replica.poll_change() {
                    self.follow(number, &change)?;
                }
                return self.check_node(number);
            };
            self.send(number, transmit);
        }
        Err(self.violation(format!("n{number} sends without end")))
    }

    fn send(&mut self, from: usize, transmit: Transmit<W::Key, W::Value>) {
        let Transmit { to, message, bulk } = transmit;
        for id in to {
            let Some(to) = self.number_of(&id) else { continue };
            let arrives = self.send_one(from, to, clone_message(&message));
            if bulk {
                let after = self.network.sending();
                // A lost datagram goes unnoticed; a connection that cannot be made does not.
                let ok = arrives || self.network.loses();
                self.schedule(after, Event::Sent { node: from, to, ok });
            }
        }
    }

    fn send_one(&mut self, from: usize, to: usize, message: Message<W::Key, W::Value>) -> bool {
        self.report.messages += 1;
        if self.network.is_cut(from, to) || !self.nodes[to].runs() {
            self.report.fault("refused");
            self.trace(|| format!("n{from} -> n{to} REFUSED {}", describe(&message)));
            return false;
        }
        self.report.entries += entries_in(&message);
        if self.network.loses() {
            self.report.fault("lost");
            self.trace(|| format!("n{from} -> n{to} LOST {}", describe(&message)));
            return true;
        }
        if self.network.duplicates() {
            self.report.fault("duplicated");
            let after = self.network.delay();
            self.schedule(after, Event::Deliver { from, to, message: hop(clone_message(&message)) });
        }
        let after = self.network.delay();
        self.schedule(after, Event::Deliver { from, to, message: hop(message) });
        true
    }

    /// What somebody who listens to the changes would believe.
    fn follow(&mut self, number: usize, change: &Change<W::Key, W::Value>) -> Result<(), Violation> {
        let item = change.after.as_ref().or(change.before.as_ref());
        let Some(key) = item.and_then(|item| item.key.known()).cloned() else {
            return Err(self.violation(format!("n{number}: a change without a key")));
        };
        let node = &mut self.nodes[number];
        let believed = node.mirror.get(&key).copied();
        let fits = match change.effect {
            Effect::Inserted => believed.is_none(),
            Effect::Updated => believed.is_some(),
            Effect::Removed(_) => believed.is_some(),
        };
        match change.effect {
            Effect::Inserted | Effect::Updated => node.mirror.insert(key.clone(), change.stamp),
            Effect::Removed(_) => node.mirror.remove(&key),
        };
        if fits {
            return Ok(());
        }
        Err(self
            .violation(format!("changes: n{number} reports {:?} for {key:?}, believed {believed:?}", change.effect)))
    }
}

/// The line with names for ids and seconds for times.
fn readable<W: Workload>(nodes: &[Node<W>], mut line: String) -> String {
    for (number, node) in nodes.iter().enumerate() {
        line = line.replace(&node.id.to_string(), &format!("n{number}"));
    }
    let mut out = String::with_capacity(line.len());
    for part in line.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        match digits.parse::<u64>() {
            Ok(time) if time > EPOCH / 2 => {
                let seconds = (i128::from(time) - i128::from(EPOCH)) as f64 / 1e9;
                out.push_str(&format!("{seconds:.9}"));
                out.push_str(&part[digits.len()..]);
            }
            _ => out.push_str(part),
        }
    }
    out
}

/// A message in one line.
fn describe<K: std::fmt::Debug, V>(message: &Message<K, V>) -> String {
    match message {
        Message::Digest(d) => format!(
            "digest clock {} quiet {} wm {} epoch {} full {} want {} reply {} vector {:?}",
            d.clock,
            d.quiet_since,
            d.watermark,
            d.epoch,
            d.full,
            d.want_full,
            d.reply,
            d.vector.iter().map(|(id, t)| (id, t)).collect::<Vec<_>>()
        ),
        Message::Ack(ack) => format!("ack {}", ack.time),
        Message::Push(p) => format!(
            "push of {} ({}, {}] hops {} {:?}",
            p.origin,
            p.from,
            p.to,
            p.hops,
            p.entries.iter().map(|e| (&e.item.key, e.marker)).collect::<Vec<_>>()
        ),
        Message::Frame(f) => format!(
            "frame {}/{} reconcile {} base {:?} last {:?} dropped {:?} {:?}",
            f.session,
            f.index,
            f.reconcile,
            f.base,
            f.last,
            f.dropped,
            f.intervals
                .iter()
                .map(|i| (
                    i.origin,
                    i.from,
                    i.to,
                    i.entries.iter().map(|e| (&e.item.key, e.marker)).collect::<Vec<_>>()
                ))
                .collect::<Vec<_>>()
        ),
        Message::Audit(a) => format!(
            "audit reply {} vector {:?} {:?}",
            a.reply,
            a.vector,
            a.entries.iter().map(|e| (&e.item.key, e.marker)).collect::<Vec<_>>()
        ),
    }
}
