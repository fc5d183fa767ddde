//! The encoder: messages to bytes.

use bytes::Bytes;
use ciborium_ll::Header;
use serde::Serialize;

use super::envelope::{Envelope, Head, MessageKind};
use super::error::EncodeError;
use super::layout::{
    BOUND_PARTS, ENTRY_PARTS, FACT_PARTS, FACT_PARTS_WITH_RETIRED, INTERVAL_PARTS, INTERVAL_PARTS_WITH_FILLS,
    NAMED_PARTS, REPLICAS, ack, audit, digest, frame, last, push,
};
use super::replicas::{Collector, Numbers};
use super::user::{write_key, write_value};
use super::write::{OpenMap, Writer};
use crate::crdt::VersionVector;
use crate::hlc::{HlcTime, Stamp};
use crate::item::{Body, Key};
use crate::message::{Ack, Audit, Digest, Entry, Fact, FillNote, Frame, Interval, Last, Message, Named, Push, Retired};
use crate::replica_id::ReplicaId;

/// The usual size of an entry beyond its encoded key and value, in bytes. It only sizes the buffer.
const USUAL_ENTRY_OVERHEAD: usize = 20;

/// Encodes `message`.
///
/// Each message has one encoding. A push is always encoded from its entries. To relay a push that was received, use
/// [`forward`](super::forward).
///
/// # Errors
/// If a key or value does not serialise, or if `message` is malformed: see [`EncodeError`].
pub fn encode<K: Serialize, V: Serialize>(
    envelope: &Envelope<'_>,
    message: &Message<K, V>,
) -> Result<Bytes, EncodeError> {
    let (kind, hops) = match message {
        Message::Digest(_) => (MessageKind::Digest, 0),
        Message::Push(push) => (MessageKind::Push, push.hops),
        Message::Ack(_) => (MessageKind::Ack, 0),
        Message::Frame(_) => (MessageKind::Frame, 0),
        Message::Audit(_) => (MessageKind::Audit, 0),
    };
    let head = Head::new(kind, *envelope, hops);
    let replicas = collect(message);
    let size = head.size() + 17 * replicas.ids().len() + body_size(message);
    let mut encoder = Encoder { writer: Writer::with_capacity(size), replicas, last_key: 0 };
    head.write(&mut encoder.writer);
    encoder.body(message)?;
    Ok(encoder.writer.finish())
}

/// Returns the replica ids that `message` mentions.
fn collect<K, V>(message: &Message<K, V>) -> Numbers {
    let mut ids = Collector::default();
    match message {
        Message::Digest(digest) => {
            ids.add_vector(&digest.vector);
            for fact in &digest.facts {
                ids.add(fact.member);
                ids.add_vector(&fact.vector);
            }
            digest.members.iter().for_each(|named| ids.add(named.member));
            digest.renew.into_iter().for_each(|id| ids.add(id));
        }
        Message::Push(push) => {
            collect_interval(&mut ids, push.origin, &push.entries);
            collect_fills(&mut ids, &push.fills);
        }
        Message::Ack(ack) => ack.to.into_iter().for_each(|to| ids.add(to)),
        Message::Frame(frame) => collect_frame(&mut ids, frame),
        Message::Audit(audit) => {
            ids.add_vector(&audit.vector);
            for entry in &audit.entries {
                collect_interval(&mut ids, entry.dot().actor, std::slice::from_ref(entry));
            }
        }
    }
    ids.finish()
}

fn collect_frame<K, V>(ids: &mut Collector, frame: &Frame<K, V>) {
    ids.add(frame.to);
    ids.add_vector(&frame.base);
    for interval in &frame.intervals {
        collect_interval(ids, interval.origin, &interval.entries);
        collect_fills(ids, &interval.fills);
    }
    ids.add_vector(&frame.dropped);
    if let Some(last) = &frame.last {
        ids.add_vector(&last.claim);
        ids.add_vector(&last.beyond);
        ids.add(last.floor.replica);
        if last.eviction_floor != Stamp::ZERO {
            ids.add(last.eviction_floor.replica);
        }
        ids.add_vector(&last.evicted);
    }
}

fn collect_fills(ids: &mut Collector, fills: &[FillNote]) {
    fills.iter().flat_map(|note| &note.bound.known).for_each(|stamp| ids.add(stamp.replica));
}

fn collect_interval<K, V>(ids: &mut Collector, origin: ReplicaId, entries: &[Entry<K, V>]) {
    ids.add(origin);
    for entry in entries {
        let replica = entry.marker.stamp.replica;
        if replica != origin {
            ids.add(replica);
        }
    }
}

/// Estimates the size of the body in bytes.
fn body_size<K, V>(message: &Message<K, V>) -> usize {
    let vector = |vector: &VersionVector| 14 * vector.len() + 8;
    match message {
        Message::Digest(digest) => {
            vector(&digest.vector)
                + 8 * digest.members.len()
                + digest.facts.iter().map(|fact| 24 + vector(&fact.vector)).sum::<usize>()
                + 96
        }
        Message::Push(push) => entries_size(&push.entries) + 64,
        Message::Ack(_) => 16,
        Message::Frame(frame) => {
            let claim = frame.last.as_ref().map_or(0, |last| vector(&last.claim) + vector(&last.beyond));
            let entries: usize = frame.intervals.iter().map(|interval| 32 + entries_size(&interval.entries)).sum();
            vector(&frame.base) + vector(&frame.dropped) + claim + entries + 96
        }
        Message::Audit(audit) => vector(&audit.vector) + audit.entries.len() * 64 + 32,
    }
}

fn entries_size<K, V>(entries: &[Entry<K, V>]) -> usize {
    entries.iter().map(|entry| entry.size as usize + USUAL_ENTRY_OVERHEAD).sum()
}

struct Encoder {
    writer: Writer,
    replicas: Numbers,
    /// The length of the previous key: the guess for the next key.
    last_key: usize,
}

impl Encoder {
    fn body<K: Serialize, V: Serialize>(&mut self, message: &Message<K, V>) -> Result<(), EncodeError> {
        let map = self.writer.open();
        self.table(&map);
        match message {
            Message::Digest(digest) => self.digest(&map, digest),
            Message::Push(push) => self.push(&map, push),
            Message::Ack(ack) => self.ack(&map, *ack),
            Message::Frame(frame) => self.frame(&map, frame),
            Message::Audit(audit) => self.audit(&map, audit),
        }
    }

    fn table(&mut self, map: &OpenMap) {
        let ids = self.replicas.ids();
        if ids.is_empty() {
            return;
        }
        self.writer.field(map, REPLICAS);
        self.writer.head(Header::Bytes(Some(16 * ids.len())));
        for id in ids {
            self.writer.raw(&id.to_bytes());
        }
    }

    fn digest(&mut self, map: &OpenMap, digest: &Digest) -> Result<(), EncodeError> {
        self.writer.uint_field(map, digest::CLOCK, digest.clock);
        self.writer.nonzero_field(map, digest::QUIET_SINCE, digest.quiet_since);
        self.writer.nonzero_field(map, digest::WATERMARK, digest.watermark);
        self.writer.nonzero_field(map, digest::EPOCH, digest.epoch);
        self.vector_field(map, digest::VECTOR, &digest.vector)?;
        if digest.retired != Retired::default() {
            self.writer.field(map, digest::RETIRED);
            self.writer.head(Header::Array(Some(2)));
            self.writer.uint(digest.retired.count.into());
            self.writer.uint(digest.retired.hash);
        }
        self.writer.flag_field(map, digest::FULL, digest.full);
        self.writer.flag_field(map, digest::WANT_FULL, digest.want_full);
        self.writer.flag_field(map, digest::REPLY, digest.reply);
        self.writer.flag_field(map, digest::LOSSY, digest.lossy);
        if !digest.facts.is_empty() {
            self.writer.field(map, digest::FACTS);
            self.writer.head(Header::Array(Some(digest.facts.len())));
            digest.facts.iter().try_for_each(|fact| self.fact(fact))?;
        }
        if let Some(id) = &digest.renew {
            self.writer.field(map, digest::RENEW);
            self.id(id)?;
        }
        self.members(map, &digest.members)?;
        self.writer.nonzero_field(map, digest::DEFERRING, digest.deferring);
        self.writer.nonzero_field(map, digest::WALL, digest.wall);
        self.writer.flag_field(map, digest::GREETS, digest.greets);
        Ok(())
    }

    fn members(&mut self, map: &OpenMap, members: &[Named]) -> Result<(), EncodeError> {
        if members.is_empty() {
            return Ok(());
        }
        self.writer.field(map, digest::MEMBERS);
        self.writer.head(Header::Array(Some(members.len())));
        for Named { member, dead_for, met } in members {
            self.writer.head(Header::Array(Some(NAMED_PARTS)));
            self.id(member)?;
            self.writer.uint(*dead_for);
            self.writer.bool(*met);
        }
        Ok(())
    }

    fn fact(&mut self, fact: &Fact) -> Result<(), EncodeError> {
        let parts = if fact.retired { FACT_PARTS_WITH_RETIRED } else { FACT_PARTS };
        self.writer.head(Header::Array(Some(parts)));
        self.id(&fact.member)?;
        self.writer.uint(fact.clock);
        self.writer.uint(fact.watermark);
        self.vector(&fact.vector)?;
        if fact.retired {
            self.writer.bool(true);
        }
        Ok(())
    }

    fn push<K: Serialize, V: Serialize>(&mut self, map: &OpenMap, push: &Push<K, V>) -> Result<(), EncodeError> {
        self.writer.field(map, push::ORIGIN);
        self.id(&push.origin)?;
        self.writer.uint_field(map, push::FROM, push.from);
        self.writer.uint_field(map, push::TO, push.to);
        self.writer.nonzero_field(map, push::EPOCH, push.epoch);
        self.writer.field(map, push::ENTRIES);
        self.entries(push.origin, (push.from, push.to), &push.entries)?;
        if !push.fills.is_empty() {
            self.writer.field(map, push::FILLS);
            self.fills(&push.fills)?;
        }
        Ok(())
    }

    fn fills(&mut self, fills: &[FillNote]) -> Result<(), EncodeError> {
        self.writer.head(Header::Array(Some(fills.len())));
        for FillNote { time, bound } in fills {
            self.writer.head(Header::Array(Some(BOUND_PARTS)));
            self.writer.uint(*time);
            self.writer.uint(bound.after);
            self.writer.uint(bound.epoch);
            self.writer.head(Header::Array(Some(bound.known.len())));
            bound.known.iter().try_for_each(|stamp| self.stamp(stamp))?;
        }
        Ok(())
    }

    fn ack(&mut self, map: &OpenMap, ack: Ack) -> Result<(), EncodeError> {
        self.writer.uint_field(map, ack::TIME, ack.time);
        if let Some(to) = &ack.to {
            self.writer.field(map, ack::TO);
            self.id(to)?;
        }
        Ok(())
    }

    fn frame<K: Serialize, V: Serialize>(&mut self, map: &OpenMap, frame: &Frame<K, V>) -> Result<(), EncodeError> {
        self.writer.uint_field(map, frame::SESSION, frame.session);
        self.writer.uint_field(map, frame::INDEX, frame.index.into());
        self.vector_field(map, frame::BASE, &frame.base)?;
        self.writer.flag_field(map, frame::RECONCILE, frame.reconcile);
        self.writer.uint_field(map, frame::CLOCK, frame.clock);
        self.writer.nonzero_field(map, frame::EPOCH, frame.epoch);
        if !frame.intervals.is_empty() {
            self.writer.field(map, frame::INTERVALS);
            self.writer.head(Header::Array(Some(frame.intervals.len())));
            frame.intervals.iter().try_for_each(|interval| self.interval(interval))?;
        }
        self.vector_field(map, frame::DROPPED, &frame.dropped)?;
        if let Some(last) = &frame.last {
            self.last(map, last)?;
        }
        self.writer.field(map, frame::TO);
        self.id(&frame.to)
    }

    fn last(&mut self, map: &OpenMap, last: &Last) -> Result<(), EncodeError> {
        self.writer.field(map, frame::LAST);
        let map = self.writer.open();
        self.writer.uint_field(&map, last::FRAMES, last.frames.into());
        self.vector_field(&map, last::CLAIM, &last.claim)?;
        self.writer.field(&map, last::FLOOR);
        self.stamp(&last.floor)?;
        self.vector_field(&map, last::BEYOND, &last.beyond)?;
        if last.eviction_floor != Stamp::ZERO {
            self.writer.field(&map, last::EVICTION_FLOOR);
            self.stamp(&last.eviction_floor)?;
        }
        self.vector_field(&map, last::EVICTED, &last.evicted)
    }

    /// Writes one interval of a frame. The bounds of fills are an optional fifth element: most intervals have none.
    fn interval<K: Serialize, V: Serialize>(&mut self, interval: &Interval<K, V>) -> Result<(), EncodeError> {
        let plain = interval.fills.is_empty();
        self.writer.head(Header::Array(Some(if plain { INTERVAL_PARTS } else { INTERVAL_PARTS_WITH_FILLS })));
        self.id(&interval.origin)?;
        self.writer.uint(interval.from);
        self.writer.uint(interval.to);
        self.entries(interval.origin, (interval.from, interval.to), &interval.entries)?;
        if plain { Ok(()) } else { self.fills(&interval.fills) }
    }

    fn audit<K: Serialize, V: Serialize>(&mut self, map: &OpenMap, audit: &Audit<K, V>) -> Result<(), EncodeError> {
        self.vector_field(map, audit::VECTOR, &audit.vector)?;
        self.writer.field(map, audit::ENTRIES);
        self.writer.head(Header::Array(Some(audit.entries.len())));
        for entry in &audit.entries {
            self.writer.head(Header::Array(Some(ENTRY_PARTS)));
            self.key(&entry.item.key)?;
            self.id(&entry.marker.dot.actor)?;
            self.writer.uint(entry.marker.dot.counter);
            self.marker(entry)?;
        }
        self.writer.flag_field(map, audit::REPLY, audit.reply);
        Ok(())
    }

    /// Writes the entries of the interval `(from, to]` of `origin`. A dot time is sent as its distance from the one
    /// before.
    fn entries<K: Serialize, V: Serialize>(
        &mut self,
        origin: ReplicaId,
        (from, to): (HlcTime, HlcTime),
        entries: &[Entry<K, V>],
    ) -> Result<(), EncodeError> {
        self.writer.head(Header::Array(Some(entries.len())));
        let mut previous = from;
        for entry in entries {
            let dot = entry.marker.dot;
            if dot.actor != origin {
                return Err(EncodeError::ForeignDot);
            }
            if dot.counter <= previous || dot.counter > to {
                return Err(EncodeError::EntryOrder);
            }
            self.entry(entry, dot.counter - previous)?;
            previous = dot.counter;
        }
        // An empty interval passes the loop without a check, so the order of its ends is checked here.
        if from > to { Err(EncodeError::EntryOrder) } else { Ok(()) }
    }

    fn entry<K: Serialize, V: Serialize>(&mut self, entry: &Entry<K, V>, step: u64) -> Result<(), EncodeError> {
        self.writer.head(Header::Array(Some(ENTRY_PARTS)));
        let key = self.key(&entry.item.key)?;
        self.writer.uint(step);
        self.marker(entry)?;
        if !entry.marker.kind.is_live() {
            self.writer.null();
            return Ok(());
        }
        let guess = (entry.size as usize).saturating_sub(key);
        match &entry.item.body {
            Body::Known(value) => self.writer.wrapped(guess, |out| write_value(out, value)).map(drop),
            Body::Opaque(Some(bytes)) => {
                self.writer.bytes(bytes);
                Ok(())
            }
            Body::Opaque(None) => Err(EncodeError::BodyMissing),
        }
    }

    /// Writes kind, stamp and expiry. The stamp omits what equals the dot: its replica, or both replica and time.
    fn marker<K, V>(&mut self, entry: &Entry<K, V>) -> Result<(), EncodeError> {
        let marker = &entry.marker;
        self.writer.uint(marker.kind.code().into());
        if marker.stamp.replica != marker.dot.actor {
            self.stamp(&marker.stamp)?;
        } else if marker.stamp.time != marker.dot.counter {
            self.writer.uint(marker.stamp.time);
        } else {
            self.writer.null();
        }
        self.writer.uint(entry.expires);
        Ok(())
    }

    fn key<K: Serialize>(&mut self, key: &Key<K>) -> Result<usize, EncodeError> {
        let len = match key.known() {
            Some(key) => self.writer.wrapped(self.last_key, |out| write_key(out, key))?,
            None => {
                self.writer.bytes(key.opaque());
                key.opaque().len()
            }
        };
        self.last_key = len;
        Ok(len)
    }

    fn stamp(&mut self, stamp: &Stamp) -> Result<(), EncodeError> {
        self.writer.head(Header::Array(Some(2)));
        self.id(&stamp.replica)?;
        self.writer.uint(stamp.time);
        Ok(())
    }

    fn vector_field(&mut self, map: &OpenMap, field: u64, vector: &VersionVector) -> Result<(), EncodeError> {
        if vector.is_empty() {
            return Ok(());
        }
        self.writer.field(map, field);
        self.vector(vector)
    }

    fn vector(&mut self, vector: &VersionVector) -> Result<(), EncodeError> {
        self.writer.head(Header::Map(Some(vector.len())));
        for (origin, time) in vector.iter() {
            self.id(&origin)?;
            self.writer.uint(time);
        }
        Ok(())
    }

    fn id(&mut self, id: &ReplicaId) -> Result<(), EncodeError> {
        let number = self.replicas.number(id)?;
        self.writer.uint(number);
        Ok(())
    }
}
