//! How far own writes have got: what members are known to have.

use super::{CoreKey, Replica};
use crate::hlc::{HlcTime, Stamp};
use crate::replica_id::ReplicaId;

/// How far a member is behind us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The member.
    pub member: ReplicaId,
    /// Whether the failure detector calls it alive.
    pub live: bool,
    /// The oldest own write it is not known to have.
    pub oldest: Option<HlcTime>,
    /// How many own writes it is not known to have; overwritten ones may be counted for a while.
    pub writes: usize,
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Whether a live member is known to have a write, or something newer for its key. `None` if it is
    /// no live member.
    #[must_use]
    pub fn member_has(&self, member: ReplicaId, write: Stamp) -> Option<bool> {
        if self.was_ours(&write.replica) {
            return Some(false); // Under an id that another process had too: nobody can say.
        }
        let peer = self.peers.get(&member).filter(|peer| peer.is_live())?;
        Some(member == write.replica || peer.reported.get(&write.replica) >= write.time)
    }

    /// The dot of our newest own change, as a stamp.
    #[must_use]
    pub fn last_own_stamp(&self) -> Option<Stamp> {
        (self.last_own > 0).then(|| Stamp::new(self.last_own, self.id))
    }

    /// The members that the failure detector calls alive.
    #[must_use]
    pub fn live_members(&self) -> Vec<ReplicaId> {
        self.live_peers().collect()
    }

    /// How far each member is behind our own writes.
    pub fn lags(&mut self) -> Vec<Lag> {
        let id = self.id;
        let reported = self.peers.iter().filter(|(_, peer)| peer.unmet.is_none());
        let reported = reported.map(|(member, peer)| (*member, peer.is_live(), peer.reported.get(&id)));
        let reported: Vec<_> = reported.collect();
        let log = self.logs.get_mut(&id);
        let Some(log) = log else {
            return reported
                .into_iter()
                .map(|(member, live, _)| Lag { member, live, oldest: None, writes: 0 })
                .collect();
        };
        let mut lags = Vec::with_capacity(reported.len());
        for (member, live, seen) in reported {
            let mut missing = log.after(seen);
            let writes = missing.size_hint().0;
            lags.push(Lag { member, live, oldest: missing.next().map(|(time, _)| time), writes });
        }
        lags
    }
}
