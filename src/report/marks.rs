//! Marks: registers without their values, which nodes exchange in order to compare and explain keys.

use serde::{Deserialize, Serialize};

use super::time::readable;
use crate::arrival::Provenance;
use crate::crdt::{Cause, Kind};
use crate::hlc::{HlcTime, Stamp};
use crate::replica_id::ReplicaId;

/// A register without its value, in the form that nodes exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub(crate) key: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) stamp: Stamp,
    pub(crate) origin: ReplicaId,
    pub(crate) dot: HlcTime,
    pub(crate) expires: HlcTime,
    pub(crate) size: u32,
    /// The hash of the encoded value, if it was requested.
    pub(crate) hash: Option<u64>,
    /// The time at which the register arrived on its node, by that node's clock.
    #[serde(default)]
    pub(crate) arrived_at: HlcTime,
    #[serde(default)]
    pub(crate) provenance: Option<Provenance>,
}

/// Registers of one replica, and the version vector of that replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    pub(crate) replica: Option<ReplicaId>,
    pub(crate) wall: HlcTime,
    pub(crate) lossy: bool,
    /// The highest stamp of a tombstone that was removed without a trace.
    pub(crate) floor: HlcTime,
    pub(crate) epoch: HlcTime,
    pub(crate) vector: Vec<(ReplicaId, HlcTime)>,
    /// The marks in the order of the requested keys. `None` for a key that the replica does not hold, or whose register
    /// changed while it was read.
    pub(crate) marks: Vec<Option<Mark>>,
}

impl Marks {
    pub(crate) fn seen(&self, origin: &ReplicaId) -> HlcTime {
        self.vector.iter().find(|(id, _)| id == origin).map_or(0, |(_, time)| *time)
    }

    fn covers(&self, mark: &Mark) -> bool {
        self.seen(&mark.origin) >= mark.dot
    }

    /// Returns the state of a key as a reader on that node sees it.
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

/// The state of a key on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum State {
    /// The node holds nothing: it never received the key, or it collected the tombstone.
    #[default]
    Unknown,
    /// The node holds a value.
    Live,
    /// The value was deleted.
    Deleted,
    /// The time to live of the value ended.
    Expired,
    /// The value was evicted on that node to stay within its capacity.
    Evicted,
    /// A tombstone stands in place of the write. Something newer may have been collected before the write arrived, or
    /// the write is a contested fill, or its value can no longer be encoded.
    Void,
    /// The write is older than an `invalidate_all`.
    Invalidated,
}

/// The register of one node for a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// The node.
    pub node: String,
    /// The replica of the cache on that node.
    pub replica: String,
    /// The state of the key: a value, or the reason why there is none.
    pub state: State,
    /// The time of the stamp. The register with the greatest stamp wins.
    pub stamp: Option<String>,
    /// The time of the stamp in nanoseconds since 1970, as text: it does not fit a JavaScript number.
    pub stamp_nanos: Option<String>,
    /// The replica that wrote it.
    pub writer: Option<String>,
    /// The node of that replica, if known.
    pub writer_node: Option<String>,
    /// The time at which the value expires.
    pub expires: Option<String>,
    /// The encoded size of key and value in bytes.
    pub size: Option<u32>,
    /// A hash of the encoded value. It is the same on every node.
    pub value_hash: Option<String>,
    /// The time at which the register arrived on this node, by its clock, with a resolution of ten milliseconds.
    #[serde(default)]
    pub arrival: Option<String>,
    /// The path by which the register arrived.
    #[serde(default)]
    pub provenance: Option<Provenance>,
    /// The reason why the node holds this, as far as it is known.
    pub why: String,
}

/// The agreement of nodes on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Agreement {
    /// Every node that answered returns the same to its readers.
    Agree,
    /// Nodes differ for a known reason: a write in transit, an eviction, or an expiry by one clock and not by another.
    Explained,
    /// Nodes differ, and this node knows no reason.
    Disagree,
}

/// The registers of all nodes for a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The cache.
    pub cache: String,
    /// The key.
    pub key: String,
    /// The registers by node, this node's first.
    pub nodes: Vec<Held>,
    /// The live nodes that did not answer in time or do not have the cache open, and the dead members that are not
    /// known to have the newest write.
    pub silent: Vec<String>,
    /// The agreement of the nodes that answered.
    pub agreement: Agreement,
    /// A sentence about the winning register.
    pub verdict: String,
    /// The value on this node. Present only if values may be shown.
    pub value: Option<String>,
}

/// The kind of difference between two nodes on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// This node has a value and the other node has none.
    OnlyHere,
    /// The other node has a value and this node has none.
    OnlyThere,
    /// Both nodes have a value, with different stamps.
    Differs,
}

/// A key on which two nodes differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// The key.
    pub key: String,
    /// The kind of the difference.
    pub kind: DifferenceKind,
    /// The state on this node.
    pub here: State,
    /// The state on the other node.
    pub there: State,
    /// The time of the stamp on this node.
    pub stamp_here: Option<String>,
    /// The time of the stamp on the other node.
    pub stamp_there: Option<String>,
    /// The reason for the difference, if one is known.
    pub reason: Option<String>,
    /// The encoded key.
    #[serde(skip)]
    pub(crate) raw: Vec<u8>,
}

/// A page of the comparison of two nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DiffPage {
    /// The node that this node was compared with.
    pub peer: String,
    /// The number of keys examined for this page.
    pub examined: u64,
    /// The keys on which the nodes differ.
    pub differences: Vec<Difference>,
    /// The cursor of the next page. Absent on the last page.
    pub next: Option<String>,
    /// The replica of the member that was compared.
    #[serde(skip)]
    pub(crate) replica: Option<ReplicaId>,
}

/// Compares the states of a key that two replicas return to readers. Returns `None` if the states agree.
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

/// Returns the reason why `to` does not hold the register of `from`, if one is known. `place` is the word for `to`.
fn reason(from: (&Marks, Option<&Mark>), to: (&Marks, Option<&Mark>), place: &str) -> Option<String> {
    let offered = from.1?;
    // The vector of `to` does not cover the register's dot, so the register has not arrived there yet.
    if !to.0.covers(offered) && to.1.is_none_or(|held| held.stamp < offered.stamp) {
        let behind = offered.dot.saturating_sub(to.0.seen(&offered.origin)) / 1_000_000;
        return Some(format!(
            "in transit: events of its writer have arrived {place} up to {behind} ms before this one"
        ));
    }
    match to.0.state(to.1) {
        State::Evicted => Some(format!("evicted {place} to stay within capacity")),
        State::Expired => Some(format!("expired by the clock {place}")),
        State::Void => Some(format!("voided {place}: something newer may have been collected")),
        State::Unknown if to.0.lossy && to.0.covers(offered) => {
            Some(format!("not kept {place}, where values were evicted or dropped to stay within the limits"))
        }
        _ => None,
    }
}

/// Returns a sentence on why a replica holds what it holds. `winner` is the greatest register among all replicas asked.
pub(crate) fn explain_why(all: &Marks, mark: Option<&Mark>, winner: Option<&Mark>) -> String {
    let Some(winner) = winner else {
        return "no node that answered holds it: it was never written, or its tombstone was collected".into();
    };
    if mark.is_some_and(|mark| mark.stamp == winner.stamp) {
        return match all.state(mark) {
            State::Live => "has the newest known write".into(),
            State::Evicted => "had the newest write, and evicted its value to stay within capacity".into(),
            State::Invalidated => "has the newest write, which an invalidate_all made absent".into(),
            State::Expired => "has the newest write, whose time to live has ended".into(),
            State::Void => "has a void in its place: it arrived after something newer may have been collected".into(),
            State::Deleted | State::Unknown => "has the newest known event, the delete".into(),
        };
    }
    let seen = all.seen(&winner.origin);
    if seen < winner.dot {
        let behind = (winner.dot - seen) / 1_000_000;
        return format!(
            "lacks the newest write, which is in transit: events of its writer have arrived up to {}, {behind} ms \
             before it",
            readable(seen)
        );
    }
    if winner.stamp.time <= all.epoch {
        return "does not hold the newest write: an invalidate_all on this node covers it".into();
    }
    if winner.stamp.time <= all.floor {
        return "has seen the newest write and removed it without a trace: collected, evicted or dropped".into();
    }
    if all.lossy {
        return "has seen the newest write and no longer holds it: the node has evicted or dropped values to stay \
            within its limits"
            .into();
    }
    "has seen the newest write and holds something else: no reason is known".into()
}
