//! Random choices of a run (swarm testing, Groce et al. 2012). Every run has different rates, many of them zero, so
//! that every combination of few faults is tested. [`Settings`](super::settings::Settings) combines the draws.

use std::time::Duration;

use fastrand::Rng;

use super::action::{Action, Step};
use super::weights::{Kind, Weights};
use crate::replica::ReplicaConfig;

/// The source of the random steps of a script.
pub(super) struct StepSource<'a> {
    pub(super) weights: &'a Weights,
    /// The number of keys of all caches together, at least one.
    pub(super) keys: u16,
    /// The longest time before a step, in microseconds.
    pub(super) gap: u32,
    /// The `max_drift` of the replicas, in milliseconds.
    pub(super) drift: i32,
}

impl StepSource<'_> {
    /// Draws the next step.
    pub(super) fn step(&self, rng: &mut Rng) -> Step {
        // A quarter of the gaps is drawn from the full range, the rest from a sixteenth of it: bursts and lulls.
        let after = if rng.u8(0..4) == 0 { rng.u32(0..=self.gap) } else { rng.u32(0..=self.gap / 16) };
        let kind = self.weights.pick(rng);
        Step { after, action: self.action_of(kind, rng) }
    }

    fn action_of(&self, kind: Kind, rng: &mut Rng) -> Action {
        let (node, other, key) = (rng.u8(..), rng.u8(..), rng.u16(..) % self.keys);
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
                let far = pick(rng, &[self.drift / 4, self.drift, 4 * self.drift, 20_000]).max(1);
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

/// Draws one of the choices at random.
pub(super) fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(0..from.len())]
}

/// Draws the settings of every replica. `drift` is their `max_drift` in milliseconds.
pub(super) fn replica_config(rng: &mut Rng, drift: u32) -> ReplicaConfig {
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

/// Draws the relative frequency of each kind of action.
pub(super) fn weights(rng: &mut Rng) -> Weights {
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

/// Draws frequencies that make lost tombstones likely: many deletes, splits and crashes.
pub(super) fn harsh_weights(rng: &mut Rng) -> Weights {
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
    Weights(weights)
}

/// Returns a duration of this many milliseconds.
pub(super) fn millis(n: u32) -> Duration {
    Duration::from_millis(u64::from(n))
}
