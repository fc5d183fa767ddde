//! Pushes of others, passed on unchanged in a large cluster: `members/rings.rs` says to whom.

use std::collections::VecDeque;

use super::Context;
use crate::item::CoreKey;
use crate::members::rings;
use crate::message::{Message, Push};
use crate::outbox::Transmit;
use crate::replica_id::ReplicaId;

/// Pushes that wait to be passed on, at most.
const MAX_WAITING: usize = 64;

/// What is to be passed on, and to whom.
pub(crate) struct Relay<K, V> {
    waiting: VecDeque<Transmit<K, V>>,
}

impl<K, V> Default for Relay<K, V> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

impl<K: CoreKey, V> Relay<K, V> {
    /// Whether a push waits to be passed on.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Passes on a push that was news to us.
    pub(crate) fn pass_on(&mut self, cx: &mut Context<'_, K, V>, from: ReplicaId, push: Push<K, V>) {
        if self.waiting.len() >= MAX_WAITING {
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
