//! Strategies of proptest for messages of every kind.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::crdt::{Dot, Kind, Marker, VersionVector};
use crate::hlc::{HlcTime, Stamp};
use crate::item::{Body, Item, ItemRef};
use crate::message::*;
use crate::replica::FillBound;

pub(super) type TestMessage = Message<String, Bytes>;

/// Generates times of every encoded length.
fn time() -> impl Strategy<Value = HlcTime> {
    prop_oneof![
        0..30_u64,
        250..260_u64,
        65_530..65_540_u64,
        4_294_967_290..4_294_967_300_u64,
        any::<u64>(),
        Just(u64::MAX)
    ]
}

fn replica() -> impl Strategy<Value = ReplicaId> {
    (0..6_u8).prop_map(id)
}

fn vector() -> impl Strategy<Value = VersionVector> {
    vec((replica(), time()), 0..5).prop_map(|entries| entries.into_iter().collect())
}

fn digest() -> impl Strategy<Value = Digest> {
    let times = (time(), time(), time(), time());
    let retired = (any::<u32>(), any::<u64>()).prop_map(|(count, hash)| Retired { count, hash });
    let fact = (replica(), time(), time(), vector(), any::<bool>());
    let fact =
        fact.prop_map(|(member, clock, watermark, vector, retired)| Fact { member, clock, watermark, vector, retired });
    let retired = prop_oneof![Just(Retired::default()), retired];
    let named = (replica(), time(), any::<bool>()).prop_map(|(member, dead_for, met)| Named { member, dead_for, met });
    let facts = (vec(fact, 0..4), vec(named, 0..4), time(), time());
    (times, vector(), retired, (any::<[bool; 5]>(), proptest::option::of(replica())), facts).prop_map(
        |(
            times,
            vector,
            retired,
            ([full, want_full, reply, greets, lossy], renew),
            (facts, members, deferring, wall),
        )| {
            let (clock, quiet_since, watermark, epoch) = times;
            Digest {
                clock,
                quiet_since,
                watermark,
                epoch,
                vector,
                retired,
                full,
                want_full,
                reply,
                greets,
                lossy,
                renew,
                facts,
                members,
                deferring,
                wall,
            }
        },
    )
}

/// Builds an entry as [`decode`] returns it.
pub(super) fn entry(key: String, body: Body<Bytes>, marker: Marker, expires: HlcTime) -> Entry<String, Bytes> {
    let value_len = match &body {
        Body::Opaque(None) => 0,
        Body::Known(value) => encoded_len(value, MAX_DEPTH).unwrap(),
        Body::Opaque(Some(bytes)) => bytes.len(),
    };
    let weight = if body.is_absent() { 0 } else { 7 };
    let encoded = encode_key(&key).unwrap();
    Entry {
        hash: key_hash(&encoded),
        item: ItemRef::new(Item { key: Key::Known(key), body }),
        marker,
        expires,
        size: u32::try_from(encoded.len() + value_len).unwrap(),
        weight,
    }
}

/// The content of an entry except its dot.
type Loose = (String, Vec<u8>, u8, Option<(HlcTime, ReplicaId)>, HlcTime);

fn loose() -> impl Strategy<Value = Loose> {
    let key = prop_oneof!["[a-z]{0,30}", ".{0,12}"];
    (key, vec(any::<u8>(), 0..300), 0..5_u8, proptest::option::of((time(), replica())), time())
}

fn placed((key, value, kind, stamp, expires): Loose, dot: Dot, with_value: bool) -> Entry<String, Bytes> {
    let kind = Kind::from_code(kind).unwrap();
    let stamp = stamp.map_or(Stamp::new(dot.counter, dot.actor), |(time, replica)| Stamp::new(time, replica));
    let body = if kind.is_live() && with_value { Body::Known(value.into()) } else { Body::ABSENT };
    entry(key, body, Marker { stamp, kind, dot }, expires)
}

/// Generates an interval whose entries lie in it, in order.
fn interval() -> impl Strategy<Value = Interval<String, Bytes>> {
    let known = (time(), replica()).prop_map(|(time, replica)| Stamp::new(time, replica));
    let bound = (time(), time(), vec(known, 0..3)).prop_map(|(after, epoch, known)| FillBound {
        after,
        epoch,
        known: known.into(),
    });
    let bounds = prop_oneof![3 => Just(Vec::new()), 1 => vec(bound, 0..3)];
    (replica(), time(), vec((1..6_000_000_000_u64, loose()), 0..5), time(), bounds).prop_map(
        |(origin, from, steps, slack, fills)| {
            let mut to = from;
            let mut entries = Vec::new();
            for (step, loose) in steps {
                let Some(next) = to.checked_add(step) else { break };
                to = next;
                entries.push(placed(loose, Dot::new(origin, to), true));
            }
            let fills = fills.into_iter().enumerate().map(|(n, bound)| FillNote { time: n as u64, bound }).collect();
            Interval { origin, from, to: to.saturating_add(slack), entries, fills }
        },
    )
}

fn push() -> impl Strategy<Value = TestMessage> {
    (interval(), time(), any::<u8>()).prop_map(|(Interval { origin, from, to, entries, fills }, epoch, hops)| {
        Message::Push(Push { origin, from, to, epoch, entries, fills, hops, raw: Bytes::new() })
    })
}

fn frame() -> impl Strategy<Value = TestMessage> {
    let last = (any::<u32>(), vector(), vector(), (time(), replica()), vector()).prop_map(
        |(frames, claim, beyond, (time, replica), evicted)| Last {
            frames,
            claim,
            beyond,
            floor: Stamp::new(time, replica),
            eviction_floor: if time % 3 == 0 { Stamp::ZERO } else { Stamp::new(time / 2, replica) },
            evicted,
        },
    );
    let numbers = (any::<u64>(), any::<u32>(), any::<bool>(), time(), time());
    let vectors = (vector(), vector(), replica());
    (numbers, vectors, vec(interval(), 0..4), proptest::option::of(last)).prop_map(
        |((session, index, reconcile, clock, epoch), (base, dropped, to), intervals, last)| {
            Message::Frame(Frame { to, session, index, base, reconcile, clock, epoch, intervals, dropped, last })
        },
    )
}

fn audit() -> impl Strategy<Value = TestMessage> {
    let dot = (replica(), time()).prop_map(|(origin, time)| Dot::new(origin, time));
    let entry = (loose(), dot).prop_map(|(loose, dot)| placed(loose, dot, false));
    (vector(), vec(entry, 0..5), any::<bool>())
        .prop_map(|(vector, entries, reply)| Message::Audit(Audit { vector, entries, reply }))
}

/// Generates any message that a replica may send.
pub(super) fn message() -> impl Strategy<Value = TestMessage> {
    prop_oneof![
        digest().prop_map(Message::Digest),
        push(),
        (proptest::option::of(replica()), time()).prop_map(|(to, time)| Message::Ack(Ack { to, time })),
        frame(),
        audit(),
    ]
}

/// Formats the content of a message, except the bytes it was decoded from.
pub(super) fn said<K: std::fmt::Debug, V: std::fmt::Debug>(message: &Message<K, V>) -> String {
    match message {
        Message::Push(Push { origin, from, to, epoch, entries, fills, hops, raw: _ }) => {
            format!("{:?}", (origin, from, to, epoch, entries, fills, hops))
        }
        other => format!("{other:?}"),
    }
}
