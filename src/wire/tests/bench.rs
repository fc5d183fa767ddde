//! Measurements of the cost of an entry. Run them with `cargo test --release --lib wire::tests::bench -- --ignored
//! --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use super::messages::{TestMessage, entry};
use super::*;
use crate::crdt::{Dot, Kind, Marker};
use crate::hlc::Stamp;
use crate::item::Body;
use crate::message::Push;

struct NoIntake;

impl<K, V> Intake<K, V> for NoIntake {
    fn hash(&self, _: &Key<K>) -> u64 {
        0
    }
    fn weigh(&self, _: &K, _: &V) -> u32 {
        1
    }
}

const START: u64 = 1_800_000_000_000_000_000;
const STEP: u64 = 1_234_567;

/// Returns a push of `count` fresh writes with keys of 16 bytes and values of 100 bytes.
pub(super) fn push(count: u64) -> TestMessage {
    let entries = (1..=count)
        .map(|n| {
            let dot = Dot::new(id(1), START + n * STEP);
            let marker = Marker { stamp: Stamp::new(dot.counter, dot.actor), kind: Kind::Live, dot };
            entry(format!("session:{n:08}"), Body::Known(vec![7; 100].into()), marker, 0)
        })
        .collect();
    let to = START + count * STEP;
    Message::Push(Push {
        origin: id(1),
        from: START,
        to,
        epoch: 0,
        entries,
        fills: Vec::new(),
        hops: 0,
        raw: Bytes::new(),
    })
}

fn rounds() -> usize {
    std::env::var("WIRE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

fn nanos_per_entry<T>(count: u64, mut run: impl FnMut() -> T) -> f64 {
    let best = (0..rounds()).map(|_| {
        let start = Instant::now();
        let result = black_box(run());
        let elapsed = start.elapsed();
        // A receiver frees the entries later, so freeing is not part of decoding.
        drop(result);
        elapsed
    });
    best.min().unwrap().as_nanos() as f64 / count as f64
}

#[test]
#[ignore = "measures time"]
fn nanoseconds_per_entry() {
    for count in [1, 100, 1000] {
        let message = push(count);
        let bytes = bytes_of(&message);
        let encoding = nanos_per_entry(count, || bytes_of(black_box(&message)));
        let decoding = nanos_per_entry(count, || {
            decode::<String, Bytes>(black_box(&bytes), &NoIntake, &Limits::default()).unwrap()
        });
        println!("{count} entries: encode {encoding:.0} ns, decode {decoding:.0} ns each, {} bytes", bytes.len());
    }
}

#[test]
#[ignore = "measures time"]
fn nanoseconds_per_write() {
    let (key, value) = (String::from("session:00000001"), Bytes::from(vec![7; 100]));
    let mut out = Vec::new();
    let thousand = |run: &mut dyn FnMut()| nanos_per_entry(1000, || (0..1000).for_each(|_| run()));
    println!("encode_key {:.0} ns", thousand(&mut || out = encode_key(black_box(&key)).unwrap()));
    println!("encoded_len {:.0} ns", thousand(&mut || _ = black_box(encoded_len(black_box(&value), MAX_DEPTH))));
    println!("key_hash {:.0} ns", thousand(&mut || _ = black_box(key_hash(black_box(&out)))));
}

/// An entry takes 12 bytes beyond its encoded key and value. Code that cuts frames relies on this size.
#[test]
fn an_entry_takes_twelve_bytes_of_its_own() {
    let (Message::Push(one), two) = (push(1), push(2)) else { panic!("a push") };
    let own = one.entries[0].size as usize;
    let entry = bytes_of(&two).len() - bytes_of(&Message::Push(one)).len();
    assert_eq!(own, 17 + 102);
    assert_eq!(entry - own, 12);
}
