//! What is to be sent, in order of urgency.

use std::collections::VecDeque;

use crate::message::{Message, Push};
use crate::replica_id::ReplicaId;

/// A message and its receivers.
#[derive(Debug)]
pub struct Transmit<K, V> {
    /// Who gets it; every one the same bytes.
    pub to: Vec<ReplicaId>,
    /// The message.
    pub message: Message<K, V>,
    /// It carries registers: no other such message goes to these receivers until
    /// [`Replica::handle_sent`](crate::replica::Replica::handle_sent) was called for each.
    pub bulk: bool,
}

/// Small messages that wait, and what conversations leave for each other.
pub(crate) struct Outbox<K, V> {
    waiting: VecDeque<(ReplicaId, Message<K, V>)>,
    /// Pushes that were news to us, and who sent them: to be passed on.
    pub(crate) to_pass_on: Vec<(ReplicaId, Push<K, V>)>,
}

impl<K, V> Default for Outbox<K, V> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), to_pass_on: Vec::new() }
    }
}

impl<K, V> Outbox<K, V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Queues a small message; a newer digest or acknowledgement to the same member takes the place
    /// of one that has not left yet, which is handed back: the queue is bounded by the number of members.
    pub(crate) fn put(&mut self, to: ReplicaId, message: Message<K, V>) -> Option<Message<K, V>> {
        let same = |queued: &Message<K, V>| match (queued, &message) {
            (Message::Digest(a), Message::Digest(b)) => a.reply == b.reply && a.want_full == b.want_full,
            (Message::Ack(_), Message::Ack(_)) => true,
            // Answers are not alike: each is about other keys. There is one for each audit that came.
            (Message::Audit(a), Message::Audit(b)) => !a.reply && !b.reply,
            _ => false,
        };
        match self.waiting.iter_mut().find(|(other, queued)| *other == to && same(queued)) {
            Some((_, queued)) => Some(std::mem::replace(queued, message)),
            None => {
                self.waiting.push_back((to, message));
                None
            }
        }
    }

    /// The next small message.
    pub(crate) fn take(&mut self) -> Option<(ReplicaId, Message<K, V>)> {
        self.waiting.pop_front()
    }

    /// Takes out all that waits for a member that is forgotten.
    pub(crate) fn take_for(&mut self, id: ReplicaId) -> Vec<Message<K, V>> {
        let (for_it, others): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(to, _)| *to == id);
        self.waiting = others;
        for_it.into_iter().map(|(_, message)| message).collect()
    }

    /// Takes out the pushes that are to be passed on.
    pub(crate) fn take_to_pass_on(&mut self) -> Vec<(ReplicaId, Push<K, V>)> {
        std::mem::take(&mut self.to_pass_on)
    }
}
