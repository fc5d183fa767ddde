//! Benchmark of the memory per entry, including all overhead. Each contestant runs in a process of its own, under an
//! allocator that counts the bytes requested. The resident memory that the system reports is shown next to it.

use std::alloc::System;
use std::process::Command;

use bytes::Bytes;
use driftless_rivals::args::Options;
use driftless_rivals::contestants::{Contestant, Ground, all};
use driftless_rivals::pattern::shuffled;
use driftless_rivals::table::{Row, Table};
use driftless_rivals::usage::resident;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Returns the bytes that are allocated now.
fn live() -> i64 {
    let stats = COUNTING.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

const FLAG: &str = "--measure";

fn main() {
    let words: Vec<_> = std::env::args().collect();
    if words.get(1).map(String::as_str) == Some(FLAG) {
        return measure(&words[2], words[3].parse().expect("a number"), words[4] == "bounded");
    }
    let options = Options::parse("memory", &["entries"]);
    let mut table = Table::default();
    let mut sizes = if options.quick { vec![10_000, 100_000] } else { vec![1_000, 10_000, 100_000, 1_000_000] };
    if options.big {
        sizes.push(10_000_000);
    }
    let mut names = vec!["driftless".to_owned(), "driftless, bounded".to_owned()];
    names
        .extend(all::<Bytes>().iter().map(|maker| maker.name.to_owned()).filter(|name| !name.starts_with("driftless")));
    for entries in sizes {
        let mut counted = Vec::new();
        let mut held = Vec::new();
        for name in names.iter().filter(|name| options.admits(name)) {
            let (bytes, pages) = in_a_process(name, entries);
            counted.push((name.clone(), vec![bytes]));
            held.push((name.clone(), vec![pages]));
        }
        let row = Row::new(format!("16 B key, 100 B value, {entries} entries: allocated"), "B/entry");
        table.push(row.cells(counted).against_number("300 B", 300.0).at_most(1.0));
        let row = Row::new(format!("16 B key, 100 B value, {entries} entries: resident"), "B/entry");
        table.push(row.cells(held).against("quick_cache"));
    }
    table.finish("memory: bytes per entry", &options.json);
}

fn in_a_process(name: &str, entries: usize) -> (f64, f64) {
    let (contestant, bounded) = name.strip_suffix(", bounded").map_or((name, "free"), |name| (name, "bounded"));
    let mut command = Command::new(std::env::current_exe().expect("this executable has a path"));
    let output = command.args([FLAG, contestant, &entries.to_string(), bounded]).output().expect("the process runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap_or(f64::NAN));
    (numbers.next().unwrap_or(f64::NAN), numbers.next().unwrap_or(f64::NAN))
}

/// Fills one contestant and prints its bytes per entry: allocated and resident.
fn measure(name: &str, entries: usize, bounded: bool) {
    let ground = Ground::new();
    let maker = all::<Bytes>().into_iter().find(|maker| maker.name == name).expect("a contestant");
    let order = shuffled(entries, 4);
    let pid = std::process::id();
    let (before, pages) = (live(), resident(pid));
    // A contestant that requires a bound gets a bound with little slack. driftless is bounded only on request.
    let limit = if bounded || (maker.bounded && name != "driftless") {
        entries + (entries / 20).max(2_000)
    } else {
        usize::MAX
    };
    let cache: Box<dyn Contestant<Bytes>> = (maker.make)(&ground, limit);
    for number in order.iter() {
        cache.insert(format!("key-{number:012}"), Bytes::from(vec![*number as u8; 100]));
    }
    let per = |bytes: i64| bytes as f64 / entries as f64;
    let (allocated, grown) = (live() - before, resident(pid) as i64 - pages as i64);
    // Checked after the measurement: the first clone of a `Bytes` allocates.
    let found = (0..entries).filter(|number| cache.get(&format!("key-{number:012}")).is_some()).count();
    assert!(found * 100 >= entries * 98, "{name} holds {found} of {entries}");
    println!("{:.1} {:.1}", per(allocated), per(grown));
}
