//! A generator of plausible messages from arbitrary bytes: few ids, few keys, and times near the ones that matter.
//!
//! Random CBOR hardly ever contains the ids, times and sessions that a replica is using. A hostile member can choose
//! them.

use bytes::Bytes;
use driftless::crdt::{Dot, Kind, Marker, VersionVector};
use driftless::hlc::Stamp;
use driftless::item::{Body, Item, ItemRef, Key};
use driftless::message::*;
use driftless::replica_id::ReplicaId;
use driftless::wire::{self, Intake};

use super::apply::{KEYS, id};
use super::wire::{Plain, Typed};

/// A source of choices, read from bytes. When the bytes are used up, every choice is the first.
pub struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    pub fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }
}

/// The times that a hostile member may know or try.
pub struct Times {
    pub now: u64,
    pub drift: u64,
    pub known: Vec<u64>,
}

impl Times {
    fn pick(&self, source: &mut Source<'_>) -> u64 {
        let hour = 3_600_000_000_000;
        let fine = u64::from(source.byte() & 0x3f);
        match source.below(16) {
            0 => 0,
            1 => fine + 1,
            2 => self.now - fine * 1_000_000,
            3 => self.now + fine,
            4 => self.now + self.drift - fine,
            5 => self.now + self.drift + 1 + fine,
            6 => self.now + hour * fine,
            7 => self.now - hour * fine,
            8 => u64::MAX - fine,
            9 => 1 << fine,
            _ if self.known.is_empty() => self.now,
            10 => self.known[usize::from(source.byte()) % self.known.len()].saturating_sub(1),
            11 => self.known[usize::from(source.byte()) % self.known.len()].saturating_add(1 + fine),
            _ => self.known[usize::from(source.byte()) % self.known.len()],
        }
    }
}

/// Generates one message.
pub fn message(source: &mut Source<'_>, times: &Times) -> Typed {
    match source.below(8) {
        0 | 1 => Message::Digest(digest(source, times)),
        2 | 3 => Message::Push(push(source, times)),
        4 => Message::Ack(Ack { to: source.flag().then(|| replica(source)), time: times.pick(source) }),
        5 | 6 => Message::Frame(frame(source, times)),
        _ => Message::Audit(Audit {
            vector: vector(source, times),
            entries: audited(source, times),
            reply: source.flag(),
        }),
    }
}

fn replica(source: &mut Source<'_>) -> ReplicaId {
    id(source.below(7))
}

fn vector(source: &mut Source<'_>, times: &Times) -> VersionVector {
    let count = source.below(5);
    (0..count).map(|_| (replica(source), times.pick(source).max(1))).collect()
}

fn stamp(source: &mut Source<'_>, times: &Times) -> Stamp {
    Stamp::new(times.pick(source), replica(source))
}

fn digest(source: &mut Source<'_>, times: &Times) -> Digest {
    let fact = |source: &mut Source<'_>| Fact {
        member: replica(source),
        clock: times.pick(source),
        watermark: times.pick(source),
        vector: vector(source, times),
        retired: source.flag(),
    };
    let facts = source.below(3);
    Digest {
        clock: times.pick(source),
        quiet_since: times.pick(source),
        watermark: times.pick(source),
        epoch: if source.below(8) == 0 { times.pick(source) } else { 0 },
        vector: vector(source, times),
        retired: Retired { count: u32::from(source.below(3)), hash: u64::from(source.below(3)) },
        full: source.flag(),
        want_full: source.flag(),
        reply: source.flag(),
        lossy: source.flag(),
        renew: None,
        facts: (0..facts).map(|_| fact(source)).collect(),
        members: (0..source.below(3)).map(|_| named(source, times)).collect(),
        deferring: if source.below(4) == 0 { times.pick(source) } else { 0 },
        wall: times.pick(source),
        greets: source.flag(),
    }
}

fn named(source: &mut Source<'_>, times: &Times) -> Named {
    let dead_for = if source.flag() { 0 } else { times.pick(source) };
    Named { member: replica(source), dead_for, met: source.flag() }
}

fn entry(source: &mut Source<'_>, times: &Times, dot: Dot) -> Entry<String, Bytes> {
    let key = Key::Known(KEYS[usize::from(source.below(KEYS.len() as u8))].to_owned());
    let kind = Kind::from_code(source.below(8) % 5).unwrap_or(Kind::Live);
    let stamp = if source.flag() { Stamp::new(dot.counter, dot.actor) } else { stamp(source, times) };
    let expires = if source.below(4) == 0 { times.pick(source) } else { 0 };
    let body = if kind.is_live() { Body::Known(Bytes::from(vec![source.byte(); 3])) } else { Body::ABSENT };
    let hash = Plain.hash(&key);
    Entry {
        hash,
        item: ItemRef::new(Item { key, body }),
        marker: Marker { stamp, kind, dot },
        expires,
        size: 8,
        weight: 1,
    }
}

fn entries(source: &mut Source<'_>, times: &Times, origin: ReplicaId, from: u64, to: u64) -> Vec<Entry<String, Bytes>> {
    let count = if to > from { source.below(5) } else { 0 };
    let mut dots: Vec<u64> = (0..count).map(|_| times.pick(source).clamp(from + 1, to)).collect();
    dots.sort_unstable();
    dots.dedup();
    dots.into_iter().map(|time| entry(source, times, Dot::new(origin, time))).collect()
}

fn push(source: &mut Source<'_>, times: &Times) -> Push<String, Bytes> {
    let origin = replica(source);
    let (a, b) = (times.pick(source), times.pick(source));
    let (from, to) = (a.min(b), a.max(b));
    let epoch = if source.below(8) == 0 { times.pick(source) } else { 0 };
    let entries = entries(source, times, origin, from, to);
    Push { origin, from, to, epoch, entries, fills: Vec::new(), hops: source.byte(), raw: Bytes::new() }
}

fn interval(source: &mut Source<'_>, times: &Times) -> Interval<String, Bytes> {
    let origin = replica(source);
    let (a, b) = (times.pick(source), times.pick(source));
    let (from, to) = (a.min(b), a.max(b));
    Interval { origin, from, to, entries: entries(source, times, origin, from, to), fills: Vec::new() }
}

fn frame(source: &mut Source<'_>, times: &Times) -> Frame<String, Bytes> {
    let intervals = source.below(4);
    let last = source.flag().then(|| Last {
        frames: u32::from(source.below(4)),
        claim: vector(source, times),
        beyond: vector(source, times),
        floor: stamp(source, times),
        eviction_floor: if source.flag() { stamp(source, times) } else { Stamp::ZERO },
        evicted: if source.flag() { vector(source, times) } else { VersionVector::new() },
    });
    Frame {
        to: if source.below(8) == 0 { replica(source) } else { id(super::apply::VICTIM) },
        session: match source.below(8) {
            0 => u64::MAX,
            1 => times.pick(source),
            other => u64::from(other),
        },
        index: u32::from(source.below(4)),
        base: vector(source, times),
        reconcile: source.flag(),
        clock: times.pick(source),
        epoch: if source.below(8) == 0 { times.pick(source) } else { 0 },
        intervals: (0..intervals).map(|_| interval(source, times)).collect(),
        dropped: vector(source, times),
        last,
    }
}

fn audited(source: &mut Source<'_>, times: &Times) -> Vec<Entry<String, Bytes>> {
    let count = source.below(4);
    let one = |source: &mut Source<'_>| {
        let dot = Dot::new(replica(source), times.pick(source).max(1));
        let mut entry = entry(source, times, dot);
        entry.item = ItemRef::new(Item { key: entry.item.key.clone(), body: Body::ABSENT });
        entry
    };
    (0..count).map(|_| one(source)).collect()
}

/// Encodes and decodes a message. Returns `None` if no replica could have sent it.
pub fn over_the_wire(from: u8, message: &Typed) -> Option<Typed> {
    let bytes = wire::encode(&super::apply::envelope(from), message).ok()?;
    super::wire::decode(&bytes)
}
