//! Explanation of a key: the register of every node, and the reason for each.

use std::sync::Arc;
use std::time::Duration;

use super::{InspectError, Inspector};
use crate::cache::port::Port;
use crate::node::questions::{Ask, Reply};
use crate::replica_id::ReplicaId;
use crate::report::{
    Agreement, Explanation, Held, Mark, Marks, State, explain_difference, explain_why, readable,
    readable_to_hundredths, show, span,
};

/// The text for a node that answers that it does not have the cache open, which is no fault.
const NOT_OPEN: &str = "does not have the cache open";

/// One node's answer.
struct Answered {
    node: String,
    marks: Marks,
}

impl Answered {
    fn mark(&self) -> Option<&Mark> {
        self.marks.marks.first()?.as_ref()
    }
}

pub(super) async fn explain(
    inspector: &Inspector,
    cache: &str,
    key: &str,
    patience: Duration,
) -> Result<Explanation, InspectError> {
    let (port, bytes) = inspector.key(cache, key)?;
    let keys = vec![bytes.clone()];
    let here = inspector.alive.mesh.name().to_owned();
    let mut answered = vec![Answered { node: here, marks: port.marks(&keys, true) }];
    let peers = inspector.peers();
    let question = Ask::Marks { cache: cache.to_owned(), keys, hash: true };
    let mut answers = inspector.ask(&peers, question, patience).await;
    let mut silent = Vec::new();
    for peer in peers {
        match answers.remove(&peer.incarnation) {
            Some(Reply::Marks(marks)) => answered.push(Answered { node: peer.name.to_string(), marks }),
            Some(Reply::NotOpen) => silent.push((peer.name.to_string(), NOT_OPEN)),
            _ => silent.push((peer.name.to_string(), "did not answer")),
        }
    }
    Ok(explain_answers(&port, cache, show(&bytes), &answered, silent))
}

fn explain_answers(
    port: &Arc<dyn Port>,
    cache: &str,
    key: String,
    answered: &[Answered],
    silent: Vec<(String, &str)>,
) -> Explanation {
    let holder = answered.iter().filter(|one| one.mark().is_some()).max_by_key(|one| rank(one));
    let winner = holder.and_then(Answered::mark);
    let lacking = winner.map_or_else(Vec::new, |mark| port.who_lacks(mark.origin, mark.dot));
    let silent = explain_silent(answered, silent, lacking);
    // A node that does not have the cache open cannot lack the write, so it does not count as missing.
    let missing = silent.iter().filter(|told| !told.ends_with(NOT_OPEN)).count();
    Explanation {
        cache: cache.to_owned(),
        key,
        nodes: answered.iter().map(|one| explain_node(port, answered, one, winner)).collect(),
        agreement: holder.map_or(Agreement::Agree, |holder| agreement(holder, answered)),
        verdict: verdict(port, answered, holder, missing),
        silent,
        value: None,
    }
}

/// Ranks registers as the join does: by stamp, and at one stamp a tombstone above a value.
fn rank(one: &Answered) -> Option<(crate::hlc::Stamp, bool)> {
    let mark = one.mark()?;
    let dead = crate::crdt::Kind::from_code(mark.kind).is_some_and(|kind| !kind.ranks_live());
    Some((mark.stamp, dead))
}

fn explain_node(port: &Arc<dyn Port>, answered: &[Answered], one: &Answered, winner: Option<&Mark>) -> Held {
    let mark = one.mark();
    Held {
        node: one.node.clone(),
        replica: one.marks.replica.map_or_else(String::new, |id| id.to_string()),
        state: one.marks.state(mark),
        stamp: mark.map(|mark| readable(mark.stamp.time)),
        stamp_nanos: mark.map(|mark| mark.stamp.time.to_string()),
        writer: mark.map(|mark| mark.stamp.replica.to_string()),
        writer_node: mark.and_then(|mark| node_of(port, answered, &mark.stamp.replica)),
        expires: mark.filter(|mark| mark.expires != 0).map(|mark| readable(mark.expires)),
        size: mark.map(|mark| mark.size),
        value_hash: mark.and_then(|mark| mark.hash).map(|hash| format!("{hash:016x}")),
        arrival: mark.filter(|mark| mark.provenance.is_some()).map(|mark| readable_to_hundredths(mark.arrived_at)),
        provenance: mark.and_then(|mark| mark.provenance),
        why: explain_why(&one.marks, mark, winner),
    }
}

/// Returns the node of a replica: a node that answered, or a node that this one knows.
fn node_of(port: &Arc<dyn Port>, answered: &[Answered], replica: &ReplicaId) -> Option<String> {
    let said = answered.iter().find(|one| one.marks.replica.as_ref() == Some(replica));
    said.map(|one| one.node.clone()).or_else(|| port.node_of(replica))
}

fn agreement(holder: &Answered, answered: &[Answered]) -> Agreement {
    let compare = |one: &Answered| explain_difference((&holder.marks, holder.mark()), (&one.marks, one.mark()));
    let differences: Vec<_> = answered.iter().filter_map(compare).collect();
    match differences {
        none if none.is_empty() => Agreement::Agree,
        all if all.iter().all(|difference| difference.reason.is_some()) => Agreement::Explained,
        _ => Agreement::Disagree,
    }
}

fn verdict(port: &Arc<dyn Port>, answered: &[Answered], holder: Option<&Answered>, missing: usize) -> String {
    // The nodes that answered may agree although a member that does not answer lacks the write.
    let unasked = if missing == 0 { String::new() } else { format!(", {missing} silent") };
    let Some((holder, winner)) = holder.and_then(|holder| Some((holder, holder.mark()?))) else {
        return format!("no node that answered holds this key{unasked}");
    };
    let what = if holder.marks.state(Some(winner)) == State::Deleted { "the delete" } else { "the write" };
    let by = node_of(port, answered, &winner.stamp.replica).unwrap_or_else(|| winner.stamp.replica.to_string());
    let having = answered.iter().filter(|one| one.mark().is_some_and(|mark| mark.stamp == winner.stamp)).count();
    format!(
        "{what} by {by} at {} has the greatest stamp and wins everywhere; {having} of {} nodes that answered have it{unasked}",
        readable(winner.stamp.time),
        answered.len()
    )
}

/// Describes the members that did not answer, live or dead, with what this node knows about each.
fn explain_silent(
    answered: &[Answered],
    silent: Vec<(String, &str)>,
    lacking: Vec<(ReplicaId, String, u64)>,
) -> Vec<String> {
    let known = |name: &str| lacking.iter().find(|(_, node, _)| node == name).map(|(.., ms)| *ms);
    let lacks =
        |ms: u64| format!("is not known to have the newest write, and its last message arrived {} ago", span(ms));
    let mut told: Vec<_> = silent
        .iter()
        .map(|(name, why)| match known(name) {
            Some(ms) => format!("{name}: {why}; it {}", lacks(ms)),
            None => format!("{name}: {why}"),
        })
        .collect();
    // Compared by replica id as well: this node may not know the name of a node that has just joined.
    let unasked = lacking.iter().filter(|(id, name, _)| {
        silent.iter().all(|(other, _)| other != name) && answered.iter().all(|one| one.marks.replica != Some(*id))
    });
    told.extend(unasked.map(|(_, name, ms)| format!("{name}: is not a live member; it {}", lacks(*ms))));
    told
}
