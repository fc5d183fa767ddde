//! Outlines of scripts for failures that random scripts find too rarely. Each plot is the outline of a schedule that
//! once broke a promise. Its actions and nodes are fixed. Delays and the actions after it are drawn at random.

use fastrand::Rng;

use super::action::{Action, Step};

/// The outline of a script. The comments name the nodes by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plot {
    /// A delete that one node knows. Node 3 deletes a value of node 1. Only node 0 receives the delete, after it has
    /// evicted the value and dropped newer tombstones by force.
    DeleteHeardByOne,
    /// Two reconciles of a new node. Node 3 holds the value that crashed node 4 wrote by a slow clock. It is reconciled
    /// by node 1, which has evicted the newer value, and by node 2, which holds the newer value.
    TwoReconciles,
    /// A doubt between two members. Node 0 was alone and has evicted something. Node 1 takes over its eviction floor
    /// and doubts a value of which node 0 holds an older one.
    DoubtBetweenTwo,
    /// A fill of a forgotten member. It comes to node 1 after node 0 was forgotten, together with a delete that was
    /// issued after the fill began.
    FillOfTheForgotten,
    /// A received write that is not merged. Node 0 receives a write of node 1 that waits for its predecessor, while a
    /// fill of node 0 runs.
    WriteHeardOf,
    /// A departure behind a broken link. Node 3 deletes and leaves, while nodes 0 and 2 reach each other only through
    /// node 1.
    LeftBehindALink,
    /// A member that the newcomer has not met. Node 2 has written, and is unreachable but not forgotten. The newcomer
    /// collects a tombstone.
    MetByOthersOnly,
    /// A member with a fast clock. A newcomer joins three nodes, and the clock of node 0 is an hour ahead.
    FastMember,
}

/// The key that a plot is about. The next two keys are for the surrounding events.
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

    /// Returns the steps of the plot. Waits of 50 ms and more vary at random by up to a quarter.
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
        // A replica that has evicted leaves a newcomer to other members for three digest intervals.
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
