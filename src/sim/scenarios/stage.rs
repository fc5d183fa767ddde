//! A cluster that a test drives step by step. Nodes have numbers in the order in which they started.

use std::sync::LazyLock;
use std::time::Duration;

use crate::replica::Counters;
use crate::sim::act;
use crate::sim::action::Action;
use crate::sim::advance;
use crate::sim::check::agreement;
use crate::sim::cluster::Cluster;
use crate::sim::inbound;
use crate::sim::process::Payload;
use crate::sim::settings::Settings;
use crate::sim::types::{Types, numbers};

static NUMBERS: LazyLock<Types<u16, String>> = LazyLock::new(numbers);

pub type Replica = crate::replica::Replica<u16, String>;

pub struct Stage {
    pub cluster: Cluster<'static, u16, String>,
}

impl Stage {
    /// Returns three nodes that have met, on a network without faults. `change` can change the settings.
    pub fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { keys: 20, ..Settings::default() };
        settings.config.session_idle = Duration::from_millis(300);
        change(&mut settings);
        let mut stage = Self { cluster: Cluster::new(&NUMBERS, settings, 1, false) };
        stage.wait(3_000);
        stage
    }

    /// Lets this many milliseconds pass, with all checks after every event.
    pub fn wait(&mut self, millis: u64) {
        let until = self.cluster.at + millis * 1_000_000;
        advance::to(&mut self.cluster, until).unwrap_or_else(|violation| panic!("{violation}"));
    }

    /// Advances the time in small steps until the condition `so` holds. Panics after a minute.
    pub fn wait_for(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        for _ in 0..240_000 {
            if so(self) {
                return;
            }
            let until = self.cluster.at + 250_000;
            advance::to(&mut self.cluster, until).unwrap_or_else(|violation| panic!("{violation}"));
        }
        panic!("not within a minute: {what}");
    }

    pub fn act(&mut self, action: Action) {
        act::perform(&mut self.cluster, action).unwrap_or_else(|violation| panic!("{violation}"));
    }

    /// Returns the number by which actions name a node: its index among the nodes that are up.
    pub fn at(&self, node: usize) -> u8 {
        self.cluster.up().iter().position(|up| *up == node).expect("a node that is up") as u8
    }

    /// Writes the next number, and returns it.
    pub fn write(&mut self, node: usize, key: u16) -> u64 {
        self.write_for(node, key, 0)
    }

    pub fn write_for(&mut self, node: usize, key: u16, millis: u32) -> u64 {
        let number = self.cluster.issued.writes;
        self.act(Action::Write(self.at(node), key, millis));
        number
    }

    pub fn delete(&mut self, node: usize, key: u16) {
        self.act(Action::Delete(self.at(node), key));
    }

    pub fn isolate(&mut self, node: usize) {
        self.act(Action::Isolate(self.at(node)));
    }

    pub fn heal(&mut self) {
        self.act(Action::HealLinks);
    }

    pub fn crash(&mut self, node: usize) {
        self.act(Action::Crash(self.at(node)));
    }

    fn opening(&self, node: usize) -> usize {
        self.cluster.processes[node].open[0].expect("a node that is up")
    }

    pub fn replica(&self, node: usize) -> &Replica {
        self.cluster.replica(self.opening(node))
    }

    pub fn counters(&self, node: usize) -> &Counters {
        self.replica(node).view().counters()
    }

    /// Returns the number that a reader on a node gets.
    pub fn get(&self, node: usize, key: u16) -> Option<u64> {
        let (_, held) = self.cluster.served(self.opening(node), key.into())?;
        held.item.value().and_then(|text| text.trim_end_matches('.').parse().ok())
    }

    /// Returns the wall time at which the register of a key on a node expires.
    pub fn expires(&self, node: usize, key: u16) -> Option<u64> {
        self.cluster.held(self.opening(node), key.into()).map(|held| held.meta.expires)
    }

    pub fn nodes(&self) -> Vec<usize> {
        self.cluster.up()
    }

    /// Returns the number that every node serves. Panics if the nodes differ.
    #[track_caller]
    pub fn everywhere(&self, key: u16) -> Option<u64> {
        let all: Vec<_> = self.nodes().into_iter().map(|node| self.get(node, key)).collect();
        assert!(all.windows(2).all(|two| two[0] == two[1]), "key {key} is {all:?}");
        all[0]
    }

    #[track_caller]
    pub fn agree(&self) {
        agreement::check(&self.cluster).unwrap_or_else(|violation| panic!("{violation}"));
    }

    #[track_caller]
    pub fn at_baseline(&self) {
        agreement::check_baseline(&self.cluster).unwrap_or_else(|violation| panic!("{violation}"));
    }

    /// Returns everything that was sent to a node since the stage keeps copies.
    pub fn copies_to(&self, node: usize) -> Vec<Payload> {
        let address = self.cluster.processes[node].address;
        self.cluster
            .course
            .copies
            .iter()
            .flatten()
            .filter(|(to, _)| *to == address)
            .map(|(_, copy)| copy.clone())
            .collect()
    }

    /// Sends copies to a node once more.
    pub fn replay(&mut self, node: usize, copies: &[Payload]) {
        for copy in copies {
            inbound::arrive(&mut self.cluster, node, copy.clone()).unwrap_or_else(|violation| panic!("{violation}"));
        }
    }
}
