//! Encoded bytes, by kind of message.

use crate::counters::{Counter, counters};
use crate::message::Message;

counters! {
    /// Encoded bytes that went one way, by kind of message.
    shared struct BytesByKind {
        digest,
        push,
        ack,
        frame,
        audit,
    }
}

impl BytesByKind {
    /// Returns the count for messages of this kind.
    pub(crate) fn of<K, V>(&self, message: &Message<K, V>) -> &Counter {
        match message {
            Message::Digest(_) => &self.digest,
            Message::Push(_) => &self.push,
            Message::Ack(_) => &self.ack,
            Message::Frame(_) => &self.frame,
            Message::Audit(_) => &self.audit,
        }
    }
}
