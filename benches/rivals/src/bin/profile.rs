//! One operation of one contestant in a loop, to run under a profiler. The number of instructions does not depend on
//! other load on the machine:
//!
//! ```sh
//! valgrind --tool=callgrind --toggle-collect='*measured*' target/rivals/release/profile driftless insert
//! ```

use std::hint::black_box;

use bytes::Bytes;
use driftless_rivals::contestants::{Contestant, Ground, Record, Value, all, key};
use driftless_rivals::pattern::shuffled;

const KEYS: usize = 20_000;

fn main() {
    let words: Vec<_> = std::env::args().collect();
    let [_, contestant, operation, rest @ ..] = words.as_slice() else {
        eprintln!("usage: profile CONTESTANT get|insert|overwrite|fill-hit|fill-miss|bounded [bytes|string|struct]");
        std::process::exit(2)
    };
    match rest.first().map_or("bytes", String::as_str) {
        "string" => run(contestant, operation, |n| format!("{n:0100}")),
        "struct" => run(contestant, operation, |n| Record { fields: [u64::from(n); 25] }),
        _ => run(contestant, operation, |n| Bytes::from(vec![n as u8; 100])),
    }
}

fn run<V: Value>(contestant: &str, operation: &str, value: fn(u32) -> V) {
    let ground = Ground::new();
    let maker = all::<V>().into_iter().find(|maker| maker.name == contestant).expect("a contestant");
    let names: Vec<String> = (0..KEYS as u32).map(key).collect();
    let bound = if operation == "bounded" { KEYS / 10 } else { usize::MAX };
    let cache = (maker.make)(&ground, bound);
    let entries = |seed| -> Vec<(String, V)> {
        shuffled(KEYS, seed).into_iter().map(|n| (names[n as usize].clone(), value(n))).collect()
    };
    if !operation.ends_with("miss") && operation != "insert" {
        put(cache.as_ref(), entries(1));
    }
    let (order, entries, made) = (shuffled(KEYS, 2), entries(3), value(7));
    let began = std::time::Instant::now();
    match operation {
        "get" => measured(|| order.iter().for_each(|n| drop(black_box(cache.get(&names[*n as usize]))))),
        "insert" | "overwrite" | "bounded" => measured(|| put(cache.as_ref(), entries)),
        "fill-hit" | "fill-miss" => measured(|| {
            order.iter().for_each(|n| drop(black_box(cache.get_or_fill(&names[*n as usize], &|| made.clone()))));
        }),
        other => panic!("unknown operation {other}"),
    }
    println!("{contestant} {operation}: {} ns each, {KEYS} times", began.elapsed().as_nanos() / KEYS as u128);
    // Exit without teardown, which is not to be measured.
    std::process::exit(0);
}

fn put<V: Value>(cache: &dyn Contestant<V>, entries: Vec<(String, V)>) {
    entries.into_iter().for_each(|(key, value)| cache.insert(key, value));
}

#[inline(never)]
fn measured(work: impl FnOnce()) {
    work();
}
