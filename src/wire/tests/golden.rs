//! Golden messages: bytes that earlier releases sent, and that every later release must encode and decode alike.
//!
//! `tests/golden/wire-v1.txt` has one line for each sample below: its name, and the message in hex. **Never change or
//! remove a line**: some running node sends those bytes. To cover something new, add a sample under a new name, run
//! `cargo test --lib wire::tests::golden -- --ignored --nocapture`, and append the line it prints.

use std::collections::BTreeMap;

use super::messages::{TestMessage, entry, said};
use super::*;
use crate::crdt::{Cause, Dot, Kind, Marker, VersionVector};
use crate::hlc::Stamp;
use crate::item::Body;
use crate::message::*;
use crate::replica::FillBound;

const GOLDEN: &str = include_str!("../../../tests/golden/wire-v1.txt");

const T: u64 = 1_800_000_000_000_000_000;

fn live(key: &str, value: &'static [u8], origin: ReplicaId, time: u64, expires: u64) -> Entry<String, Bytes> {
    let dot = Dot::new(origin, time);
    let marker = Marker { stamp: Stamp::new(time, origin), kind: Kind::Live, dot };
    entry(key.into(), Body::Known(Bytes::from_static(value)), marker, expires)
}

fn tombstone(key: &str, cause: Cause, stamp: Stamp, dot: Dot) -> Entry<String, Bytes> {
    entry(key.into(), Body::ABSENT, Marker { stamp, kind: Kind::Tombstone(cause), dot }, 0)
}

fn digest() -> Digest {
    Digest {
        clock: T + 9,
        quiet_since: T,
        watermark: T - 1_000_000_000,
        epoch: 77,
        vector: [(id(1), T + 9), (id(2), 5), (id(3), u64::MAX)].into_iter().collect(),
        retired: Retired { count: 3, hash: 0xdead_beef_0bad_cafe },
        full: true,
        want_full: true,
        reply: true,
        lossy: true,
        renew: None,
        facts: vec![
            Fact {
                member: id(2),
                clock: T,
                watermark: T - 5,
                vector: [(id(1), 1)].into_iter().collect(),
                retired: false,
            },
            Fact { member: id(4), clock: 0, watermark: 0, vector: Default::default(), retired: false },
        ],
        ..Digest::default()
    }
}

fn empty_digest() -> Digest {
    Digest { clock: 1, ..Digest::default() }
}

fn push() -> Push<String, Bytes> {
    let mut fill = live("fill", b"\x00\xff", id(1), T + 300, T + 1);
    fill.marker.stamp.time = T - 1_000_000_000;
    let entries = vec![
        live("session:00000001", &[7; 100], id(1), T + 1, 0),
        tombstone("gone", Cause::Deleted, Stamp::new(T + 2, id(1)), Dot::new(id(1), T + 2)),
        fill,
        tombstone("\u{fc}ber", Cause::Void, Stamp::new(T - 7, id(5)), Dot::new(id(1), T + 5_000_000_000)),
    ];
    Push {
        origin: id(1),
        from: T,
        to: T + 6_000_000_000,
        epoch: 1,
        entries,
        fills: Vec::new(),
        hops: 2,
        raw: Bytes::new(),
    }
}

fn bounds(time: u64) -> Vec<FillNote> {
    let known = [Stamp::new(T - 5, id(5)), Stamp::new(T - 9, id(1))].into_iter().collect();
    vec![FillNote { time, bound: FillBound { after: T - 1_000_000_000, epoch: 77, known } }]
}

fn frame() -> Frame<String, Bytes> {
    let adopted = tombstone("a", Cause::Evicted, Stamp::new(3, id(7)), Dot::new(id(2), 4));
    Frame {
        to: id(9),
        session: 1 << 40,
        index: 2,
        base: [(id(1), 10)].into_iter().collect(),
        reconcile: true,
        clock: T,
        epoch: 0,
        intervals: vec![
            Interval {
                origin: id(1),
                from: 0,
                to: T,
                entries: vec![live("k", b"v", id(1), T, T + 60)],
                fills: Vec::new(),
            },
            Interval {
                origin: id(2),
                from: 3,
                to: 9,
                entries: vec![adopted, live("", b"", id(2), 9, 0)],
                fills: Vec::new(),
            },
            Interval { origin: id(6), from: 5, to: 5, entries: Vec::new(), fills: Vec::new() },
        ],
        dropped: [(id(2), 2), (id(6), 1)].into_iter().collect(),
        last: Some(Last {
            frames: 3,
            claim: [(id(1), T), (id(2), 9)].into_iter().collect(),
            beyond: Default::default(),
            floor: Stamp::new(2, id(8)),
            eviction_floor: Stamp::ZERO,
            evicted: Default::default(),
        }),
    }
}

fn audit() -> Audit<String, Bytes> {
    let marker = Marker { stamp: Stamp::new(6, id(3)), kind: Kind::Live, dot: Dot::new(id(1), 8) };
    let entries = vec![
        entry("live".into(), Body::ABSENT, marker, 99),
        tombstone("expired", Cause::Expired, Stamp::new(4, id(2)), Dot::new(id(2), 4)),
    ];
    Audit { vector: [(id(1), 8), (id(2), 4)].into_iter().collect(), entries, reply: true }
}

/// Returns samples of each kind of message: with every field in use, and as small as possible.
pub(super) fn samples() -> Vec<(&'static str, TestMessage)> {
    let nothing = Push {
        origin: id(1),
        from: 5,
        to: 5,
        epoch: 0,
        entries: Vec::new(),
        fills: Vec::new(),
        hops: 0,
        raw: Bytes::new(),
    };
    vec![
        ("digest", Message::Digest(digest())),
        ("digest-empty", Message::Digest(empty_digest())),
        (
            "digest-facts-retired",
            Message::Digest(Digest {
                facts: vec![Fact {
                    member: id(2),
                    clock: T,
                    watermark: T - 5,
                    vector: [(id(1), 1)].into_iter().collect(),
                    retired: true,
                }],
                ..empty_digest()
            }),
        ),
        (
            "digest-members",
            Message::Digest(Digest {
                members: vec![
                    Named { member: id(2), dead_for: 0, met: true },
                    Named { member: id(8), dead_for: 90_000, met: false },
                ],
                deferring: 4_000_000_000,
                wall: T + 3,
                ..empty_digest()
            }),
        ),
        ("digest-greets", Message::Digest(Digest { greets: true, ..empty_digest() })),
        ("digest-renew", Message::Digest(Digest { renew: Some(id(7)), ..digest() })),
        ("push", Message::Push(push())),
        ("push-empty", Message::Push(nothing)),
        ("ack", Message::Ack(Ack { to: None, time: T })),
        ("ack-to", Message::Ack(Ack { to: Some(id(4)), time: T })),
        ("push-fills", Message::Push(Push { fills: bounds(T + 300), ..push() })),
        ("frame-fills", {
            let mut frame = frame();
            frame.intervals[0].fills = bounds(T);
            Message::Frame(frame)
        }),
        ("frame", Message::Frame(frame())),
        ("frame-evicted", {
            let frame = frame();
            let last = frame.last.clone().map(|last| Last { eviction_floor: Stamp::new(T, id(8)), ..last });
            Message::Frame(Frame { last, ..frame })
        }),
        ("frame-evicted-dots", {
            let frame = frame();
            let evicted: VersionVector = [(id(1), T - 4), (id(3), 2)].into_iter().collect();
            let last = frame.last.clone().map(|last| Last { eviction_floor: Stamp::new(T, id(8)), evicted, ..last });
            Message::Frame(Frame { last, ..frame })
        }),
        ("audit", Message::Audit(audit())),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn golden() -> BTreeMap<&'static str, Bytes> {
    let lines = GOLDEN.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(name, text)| (name, unhex(text))).collect()
}

#[test]
fn every_sample_is_written_and_read_as_ever() {
    let golden = golden();
    let samples = samples();
    assert_eq!(golden.len(), samples.len(), "a golden line without its sample, or a sample without its line");
    for (name, message) in samples {
        let bytes = golden.get(name).unwrap_or_else(|| panic!("no golden line for {name}"));
        assert_eq!(hex(&bytes_of(&message)), hex(bytes), "{name} is written differently");
        assert_eq!(said(&message_in::<String, Bytes>(bytes)), said(&message), "{name} is read differently");
    }
}

#[test]
#[ignore = "prints the lines that are still missing from tests/golden/wire-v1.txt"]
fn print_missing_lines() {
    let golden = golden();
    for (name, message) in samples().iter().filter(|(name, _)| !golden.contains_key(name)) {
        println!("{name} {}", hex(&bytes_of(message)));
    }
}
