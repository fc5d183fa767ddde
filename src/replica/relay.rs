//! Who passes what on in a large cluster.
//!
//! Every member computes, from the members it knows, `fanout` orders of all of them in a ring, by a hash
//! of ids that is the same everywhere, and passes fresh pushes on to its successor in each. Each ring
//! by itself reaches everybody, so without loss nobody is left out, and with it a member is missed only
//! if all its `fanout` predecessors fail it at once. Receivers picked at random cannot say that: however many
//! copies are sent, some members are picked by nobody. (Law and Siu 2003 on unions of random rings.)
//!
//! Members that know of different members for a while have different rings: then some copies come
//! twice and some not at all, and digests repair that as they repair loss.

use std::collections::VecDeque;

use super::message::{Message, Push};
use super::retired::mix;
use super::{CoreKey, Replica, Transmit};
use crate::replica_id::ReplicaId;

/// A push is passed on at most this often.
pub(super) const MAX_HOPS: u8 = 16;
/// Pushes that wait to be passed on, at most.
const MAX_WAITING: usize = 64;

/// What is to be passed on, and to whom.
pub(super) struct Relay<K, V> {
    waiting: VecDeque<Transmit<K, V>>,
    /// Our successors among the live members; none if they are to be worked out again.
    successors: Option<Vec<ReplicaId>>,
}

impl<K, V> Default for Relay<K, V> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), successors: None }
    }
}

impl<K, V> Relay<K, V> {
    /// Whether a push waits to be passed on.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// A member came, died or went.
    pub(super) fn forget_successors(&mut self) {
        self.successors = None;
    }
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Whether there are so many members that pushes go to a few, who pass them on.
    pub(super) fn relays(&self) -> bool {
        self.peers.len() > self.config.broadcast_up_to
    }

    /// The members that get pushes from us in a large cluster.
    pub(super) fn successors(&mut self) -> &[ReplicaId] {
        if self.relay.successors.is_none() {
            self.relay.successors = Some(self.successors_of_now());
        }
        self.relay.successors.as_deref().unwrap_or_default()
    }

    fn successors_of_now(&self) -> Vec<ReplicaId> {
        let mut chosen = Vec::with_capacity(self.config.fanout.min(self.peers.len()));
        while chosen.len() < self.config.fanout {
            let ring = chosen.len() as u64;
            let here = (mix(self.id, ring), self.id);
            let others = self.live_peers().filter(|id| !chosen.contains(id)).map(|id| (mix(id, ring), id));
            // The next one up, or round to the lowest.
            let Some((_, next)) = others.min_by_key(|there| (*there < here, *there)) else { break };
            chosen.push(next);
        }
        chosen
    }

    /// In a large cluster: passes a push on, unchanged, that was news to us.
    pub(super) fn pass_on(&mut self, from: ReplicaId, push: Push<K, V>) {
        if push.hops >= MAX_HOPS || push.raw.is_empty() || self.relay.waiting.len() >= MAX_WAITING {
            return;
        }
        let origin = push.origin;
        let to: Vec<_> = self.successors().iter().copied().filter(|id| *id != origin && *id != from).collect();
        if !to.is_empty() {
            self.counters.pushes_relayed += to.len() as u64;
            self.relay.waiting.push_back(Transmit { to, message: Message::Push(push), bulk: false });
        }
    }

    pub(super) fn poll_relay(&mut self) -> Option<Transmit<K, V>> {
        self.relay.waiting.pop_front()
    }
}
