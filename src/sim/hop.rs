//! One hop of one message. Everything that crosses the simulated network passes here.

use bytes::Bytes;

use crate::replica::message::{Audit, Entry, Frame, Interval, Message, Push};

/// What arrives when `message` is sent.
pub(super) fn hop<K, V>(message: Message<K, V>) -> Message<K, V> {
    match message {
        Message::Push(mut push) => {
            // A push that came over the wire has its bytes, which is what lets it be passed on.
            if push.raw.is_empty() {
                push.raw = Bytes::from_static(b"push");
                push.hops = push.hops.saturating_add(1);
            } else {
                push.hops = push.hops.saturating_add(1);
            }
            Message::Push(push)
        }
        other => other,
    }
}

/// Registers in a message, audits aside.
pub(super) fn entries_in<K, V>(message: &Message<K, V>) -> u64 {
    match message {
        Message::Push(push) => push.entries.len() as u64,
        Message::Frame(frame) => frame.intervals.iter().map(|interval| interval.entries.len() as u64).sum(),
        Message::Digest(_) | Message::Ack(_) | Message::Audit(_) => 0,
    }
}

/// The same message once more.
pub(super) fn clone_message<K, V>(message: &Message<K, V>) -> Message<K, V> {
    match message {
        Message::Digest(digest) => Message::Digest(digest.clone()),
        Message::Ack(ack) => Message::Ack(*ack),
        Message::Push(push) => {
            Message::Push(Push { entries: clone_entries(&push.entries), raw: push.raw.clone(), ..*push })
        }
        Message::Frame(frame) => Message::Frame(clone_frame(frame)),
        Message::Audit(audit) => Message::Audit(Audit {
            vector: audit.vector.clone(),
            entries: clone_entries(&audit.entries),
            reply: audit.reply,
        }),
    }
}

fn clone_entries<K, V>(entries: &[Entry<K, V>]) -> Vec<Entry<K, V>> {
    entries.to_vec()
}

fn clone_frame<K, V>(frame: &Frame<K, V>) -> Frame<K, V> {
    let interval = |interval: &Interval<K, V>| Interval { entries: clone_entries(&interval.entries), ..*interval };
    Frame {
        base: frame.base.clone(),
        intervals: frame.intervals.iter().map(interval).collect(),
        dropped: frame.dropped.clone(),
        last: frame.last.clone(),
        ..*frame
    }
}
