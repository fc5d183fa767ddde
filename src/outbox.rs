//! Small messages that wait, in order of arrival: digests (made when they leave), acknowledgements, audits; and pushes of others
//! that are to be passed on. Own writes never wait here: `protocol/push.rs` cuts them from the log when it is polled. What goes
//! first is decided in `protocol.rs`.

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

/// A small message that waits. A digest is made when it leaves: it says what is so then.
// A few wait at a time, and a box would be an allocation for each acknowledgement.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Waiting<K, V> {
    Digest(Wanted),
    Message(Message<K, V>),
}

/// Which digest is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// It answers one, and is not answered by another.
    pub(crate) reply: bool,
    /// It names retired origins as well.
    pub(crate) full: bool,
    /// Its receiver is to answer with such a one.
    pub(crate) want_full: bool,
    /// Its receiver is to answer.
    pub(crate) greets: bool,
}

/// Small messages that wait, and what conversations leave for each other.
pub(crate) struct Outbox<K, V> {
    waiting: VecDeque<(ReplicaId, Waiting<K, V>)>,
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

    /// Queues a digest for a member, to be answered with what we lack.
    pub(crate) fn ask(&mut self, to: ReplicaId) {
        self.send_digest(to, Wanted::default());
    }

    /// Queues a digest for a replica that is no live member here. It has to answer.
    pub(crate) fn greet(&mut self, to: ReplicaId) {
        self.send_digest(to, Wanted { greets: true, ..Wanted::default() });
    }

    /// Queues a digest that answers one, and is itself not answered.
    pub(crate) fn tell(&mut self, to: ReplicaId) {
        self.send_digest(to, Wanted { reply: true, ..Wanted::default() });
    }

    /// Queues a digest. It takes the place of one of the same kind to the same member that has not left yet.
    pub(crate) fn send_digest(&mut self, to: ReplicaId, wanted: Wanted) {
        let is_alike = |before: &Wanted| before.reply == wanted.reply && before.want_full == wanted.want_full;
        let before = self.waiting.iter_mut().find_map(|(other, waiting)| match waiting {
            Waiting::Digest(before) if *other == to && is_alike(before) => Some(before),
            _ => None,
        });
        match before {
            Some(before) => *before = Wanted { greets: wanted.greets || before.greets, ..wanted },
            None => self.waiting.push_back((to, Waiting::Digest(wanted))),
        }
    }

    /// Queues a small message; a newer acknowledgement to the same member takes the place of one that has not
    /// left yet, which is handed back: the queue is bounded by the number of members, and of the audits that came.
    pub(crate) fn put(&mut self, to: ReplicaId, message: Message<K, V>) -> Option<Message<K, V>> {
        let is_alike = |before: &Message<K, V>| match (before, &message) {
            (Message::Ack(_), Message::Ack(_)) => true,
            // Answers are not alike: each is about other keys. There is one for each audit that came.
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

    /// The next small message.
    pub(crate) fn take(&mut self) -> Option<(ReplicaId, Waiting<K, V>)> {
        self.waiting.pop_front()
    }

    /// Takes out all that waits for a member that is forgotten.
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

    /// Takes out the pushes that are to be passed on.
    pub(crate) fn take_to_pass_on(&mut self) -> Vec<(ReplicaId, Push<K, V>)> {
        std::mem::take(&mut self.to_pass_on)
    }
}
