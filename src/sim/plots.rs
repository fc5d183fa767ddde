//! Scripts for what chance finds too rarely. Each plot is the outline of a schedule that once broke a promise: who does what
//! is fixed, how long it takes and what else happens is left to chance.

use fastrand::Rng;

use super::action::{Action, Step};

/// The outline of a script. The comments name the nodes by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plot {
    /// 3 deletes what 1 has written. Only 0 hears of it, which has evicted the value and dropped younger tombstones by force.
    DeleteHeardByOne,
    /// 3 is new and holds what a crashed one wrote by a slow clock. It is reconciled by 1, which has evicted the newer one, and by 2, which holds it.
    TwoReconciles,
    /// 0 was alone and has evicted something. 1 takes over its eviction floor and doubts a value of which 0 holds an older one.
    DoubtBetweenTwo,
    /// A fill of 0 comes to 1 after 0 was forgotten, and with it a delete that was issued after the fill began.
    FillOfTheForgotten,
    /// 0 hears of a write of 1 that waits for the one before it, while a fill of 0 runs.
    WriteHeardOf,
    /// 3 deletes and leaves, while 0 and 2 hear each other by way of 1 only.
    LeftBehindALink,
    /// 2 is out of reach and not forgotten, and has written. A newcomer, who never met it, collects a tombstone.
    MetByOthersOnly,
    /// A newcomer comes to three nodes, of which 0 has a clock that is an hour ahead.
    FastMember,
}

/// A key that the plots are about, and others for their surroundings.
const KEY: u16 = 7;
const OTHER: u16 = 8;
const THIRD: u16 = 9;

impl Plot {
    const ALL: [Self; 8] = [
        Self::DeleteHeardByOne,
        Self::TwoReconciles,
        Self::DoubtBetweenTwo,
        Self::FillOfTheForgotten,
        Self::WriteHeardOf,
        Self::LeftBehindALink,
        Self::MetByOthersOnly,
        Self::FastMember,
    ];

    pub(super) fn any(rng: &mut Rng) -> Self {
        Self::ALL[rng.usize(0..Self::ALL.len())]
    }

    /// Its steps, with milliseconds before each. Longer waits are give or take a quarter.
    pub(super) fn steps(self, rng: &mut Rng) -> Vec<Step> {
        let steps = match self {
            Self::DeleteHeardByOne => delete_heard_by_one(),
            Self::TwoReconciles => two_reconciles(),
            Self::DoubtBetweenTwo => doubt_between_two(),
            Self::FillOfTheForgotten => fill_of_the_forgotten(),
            Self::WriteHeardOf => write_heard_of(),
            Self::LeftBehindALink => left_behind_a_link(),
            Self::MetByOthersOnly => met_by_others_only(),
            Self::FastMember => fast_member(),
        };
        let mut about = |wait: u32| if wait < 50 { wait } else { rng.u32(wait - wait / 4..=wait + wait / 4) };
        steps.into_iter().map(|(wait, action)| Step::after_millis(about(wait), action)).collect()
    }
}

type Steps = Vec<(u32, Action)>;

fn delete_heard_by_one() -> Steps {
    vec![
        (3_000, Action::Write(1, KEY, 0)),
        (2_000, Action::Isolate(3)),
        (20, Action::Delete(3, KEY)),
        (1_500, Action::Evict(0, KEY)),
        (20, Action::Delete(1, OTHER)),
        (20, Action::Delete(1, THIRD)),
        (1_000, Action::HealLinks),
        (0, Action::Split(0b1001)),
        (4_000, Action::Crash(3)),
        (0, Action::HealLinks),
        (3_000, Action::Wait),
    ]
}

fn two_reconciles() -> Steps {
    vec![
        (3_000, Action::Join),
        (0, Action::Join),
        (0, Action::Split(0b1_1000)),
        (0, Action::StepClock(4, -500)),
        (1_500, Action::Write(4, KEY, 0)),
        (20, Action::Write(0, KEY, 0)),
        (400, Action::Crash(4)),
        (2_000, Action::Write(0, THIRD, 0)),
        (20, Action::Delete(0, THIRD)),
        (6_000, Action::Evict(1, KEY)),
        // Who has evicted something leaves a newcomer to others for three digest intervals.
        (1_000, Action::HealLinks),
        (0, Action::Split(0b0101)),
        (0, Action::SlowLink(3, 1)),
        (900, Action::HealLinks),
        (0, Action::SlowLink(3, 1)),
        (0, Action::Cut(0, 3)),
        (0, Action::Cut(0, 1)),
        (0, Action::Cut(1, 2)),
        (4_000, Action::HealLinks),
        (3_000, Action::Wait),
    ]
}

fn doubt_between_two() -> Steps {
    vec![
        (20, Action::Join),
        (0, Action::Join),
        (0, Action::Isolate(0)),
        (3_000, Action::Write(1, THIRD, 0)),
        (20, Action::Delete(1, THIRD)),
        (5_000, Action::Write(0, KEY, 0)),
        (100, Action::Write(1, KEY, 0)),
        (100, Action::Write(0, OTHER, 0)),
        (0, Action::Evict(0, OTHER)),
        (100, Action::HealLinks),
        (0, Action::Cut(0, 2)),
        (8_000, Action::Wait),
    ]
}

fn fill_of_the_forgotten() -> Steps {
    vec![
        (0, Action::StepClock(1, -500)),
        (3_000, Action::Latency(15_000)),
        (0, Action::Write(0, KEY, 0)),
        (0, Action::Fill(0, KEY, 500)),
        (20, Action::Delete(1, KEY)),
        (600, Action::Crash(0)),
        (0, Action::Latency(1)),
        (20_000, Action::Wait),
    ]
}

fn write_heard_of() -> Steps {
    vec![
        (0, Action::StepClock(1, -100)),
        (3_000, Action::CutOneWay(0, 1)),
        (0, Action::Write(0, KEY, 0)),
        (0, Action::Fill(0, KEY, 1_500)),
        (10, Action::Delete(1, KEY)),
        (10, Action::CutOneWay(1, 0)),
        (0, Action::Delete(1, OTHER)),
        (200, Action::HealLinks),
        (0, Action::CutOneWay(0, 1)),
        (0, Action::Write(1, KEY, 0)),
        (10, Action::Cut(0, 1)),
        (2_000, Action::HealLinks),
    ]
}

fn left_behind_a_link() -> Steps {
    let mut steps = vec![(3_000, Action::BreakLink(0, 2))];
    for key in [KEY, OTHER, THIRD] {
        steps.extend([(10, Action::Write(3, key, 0)), (10, Action::Delete(3, key))]);
    }
    steps.extend([(5, Action::Leave(3)), (3_000, Action::Wait)]);
    steps
}

fn met_by_others_only() -> Steps {
    vec![
        (3_000, Action::Isolate(2)),
        (20, Action::Write(2, KEY, 0)),
        (2_000, Action::Join),
        (0, Action::Isolate(2)),
        (1_000, Action::Write(0, OTHER, 0)),
        (20, Action::Delete(0, OTHER)),
        (5_000, Action::HealLinks),
        (3_000, Action::Wait),
    ]
}

fn fast_member() -> Steps {
    vec![
        (0, Action::StepClock(0, 3_600_000)),
        (3_000, Action::Join),
        (5_000, Action::Write(3, KEY, 0)),
        (2_000, Action::Wait),
    ]
}
