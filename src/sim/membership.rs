//! The membership layer under the replicas: who is told of whom, and how late.

use super::agenda::Event;
use super::cluster::Cluster;
use super::codec::{cache_of, incarnation, process_of};
use super::process::View;
use super::report::Violation;
use super::settle;
use super::types::{SimKey, SimValue};
use crate::replica_id::ReplicaId;

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    /// One round of everybody's failure detector.
    pub(super) fn detect(&mut self) -> Result<(), Violation> {
        for process in self.up() {
            for other in 0..self.processes.len() {
                if other != process {
                    self.look_at(process, other)?;
                }
            }
            self.greet_the_unknown(process)?;
        }
        let round = self.settings.suspect_after.as_nanos() as u64 / 3;
        let after = round / 2 + self.network.jitter(round / 2);
        self.schedule(after, Event::Detector);
        Ok(())
    }

    fn look_at(&mut self, process: usize, other: usize) -> Result<(), Violation> {
        let view = self.processes[process].view_of(other);
        if self.reaches(process, other) {
            self.processes[process].silent_since.remove(&other);
            return if view == View::Up { Ok(()) } else { self.learn_up(process, other) };
        }
        let at = self.at;
        let since = *self.processes[process].silent_since.entry(other).or_insert(at);
        let given_up = at - since >= self.settings.suspect_after.as_nanos() as u64;
        match view {
            View::Up if given_up => self.learn_down(process, other),
            // A message that was under way when it went makes it look alive once more.
            View::Down | View::Left if self.believes_live(process, other) => self.learn_down(process, other),
            _ => Ok(()),
        }
    }

    fn believes_live(&self, process: usize, other: usize) -> bool {
        self.settings.heed_the_dead
            && self.openings.iter().filter(|opening| opening.process == other).any(|theirs| {
                let ours = self.processes[process].open[usize::from(theirs.cache)];
                ours.is_some_and(|ours| self.view(ours).peers().any(|peer| peer.id == theirs.id && peer.live))
            })
    }

    /// Directly, or through a third.
    fn reaches(&self, process: usize, other: usize) -> bool {
        let address = |process: usize| self.processes[process].address;
        let cut = |a: usize, b: usize| self.network.is_cut(address(a), address(b));
        let direct = |a: usize, b: usize| !cut(a, b) && !cut(b, a);
        let via = |third: usize| third != process && third != other && direct(process, third) && direct(third, other);
        self.processes[other].is_up() && (direct(process, other) || self.up().into_iter().any(via))
    }

    fn learn_up(&mut self, process: usize, other: usize) -> Result<(), Violation> {
        self.trace(|| format!("n{process} finds n{other} up"));
        let name = self.processes[other].address.to_string().into();
        let here = &mut self.processes[process];
        here.views.insert(other, View::Up);
        let predecessors = here.membership.up(incarnation(other), &name, other);
        let mut predecessors: Vec<_> = predecessors.into_iter().filter_map(process_of).collect();
        if self.settings.heed_the_dead {
            // Also those of whom only a late message told.
            predecessors
                .extend(std::iter::successors(self.processes[other].replaces, |old| self.processes[*old].replaces));
        }
        predecessors.retain(|old| *old != process);
        predecessors.into_iter().try_for_each(|old| self.learn_of_leave(process, old))?;
        self.greet(process, other)
    }

    fn learn_down(&mut self, process: usize, other: usize) -> Result<(), Violation> {
        self.trace(|| format!("n{process} finds n{other} down"));
        self.report.fault("found down");
        let left = self.processes[process].view_of(other) == View::Left;
        if !left {
            self.processes[process].views.insert(other, View::Down);
        }
        let gone = self.processes[process].membership.down(incarnation(other), left);
        for (number, id) in self.known_on(process, other, gone) {
            let now = self.now_at(number);
            if left {
                self.openings[number].history.company.ever.insert(id);
                self.openings[number].engine.replica.handle_member_left(now, id);
            } else {
                self.openings[number].engine.replica.handle_member_down(now, id);
            }
            settle::opening(self, number)?;
        }
        Ok(())
    }

    /// Our openings, with the replicas of the same caches that lived on another process: as the machine has them.
    fn known_on(&self, process: usize, other: usize, gone: Vec<(String, ReplicaId)>) -> Vec<(usize, ReplicaId)> {
        let here = &self.processes[process];
        let open = |cache: &str| here.open[usize::from(cache_of(cache)?)];
        let mut known: Vec<_> = gone.into_iter().filter_map(|(cache, id)| Some((open(&cache)?, id))).collect();
        if self.settings.heed_the_dead {
            // Also those of whom only a late message told.
            let theirs = self.openings.iter().filter(|theirs| theirs.process == other);
            known.extend(theirs.filter_map(|theirs| Some((here.open[usize::from(theirs.cache)]?, theirs.id))));
        }
        known.sort_unstable();
        known.dedup();
        known
    }

    /// A process hears that another said good-bye, or that it will not return.
    pub(super) fn learn_of_leave(&mut self, process: usize, who: usize) -> Result<(), Violation> {
        if !self.processes[process].is_up() || self.processes[process].view_of(who) == View::Left {
            return Ok(());
        }
        self.trace(|| format!("n{process} hears that n{who} left"));
        self.processes[process].views.insert(who, View::Left);
        let gone = self.processes[process].membership.down(incarnation(who), true);
        self.tell_all_left(process, who, gone)
    }

    /// An operator says that a process will not return; one that is there all the same is met again.
    pub(super) fn forget_process(&mut self, process: usize, who: usize) -> Result<(), Violation> {
        let gone = self.processes[process].membership.forget(incarnation(who));
        if !gone.is_empty() {
            self.report.fault("forgotten by hand");
        }
        self.tell_all_left(process, who, gone)
    }

    fn tell_all_left(&mut self, process: usize, who: usize, gone: Vec<(String, ReplicaId)>) -> Result<(), Violation> {
        let known = self.known_on(process, who, gone);
        known.into_iter().try_for_each(|(number, id)| self.tell_left(number, id))
    }
}
