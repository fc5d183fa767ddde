//! Waits until other members have a write. `View::member_has` decides for each member: the vector that the member
//! reported must cover the write's stamp.

use std::collections::BTreeSet;
use std::time::Duration;

use super::shared::Shared;
use super::write::Written;
use super::{CacheKey, CacheValue, race};
use crate::replica_id::ReplicaId;

/// The number of members that must have a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Members {
    /// All members that are alive at the call and do not depart during the wait. This node does not count.
    All,
    /// At least this many of the members that are alive at the call. This node does not count.
    Count(usize),
}

/// The members that have a write, once enough of them do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replicated {
    /// Members that have the write, or something newer for its key.
    pub seen: Vec<ReplicaId>,
    /// Members that were alive at the call, and have departed or been called dead since. They do not count as having
    /// the write.
    pub departed: Vec<ReplicaId>,
}

/// The error of a wait: fewer members than asked for are known to have a write. Unless this node was shut down, the
/// write is still being replicated. In a process that was forked after the node was started, nothing is: the error comes
/// at once, with `unmet` and without members.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} members are known to have the write, {} departed, and {} have not reported it: {missing:?}{}",
    seen.len(), departed.len(), missing.len(),
    if *unmet { "; expected members have not been met: check the seeds, or call wait_for_members first" } else { "" }
)]
#[non_exhaustive]
pub struct NotReplicated {
    /// Members that have the write, or something newer for its key.
    pub seen: Vec<ReplicaId>,
    /// Members that were alive at the call, and have departed or been called dead since.
    pub departed: Vec<ReplicaId>,
    /// Live members that are not known to have the write.
    pub missing: Vec<ReplicaId>,
    /// True if members are expected that this cache has not met: no configured seed has answered since the node was
    /// started, or a live member has not yet reported whether it has the cache open.
    pub unmet: bool,
}

impl NotReplicated {
    /// Returns true if enough members may still report the write.
    fn can_be(&self, members: Members) -> bool {
        match members {
            Members::All => true,
            Members::Count(count) => self.unmet || self.seen.len() + self.missing.len() >= count,
        }
    }

    /// Returns true if enough members have reported the write.
    fn is_enough(&self, members: Members) -> bool {
        match members {
            Members::All => self.missing.is_empty() && !self.unmet,
            Members::Count(count) => self.seen.len() >= count,
        }
    }
}

/// Waits until enough members have a write.
pub(super) async fn wait<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    written: Written,
    members: Members,
    timeout: Duration,
) -> Result<Replicated, NotReplicated> {
    let mut asked = BTreeSet::new();
    let mut unmet = true;
    if shared.services.host.is_forked() {
        let (seen, departed, missing) = (Vec::new(), Vec::new(), Vec::new());
        return Err(NotReplicated { seen, departed, missing, unmet });
    }
    let mut limit = shared.services.tasks.sleep(timeout);
    loop {
        // Listens before it reads the state, so that a change in between is not missed.
        let progress = shared.progress.listen();
        if unmet {
            // `unmet` is read first: once no member is expected any more, all that were expected are among the live
            // members. From then on `asked` is fixed: members that join later do not count.
            unmet = shared.connection.is_expecting();
            asked.extend(shared.writer.look(|engine| engine.replica.view().live_members()));
        }
        let replication = replication(shared, &asked, written, unmet);
        if shared.connection.is_detached() {
            return Err(replication);
        }
        if replication.is_enough(members) {
            return Ok(Replicated { seen: replication.seen, departed: replication.departed });
        }
        if !replication.can_be(members) || !race::before(progress, &mut limit).await {
            return Err(replication);
        }
    }
}

fn replication<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    asked: &BTreeSet<ReplicaId>,
    written: Written,
    unmet: bool,
) -> NotReplicated {
    let mut replication = NotReplicated { seen: Vec::new(), departed: Vec::new(), missing: Vec::new(), unmet };
    shared.writer.look(|engine| {
        let view = engine.replica.view();
        for member in asked {
            match view.member_has(*member, written.stamp) {
                Some(true) => replication.seen.push(*member),
                Some(false) => replication.missing.push(*member),
                None => replication.departed.push(*member),
            }
        }
    });
    replication
}
