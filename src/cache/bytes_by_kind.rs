//! Encoded bytes in and out, by kind of message.

use std::collections::BTreeMap;

use crate::message::Message;
use crate::sync::{AtomicU64, Ordering};

const KINDS: [&str; 5] = ["digest", "push", "ack", "frame", "audit"];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct BytesByKind {
    received: [AtomicU64; KINDS.len()],
    sent: [AtomicU64; KINDS.len()],
}

fn number<K, V>(message: &Message<K, V>) -> usize {
    match message {
        Message::Digest(_) => 0,
        Message::Push(_) => 1,
        Message::Ack(_) => 2,
        Message::Frame(_) => 3,
        Message::Audit(_) => 4,
    }
}

fn named(counts: &[AtomicU64]) -> BTreeMap<String, u64> {
    KINDS.iter().zip(counts).map(|(kind, count)| ((*kind).to_owned(), count.load(Ordering::Relaxed))).collect()
}

impl BytesByKind {
    pub(crate) fn note_received<K, V>(&self, message: &Message<K, V>, bytes: usize) {
        self.received[number(message)].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn note_sent<K, V>(&self, message: &Message<K, V>, bytes: usize) {
        self.sent[number(message)].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self) -> BTreeMap<String, u64> {
        named(&self.received)
    }

    pub(crate) fn sent(&self) -> BTreeMap<String, u64> {
        named(&self.sent)
    }
}
