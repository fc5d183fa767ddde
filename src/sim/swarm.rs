//! What a seed stands for (swarm testing, Groce et al. 2012): every run has other rates, many of them zero, so that every
//! mixture of few faults gets its turn.

use std::time::Duration;

use fastrand::Rng;

use super::action::{Action, Step};
use super::plots::Plot;
use super::settings::{Settings, millis};
use super::weights::{Kind, Weights};
use crate::replica::{Bugs, ReplicaConfig};

const DAY: Duration = Duration::from_secs(86_400);

impl Settings {
    /// The settings that a seed stands for.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self::special(seed, true)
    }

    /// The same for seeds from before there were plots: what they stood for then.
    #[must_use]
    pub fn without_plots(seed: u64) -> Self {
        Self::special(seed, false)
    }

    fn special(seed: u64, plots: bool) -> Self {
        let mut settings = Self::common(&mut Rng::with_seed(seed));
        settings.make_special(&mut Rng::with_seed(seed ^ 0x005E_C1A1), plots);
        settings
    }

    /// What takes long is rare.
    fn make_special(&mut self, rng: &mut Rng, plots: bool) {
        match rng.u8(0..64) {
            0 => {
                // Sessions of many frames.
                (self.keys, self.caches, self.replicas) = (150, 1, self.replicas.min(3));
                self.config.max_frame_bytes = 1_024;
                self.weights.set(Kind::Write, 400);
                self.gap = self.gap.min(millis(50));
            }
            1 => {
                // More than pushes go to directly.
                (self.replicas, self.caches, self.actions) = (18, 1, 60);
                self.config.broadcast_up_to = 16;
                self.keys = self.keys.min(3);
            }
            2..6 => self.wrong_clocks = pick(rng, &[millis(2_000), millis(60_000), DAY, 3 * DAY]),
            6..14 => {
                self.weights.set(Kind::BreakLink, 6);
                self.replicas = self.replicas.max(3);
                self.stays_broken = rng.bool();
            }
            14..18 => self.weights.set(Kind::Far, 3),
            18..22 => self.other_types = true,
            30..34 => {
                self.weights.set(Kind::Audit, 10);
                self.config.audit_slice = 2;
            }
            22..30 if plots => *self = Self::for_plot(Plot::any(rng), self.weights.clone()),
            _ => {}
        }
    }

    fn common(rng: &mut Rng) -> Self {
        let drift = pick(rng, &[50, 200, 1_000]);
        Self {
            replicas: rng.u8(2..=5),
            caches: pick(rng, &[1, 1, 1, 1, 2, 3]),
            keys: pick(rng, &[1, 2, 3, 5, 8, 13, 20]),
            actions: 250,
            config: config(rng, drift),
            max_capacity: pick(rng, &[None, None, None, None, None, None, Some(3), Some(10)]),
            time_to_live: pick(rng, &[None, None, None, None, None, None, None, Some(millis(20_000))]),
            suspect_after: millis(pick(rng, &[300, 1_000, 4_000])),
            skew: millis(pick(rng, &[0, 1, drift / 4, drift / 4])),
            drift_ppm: pick(rng, &[0, 0, 50, 1_000]),
            wrong_clocks: Duration::ZERO,
            latency: millis(pick(rng, &[1, 5, 50, 400])),
            tail_one_in: pick(rng, &[0, 0, 50, 10]),
            tail: millis(pick(rng, &[500, 5_000, 30_000])),
            loss: pick(rng, &[0, 0, 1, 5, 30]),
            duplicate: pick(rng, &[0, 0, 2, 10, 50]),
            bandwidth: pick(rng, &[None, None, Some(5_000), Some(50_000), Some(500_000)]),
            sending: millis(pick(rng, &[0, 1, 20, 300])),
            pause_drops: rng.bool(),
            heed_the_dead: rng.bool(),
            stays_broken: false,
            other_types: false,
            plot: None,
            bugs: Bugs::default(),
            weights: weights(rng),
            gap: millis(pick(rng, &[5, 50, 300, 1_500])),
        }
    }

    /// The same, bent towards lost tombstones: few keys, tiny caps, many deletes, splits and crashes.
    #[must_use]
    pub fn harsh(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed ^ 0x004A_2581);
        let mut settings = Self::from_seed(seed);
        settings.plot = None;
        settings.replicas = rng.u8(3..=5);
        settings.keys = pick(rng, &[1, 2, 3, 6]);
        settings.config.max_tombstones = pick(rng, &[1, 1, 2, 1_000_000]);
        settings.config.max_retired = 4_096;
        settings.config.forget_after = settings.config.gc_grace.max(millis(pick(rng, &[1_000, 5_000])));
        settings.gap = millis(pick(rng, &[50, 300, 1_500]));
        let mut weights =
            vec![(Kind::Write, 60), (Kind::Delete, 60), (Kind::HealLinks, pick(rng, &[5, 15])), (Kind::Idle, 5)];
        let mut maybe = |kind, choices: &[u32]| weights.push((kind, pick(rng, choices)));
        maybe(Kind::Fill, &[0, 0, 20]);
        maybe(Kind::Evict, &[0, 0, 20]);
        maybe(Kind::Crash, &[1, 3, 6]);
        maybe(Kind::Join, &[1, 3, 6]);
        maybe(Kind::Split, &[5, 15]);
        maybe(Kind::Isolate, &[0, 10]);
        maybe(Kind::Cut, &[0, 20]);
        maybe(Kind::CutOneWay, &[0, 20]);
        settings.weights = Weights(weights);
        settings
    }

    /// The same without any fault.
    #[must_use]
    pub fn calm(mut self) -> Self {
        self.loss = 0;
        self.duplicate = 0;
        self.tail_one_in = 0;
        self.drift_ppm = 0;
        self.bandwidth = None;
        self.max_capacity = None;
        self.weights = Weights::calm();
        self.wrong_clocks = Duration::ZERO;
        self.stays_broken = false;
        self.other_types = false;
        self.plot = None;
        self.config.max_tombstones = 1_000_000;
        self
    }

    /// The actions of the safety phase.
    #[must_use]
    pub fn script(&self, seed: u64) -> Vec<Step> {
        let rng = &mut Rng::with_seed(seed ^ 0x5C21_97AC_7105);
        let plot = self.plot.map(|plot| plot.steps(rng)).unwrap_or_default();
        plot.into_iter().chain((0..self.actions).map(|_| self.step(rng))).collect()
    }

    fn step(&self, rng: &mut Rng) -> Step {
        let gap = self.gap.as_micros() as u32;
        // Bursts and lulls.
        let after = if rng.u8(0..4) == 0 { rng.u32(0..=gap) } else { rng.u32(0..=gap / 16) };
        Step { after, action: self.action(rng) }
    }

    /// Never zero, so that a script can be made of any settings.
    fn all_keys(&self) -> u16 {
        self.keys.saturating_mul(self.caches.into()).max(1)
    }

    fn action(&self, rng: &mut Rng) -> Action {
        let total = self.weights.0.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.u32(0..total);
        let kind = self.weights.0.iter().find(|(_, weight)| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        self.action_of(kind.map_or(Kind::Idle, |(kind, _)| *kind), rng)
    }

    fn action_of(&self, kind: Kind, rng: &mut Rng) -> Action {
        let (node, other, key) = (rng.u8(..), rng.u8(..), rng.u16(..) % self.all_keys());
        let drift = self.config.max_drift.as_millis() as i32;
        match kind {
            Kind::Write => Action::Write(node, key, 0),
            Kind::WriteTtl => Action::Write(node, key, rng.u32(1..20_000)),
            Kind::Delete => Action::Delete(node, key),
            Kind::InvalidateAll => Action::InvalidateAll(node, other),
            Kind::Fill => Action::Fill(node, key, pick(rng, &[1, 20, 500, 5_000])),
            Kind::FillFor => Action::FillFor(node, key, pick(rng, &[1, 500, 5_000, 20_000])),
            Kind::Evict => Action::Evict(node, key),
            Kind::Read => Action::Read(node, key),
            Kind::Audit => Action::Audit(node, other),
            Kind::CloseCache => Action::CloseCache(node, other),
            Kind::OpenCache => Action::OpenCache(node, other),
            Kind::Forget => Action::Forget(node, other),
            Kind::Crash => Action::Crash(node),
            Kind::Restart => Action::Restart(node),
            Kind::Return => Action::Return,
            Kind::Join => Action::Join,
            Kind::Leave => Action::Leave(node),
            Kind::Pause => Action::Pause(node),
            Kind::Resume => Action::Resume,
            Kind::Cut => Action::Cut(node, other),
            Kind::CutOneWay => Action::CutOneWay(node, other),
            Kind::BreakLink => Action::BreakLink(node, other),
            Kind::SlowLink => Action::SlowLink(node, other),
            Kind::Isolate => Action::Isolate(node),
            Kind::Split => Action::Split(other),
            Kind::HealLinks => Action::HealLinks,
            Kind::StepClock => {
                let far = pick(rng, &[drift / 4, drift, 4 * drift, 20_000]).max(1);
                Action::StepClock(node, rng.i32(-far..=far))
            }
            Kind::Far => {
                let far = pick(rng, &[60_000, 3_600_000, 86_400_000, 3 * 86_400_000]);
                Action::StepClock(node, rng.i32(-far..=far))
            }
            Kind::FreezeClock => Action::FreezeClock(node, rng.bool()),
            Kind::Idle => Action::Wait,
        }
    }
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(0..from.len())]
}

fn config(rng: &mut Rng, drift: u32) -> ReplicaConfig {
    let grace = pick(rng, &[0, 300, 2_000, 10_000]);
    let forget = grace.max(pick(rng, &[1_000, 5_000, 60_000, 900_000]));
    ReplicaConfig {
        max_drift: millis(drift),
        digest_interval: millis(pick(rng, &[100, 300, 1_000])),
        gc_grace: millis(grace),
        forget_after: millis(forget),
        max_tombstones: pick(rng, &[1, 2, 5, 1_000_000, 1_000_000, 1_000_000]),
        max_frame_bytes: pick(rng, &[1_024, 1_024, 2_048, 256 * 1_024]),
        max_deferred: pick(rng, &[2, 4_096, 4_096]),
        max_retained_bytes: pick(rng, &[0, 500, 64 << 20]),
        max_retired: pick(rng, &[1, 3, 4_096, 4_096]),
        repair_delay: millis(pick(rng, &[10, 50])),
        session_idle: millis(pick(rng, &[300, 3_000])),
        session_deadline: millis(pick(rng, &[5_000, 120_000])),
        fill_hold: millis(pick(rng, &[1_000, 30_000])),
        broadcast_up_to: pick(rng, &[1, 2, 16, 16]),
        fanout: pick(rng, &[1, 2, 4]),
        audit_interval: millis(pick(rng, &[0, 1_000, 10_000])),
        ..ReplicaConfig::default()
    }
}

fn weights(rng: &mut Rng) -> Weights {
    let mut weights = vec![(Kind::Write, 100), (Kind::Idle, 5)];
    let mut maybe = |kind, choices: &[u32]| weights.push((kind, pick(rng, choices)));
    maybe(Kind::WriteTtl, &[0, 0, 10, 40]);
    maybe(Kind::Delete, &[0, 20, 50, 100]);
    maybe(Kind::InvalidateAll, &[0, 0, 0, 1, 3]);
    maybe(Kind::Fill, &[0, 0, 10, 60]);
    maybe(Kind::FillFor, &[0, 0, 0, 20]);
    maybe(Kind::Evict, &[0, 0, 10, 60]);
    maybe(Kind::Read, &[0, 20]);
    maybe(Kind::CloseCache, &[0, 0, 0, 2, 6]);
    maybe(Kind::OpenCache, &[5, 10]);
    maybe(Kind::Forget, &[0, 0, 0, 2]);
    maybe(Kind::SlowLink, &[0, 0, 0, 5]);
    maybe(Kind::Crash, &[0, 0, 1, 3]);
    maybe(Kind::Restart, &[0, 0, 1, 5]);
    maybe(Kind::Return, &[0, 2, 5]);
    maybe(Kind::Join, &[0, 0, 1, 5]);
    maybe(Kind::Leave, &[0, 0, 1, 3]);
    maybe(Kind::Pause, &[0, 0, 2, 5]);
    maybe(Kind::Resume, &[1, 5]);
    maybe(Kind::Cut, &[0, 0, 5, 15]);
    maybe(Kind::CutOneWay, &[0, 0, 5, 15]);
    maybe(Kind::Isolate, &[0, 0, 3, 10]);
    maybe(Kind::Split, &[0, 0, 3, 10]);
    maybe(Kind::HealLinks, &[2, 8, 20]);
    maybe(Kind::StepClock, &[0, 0, 0, 2, 10]);
    maybe(Kind::FreezeClock, &[0, 0, 0, 2]);
    Weights(weights)
}
