//! Doing what a script says.

use super::action::Action;
use super::cluster::{Cluster, Event};
use super::node::{RunningFill, State};
use super::oracle::Record;
use super::report::Violation;
use super::workload::{Workload, hash_of};
use crate::crdt::Dot;
use crate::item::{Body, Item, Key};
use crate::replica::Write;
use crate::sync::Arc;

/// Nodes that run at one time, and openings in one run, at most.
const MAX_UP: usize = 7;
const MAX_OPENINGS: usize = 24;

impl<W: Workload> Cluster<W> {
    pub(super) fn act(&mut self, action: Action) -> Result<(), Violation> {
        self.trace(|| format!("ACT {action:?}"));
        match action {
            Action::Write(node, key, ttl) => self.write(node, key, ttl),
            Action::Delete(node, key) => self.delete(node, key),
            Action::InvalidateAll(node) => self.invalidate_all(node),
            Action::Fill(node, key, millis) => self.begin_fill(node, key, millis),
            Action::Evict(node, key) => self.evict(node, key),
            Action::Crash(node) => self.crash(node),
            Action::Restart(node) => self.restart(node),
            Action::Join => self.join(),
            Action::Leave(node) => self.leave(node),
            Action::Pause(node) => self.pause(node),
            Action::Resume(_) => self.resume_one(),
            Action::StepClock(node, millis) => self.step_clock(node, millis),
            Action::FreezeClock(node, on) => self.freeze_clock(node, on),
            _ => {
                self.change_network(action);
                Ok(())
            }
        }
    }

    fn chosen(&self, node: u8) -> Option<usize> {
        let up = self.up();
        up.get(usize::from(node).checked_rem(up.len())?).copied()
    }

    fn key(&self, key: u16) -> W::Key {
        self.workload.key(key % self.settings.keys)
    }

    fn write(&mut self, node: u8, key: u16, ttl: u32) -> Result<(), Violation> {
        let Some(number) = self.chosen(node) else { return Ok(()) };
        let key = self.key(key);
        self.write_on(number, key, ttl)
    }

    pub(super) fn write_on(&mut self, number: usize, key: W::Key, ttl: u32) -> Result<(), Violation> {
        let now = self.nodes[number].now(self.at);
        let expires = if ttl == 0 { 0 } else { now.wall + u64::from(ttl) * 1_000_000 };
        let (write, value) = self.new_write(&key, expires);
        let node = &mut self.nodes[number];
        let stamp = node.replica.write(now, write);
        let dot = Dot::new(node.id, stamp.time);
        let record = Record { stamp, dot, value: Some(value), expires, at: self.at, wall: now.wall, fill: false };
        self.record(&key, record)?;
        self.settle(number)
    }

    fn new_write(&mut self, key: &W::Key, expires: u64) -> (Write<W::Key, W::Value>, u64) {
        self.writes += 1;
        let value = self.workload.value(self.writes);
        let size = self.workload.size(key, Some(&value));
        let item = Arc::new(Item { key: Key::Known(key.clone()), body: Body::Known(value) });
        (Write { hash: hash_of(key), item, expires, size, weight: 1 }, self.writes)
    }

    fn record(&mut self, key: &W::Key, record: Record) -> Result<(), Violation> {
        let stamp = record.stamp;
        self.trace(|| format!("  {key:?} = {:?} stamp {stamp:?} dot {:?}", record.value, record.dot));
        if self.oracle.record(key, record) {
            return Err(self.violation(format!("the stamp {stamp:?} was issued twice for {key:?}")));
        }
        Ok(())
    }

    fn delete(&mut self, node: u8, key: u16) -> Result<(), Violation> {
        let Some(number) = self.chosen(node) else { return Ok(()) };
        let key = self.key(key);
        let now = self.nodes[number].now(self.at);
        let item = Arc::new(Item { key: Key::Known(key.clone()), body: Body::Absent });
        let size = self.workload.size(&key, None);
        let write = Write { hash: hash_of(&key), item, expires: 0, size, weight: 0 };
        let node = &mut self.nodes[number];
        let before = node.replica.vector().get(&node.id);
        let (stamp, _) = node.replica.delete(now, write);
        // A delete that did nothing is one all the same for whoever called it.
        let stamp = if stamp.time == 0 { crate::hlc::Stamp::new(before.max(now.wall), node.id) } else { stamp };
        let dot = Dot::new(node.id, stamp.time.min(node.replica.vector().get(&node.id)));
        let record = Record { stamp, dot, value: None, expires: 0, at: self.at, wall: now.wall, fill: false };
        node.newest.insert(key.clone(), (stamp, true));
        self.record(&key, record)?;
        self.settle(number)
    }

    fn invalidate_all(&mut self, node: u8) -> Result<(), Violation> {
        let Some(number) = self.chosen(node) else { return Ok(()) };
        self.report.fault("invalidate all");
        let now = self.nodes[number].now(self.at);
        let epoch = self.nodes[number].replica.invalidate_all(now);
        self.trace(|| format!("  epoch {epoch}"));
        self.settle(number)
    }

    fn begin_fill(&mut self, node: u8, key: u16, millis: u32) -> Result<(), Violation> {
        let Some(number) = self.chosen(node) else { return Ok(()) };
        let key = self.key(key);
        let now = self.nodes[number].now(self.at);
        let node = &mut self.nodes[number];
        let held = node.replica.store().get(hash_of(&key), &key).map_or(0, |held| held.meta.stamp_time);
        let above = held.max(node.replica.floor().time).max(node.replica.epoch());
        let ticket = node.replica.begin_fill(now, hash_of(&key), &Key::Known(key.clone()));
        self.next_fill += 1;
        let fill = self.next_fill;
        let began = node.replica.clock().last();
        node.fills.insert(fill, RunningFill { key, ticket, at: self.at, began, above });
        let after = self.rng.u64(0..=u64::from(millis) * 1_000_000);
        self.schedule(after, Event::FillDone { node: number, fill });
        self.settle(number)
    }

    pub(super) fn finish_fill(&mut self, number: usize, fill: u64) -> Result<(), Violation> {
        match self.nodes[number].state {
            State::Gone => return Ok(()),
            State::Paused => {
                self.schedule(50_000_000, Event::FillDone { node: number, fill });
                return Ok(());
            }
            State::Up => {}
        }
        let Some(running) = self.nodes[number].fills.remove(&fill) else { return Ok(()) };
        let now = self.nodes[number].now(self.at);
        let (write, value) = self.new_write(&running.key, 0);
        let node = &mut self.nodes[number];
        if let Some(stamp) = node.replica.finish_fill(now, &running.ticket, write) {
            let dot = Dot::new(node.id, node.replica.vector().get(&node.id));
            self.check_fill(&running, stamp)?;
            let record = Record { stamp, dot, value: Some(value), expires: 0, at: self.at, wall: now.wall, fill: true };
            self.record(&running.key, record)?;
        }
        self.settle(number)
    }

    fn evict(&mut self, node: u8, key: u16) -> Result<(), Violation> {
        let Some(number) = self.chosen(node) else { return Ok(()) };
        let key = self.key(key);
        let now = self.nodes[number].now(self.at);
        let node = &mut self.nodes[number];
        if let Some(held) = node.replica.store().get(hash_of(&key), &key) {
            node.replica.evict(now, held.slot);
        }
        self.settle(number)
    }

    fn crash(&mut self, node: u8) -> Result<(), Violation> {
        let Some(number) = self.chosen(node).filter(|_| self.running().len() > 1) else { return Ok(()) };
        self.report.fault("crash");
        self.stop(number);
        Ok(())
    }

    fn stop(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.state = State::Gone;
        node.inbox.clear();
        node.fills.clear();
    }

    fn restart(&mut self, node: u8) -> Result<(), Violation> {
        let Some(number) = self.chosen(node).filter(|_| self.nodes.len() < MAX_OPENINGS) else { return Ok(()) };
        self.report.fault("restart");
        self.stop(number);
        self.open(Some(number));
        Ok(())
    }

    fn join(&mut self) -> Result<(), Violation> {
        if self.nodes.len() < MAX_OPENINGS && self.running().len() < MAX_UP {
            self.report.fault("join");
            self.open(None);
        }
        Ok(())
    }

    fn leave(&mut self, node: u8) -> Result<(), Violation> {
        let Some(number) = self.chosen(node).filter(|_| self.running().len() > 1) else { return Ok(()) };
        self.report.fault("leave");
        for other in self.up() {
            if other != number && !self.network.is_cut(number, other) {
                let after = self.network.delay();
                self.schedule(after, Event::Left { node: other, who: number });
            }
        }
        self.stop(number);
        Ok(())
    }

    fn pause(&mut self, node: u8) -> Result<(), Violation> {
        let Some(number) = self.chosen(node) else { return Ok(()) };
        self.report.fault("pause");
        self.nodes[number].state = State::Paused;
        Ok(())
    }

    fn resume_one(&mut self) -> Result<(), Violation> {
        let paused = self.running().into_iter().find(|&number| !self.nodes[number].is_up());
        paused.map_or(Ok(()), |number| self.resume(number))
    }

    pub(super) fn resume(&mut self, number: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[number];
        node.state = State::Up;
        for (from, message) in std::mem::take(&mut node.inbox) {
            self.schedule(0, Event::Deliver { from, to: number, message });
        }
        self.settle(number)
    }

    fn step_clock(&mut self, node: u8, millis: i32) -> Result<(), Violation> {
        let Some(number) = self.chosen(node) else { return Ok(()) };
        self.report.fault(if millis < 0 { "clock back" } else { "clock ahead" });
        self.nodes[number].clock.step(i64::from(millis) * 1_000_000);
        self.settle(number)
    }

    fn freeze_clock(&mut self, node: u8, on: bool) -> Result<(), Violation> {
        let Some(number) = self.chosen(node) else { return Ok(()) };
        self.report.fault("clock frozen");
        let at = self.at;
        self.nodes[number].clock.freeze(at, on);
        self.settle(number)
    }

    fn change_network(&mut self, action: Action) {
        let node = |n: u8| self.chosen(n).unwrap_or_default();
        match action {
            Action::Cut(a, b) => {
                let (a, b) = (node(a), node(b));
                self.report.fault("link cut");
                self.network.cut(a, b);
            }
            Action::CutOneWay(a, b) => {
                let (a, b) = (node(a), node(b));
                self.report.fault("link cut one way");
                self.network.cut_one_way(a, b);
            }
            Action::Isolate(a) => {
                let a = node(a);
                self.report.fault("isolated");
                (0..self.nodes.len()).for_each(|b| self.network.cut(a, b));
            }
            Action::Split(mask) => self.split(mask),
            Action::HealLinks => self.network.heal_links(),
            Action::Latency(millis) => self.network.set_latency(u64::from(millis) * 1_000_000),
            Action::Loss(percent) => self.network.set_loss(percent),
            Action::Duplicate(percent) => self.network.set_duplicate(percent),
            _ => {}
        }
    }

    fn split(&mut self, mask: u8) {
        self.report.fault("split");
        let running = self.running();
        let side = |position: usize| mask >> (position % 8) & 1;
        for (i, &a) in running.iter().enumerate() {
            for (j, &b) in running.iter().enumerate() {
                if side(i) != side(j) {
                    self.network.cut(a, b);
                }
            }
        }
    }
}
