//! The membership layer under the replicas: who is told of whom, and how late.

use super::cluster::{Cluster, Event};
use super::node::View;
use super::report::Violation;
use super::workload::Workload;

impl<W: Workload> Cluster<W> {
    /// One round of everybody's failure detector.
    pub(super) fn detect(&mut self) -> Result<(), Violation> {
        for node in self.up() {
            for other in 0..self.nodes.len() {
                if other != node {
                    self.look_at(node, other)?;
                }
            }
        }
        let round = self.settings.suspect_after.as_nanos() as u64 / 3;
        let after = round / 2 + self.network.jitter(round / 2);
        self.schedule(after, Event::Detector);
        Ok(())
    }

    fn look_at(&mut self, node: usize, other: usize) -> Result<(), Violation> {
        let view = self.nodes[node].views.get(&other).copied().unwrap_or_default();
        if self.reaches(node, other) {
            self.nodes[node].silent_since.remove(&other);
            return if view == View::Up { Ok(()) } else { self.learn_up(node, other) };
        }
        let at = self.at;
        let since = *self.nodes[node].silent_since.entry(other).or_insert(at);
        let given_up = at - since >= self.settings.suspect_after.as_nanos() as u64;
        match view {
            View::Up if given_up => self.learn_down(node, other),
            // A message that was under way when it went makes it look alive once more.
            View::Down | View::Left if self.believes_live(node, other) => self.learn_down(node, other),
            _ => Ok(()),
        }
    }

    fn believes_live(&self, node: usize, other: usize) -> bool {
        let id = self.nodes[other].id;
        self.nodes[node].replica.peers().any(|peer| peer.id == id && peer.live)
    }

    /// Directly, or through a third.
    fn reaches(&self, node: usize, other: usize) -> bool {
        let direct = |a: usize, b: usize| !self.network.is_cut(a, b) && !self.network.is_cut(b, a);
        let via = |third: usize| third != node && third != other && direct(node, third) && direct(third, other);
        self.nodes[other].is_up() && (direct(node, other) || self.up().into_iter().any(via))
    }

    fn learn_up(&mut self, node: usize, other: usize) -> Result<(), Violation> {
        self.trace(|| format!("n{node} finds n{other} up"));
        self.nodes[node].views.insert(other, View::Up);
        if let Some(old) = self.nodes[other].replaces
            && old != node
        {
            self.learn_of_leave(node, old)?;
        }
        let id = self.nodes[other].id;
        let at = self.nodes[node].now(self.at);
        self.nodes[node].replica.greet(at, id);
        self.settle(node)
    }

    fn learn_down(&mut self, node: usize, other: usize) -> Result<(), Violation> {
        self.trace(|| format!("n{node} finds n{other} down"));
        self.report.fault("found down");
        let left = self.nodes[node].views.get(&other) == Some(&View::Left);
        let id = self.nodes[other].id;
        let at = self.nodes[node].now(self.at);
        if left {
            self.nodes[node].replica.handle_member_left(at, id);
        } else {
            self.nodes[node].views.insert(other, View::Down);
            self.nodes[node].replica.handle_member_down(at, id);
        }
        self.settle(node)
    }

    /// A node hears that another said good-bye, or that it will not return.
    pub(super) fn learn_of_leave(&mut self, node: usize, who: usize) -> Result<(), Violation> {
        if !self.nodes[node].is_up() || self.nodes[node].views.get(&who) == Some(&View::Left) {
            return Ok(());
        }
        self.trace(|| format!("n{node} hears that n{who} left"));
        self.nodes[node].views.insert(who, View::Left);
        let id = self.nodes[who].id;
        let at = self.nodes[node].now(self.at);
        self.nodes[node].replica.handle_member_left(at, id);
        self.settle(node)
    }
}
