//! The queue of small messages: digests, acknowledgements and audits, in order of arrival. `protocol/context.rs` makes
//! a digest when it leaves.
//!
//! Pushes do not wait here. `protocol/push.rs` cuts own writes from the log when it is polled. A push of another
//! replica only passes through within one call: `protocol.rs` hands it to `protocol/relay.rs`, where it waits to be
//! relayed. `protocol.rs` also decides the order between kinds of messages.

use std::collections::VecDeque;

use crate::message::{Message, Push};
use crate::replica_id::ReplicaId;

/// A message and its receivers.
#[derive(Debug)]
pub struct Transmit<K, V> {
    /// The receivers, which all get the same bytes.
    pub to: Vec<ReplicaId>,
    /// The message.
    pub message: Message<K, V>,
    /// True if the message carries registers. No other such message is sent to these receivers until
    /// [`Replica::handle_sent`](crate::replica::Replica::handle_sent) was called for each.
    pub bulk: bool,
}

/// A queued small message. A digest is made when it leaves, so that it reports the state of that moment.
// Only a few are queued at a time, and a box would cost an allocation for each acknowledgement.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Waiting<K, V> {
    Digest(Wanted),
    Message(Message<K, V>),
}

/// The properties of a digest to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// True if it answers a digest, and must not be answered by another.
    pub(crate) reply: bool,
    /// True if it lists retired origins too.
    pub(crate) full: bool,
    /// True if its receiver must answer with a digest that lists retired origins.
    pub(crate) want_full: bool,
    /// True if its receiver must answer.
    pub(crate) greets: bool,
}

/// Queued small messages, and pushes that the receiving side leaves for the relaying side.
pub(crate) struct Outbox<K, V> {
    waiting: VecDeque<(ReplicaId, Waiting<K, V>)>,
    /// Pushes that were new to this replica and must be relayed, each with its sender.
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

    /// Queues a digest for a member, which answers with entries that this replica lacks.
    pub(crate) fn ask(&mut self, to: ReplicaId) {
        self.send_digest(to, Wanted::default());
    }

    /// Queues a digest for a replica that is no live member here. The receiver must answer.
    pub(crate) fn greet(&mut self, to: ReplicaId) {
        self.send_digest(to, Wanted { greets: true, ..Wanted::default() });
    }

    /// Queues a digest that answers a digest and must not be answered.
    pub(crate) fn tell(&mut self, to: ReplicaId) {
        self.send_digest(to, Wanted { reply: true, ..Wanted::default() });
    }

    /// Queues a digest. It replaces a queued digest to the same replica with the same `reply` and `want_full`.
    pub(crate) fn send_digest(&mut self, to: ReplicaId, wanted: Wanted) {
        let is_alike = |before: &Wanted| before.reply == wanted.reply && before.want_full == wanted.want_full;
        let before = self.waiting.iter_mut().find_map(|(other, waiting)| match waiting {
            Waiting::Digest(before) if *other == to && is_alike(before) => Some(before),
            _ => None,
        });
        match before {
            // A queued greeting stays one: its receiver must still answer. A queued full digest stays full: its receiver
            // cannot tell from a shorter one what this replica has seen of retired origins.
            Some(before) => {
                let (greets, full) = (wanted.greets || before.greets, wanted.full || before.full);
                *before = Wanted { greets, full, ..wanted };
            }
            None => self.waiting.push_back((to, Waiting::Digest(wanted))),
        }
    }

    /// Queues a small message. A newer acknowledgement, or a newer audit that is no reply, replaces the queued one to
    /// the same member. Returns the replaced message. So the queue is bounded by the number of members, and of audits
    /// received.
    pub(crate) fn put(&mut self, to: ReplicaId, message: Message<K, V>) -> Option<Message<K, V>> {
        let is_alike = |before: &Message<K, V>| match (before, &message) {
            (Message::Ack(_), Message::Ack(_)) => true,
            // Audit replies are never alike, since each is about other keys. There is one per audit received.
            (Message::Audit(a), Message::Audit(b)) => !a.reply && !b.reply,
            _ => false,
        };
        let before = self.waiting.iter_mut().find_map(|(other, waiting)| match waiting {
            Waiting::Message(before) if *other == to && is_alike(before) => Some(before),
            _ => None,
        });
        match before {
            Some(before) => Some(std::mem::replace(before, message)),
            None => {
                self.waiting.push_back((to, Waiting::Message(message)));
                None
            }
        }
    }

    /// Takes out the next small message.
    pub(crate) fn take(&mut self) -> Option<(ReplicaId, Waiting<K, V>)> {
        self.waiting.pop_front()
    }

    /// Removes everything queued for a member that is forgotten. Returns the messages; the digests are not made.
    pub(crate) fn take_for(&mut self, id: ReplicaId) -> Vec<Message<K, V>> {
        let (for_it, others): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(to, _)| *to == id);
        self.waiting = others;
        let message = |(_, waiting)| match waiting {
            Waiting::Message(message) => Some(message),
            Waiting::Digest(_) => None,
        };
        for_it.into_iter().filter_map(message).collect()
    }

    /// Takes out the pushes to relay.
    pub(crate) fn take_to_pass_on(&mut self) -> Vec<(ReplicaId, Push<K, V>)> {
        std::mem::take(&mut self.to_pass_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digest that replaces a queued one is still full, and still a greeting, if the queued one was.
    #[test]
    fn a_queued_digest_keeps_what_its_receiver_needs() {
        let [to, other] = [1, 2].map(|id| ReplicaId::from_bytes([id; 16]));
        let mut outbox = Outbox::<u32, u32>::default();
        outbox.send_digest(to, Wanted { full: true, ..Wanted::default() });
        outbox.greet(to);
        outbox.ask(other);
        outbox.ask(to);
        outbox.tell(to);
        let queued: Vec<_> = std::iter::from_fn(|| outbox.take()).collect();
        let digests: Vec<_> = queued
            .iter()
            .map(|(to, waiting)| match waiting {
                Waiting::Digest(wanted) => (*to, *wanted),
                Waiting::Message(_) => panic!("only digests were queued"),
            })
            .collect();
        let both = Wanted { full: true, greets: true, ..Wanted::default() };
        let reply = Wanted { reply: true, ..Wanted::default() };
        assert_eq!(digests, [(to, both), (other, Wanted::default()), (to, reply)]);
    }
}
