//! Waiting until others have a write.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Cache, CacheKey, CacheValue, Written, race};
use crate::replica_id::ReplicaId;
use crate::sync::Ordering;

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

impl<K: CacheKey, V: CacheValue> Cache<K, V> {
    /// Waits until so many members have a write, or something newer for its key. The members are those
    /// that are alive at the call: joiners do not count, departures are reported.
    ///
    /// After a start it also waits for the members that should be there: until a configured seed has answered, and until each live
    /// member has said whether it has the cache open. From then on it is decided: [`All`](Members::All) of no members is reached at
    /// once (a node without seeds that no member has joined, a cache that no member has open, a cluster whose other members have
    /// departed), and a [`Count`](Members::Count) fails at once while fewer members are alive. Once this node is shut down both fail.
    /// For deletes and invalidations wait for [`last_written`](Self::last_written). In a cluster whose pushes are relayed (more than 16 other members) members say what
    /// they have in digests only: allow one `digest_interval` for each member.
    ///
    /// It makes nothing durable: it says that other processes hold the value in memory. A member that
    /// evicts it afterwards has seen it all the same.
    ///
    /// # Errors
    /// The time is up, too many departed for it ever to be enough, or this node is shut down; says which members have it, which do
    /// not, and whether members were still expected.
    pub async fn wait_replicated(
        &self,
        written: Written,
        members: Members,
        timeout: Duration,
    ) -> Result<Replicated, NotReplicated> {
        let mut asked = BTreeSet::new();
        let mut unmet = true;
        let mut limit = self.shared.around.host.sleep(timeout);
        loop {
            let progress = self.shared.progress.listen();
            if unmet {
                // In this order: members that were expected are live members once no more are expected.
                unmet = self.shared.company.expecting.load(Ordering::Acquire);
                asked.extend(self.shared.engine.lock().replica.view().live_members());
            }
            let replication = self.replication(&asked, written, unmet);
            if self.shared.company.detached.load(Ordering::Acquire) {
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

    /// As [`wait_replicated`](Self::wait_replicated), for callers outside of a runtime: it blocks the thread.
    ///
    /// # Errors
    /// As [`wait_replicated`](Self::wait_replicated).
    pub fn wait_replicated_blocking(
        &self,
        written: Written,
        members: Members,
        timeout: Duration,
    ) -> Result<Replicated, NotReplicated> {
        crate::sync::block_on(self.wait_replicated(written, members, timeout))
    }

    fn replication(&self, asked: &BTreeSet<ReplicaId>, written: Written, unmet: bool) -> NotReplicated {
        let mut replication = NotReplicated { seen: Vec::new(), departed: Vec::new(), missing: Vec::new(), unmet };
        let engine = self.shared.engine.lock();
        for member in asked {
            match engine.replica.view().member_has(*member, written.stamp) {
                Some(true) => replication.seen.push(*member),
                Some(false) => replication.missing.push(*member),
                None => replication.departed.push(*member),
            }
        }
        replication
    }
}
