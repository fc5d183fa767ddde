//! Messages between replicas: decoded, encoded again, and applied to a live replica.
//!
//! The input is a whole message in wire format. If its first byte is no version, the input is only the body of a
//! message of the target's kind. So a fuzzer need not find the header first.

use bytes::Bytes;
use driftless::message::Message;
use driftless::wire::{self, Intake, Limits, MessageKind, Peeked};

use super::Verdict;
use super::apply::{HOSTILE, Stage, envelope};
use driftless::item::Key;

pub type Typed = Message<String, Bytes>;

/// The limits of the decoder: the crate's own type, with small values that a fuzzer reaches.
pub fn limits() -> Limits {
    Limits { max_key_bytes: 256, max_value_bytes: 4_096, max_message_bytes: 64 << 10, max_origins: 64, max_depth: 16 }
}

pub struct Plain;

impl Intake<String, Bytes> for Plain {
    fn hash(&self, key: &Key<String>) -> u64 {
        wire::key_hash(key.known().map_or(key.opaque(), |key| key.as_bytes()))
    }

    fn weigh(&self, _: &String, value: &Bytes) -> u32 {
        value.len() as u32
    }
}

pub fn digest(data: &[u8]) -> Verdict {
    message(data, MessageKind::Digest)
}

/// Runs one input as a push.
pub fn delta(data: &[u8]) -> Verdict {
    message(data, MessageKind::Push)
}

/// Runs one input as a frame of a session, which may be a reconcile.
pub fn reconcile(data: &[u8]) -> Verdict {
    message(data, MessageKind::Frame)
}

fn message(data: &[u8], kind: MessageKind) -> Verdict {
    let bytes = if data.first() == Some(&1) { Bytes::copy_from_slice(data) } else { with_head(data, kind) };
    let mut verdict = Verdict::default();
    let decoded = decode(&bytes);
    verdict.note(decoded.is_some());
    if let Some(message) = decoded {
        let mut stage = Stage::new();
        stage.inject(HOSTILE, message);
        stage.aftermath();
    }
    verdict
}

/// Prepends the header: version, array of six, kind, cache, two ids, hops.
fn with_head(body: &[u8], kind: MessageKind) -> Bytes {
    let code = match kind {
        MessageKind::Digest => 1,
        MessageKind::Push => 2,
        MessageKind::Frame => 4,
        _ => 0,
    };
    let mut bytes = vec![1, 0x86, code, 0x61, b'c', 0x50];
    bytes.extend([HOSTILE; 16]);
    bytes.push(0x50);
    bytes.extend([9; 16]);
    bytes.push(0);
    bytes.extend(body);
    bytes.into()
}

/// Does everything that a receiver does with bytes. A message that was decoded must encode and decode to the same
/// message.
pub fn decode(bytes: &Bytes) -> Option<Typed> {
    let peeked = wire::peek(bytes);
    let forwarded = wire::forward(&envelope(HOSTILE), bytes);
    let decoded = wire::decode::<String, Bytes>(bytes, &Plain, &limits()).ok()?;
    assert!(peeked.is_ok(), "decoded, but could not be routed");
    let message = decoded.message?;
    assert!(matches!(peeked, Ok(Peeked::Message { .. })), "decoded, but routed as unknown");
    let written = wire::encode(&decoded.envelope, &message).expect("what was read can be written");
    let again = wire::decode::<String, Bytes>(&written, &Plain, &limits()).expect("what was written can be read");
    let again = again.message.expect("of a known kind");
    assert_eq!(said(&message), said(&again), "another message after a round trip");
    let twice = wire::encode(&decoded.envelope, &again).expect("written once more");
    assert_eq!(written, twice, "one message has one encoding");
    if let Message::Push(_) = message {
        let forwarded = forwarded.expect("a push that was understood can be passed on");
        let passed = wire::decode::<String, Bytes>(&forwarded, &Plain, &limits()).expect("and be read there");
        assert!(passed.message.is_some());
    }
    Some(message)
}

/// Formats a message without the parts that may differ: the raw bytes of a push, and the sizes of values with more than
/// one encoding.
fn said(message: &Typed) -> String {
    let text = match message {
        Message::Push(push) => {
            format!("{:?} {} {} {} {} {:?}", push.origin, push.from, push.to, push.epoch, push.hops, push.entries)
        }
        other => format!("{other:?}"),
    };
    let mut parts = text.split(", size: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |said, part| said + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}
