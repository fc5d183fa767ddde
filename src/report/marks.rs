//! What nodes hold for a key, without its value: to be compared and explained.

use serde::{Deserialize, Serialize};

use super::time::readable;
use crate::crdt::{Cause, Kind};
use crate::hlc::{HlcTime, Stamp};
use crate::learnt::LearntBy;
use crate::replica_id::ReplicaId;

/// A register without its value, as nodes tell each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub(crate) key: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) stamp: Stamp,
    pub(crate) origin: ReplicaId,
    pub(crate) dot: HlcTime,
    pub(crate) expires: HlcTime,
    pub(crate) size: u32,
    /// Of the encoded value, if asked for.
    pub(crate) hash: Option<u64>,
    /// When it came there, by the clock there.
    #[serde(default)]
    pub(crate) learnt_at: HlcTime,
    #[serde(default)]
    pub(crate) learnt_by: Option<LearntBy>,
}

/// Registers of one replica, and how far it has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    pub(crate) replica: Option<ReplicaId>,
    pub(crate) wall: HlcTime,
    pub(crate) lossy: bool,
    /// The highest stamp removed without a trace.
    pub(crate) floor: HlcTime,
    pub(crate) epoch: HlcTime,
    pub(crate) vector: Vec<(ReplicaId, HlcTime)>,
    /// In the order of the question; nothing for a key that is not known.
    pub(crate) marks: Vec<Option<Mark>>,
}

impl Marks {
    pub(crate) fn seen(&self, origin: &ReplicaId) -> HlcTime {
        self.vector.iter().find(|(id, _)| id == origin).map_or(0, |(_, time)| *time)
    }

    fn covers(&self, mark: &Mark) -> bool {
        self.seen(&mark.origin) >= mark.dot
    }

    /// What a reader there is given.
    pub(crate) fn state(&self, mark: Option<&Mark>) -> State {
        let Some(mark) = mark else { return State::Unknown };
        if mark.stamp.time <= self.epoch {
            return State::Invalidated;
        }
        match Kind::from_code(mark.kind) {
            Some(Kind::Live) if mark.expires != 0 && mark.expires <= self.wall => State::Expired,
            Some(Kind::Live) => State::Live,
            Some(Kind::Tombstone(Cause::Deleted)) => State::Deleted,
            Some(Kind::Tombstone(Cause::Expired)) => State::Expired,
            Some(Kind::Tombstone(Cause::Evicted)) => State::Evicted,
            Some(Kind::Tombstone(Cause::Void)) => State::Void,
            None => State::Unknown,
        }
    }
}

/// What a node holds for a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum State {
    /// Nothing is known: never heard of, or its tombstone was collected.
    #[default]
    Unknown,
    /// A value.
    Live,
    /// It was removed.
    Deleted,
    /// Its time to live ended.
    Expired,
    /// It was given up there to stay within capacity.
    Evicted,
    /// It came after something newer may have been collected.
    Void,
    /// `invalidate_all` came after it.
    Invalidated,
}

/// What one node holds for a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// The node.
    pub node: String,
    /// Its replica of the cache.
    pub replica: String,
    /// A value, or why not.
    pub state: State,
    /// When it was written: what decides.
    pub stamp: Option<String>,
    /// The same in nanoseconds since 1970, as text: it does not fit a JavaScript number.
    pub stamp_nanos: Option<String>,
    /// The replica that wrote it.
    pub writer: Option<String>,
    /// The node of that replica, if known.
    pub writer_node: Option<String>,
    /// When it expires.
    pub expires: Option<String>,
    /// Encoded bytes of key and value.
    pub size: Option<u32>,
    /// A hash of the encoded value, the same on every node.
    pub value_hash: Option<String>,
    /// When it came to this node, by its clock, to ten milliseconds.
    #[serde(default)]
    pub learnt: Option<String>,
    /// By which path it came.
    #[serde(default)]
    pub learnt_by: Option<LearntBy>,
    /// Why this is what it holds, as far as is known.
    pub why: String,
}

/// Whether nodes agree on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Agreement {
    /// Every node that answered gives its readers the same.
    Agree,
    /// They differ, and why is known: on its way, evicted, or expired by one clock and not the other.
    Explained,
    /// They differ without a reason that is known here.
    Disagree,
}

/// What every node holds for a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The cache.
    pub cache: String,
    /// The key.
    pub key: String,
    /// By node, this one first.
    pub nodes: Vec<Held>,
    /// Live nodes that did not answer in time, or that do not have the cache open.
    pub silent: Vec<String>,
    /// Whether those that answered agree.
    pub agreement: Agreement,
    /// The winner, in words.
    pub verdict: String,
    /// The value here, only if values may be shown.
    pub value: Option<String>,
}

/// How two nodes differ on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// A value here and none there.
    OnlyHere,
    /// A value there and none here.
    OnlyThere,
    /// Two values.
    Differs,
}

/// A key on which two nodes differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// The key.
    pub key: String,
    /// How.
    pub kind: DifferenceKind,
    /// What is here.
    pub here: State,
    /// What is there.
    pub there: State,
    /// The stamp here.
    pub stamp_here: Option<String>,
    /// The stamp there.
    pub stamp_there: Option<String>,
    /// The reason, if one is known.
    pub reason: Option<String>,
    #[serde(skip)]
    pub(crate) raw: Vec<u8>,
}

/// A part of the comparison of two nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DiffPage {
    /// The other node.
    pub peer: String,
    /// Keys looked at in this part.
    pub examined: u64,
    /// Those on which the nodes differ.
    pub differences: Vec<Difference>,
    /// Where to go on; absent at the end.
    pub next: Option<String>,
    /// The replica that the member compared.
    #[serde(skip)]
    pub(crate) replica: Option<ReplicaId>,
}

/// Compares what two replicas give their readers for one key. Returns nothing if it is the same.
pub(crate) fn explain_difference(ours: (&Marks, Option<&Mark>), theirs: (&Marks, Option<&Mark>)) -> Option<Difference> {
    let (here, there) = (ours.0.state(ours.1), theirs.0.state(theirs.1));
    let stamps = (ours.1.map(|mark| mark.stamp), theirs.1.map(|mark| mark.stamp));
    let kind = match (here, there) {
        (State::Live, State::Live) if stamps.0 == stamps.1 => return None,
        (State::Live, State::Live) => DifferenceKind::Differs,
        (State::Live, _) => DifferenceKind::OnlyHere,
        (_, State::Live) => DifferenceKind::OnlyThere,
        _ => return None,
    };
    let key = ours.1.or(theirs.1).map(|mark| mark.key.clone())?;
    Some(Difference {
        key: super::show(&key),
        kind,
        here,
        there,
        stamp_here: stamps.0.map(|stamp| readable(stamp.time)),
        stamp_there: stamps.1.map(|stamp| readable(stamp.time)),
        reason: reason(ours, theirs, "there").or_else(|| reason(theirs, ours, "here")),
        raw: key,
    })
}

/// Why the second holds something else than the first has to offer.
fn reason(from: (&Marks, Option<&Mark>), to: (&Marks, Option<&Mark>), place: &str) -> Option<String> {
    let offered = from.1?;
    if !to.0.covers(offered) && to.1.is_none_or(|held| held.stamp < offered.stamp) {
        let behind = offered.dot.saturating_sub(to.0.seen(&offered.origin)) / 1_000_000;
        return Some(format!("on its way: {place} that writer's events are known up to {behind} ms before this one"));
    }
    match to.0.state(to.1) {
        State::Evicted => Some(format!("given up {place} to stay within capacity")),
        State::Expired => Some(format!("its time to live has ended by the clock {place}")),
        State::Void => Some(format!("voided {place}: something newer may have been collected")),
        State::Unknown if to.0.lossy && to.0.covers(offered) => {
            Some(format!("not kept {place}: that node has given up values to stay within its limits"))
        }
        _ => None,
    }
}

/// Says in words why this replica holds what it holds, given the greatest register that any has.
pub(crate) fn explain_why(all: &Marks, mark: Option<&Mark>, winner: Option<&Mark>) -> String {
    let Some(winner) = winner else { return "nobody asked has heard of it, or its tombstone was collected".into() };
    if mark.is_some_and(|mark| mark.stamp == winner.stamp) {
        return match all.state(mark) {
            State::Live => "has the newest write that is known".into(),
            State::Evicted => "had the newest write and gave up its value to stay within capacity".into(),
            State::Invalidated => "has the newest write, but everything up to then was invalidated".into(),
            State::Expired => "has the newest write, whose time to live has ended".into(),
            State::Void => "has it marked void: it came after something newer may have been collected".into(),
            State::Deleted | State::Unknown => "has the newest event that is known: the delete".into(),
        };
    }
    let seen = all.seen(&winner.origin);
    if seen < winner.dot {
        let behind = (winner.dot - seen) / 1_000_000;
        return format!(
            "lacks the newest write: it has seen that writer up to {}, {behind} ms before it; the write is on its way",
            readable(seen)
        );
    }
    if winner.stamp.time <= all.epoch {
        return "everything up to then was invalidated here".into();
    }
    if winner.stamp.time <= all.floor {
        return "has seen it and removed it without a trace: collected, or given up".into();
    }
    if all.lossy {
        return "has seen it and no longer holds it: it has given up values to stay within its limits".into();
    }
    "has seen the newest write and holds something else: no reason is known".into()
}
