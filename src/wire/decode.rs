//! Bytes to messages.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::cursor::{Cursor, Fields};
use super::envelope::{Envelope, Head, MessageKind};
use super::error::DecodeError;
use super::layout::{
    BOUND_PARTS, FACT_PARTS, FACT_PARTS_WITH_RETIRED, INTERVAL_PARTS, INTERVAL_PARTS_WITH_FILLS, NAMED_PARTS, PARTS,
    REPLICAS, ack, audit, digest, frame, last, push,
};
use super::limits::Limits;
use super::replicas::Table;
use super::scan::{self, Rule};
use crate::crdt::VersionVector;
use crate::hlc::{HlcTime, Stamp};
use crate::item::Key;
use crate::message::bound::{FillBound, MAX_KNOWN};
use crate::message::{Ack, Audit, Digest, Entry, Fact, FillNote, Frame, Interval, Last, Message, Named, Push, Retired};
use crate::replica_id::ReplicaId;

/// What this process adds to an entry that came in.
pub trait Intake<K, V> {
    /// This process's hash of a key.
    fn hash(&self, key: &Key<K>) -> u64;

    /// What this process's weigher says.
    fn weigh(&self, key: &K, value: &V) -> u32;

    /// What a live entry weighs whose key or value does not decode here. By default its encoded
    /// size in bytes: if the weigher counts entries instead, it goes early, which is safe.
    fn weigh_opaque(&self, size: u32) -> u32 {
        size.max(1)
    }
}

/// A message that came in.
#[derive(Debug)]
pub struct Decoded<'a, K, V> {
    /// Where it comes from, and for which cache.
    pub envelope: Envelope<'a>,
    /// The message; nothing if it is of a kind that this build does not know, to be ignored.
    pub message: Option<Message<K, V>>,
    /// Entries whose key is no `K`. They are kept and relayed.
    pub undecodable_keys: u32,
    /// Entries whose value is no `V`. They are kept and relayed.
    pub undecodable_values: u32,
}

/// The message that `bytes` are.
///
/// Memory taken before an error is found is a small multiple of what was read so far; no length
/// that the bytes do not back up is ever believed.
///
/// # Errors
/// If anything is wrong with the message. Nothing of it is returned then: a message is applied
/// whole or not at all. A key or value that is not of its type is no error (see [`Decoded`]).
pub fn decode<'a, K: DeserializeOwned, V: DeserializeOwned>(
    bytes: &'a Bytes,
    intake: &impl Intake<K, V>,
    limits: &Limits,
) -> Result<Decoded<'a, K, V>, DecodeError> {
    limits.check_message(bytes.len())?;
    let head = Head::read(bytes)?;
    let mut decoder = Decoder {
        cursor: Cursor::new(head.rest),
        table: Table::default(),
        intake,
        limits,
        scratch: Vec::new(),
        undecodable_keys: 0,
        undecodable_values: 0,
    };
    let message = match head.kind {
        MessageKind::Digest => Some(Message::Digest(decoder.digest()?)),
        MessageKind::Push => Some(Message::Push(decoder.push(&head, bytes)?)),
        MessageKind::Ack => Some(Message::Ack(decoder.ack()?)),
        MessageKind::Frame => Some(Message::Frame(decoder.frame()?)),
        MessageKind::Audit => Some(Message::Audit(decoder.audit()?)),
        MessageKind::Unknown(_) => None,
    };
    if message.is_some() {
        decoder.skip_rest(head.parts, PARTS)?;
        decoder.cursor.end("a message")?;
    }
    let Decoder { undecodable_keys, undecodable_values, .. } = decoder;
    Ok(Decoded { envelope: head.envelope, message, undecodable_keys, undecodable_values })
}

/// Where an entry stands, which decides what it need not say.
#[derive(Clone, Copy)]
pub(super) enum Register {
    /// In an interval of `origin`: it says how far its dot is beyond the one before, and its value.
    InInterval {
        /// Whose dots they are.
        origin: ReplicaId,
        /// The dot time before, or the start of the interval.
        after: HlcTime,
        /// The end of the interval.
        to: HlcTime,
    },
    /// In an audit: it says its whole dot, and no value.
    InAudit,
}

/// Reads one body. `'a` are the bytes, `'r` what is lent by the caller.
pub(super) struct Decoder<'a, 'r, I> {
    pub(super) cursor: Cursor<'a>,
    pub(super) table: Table<'a>,
    pub(super) intake: &'r I,
    pub(super) limits: &'r Limits,
    /// For `ciborium`, kept from entry to entry.
    pub(super) scratch: Vec<u8>,
    pub(super) undecodable_keys: u32,
    pub(super) undecodable_values: u32,
}

impl<I> Decoder<'_, '_, I> {
    fn digest(&mut self) -> Result<Digest, DecodeError> {
        const WHAT: &str = "a digest";
        let mut clock = None;
        let mut digest = Digest::default();
        let mut fields = Fields::open(&mut self.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.cursor)? {
            match field {
                digest::CLOCK => clock = Some(self.cursor.uint(WHAT)?),
                digest::QUIET_SINCE => digest.quiet_since = self.cursor.uint(WHAT)?,
                digest::WATERMARK => digest.watermark = self.cursor.uint(WHAT)?,
                digest::EPOCH => digest.epoch = self.cursor.uint(WHAT)?,
                digest::VECTOR => digest.vector = self.vector()?,
                digest::RETIRED => digest.retired = self.retired()?,
                digest::FULL => digest.full = self.cursor.bool(WHAT)?,
                digest::WANT_FULL => digest.want_full = self.cursor.bool(WHAT)?,
                digest::REPLY => digest.reply = self.cursor.bool(WHAT)?,
                digest::LOSSY => digest.lossy = self.cursor.bool(WHAT)?,
                digest::FACTS => digest.facts = self.facts()?,
                digest::RENEW => digest.renew = Some(self.id(WHAT)?),
                digest::MEMBERS => digest.members = self.members()?,
                digest::DEFERRING => digest.deferring = self.cursor.uint(WHAT)?,
                digest::WALL => digest.wall = self.cursor.uint(WHAT)?,
                digest::GREETS => digest.greets = self.cursor.bool(WHAT)?,
                other => self.common_field(other)?,
            }
        }
        digest.clock = clock.ok_or(DecodeError::Missing("a digest's clock"))?;
        Ok(digest)
    }

    fn retired(&mut self) -> Result<Retired, DecodeError> {
        const WHAT: &str = "the retired origins";
        let parts = self.cursor.array_of(2, WHAT)?;
        let retired = Retired { count: self.cursor.u32(WHAT)?, hash: self.cursor.uint(WHAT)? };
        self.skip_rest(parts, 2)?;
        Ok(retired)
    }

    fn facts(&mut self) -> Result<Vec<Fact>, DecodeError> {
        const WHAT: &str = "the facts of a digest";
        let count = self.cursor.array(WHAT)?;
        self.limits.check_origins(WHAT, count)?;
        (0..count).map(|_| self.fact()).collect()
    }

    fn fact(&mut self) -> Result<Fact, DecodeError> {
        const WHAT: &str = "a fact";
        let parts = self.cursor.array_of(FACT_PARTS, WHAT)?;
        let (member, clock, watermark) = (self.id(WHAT)?, self.cursor.uint(WHAT)?, self.cursor.uint(WHAT)?);
        let vector = self.vector()?;
        let tells = parts >= FACT_PARTS_WITH_RETIRED;
        let retired = tells && self.cursor.bool(WHAT)?;
        self.skip_rest(parts, if tells { FACT_PARTS_WITH_RETIRED } else { FACT_PARTS })?;
        Ok(Fact { member, clock, watermark, vector, retired })
    }

    fn members(&mut self) -> Result<Vec<Named>, DecodeError> {
        const WHAT: &str = "a named member";
        let count = self.cursor.array(WHAT)?;
        self.limits.check_origins(WHAT, count)?;
        (0..count).map(|_| self.named(WHAT)).collect()
    }

    fn named(&mut self, what: &'static str) -> Result<Named, DecodeError> {
        let parts = self.cursor.array_of(NAMED_PARTS, what)?;
        let (member, dead_for) = (self.id(what)?, self.cursor.uint(what)?);
        let named = Named { member, dead_for, met: self.cursor.bool(what)? };
        self.skip_rest(parts, NAMED_PARTS)?;
        Ok(named)
    }

    fn ack(&mut self) -> Result<Ack, DecodeError> {
        const WHAT: &str = "an acknowledgement";
        let (mut to, mut time) = (None, None);
        let mut fields = Fields::open(&mut self.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.cursor)? {
            match field {
                ack::TIME => time = Some(self.cursor.uint(WHAT)?),
                ack::TO => to = Some(self.id(WHAT)?),
                other => self.common_field(other)?,
            }
        }
        Ok(Ack { to, time: time.ok_or(DecodeError::Missing("an acknowledgement's time"))? })
    }

    fn last(&mut self) -> Result<Last, DecodeError> {
        const WHAT: &str = "the end of a session";
        let (mut frames, mut claim, mut floor) = (None, VersionVector::new(), None);
        let (mut beyond, mut eviction_floor, mut evicted) = (VersionVector::new(), Stamp::ZERO, VersionVector::new());
        let mut fields = Fields::open(&mut self.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.cursor)? {
            match field {
                last::FRAMES => frames = Some(self.cursor.u32(WHAT)?),
                last::CLAIM => claim = self.vector()?,
                last::FLOOR => floor = Some(self.stamp()?),
                last::BEYOND => beyond = self.vector()?,
                last::EVICTION_FLOOR => eviction_floor = self.stamp()?,
                last::EVICTED => evicted = self.vector()?,
                _ => self.skip()?,
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

    /// A field that every body may have, or one from a newer release.
    fn common_field(&mut self, field: u64) -> Result<(), DecodeError> {
        if field != REPLICAS {
            return self.skip();
        }
        self.table = Table::new(self.cursor.bytes("the replica table")?)?;
        Ok(())
    }

    fn skip(&mut self) -> Result<(), DecodeError> {
        scan::skip(&mut self.cursor, Rule::Field, self.limits.depth())
    }

    /// The elements of an array that a newer release has added.
    pub(super) fn skip_rest(&mut self, parts: usize, known: usize) -> Result<(), DecodeError> {
        (known..parts).try_for_each(|_| self.skip())
    }

    pub(super) fn id(&mut self, what: &'static str) -> Result<ReplicaId, DecodeError> {
        self.table.id(self.cursor.uint(what)?)
    }

    /// `[replica, time]`
    pub(super) fn stamp(&mut self) -> Result<Stamp, DecodeError> {
        const WHAT: &str = "a stamp";
        if self.cursor.array(WHAT)? != 2 {
            return Err(DecodeError::Type(WHAT));
        }
        let replica = self.id(WHAT)?;
        Ok(Stamp::new(self.cursor.uint(WHAT)?, replica))
    }

    fn fills(&mut self) -> Result<Vec<FillNote>, DecodeError> {
        const WHAT: &str = "the bounds of fills";
        let count = self.cursor.array(WHAT)?;
        let mut fills: Vec<FillNote> = Vec::new();
        for _ in 0..count {
            let note = self.fill_note(WHAT)?;
            if fills.last().is_some_and(|last| last.time >= note.time) {
                return Err(DecodeError::EntryOrder);
            }
            fills.push(note);
        }
        Ok(fills)
    }

    fn fill_note(&mut self, what: &'static str) -> Result<FillNote, DecodeError> {
        let parts = self.cursor.array_of(BOUND_PARTS, what)?;
        let time = self.cursor.uint(what)?;
        let (after, epoch) = (self.cursor.uint(what)?, self.cursor.uint(what)?);
        let count = self.cursor.array(what)?;
        if count > MAX_KNOWN {
            return Err(DecodeError::Range(what));
        }
        let known = (0..count).map(|_| self.stamp()).collect::<Result<_, _>>()?;
        self.skip_rest(parts, BOUND_PARTS)?;
        Ok(FillNote { time, bound: FillBound { after, epoch, known } })
    }

    fn vector(&mut self) -> Result<VersionVector, DecodeError> {
        const WHAT: &str = "a version vector";
        let count = self.cursor.map(WHAT)?;
        self.limits.check_origins(WHAT, count)?;
        let mut entries = Vec::with_capacity(count.min(1_024));
        let mut next = 0;
        for _ in 0..count {
            let number = self.cursor.uint(WHAT)?;
            if number < next {
                return Err(DecodeError::ReplicaOrder(WHAT));
            }
            next = number.saturating_add(1);
            entries.push((self.table.id(number)?, self.cursor.uint(WHAT)?));
        }
        let vector: VersionVector = entries.into_iter().collect();
        // Not listed is zero, and there is one way to say so.
        if vector.len() == count { Ok(vector) } else { Err(DecodeError::Range(WHAT)) }
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
        let mut fields = Fields::open(&mut self.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.cursor)? {
            match field {
                push::ORIGIN => origin = Some(self.id(WHAT)?),
                push::FROM => from = Some(self.cursor.uint(WHAT)?),
                push::TO => to = Some(self.cursor.uint(WHAT)?),
                push::EPOCH => epoch = self.cursor.uint(WHAT)?,
                push::ENTRIES => {
                    let origin = origin.ok_or(DecodeError::Missing("a push's origin"))?;
                    let range = range(from, to)?;
                    entries = self.entries(origin, range)?;
                }
                push::FILLS => fills = self.fills()?,
                other => self.common_field(other)?,
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
        let mut fields = Fields::open(&mut self.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.cursor)? {
            match field {
                frame::SESSION => session = Some(self.cursor.uint(WHAT)?),
                frame::INDEX => index = Some(self.cursor.u32(WHAT)?),
                frame::BASE => frame.base = self.vector()?,
                frame::RECONCILE => frame.reconcile = self.cursor.bool(WHAT)?,
                frame::CLOCK => clock = Some(self.cursor.uint(WHAT)?),
                frame::EPOCH => frame.epoch = self.cursor.uint(WHAT)?,
                frame::INTERVALS => frame.intervals = self.intervals()?,
                frame::DROPPED => frame.dropped = self.vector()?,
                frame::LAST => frame.last = Some(self.last()?),
                frame::TO => to = Some(self.id(WHAT)?),
                other => self.common_field(other)?,
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
        let count = self.cursor.array(WHAT)?;
        let mut intervals = Vec::new();
        for _ in 0..count {
            let parts = self.cursor.array_of(INTERVAL_PARTS, WHAT)?;
            let origin = self.id(WHAT)?;
            let (from, to) = range(Some(self.cursor.uint(WHAT)?), Some(self.cursor.uint(WHAT)?))?;
            let entries = self.entries(origin, (from, to))?;
            let bounded = parts >= INTERVAL_PARTS_WITH_FILLS;
            let fills = if bounded { self.fills()? } else { Vec::new() };
            intervals.push(Interval { origin, from, to, entries, fills });
            self.skip_rest(parts, if bounded { INTERVAL_PARTS_WITH_FILLS } else { INTERVAL_PARTS })?;
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
        let mut fields = Fields::open(&mut self.cursor, WHAT)?;
        while let Some(field) = fields.next(&mut self.cursor)? {
            match field {
                audit::VECTOR => audit.vector = self.vector()?,
                audit::ENTRIES => {
                    let count = self.cursor.array(WHAT)?;
                    audit.entries = self.many(count, Register::InAudit)?;
                }
                audit::REPLY => audit.reply = self.cursor.bool(WHAT)?,
                other => self.common_field(other)?,
            }
        }
        Ok(audit)
    }

    fn entries<K, V>(
        &mut self,
        origin: ReplicaId,
        (from, to): (HlcTime, HlcTime),
    ) -> Result<Vec<Entry<K, V>>, DecodeError>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
        I: Intake<K, V>,
    {
        let count = self.cursor.array("the entries of an interval")?;
        self.many(count, Register::InInterval { origin, after: from, to })
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
