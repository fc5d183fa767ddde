//! The network between the nodes: it delays, loses, doubles, reorders and cuts.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::settings::Settings;

/// Which links are cut, and what happens to messages on the others.
#[derive(Debug)]
pub(super) struct Network {
    rng: Rng,
    cut: BTreeSet<(usize, usize)>,
    latency: u64,
    tail_one_in: u32,
    tail: u64,
    loss: u8,
    duplicate: u8,
    sending: u64,
}

impl Network {
    pub(super) fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            cut: BTreeSet::new(),
            latency: settings.latency.as_nanos() as u64,
            tail_one_in: settings.tail_one_in,
            tail: settings.tail.as_nanos() as u64,
            loss: settings.loss,
            duplicate: settings.duplicate,
            sending: settings.sending.as_nanos() as u64,
        }
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    pub(super) fn cut_one_way(&mut self, from: usize, to: usize) {
        if from != to {
            self.cut.insert((from, to));
        }
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    pub(super) fn heal_links(&mut self) {
        self.cut.clear();
    }

    /// No fault of any kind from now on.
    pub(super) fn heal(&mut self) {
        self.heal_links();
        self.loss = 0;
        self.duplicate = 0;
        self.tail_one_in = 0;
        self.latency = self.latency.min(50_000_000);
        self.sending = self.sending.min(20_000_000);
    }

    pub(super) fn set_latency(&mut self, nanos: u64) {
        self.latency = nanos;
    }

    pub(super) fn set_loss(&mut self, percent: u8) {
        self.loss = percent.min(100);
    }

    pub(super) fn set_duplicate(&mut self, percent: u8) {
        self.duplicate = percent.min(100);
    }

    pub(super) fn loses(&mut self) -> bool {
        self.loss > 0 && self.rng.u8(0..100) < self.loss
    }

    pub(super) fn duplicates(&mut self) -> bool {
        self.duplicate > 0 && self.rng.u8(0..100) < self.duplicate
    }

    /// How long the next message takes.
    pub(super) fn delay(&mut self) -> u64 {
        let slow = self.tail_one_in > 0 && self.rng.u32(0..self.tail_one_in) == 0;
        100_000 + self.rng.u64(0..=if slow { self.tail } else { self.latency })
    }

    /// How long until the sender of a large message may send the next.
    pub(super) fn sending(&mut self) -> u64 {
        self.rng.u64(0..=self.sending)
    }

    /// A delay of something that is not a message.
    pub(super) fn jitter(&mut self, up_to: u64) -> u64 {
        self.rng.u64(0..=up_to)
    }
}
