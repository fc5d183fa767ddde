//! Relays pushes of other origins unchanged in a large cluster. `members/rings.rs` selects the receivers.

use std::collections::VecDeque;

use super::Context;
use crate::item::CoreKey;
use crate::members::rings;
use crate::message::{Message, Push};
use crate::outbox::Transmit;
use crate::replica_id::ReplicaId;

/// The highest number of pushes that wait to be relayed. Further pushes are not relayed.
const MAX_WAITING: usize = 64;

/// The pushes that wait to be relayed, with their receivers.
pub(crate) struct Relay<K, V> {
    waiting: VecDeque<Transmit<K, V>>,
}

impl<K, V> Default for Relay<K, V> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<K: CoreKey, V> Relay<K, V> {
    /// Returns true if a push waits to be relayed.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Queues a push that was new to this replica for the ring successors, except its origin and its sender.
    pub(crate) fn pass_on(&mut self, cx: &mut Context<'_, K, V>, from: ReplicaId, push: Push<K, V>) {
        if self.waiting.len() >= MAX_WAITING {
            // Digests repair a push that is not relayed, as they repair loss.
            return;
        }
        let successors = rings::successors(cx.members, cx.env);
        let to: Vec<_> = successors.iter().copied().filter(|id| *id != push.origin && *id != from).collect();
        if !to.is_empty() {
            cx.env.counters.pushes_relayed += to.len() as u64;
            self.waiting.push_back(Transmit { to, message: Message::Push(push), bulk: false });
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Transmit<K, V>> {
        self.waiting.pop_front()
    }
}
