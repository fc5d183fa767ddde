//! Doing the faults of a script: processes, caches, clocks, links.

use super::action::Action;
use super::agenda::Event;
use super::cluster::{Cluster, MAX_OPENINGS, MAX_PROCESSES, MAX_UP};
use super::membership;
use super::outbound;
use super::process::{State, View};
use super::report::Violation;
use super::settle;
use super::types::{SimKey, SimValue};

/// A clock that is further ahead than this when the faults end costs its process a restart, in nanoseconds.
const TOO_FAR: u64 = 30_000_000_000;

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    pub(super) fn close_cache(&mut self, node: u8, cache: u8) -> Result<(), Violation> {
        let (Some(process), cache) = (self.chosen(node), self.cache(cache)) else { return Ok(()) };
        let others = self.replicas_of(cache as u8).len() > 1;
        if let Some(number) = self.processes[process].open[cache].filter(|_| others) {
            self.report.fault("cache closed");
            self.close(number);
        }
        Ok(())
    }

    pub(super) fn open_cache(&mut self, node: u8, cache: u8) -> Result<(), Violation> {
        let (Some(process), cache) = (self.chosen(node), self.cache(cache)) else { return Ok(()) };
        if self.processes[process].open[cache].is_none() && self.openings.len() < MAX_OPENINGS {
            self.report.fault("cache opened");
            self.open(process, cache as u8);
            return outbound::greet_the_unknown(self, process);
        }
        Ok(())
    }

    fn close(&mut self, number: usize) {
        let opening = &mut self.openings[number];
        opening.is_open = false;
        opening.fills.clear();
        self.processes[opening.process].open[usize::from(opening.cache)] = None;
    }

    fn stop(&mut self, process: usize) {
        let open = self.processes[process].openings();
        open.into_iter().for_each(|number| self.close(number));
        self.processes[process].state = State::Gone;
        self.processes[process].inbox.clear();
    }

    fn chosen_of_many(&self, node: u8) -> Option<usize> {
        self.chosen(node).filter(|_| self.running().len() > 1)
    }

    pub(super) fn crash(&mut self, node: u8) -> Result<(), Violation> {
        let Some(process) = self.chosen_of_many(node) else { return Ok(()) };
        self.report.fault("crash");
        self.stop(process);
        self.processes[process].crashed = true;
        Ok(())
    }

    fn may_start(&self) -> bool {
        let openings = self.openings.len() + usize::from(self.settings.caches);
        self.processes.len() < MAX_PROCESSES && openings <= MAX_OPENINGS
    }

    pub(super) fn restart(&mut self, node: u8) -> Result<(), Violation> {
        let Some(process) = self.chosen(node).filter(|_| self.may_start()) else { return Ok(()) };
        self.report.fault("restart");
        self.stop(process);
        self.start(Some(process));
        Ok(())
    }

    /// Starts the first crashed process again whose address no other process has taken.
    pub(super) fn come_back(&mut self) -> Result<(), Violation> {
        let gone = |process: &usize| {
            let here = &self.processes[*process];
            here.crashed && self.holders[here.address] == *process
        };
        let gone = (0..self.processes.len()).find(gone).filter(|_| self.may_start() && self.running().len() < MAX_UP);
        let Some(process) = gone else { return Ok(()) };
        let is_missed = self.up().into_iter().any(|other| self.processes[other].view_of(process) == View::Down);
        self.report.fault(if is_missed {
            "returned after it was called dead"
        } else {
            "returned before it was missed"
        });
        self.start(Some(process));
        Ok(())
    }

    /// A process whose clocks are far ahead of what is now its wall clock is started again, as the page on operations asks
    /// for: it would write in the future for as long, or take over what others do.
    pub(super) fn restart_the_fast(&mut self) {
        for process in self.running() {
            let open = self.processes[process].open.iter().flatten();
            let clock = |number: usize| {
                let clock = self.view(number).clock();
                clock.last().max(clock.judging(self.now_at(number)))
            };
            let last = open.map(|&number| clock(number)).max().unwrap_or_default();
            if last > super::clock::EPOCH + self.at + TOO_FAR {
                self.report.fault("restarted for its clock");
                self.stop(process);
                self.start(Some(process));
            }
        }
    }

    /// A broken link that may stay: both of its ends run, and both reach a third, which has every cache open that both
    /// have: members of one cache know nothing of another.
    pub(super) fn link_that_stays(&self) -> Option<(usize, usize)> {
        let process = |address: usize| &self.processes[self.holders[address]];
        let shares = |a: usize, b: usize| {
            let both = |cache: &usize| process(a).open[*cache].is_some() && process(b).open[*cache].is_some();
            let mut caches = (0..usize::from(self.settings.caches)).filter(both);
            caches.all(|cache| self.replicas_of(cache as u8).len() > 2)
        };
        let stays = |(a, b): &(usize, usize)| process(*a).runs() && process(*b).runs() && shares(*a, *b);
        self.network.broken().find(|link| self.settings.stays_broken && stays(link))
    }

    pub(super) fn join(&mut self) -> Result<(), Violation> {
        if self.may_start() && self.running().len() < MAX_UP {
            self.report.fault("join");
            self.start(None);
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, node: u8) -> Result<(), Violation> {
        let Some(process) = self.chosen_of_many(node) else { return Ok(()) };
        self.report.fault("leave");
        for other in self.up() {
            let (here, there) = (self.processes[process].address, self.processes[other].address);
            if other != process && !self.network.is_cut(here, there) {
                let after = self.network.delay();
                self.schedule(after, Event::Left { process: other, who: process });
            }
        }
        self.stop(process);
        Ok(())
    }

    /// An operator says on one node that another will not return, rightly or not.
    pub(super) fn forget(&mut self, node: u8, who: u8) -> Result<(), Violation> {
        let Some(process) = self.chosen(node) else { return Ok(()) };
        let who = usize::from(who) % self.processes.len();
        if who == process {
            return Ok(());
        }
        membership::forget(self, process, who)
    }

    pub(super) fn pause(&mut self, node: u8) -> Result<(), Violation> {
        let Some(process) = self.chosen(node) else { return Ok(()) };
        self.report.fault("pause");
        self.processes[process].state = State::Paused;
        Ok(())
    }

    pub(super) fn resume_one(&mut self) -> Result<(), Violation> {
        let paused = self.running().into_iter().find(|&process| !self.processes[process].is_up());
        paused.map_or(Ok(()), |process| self.resume(process))
    }

    pub(super) fn resume(&mut self, process: usize) -> Result<(), Violation> {
        let here = &mut self.processes[process];
        here.state = State::Up;
        let address = here.address;
        let open = here.openings();
        for payload in std::mem::take(&mut here.inbox) {
            self.schedule(0, Event::Deliver { address, payload });
        }
        open.into_iter().for_each(|number| self.openings[number].history.company.note_resumed(self.at));
        settle::process(self, process)
    }

    pub(super) fn step_clock(&mut self, node: u8, millis: i32) -> Result<(), Violation> {
        let Some(process) = self.chosen(node) else { return Ok(()) };
        match millis {
            ..0 => self.report.fault("clock back"),
            0 => {}
            1.. => self.report.fault("clock ahead"),
        }
        if millis.unsigned_abs() >= 60_000 {
            self.report.fault("clock far off");
        }
        self.processes[process].clock.step(i64::from(millis) * 1_000_000);
        settle::process(self, process)
    }

    pub(super) fn freeze_clock(&mut self, node: u8, on: bool) -> Result<(), Violation> {
        let Some(process) = self.chosen(node) else { return Ok(()) };
        let at = self.at;
        if self.processes[process].clock.freeze(at, on) && on {
            self.report.fault("clock frozen");
        }
        settle::process(self, process)
    }

    pub(super) fn change_network(&mut self, action: Action) {
        let address = |n: u8| self.chosen(n).map_or(0, |process| self.processes[process].address);
        let (name, (a, b)) = match action {
            Action::Cut(a, b) => ("link cut", (address(a), address(b))),
            Action::CutOneWay(a, b) => ("link cut one way", (address(a), address(b))),
            Action::BreakLink(a, b) => ("link broken", (address(a), address(b))),
            Action::SlowLink(a, b) => ("slow link", (address(a), address(b))),
            Action::Isolate(a) => ("isolated", (address(a), 0)),
            _ => return self.set_network(action),
        };
        let network = &mut self.network;
        let happened = match action {
            Action::Cut(..) => network.cut(a, b),
            Action::CutOneWay(..) => network.cut_one_way(a, b),
            Action::BreakLink(..) => network.break_link(a, b),
            Action::SlowLink(..) => network.slow_down(a, b),
            // Every link is cut, not only the first.
            _ => (0..self.holders.len()).filter(|b| network.cut(a, *b)).count() > 0,
        };
        if happened {
            self.report.fault(name);
        }
    }

    fn set_network(&mut self, action: Action) {
        match action {
            Action::Split(mask) => return self.split(mask),
            Action::HealLinks => return self.network.heal_links(),
            Action::Latency(millis) => self.network.set_latency(u64::from(millis) * 1_000_000),
            Action::Loss(percent) => self.network.set_loss(percent),
            Action::Duplicate(percent) => self.network.set_duplicate(percent),
            Action::Bandwidth(bytes) => self.network.set_bandwidth(bytes),
            _ => return,
        }
        self.report.fault("network changed");
    }

    fn split(&mut self, mask: u8) {
        let running: Vec<_> = self.running().into_iter().map(|process| self.processes[process].address).collect();
        let side = |position: usize| mask >> (position % 8) & 1;
        let mut happened = false;
        for (i, &a) in running.iter().enumerate() {
            for (j, &b) in running.iter().enumerate() {
                happened |= side(i) != side(j) && self.network.cut(a, b);
            }
        }
        if happened {
            self.report.fault("split");
        }
    }
}
