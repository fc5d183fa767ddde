//! The decoder: bytes to messages.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::cursor::Fields;
use super::entries::{EntryReader, Intake, Register};
use super::envelope::{Envelope, Head, MessageKind};
use super::error::DecodeError;
use super::layout::{
    FACT_PARTS, FACT_PARTS_WITH_RETIRED, INTERVAL_PARTS, INTERVAL_PARTS_WITH_FILLS, NAMED_PARTS, PARTS, ack, audit,
    digest, frame, last, push,
};
use super::limits::Limits;
use super::parts::PartReader;
use crate::crdt::VersionVector;
use crate::hlc::{HlcTime, Stamp};
use crate::message::{Ack, Audit, Digest, Entry, Fact, Frame, Interval, Last, Message, Named, Push, Retired};
use crate::replica_id::ReplicaId;

/// A received message.
#[derive(Debug)]
pub struct Decoded<'a, K, V> {
    /// The sender, and the cache that the message is for.
    pub envelope: Envelope<'a>,
    /// The message. `None` if this build does not know its kind: the caller ignores it.
    pub message: Option<Message<K, V>>,
    /// The number of entries whose key is not a `K`. They are kept and relayed.
    pub undecodable_keys: u32,
    /// The number of entries whose value is not a `V`. They are kept and relayed.
    pub undecodable_values: u32,
}

/// Decodes the message in `bytes`.
///
/// The memory used before an error is found is a small multiple of the bytes read so far. No length is trusted that
/// exceeds the bytes that follow it.
///
/// # Errors
/// If any part of the message is invalid. Then nothing of it is returned: a message is applied completely or not at
/// all. A key or value that is not of its type is not an error (see [`Decoded`]).
pub fn decode<'a, K: DeserializeOwned, V: DeserializeOwned>(
    bytes: &'a Bytes,
    intake: &impl Intake<K, V>,
    limits: &Limits,
) -> Result<Decoded<'a, K, V>, DecodeError> {
    limits.check_message(bytes.len())?;
    let head = Head::read(bytes)?;
    let mut decoder = Decoder { parts: PartReader::new(head.rest, limits), entries: EntryReader::new(intake) };
    let message = match head.kind {
        MessageKind::Digest => Some(Message::Digest(decoder.digest()?)),
        MessageKind::Push => Some(Message::Push(decoder.push(&head, bytes)?)),
        MessageKind::Ack => Some(Message::Ack(decoder.ack()?)),
        MessageKind::Frame => Some(Message::Frame(decoder.frame()?)),
        MessageKind::Audit => Some(Message::Audit(decoder.audit()?)),
        MessageKind::Unknown(_) => None,
    };
    // The layout after the head of an unknown kind is unknown too, so nothing after the head is checked for it.
    if message.is_some() {
        decoder.parts.skip_rest(head.parts, PARTS)?;
        decoder.parts.cursor.end("a message")?;
    }
    let (undecodable_keys, undecodable_values) = decoder.entries.undecodable();
    Ok(Decoded { envelope: head.envelope, message, undecodable_keys, undecodable_values })
}

/// A reader for one body. `'a` is the lifetime of the message bytes, `'r` that of the arguments of [`decode`].
struct Decoder<'a, 'r, I> {
    parts: PartReader<'a, 'r>,
    entries: EntryReader<'r, I>,
}

impl<I> Decoder<'_, '_, I> {
    fn digest(&mut self) -> Result<Digest, DecodeError> {
        const WHAT: &str = "a digest";
        let mut clock = None;
        let mut digest = Digest::default();
        let mut fields = Fields::open(&mut self.parts.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.parts.cursor)? {
            match field {
                digest::CLOCK => clock = Some(self.parts.cursor.uint(WHAT)?),
                digest::QUIET_SINCE => digest.quiet_since = self.parts.cursor.uint(WHAT)?,
                digest::WATERMARK => digest.watermark = self.parts.cursor.uint(WHAT)?,
                digest::EPOCH => digest.epoch = self.parts.cursor.uint(WHAT)?,
                digest::VECTOR => digest.vector = self.parts.vector()?,
                digest::RETIRED => digest.retired = self.retired()?,
                digest::FULL => digest.full = self.parts.cursor.bool(WHAT)?,
                digest::WANT_FULL => digest.want_full = self.parts.cursor.bool(WHAT)?,
                digest::REPLY => digest.reply = self.parts.cursor.bool(WHAT)?,
                digest::LOSSY => digest.lossy = self.parts.cursor.bool(WHAT)?,
                digest::FACTS => digest.facts = self.facts()?,
                digest::RENEW => digest.renew = Some(self.parts.id(WHAT)?),
                digest::MEMBERS => digest.members = self.members()?,
                digest::DEFERRING => digest.deferring = self.parts.cursor.uint(WHAT)?,
                digest::WALL => digest.wall = self.parts.cursor.uint(WHAT)?,
                digest::GREETS => digest.greets = self.parts.cursor.bool(WHAT)?,
                other => self.parts.common_field(other)?,
            }
        }
        digest.clock = clock.ok_or(DecodeError::Missing("a digest's clock"))?;
        Ok(digest)
    }

    fn retired(&mut self) -> Result<Retired, DecodeError> {
        const WHAT: &str = "the retired origins";
        let parts = self.parts.cursor.array_of(2, WHAT)?;
        let retired = Retired { count: self.parts.cursor.u32(WHAT)?, hash: self.parts.cursor.uint(WHAT)? };
        self.parts.skip_rest(parts, 2)?;
        Ok(retired)
    }

    fn facts(&mut self) -> Result<Vec<Fact>, DecodeError> {
        const WHAT: &str = "the facts of a digest";
        let count = self.parts.cursor.array(WHAT)?;
        self.parts.limits.check_origins(WHAT, count)?;
        (0..count).map(|_| self.fact()).collect()
    }

    fn fact(&mut self) -> Result<Fact, DecodeError> {
        const WHAT: &str = "a fact";
        let parts = self.parts.cursor.array_of(FACT_PARTS, WHAT)?;
        let (member, clock, watermark) =
            (self.parts.id(WHAT)?, self.parts.cursor.uint(WHAT)?, self.parts.cursor.uint(WHAT)?);
        let vector = self.parts.vector()?;
        // The flag is an optional fifth element. Releases without it send four.
        let tells = parts >= FACT_PARTS_WITH_RETIRED;
        let retired = tells && self.parts.cursor.bool(WHAT)?;
        self.parts.skip_rest(parts, if tells { FACT_PARTS_WITH_RETIRED } else { FACT_PARTS })?;
        Ok(Fact { member, clock, watermark, vector, retired })
    }

    fn members(&mut self) -> Result<Vec<Named>, DecodeError> {
        const WHAT: &str = "a named member";
        let count = self.parts.cursor.array(WHAT)?;
        self.parts.limits.check_origins(WHAT, count)?;
        (0..count).map(|_| self.named(WHAT)).collect()
    }

    fn named(&mut self, what: &'static str) -> Result<Named, DecodeError> {
        let parts = self.parts.cursor.array_of(NAMED_PARTS, what)?;
        let (member, dead_for) = (self.parts.id(what)?, self.parts.cursor.uint(what)?);
        let named = Named { member, dead_for, met: self.parts.cursor.bool(what)? };
        self.parts.skip_rest(parts, NAMED_PARTS)?;
        Ok(named)
    }

    fn ack(&mut self) -> Result<Ack, DecodeError> {
        const WHAT: &str = "an acknowledgement";
        let (mut to, mut time) = (None, None);
        let mut fields = Fields::open(&mut self.parts.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.parts.cursor)? {
            match field {
                ack::TIME => time = Some(self.parts.cursor.uint(WHAT)?),
                ack::TO => to = Some(self.parts.id(WHAT)?),
                other => self.parts.common_field(other)?,
            }
        }
        Ok(Ack { to, time: time.ok_or(DecodeError::Missing("an acknowledgement's time"))? })
    }

    fn last(&mut self) -> Result<Last, DecodeError> {
        const WHAT: &str = "the end of a session";
        let (mut frames, mut claim, mut floor) = (None, VersionVector::new(), None);
        let (mut beyond, mut eviction_floor, mut evicted) = (VersionVector::new(), Stamp::ZERO, VersionVector::new());
        let mut fields = Fields::open(&mut self.parts.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.parts.cursor)? {
            match field {
                last::FRAMES => frames = Some(self.parts.cursor.u32(WHAT)?),
                last::CLAIM => claim = self.parts.vector()?,
                last::FLOOR => floor = Some(self.parts.stamp()?),
                last::BEYOND => beyond = self.parts.vector()?,
                last::EVICTION_FLOOR => eviction_floor = self.parts.stamp()?,
                last::EVICTED => evicted = self.parts.vector()?,
                _ => self.parts.skip()?,
            }
        }
        Ok(Last {
            frames: frames.ok_or(DecodeError::Missing("the number of frames"))?,
            claim,
            beyond,
            floor: floor.ok_or(DecodeError::Missing("the gc floor"))?,
            eviction_floor,
            evicted,
        })
    }
}

impl<'a, I> Decoder<'a, '_, I> {
    fn push<K, V>(&mut self, head: &Head<'a>, bytes: &Bytes) -> Result<Push<K, V>, DecodeError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        I: Intake<K, V>,
    {
        const WHAT: &str = "a push";
        let (mut origin, mut from, mut to, mut epoch) = (None, None, None, 0);
        let (mut entries, mut fills) = (Vec::new(), Vec::new());
        let mut fields = Fields::open(&mut self.parts.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.parts.cursor)? {
            match field {
                push::ORIGIN => origin = Some(self.parts.id(WHAT)?),
                push::FROM => from = Some(self.parts.cursor.uint(WHAT)?),
                push::TO => to = Some(self.parts.cursor.uint(WHAT)?),
                push::EPOCH => epoch = self.parts.cursor.uint(WHAT)?,
                // Fields are in rising order, so origin and range are known before the entries, which need them.
                push::ENTRIES => {
                    let origin = origin.ok_or(DecodeError::Missing("a push's origin"))?;
                    let range = range(from, to)?;
                    entries = self.interval(origin, range)?;
                }
                push::FILLS => fills = self.parts.fills()?,
                other => self.parts.common_field(other)?,
            }
        }
        let origin = origin.ok_or(DecodeError::Missing("a push's origin"))?;
        let (from, to) = range(from, to)?;
        Ok(Push { origin, from, to, epoch, entries, fills, hops: head.hops, raw: bytes.clone() })
    }

    fn frame<K, V>(&mut self) -> Result<Frame<K, V>, DecodeError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        I: Intake<K, V>,
    {
        const WHAT: &str = "a frame";
        let (mut to, mut session, mut index, mut clock) = (None, None, None, None);
        let mut frame = empty_frame();
        let mut fields = Fields::open(&mut self.parts.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.parts.cursor)? {
            match field {
                frame::SESSION => session = Some(self.parts.cursor.uint(WHAT)?),
                frame::INDEX => index = Some(self.parts.cursor.u32(WHAT)?),
                frame::BASE => frame.base = self.parts.vector()?,
                frame::RECONCILE => frame.reconcile = self.parts.cursor.bool(WHAT)?,
                frame::CLOCK => clock = Some(self.parts.cursor.uint(WHAT)?),
                frame::EPOCH => frame.epoch = self.parts.cursor.uint(WHAT)?,
                frame::INTERVALS => frame.intervals = self.intervals()?,
                frame::DROPPED => frame.dropped = self.parts.vector()?,
                frame::LAST => frame.last = Some(self.last()?),
                frame::TO => to = Some(self.parts.id(WHAT)?),
                other => self.parts.common_field(other)?,
            }
        }
        frame.to = to.ok_or(DecodeError::Missing("a frame's receiver"))?;
        frame.session = session.ok_or(DecodeError::Missing("a frame's session"))?;
        frame.index = index.ok_or(DecodeError::Missing("a frame's number"))?;
        frame.clock = clock.ok_or(DecodeError::Missing("a frame's clock"))?;
        Ok(frame)
    }

    fn intervals<K, V>(&mut self) -> Result<Vec<Interval<K, V>>, DecodeError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        I: Intake<K, V>,
    {
        const WHAT: &str = "an interval";
        let count = self.parts.cursor.array(WHAT)?;
        let mut intervals = Vec::new();
        for _ in 0..count {
            let parts = self.parts.cursor.array_of(INTERVAL_PARTS, WHAT)?;
            let origin = self.parts.id(WHAT)?;
            let (from, to) = range(Some(self.parts.cursor.uint(WHAT)?), Some(self.parts.cursor.uint(WHAT)?))?;
            let entries = self.interval(origin, (from, to))?;
            let bounded = parts >= INTERVAL_PARTS_WITH_FILLS;
            let fills = if bounded { self.parts.fills()? } else { Vec::new() };
            intervals.push(Interval { origin, from, to, entries, fills });
            self.parts.skip_rest(parts, if bounded { INTERVAL_PARTS_WITH_FILLS } else { INTERVAL_PARTS })?;
        }
        Ok(intervals)
    }

    fn audit<K, V>(&mut self) -> Result<Audit<K, V>, DecodeError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        I: Intake<K, V>,
    {
        const WHAT: &str = "an audit";
        let mut audit = Audit { vector: VersionVector::new(), entries: Vec::new(), reply: false };
        let mut fields = Fields::open(&mut self.parts.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.parts.cursor)? {
            match field {
                audit::VECTOR => audit.vector = self.parts.vector()?,
                audit::ENTRIES => {
                    let count = self.parts.cursor.array(WHAT)?;
                    audit.entries = self.entries.many(&mut self.parts, count, Register::InAudit)?;
                }
                audit::REPLY => audit.reply = self.parts.cursor.bool(WHAT)?,
                other => self.parts.common_field(other)?,
            }
        }
        Ok(audit)
    }

    fn interval<K, V>(
        &mut self,
        origin: ReplicaId,
        (from, to): (HlcTime, HlcTime),
    ) -> Result<Vec<Entry<K, V>>, DecodeError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        I: Intake<K, V>,
    {
        let count = self.parts.cursor.array("the entries of an interval")?;
        self.entries.many(&mut self.parts, count, Register::InInterval { origin, after: from, to })
    }
}

fn range(from: Option<HlcTime>, to: Option<HlcTime>) -> Result<(HlcTime, HlcTime), DecodeError> {
    let from = from.ok_or(DecodeError::Missing("the start of an interval"))?;
    let to = to.ok_or(DecodeError::Missing("the end of an interval"))?;
    if from > to { Err(DecodeError::Interval) } else { Ok((from, to)) }
}

fn empty_frame<K, V>() -> Frame<K, V> {
    Frame {
        to: ReplicaId::MIN,
        session: 0,
        index: 0,
        base: VersionVector::new(),
        reconcile: false,
        clock: 0,
        epoch: 0,
        intervals: Vec::new(),
        dropped: VersionVector::new(),
        last: None,
    }
}
