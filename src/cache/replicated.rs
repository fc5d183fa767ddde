//! Waiting until others have a write.

use std::collections::BTreeSet;
use std::time::Duration;

use super::shared::Shared;
use super::write::Written;
use super::{CacheKey, CacheValue, race};
use crate::replica_id::ReplicaId;

/// How many members are to have a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Members {
    /// All that are alive at the call and do not depart meanwhile, this node not counted.
    All,
    /// At least this many of those that are alive at the call, this node not counted.
    Count(usize),
}

/// Who has a write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replicated {
    /// Members that have it, or something newer for its key.
    pub seen: Vec<ReplicaId>,
    /// Members that were there at the call and have departed, or are called dead, without it.
    pub departed: Vec<ReplicaId>,
}

/// Fewer members than asked for are known to have a write. It is on its way all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} members are known to have the write, {} departed, and {} have not said so: {missing:?}{}",
    seen.len(), departed.len(), missing.len(),
    if *unmet { "; members are expected that this cache has not met: look at the seeds, or wait for members first" } else { "" }
)]
#[non_exhaustive]
pub struct NotReplicated {
    /// Members that have it, or something newer for its key.
    pub seen: Vec<ReplicaId>,
    /// Members that were there at the call and have departed, or are called dead.
    pub departed: Vec<ReplicaId>,
    /// Live members that are not known to have it.
    pub missing: Vec<ReplicaId>,
    /// Whether members are expected that this cache has not met: no configured seed has answered since the node was
    /// started, or a live member has not yet said whether it has the cache open.
    pub unmet: bool,
}

impl NotReplicated {
    fn can_be(&self, members: Members) -> bool {
        match members {
            Members::All => true,
            Members::Count(count) => self.unmet || self.seen.len() + self.missing.len() >= count,
        }
    }

    fn is_enough(&self, members: Members) -> bool {
        match members {
            Members::All => self.missing.is_empty() && !self.unmet,
            Members::Count(count) => self.seen.len() >= count,
        }
    }
}

/// Waits until so many members have a write.
pub(super) async fn wait<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    written: Written,
    members: Members,
    timeout: Duration,
) -> Result<Replicated, NotReplicated> {
    let mut asked = BTreeSet::new();
    let mut unmet = true;
    let mut limit = shared.around.tasks.sleep(timeout);
    loop {
        let progress = shared.progress.listen();
        if unmet {
            // In this order: members that were expected are live members once no more are expected.
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
