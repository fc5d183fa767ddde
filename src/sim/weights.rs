//! The relative frequencies of the actions of a run.

use fastrand::Rng;

/// The relative frequency of each kind of action.
#[derive(Clone, Debug)]
pub struct Weights(pub(super) Vec<(Kind, u32)>);

/// A kind of action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Write,
    WriteTtl,
    Delete,
    InvalidateAll,
    Fill,
    FillFor,
    Evict,
    Read,
    Audit,
    CloseCache,
    OpenCache,
    Forget,
    Crash,
    Restart,
    Return,
    Join,
    Leave,
    Pause,
    Resume,
    Cut,
    CutOneWay,
    BreakLink,
    SlowLink,
    Isolate,
    Split,
    HealLinks,
    StepClock,
    Far,
    FreezeClock,
    Idle,
}

impl Weights {
    /// Returns weights for writes and deletes only, without faults.
    pub(super) fn calm() -> Self {
        Self(vec![(Kind::Write, 10), (Kind::Delete, 4), (Kind::Idle, 1)])
    }

    pub(super) fn set(&mut self, kind: Kind, weight: u32) {
        self.0.retain(|(other, _)| *other != kind);
        self.0.push((kind, weight));
    }
    /// Picks a kind of action at random.
    pub(super) fn pick(&self, rng: &mut Rng) -> Kind {
        let total = self.0.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.u32(0..total);
        let kind = self.0.iter().find(|(_, weight)| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        kind.map_or(Kind::Idle, |(kind, _)| *kind)
    }
}
