//! The envelope of a message: its sender and its cache. It is read before everything else, and replaced when a push is
//! relayed.

use bytes::Bytes;
use ciborium_ll::Header;
use uuid::Uuid;

use super::cursor::Cursor;
use super::error::{DecodeError, EncodeError};
use super::layout::{PARTS, VERSION};
use super::write::Writer;
use crate::replica_id::ReplicaId;

/// The sender of a message, and the cache that the message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The name of the cache.
    pub cache: &'a str,
    /// The replica that sends the message. For a relayed push this is the relay, not the origin.
    pub from: ReplicaId,
    /// The node of the sender.
    pub node: Uuid,
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// [`Message::Digest`](crate::message::Message::Digest)
    Digest,
    /// [`Message::Push`](crate::message::Message::Push)
    Push,
    /// [`Message::Ack`](crate::message::Message::Ack)
    Ack,
    /// [`Message::Frame`](crate::message::Message::Frame)
    Frame,
    /// [`Message::Audit`](crate::message::Message::Audit)
    Audit,
    /// A kind that a newer release has added, by its number.
    Unknown(u64),
}

impl MessageKind {
    pub(super) const fn code(self) -> u64 {
        match self {
            Self::Digest => 1,
            Self::Push => 2,
            Self::Ack => 3,
            Self::Frame => 4,
            Self::Audit => 5,
            Self::Unknown(code) => code,
        }
    }

    const fn from_code(code: u64) -> Self {
        match code {
            1 => Self::Digest,
            2 => Self::Push,
            3 => Self::Ack,
            4 => Self::Frame,
            5 => Self::Audit,
            code => Self::Unknown(code),
        }
    }
}

/// The result of [`peek`]. Only [`Peeked::Message`] is for [`decode()`](super::decode()). The other results are normal
/// while a newer release is being rolled out: count them, and keep the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peeked<'a> {
    /// A message for the named cache. Its body has not been read.
    Message {
        /// The sender and the cache.
        envelope: Envelope<'a>,
        /// The kind, which is never [`MessageKind::Unknown`].
        kind: MessageKind,
    },
    /// A message of a kind that this build does not know. Ignore it.
    UnknownKind {
        /// The sender and the cache.
        envelope: Envelope<'a>,
        /// The number of the kind.
        code: u64,
    },
    /// A version of the format that this build does not support. Ignore the message.
    UnknownVersion(u8),
}

/// Reads what is needed to route a message. It reads no body and allocates nothing.
///
/// # Errors
/// If the head does not parse.
pub fn peek(bytes: &[u8]) -> Result<Peeked<'_>, DecodeError> {
    let head = match Head::read(bytes) {
        Err(DecodeError::Version(version)) => return Ok(Peeked::UnknownVersion(version)),
        other => other?,
    };
    Ok(match head.kind {
        MessageKind::Unknown(code) => Peeked::UnknownKind { envelope: head.envelope, code },
        kind => Peeked::Message { envelope: head.envelope, kind },
    })
}

/// Encodes a push that is relayed: `raw` ([`Push::raw`](crate::message::Push::raw)) with another envelope and one more
/// hop. The body is copied byte for byte, so fields of a newer release are relayed too.
///
/// # Errors
/// If `raw` is not a push of this version.
pub fn forward(envelope: &Envelope<'_>, raw: &Bytes) -> Result<Bytes, EncodeError> {
    let mut head = Head::read(raw).map_err(EncodeError::Forward)?;
    if head.kind != MessageKind::Push {
        return Err(EncodeError::NotAPush);
    }
    head.envelope = *envelope;
    head.hops = head.hops.saturating_add(1);
    let mut writer = Writer::with_capacity(head.size() + head.rest.len());
    head.write(&mut writer);
    writer.raw(head.rest);
    Ok(writer.finish())
}

/// The start of a message, up to its body.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) parts: usize,
    pub(super) kind: MessageKind,
    pub(super) envelope: Envelope<'a>,
    pub(super) hops: u8,
    /// The body, and the bytes after it.
    pub(super) rest: &'a [u8],
}

impl<'a> Head<'a> {
    pub(super) fn new(kind: MessageKind, envelope: Envelope<'a>, hops: u8) -> Self {
        Self { parts: PARTS, kind, envelope, hops, rest: &[] }
    }

    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (&version, rest) = bytes.split_first().ok_or(DecodeError::Truncated("the version"))?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let mut cursor = Cursor::new(rest);
        let parts = cursor.array_of(PARTS, "a message")?;
        let kind = MessageKind::from_code(cursor.uint("the message kind")?);
        let cache = cursor.text("the cache name")?;
        let from = ReplicaId::from_bytes(cursor.sixteen("the sending replica")?);
        let node = Uuid::from_bytes(cursor.sixteen("the sending node")?);
        let hops = cursor.u8("the number of hops")?;
        Ok(Self { parts, kind, envelope: Envelope { cache, from, node }, hops, rest: cursor.rest() })
    }

    /// Returns an upper bound of the bytes that [`write`](Self::write) appends.
    pub(super) fn size(&self) -> usize {
        self.envelope.cache.len() + 64
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.raw(&[VERSION]);
        writer.head(Header::Array(Some(self.parts)));
        writer.uint(self.kind.code());
        writer.text(self.envelope.cache);
        writer.bytes(&self.envelope.from.to_bytes());
        writer.bytes(self.envelope.node.as_bytes());
        writer.uint(self.hops.into());
    }
}
