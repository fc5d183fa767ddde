//! Benchmarks of one process without peers, compared with caches that do not replicate.

use std::hint::black_box;

use bytes::Bytes;
use driftless_rivals::args::Options;
use driftless_rivals::contestants::{Contestant, Ground, Maker, Record, Value, all, key};
use driftless_rivals::pattern::{shuffled, traces, zipf};
use driftless_rivals::rounds::{Turn, interleave, timed};
use driftless_rivals::table::{Row, Table};
use driftless_rivals::{child, member};

const SECTIONS: [&str; 10] =
    ["get", "insert", "overwrite", "mixed", "fill", "capacity", "bounded", "crowd", "hits", "tail"];
/// Thread counts beyond the cores of a small machine.
const CROWDS: [usize; 2] = [4, 8];
const KEYS: usize = 100_000;
const SKEW: f64 = 0.99;

/// The samples of each contestant.
type Cells = Vec<(String, Vec<f64>)>;

struct Bench {
    options: Options,
    ground: Ground,
    names: Vec<String>,
    table: Table,
}

fn main() {
    if child::is_child() {
        return child::run();
    }
    let options = Options::parse("local", &SECTIONS);
    let names = (0..KEYS as u32).map(key).collect();
    let mut bench = Bench { options, ground: Ground::new(), names, table: Table::default() };
    let bytes: fn(u32) -> Bytes = |n| Bytes::from(vec![n as u8; 100]);
    let string: fn(u32) -> String = |n| format!("{n:0100}");
    let record: fn(u32) -> Record = |n| Record { fields: [u64::from(n); 25] };
    bench.reads_and_writes("Bytes 100 B", bytes);
    bench.reads_and_writes("String 100 B", string);
    bench.reads_and_writes("struct 200 B", record);
    bench.mixed(bytes);
    bench.fills(bytes);
    bench.capacity(bytes);
    bench.bounded(bytes);
    bench.crowd(bytes);
    bench.hit_ratios();
    bench.tail();
    bench.table.finish("local: nanoseconds per operation, wall time over total operations", &bench.options.json);
}

impl Bench {
    /// Returns the contestants for caches that hold all keys. Without eviction, the segmented order does the same work,
    /// so it is left out.
    fn makers<V: Value>(&self) -> Vec<Maker<V>> {
        let wanted = |maker: &Maker<V>| self.options.admits(maker.name) && maker.name != "driftless, sieve";
        all::<V>().into_iter().filter(wanted).collect()
    }

    fn bounded_makers(&self) -> Vec<Maker<Bytes>> {
        all::<Bytes>().into_iter().filter(|maker| maker.bounded && self.options.admits(maker.name)).collect()
    }

    fn filled<V: Value>(&self, maker: &Maker<V>, room: usize, value: fn(u32) -> V) -> Box<dyn Contestant<V>> {
        let cache = (maker.make)(&self.ground, room);
        for number in shuffled(KEYS, 1) {
            cache.insert(self.names[number as usize].clone(), value(number));
        }
        cache
    }

    fn reads_and_writes<V: Value>(&mut self, what: &str, value: fn(u32) -> V) {
        if self.options.wants("get") {
            self.get(what, value, 1);
            self.get(what, value, 2);
        }
        if self.options.wants("insert") {
            self.insert(what, value, 1);
            self.insert(what, value, 2);
        }
        if self.options.wants("overwrite") {
            self.overwrite(what, value, 1);
            self.overwrite(what, value, 2);
        }
    }

    /// Measures the same work on caches with room for so many keys, which hold all keys.
    fn resident<V: Value>(
        &self,
        makers: &[Maker<V>],
        room: usize,
        value: fn(u32) -> V,
        work: impl Fn(&dyn Contestant<V>, usize) -> f64,
    ) -> Cells {
        let caches: Vec<_> = makers.iter().map(|maker| self.filled(maker, room, value)).collect();
        let turns = makers.iter().zip(&caches).map(|(maker, cache)| -> Turn<'_> {
            let work = &work;
            (maker.name.to_owned(), Box::new(move |round| work(cache.as_ref(), round)))
        });
        interleave(self.options.rounds, turns.collect())
    }

    fn get<V: Value>(&mut self, what: &str, value: fn(u32) -> V, threads: usize) {
        let cells = self.time_gets(&self.makers::<V>(), value, threads);
        let row = Row::new(format!("get hit, {what}, {threads} threads"), "ns").cells(cells);
        self.table.push(row.against("quick_cache").at_most(1.0));
    }

    fn time_gets<V: Value>(&self, makers: &[Maker<V>], value: fn(u32) -> V, threads: usize) -> Cells {
        let length = self.options.scaled(1_000_000);
        let orders: Vec<_> = (0..threads as u64).map(|seed| zipf(KEYS, SKEW, length, seed + 10)).collect();
        self.resident(makers, usize::MAX, value, |cache, _| {
            timed(threads, length * threads, |thread| {
                for number in &orders[thread] {
                    assert!(black_box(cache.get(&self.names[*number as usize])).is_some());
                }
            })
        })
    }

    fn insert<V: Value>(&mut self, what: &str, value: fn(u32) -> V, threads: usize) {
        let cells = self.time_inserts(&self.makers::<V>(), usize::MAX, value, threads);
        let row = Row::new(format!("insert, {what}, {threads} threads"), "ns").cells(cells);
        self.table.push(row.against("quick_cache").at_most(1.5));
    }

    /// Measures inserts of new keys into empty caches with room for so many.
    fn time_inserts<V: Value>(&self, makers: &[Maker<V>], room: usize, value: fn(u32) -> V, threads: usize) -> Cells {
        let order = shuffled(KEYS, 2);
        let turns = makers.iter().map(|maker| -> Turn<'_> {
            let (this, order) = (self, &order);
            (
                maker.name.to_owned(),
                Box::new(move |_| {
                    let cache = (maker.make)(&this.ground, room);
                    let parts: Vec<_> = order
                        .chunks(KEYS / threads)
                        .map(|part| {
                            let entries: Vec<_> =
                                part.iter().map(|n| (this.names[*n as usize].clone(), value(*n))).collect();
                            parking_lot::Mutex::new(entries)
                        })
                        .collect();
                    timed(threads, KEYS, |thread| {
                        for (key, value) in std::mem::take(&mut *parts[thread].lock()) {
                            cache.insert(key, value);
                        }
                    })
                }),
            )
        });
        interleave(self.options.rounds, turns.collect())
    }

    fn overwrite<V: Value>(&mut self, what: &str, value: fn(u32) -> V, threads: usize) {
        let cells = self.time_overwrites(&self.makers::<V>(), usize::MAX, value, threads);
        let row = Row::new(format!("overwrite, {what}, {threads} threads"), "ns").cells(cells);
        self.table.push(row.against("quick_cache").at_most(1.5));
    }

    /// Measures overwrites in caches with room for so many keys, which hold all keys.
    fn time_overwrites<V: Value>(
        &self,
        makers: &[Maker<V>],
        room: usize,
        value: fn(u32) -> V,
        threads: usize,
    ) -> Cells {
        let length = self.options.scaled(200_000);
        let orders: Vec<_> = (0..threads as u64).map(|seed| zipf(KEYS, SKEW, length, seed + 20)).collect();
        let values: Vec<V> = (0..1_000).map(value).collect();
        self.resident(makers, room, value, |cache, _| {
            let parts: Vec<_> = orders
                .iter()
                .map(|order| {
                    let entry = |n: &u32| (self.names[*n as usize].clone(), values[*n as usize % values.len()].clone());
                    parking_lot::Mutex::new(order.iter().map(entry).collect::<Vec<_>>())
                })
                .collect();
            timed(threads, length * threads, |thread| {
                for (key, value) in std::mem::take(&mut *parts[thread].lock()) {
                    cache.insert(key, value);
                }
            })
        })
    }

    fn mixed(&mut self, value: fn(u32) -> Bytes) {
        if !self.options.wants("mixed") {
            return;
        }
        for threads in [1, 2] {
            let length = self.options.scaled(500_000);
            let orders: Vec<_> = (0..threads as u64).map(|seed| zipf(KEYS, SKEW, length, seed + 30)).collect();
            let fresh = value(7);
            let cells = self.resident(&self.makers::<Bytes>(), usize::MAX, value, |cache, _| {
                timed(threads, length * threads, |thread| {
                    for (step, number) in orders[thread].iter().enumerate() {
                        let name = &self.names[*number as usize];
                        if step % 20 == 0 {
                            cache.insert(name.clone(), fresh.clone());
                        } else {
                            black_box(cache.get(name));
                        }
                    }
                })
            });
            let row = Row::new(format!("mixed 95/5, Bytes 100 B, {threads} threads"), "ns").cells(cells);
            self.table.push(row.against("quick_cache").at_most(1.1));
        }
    }

    fn fills(&mut self, value: fn(u32) -> Bytes) {
        if !self.options.wants("fill") {
            return;
        }
        let made = value(7);
        let makers: Vec<_> = self.makers::<Bytes>().into_iter().filter(|maker| maker.fills).collect();
        for threads in [1, 2] {
            let length = self.options.scaled(500_000);
            let orders: Vec<_> = (0..threads as u64).map(|seed| zipf(KEYS, SKEW, length, seed + 40)).collect();
            let caches: Vec<_> = makers.iter().map(|maker| self.filled(maker, usize::MAX, value)).collect();
            let look = |look: &(dyn Fn(&String) + Sync)| {
                timed(threads, length * threads, |thread| {
                    orders[thread].iter().for_each(|n| look(&self.names[*n as usize]))
                })
            };
            let (look, made_too) = (&look, &made);
            let mut turns: Vec<Turn<'_>> = Vec::new();
            for (maker, cache) in makers.iter().zip(&caches) {
                let fill = move |key: &String| drop(black_box(cache.get_or_fill(key, &|| made_too.clone())));
                turns.push((maker.name.to_owned(), Box::new(move |_| look(&fill))));
            }
            // The first contestant is driftless. Its gets take turns with its fills, on the same cache.
            let own = &caches[0];
            let get = move |key: &String| drop(black_box(own.get(key)));
            turns.push(("our get".to_owned(), Box::new(move |_| look(&get))));
            let cells = interleave(self.options.rounds, turns);
            let row = Row::new(format!("get-or-fill hit, Bytes 100 B, {threads} threads"), "ns").cells(cells);
            self.table.push(row.against("our get").at_most(1.1));
            let order = shuffled(KEYS, 3);
            let turns = makers.iter().map(|maker| -> Turn<'_> {
                let (this, order, made) = (&*self, &order, &made);
                (
                    maker.name.to_owned(),
                    Box::new(move |_| {
                        let cache = (maker.make)(&this.ground, usize::MAX);
                        let share = KEYS / threads;
                        timed(threads, KEYS, |thread| {
                            for number in &order[thread * share..(thread + 1) * share] {
                                black_box(cache.get_or_fill(&this.names[*number as usize], &|| made.clone()));
                            }
                        })
                    }),
                )
            });
            let cells = interleave(self.options.rounds, turns.collect());
            let row = Row::new(format!("get-or-fill miss, Bytes 100 B, {threads} threads"), "ns").cells(cells);
            self.table.push(row.against("moka").at_most(1.0));
        }
    }

    /// Measures caches with a capacity: inserts that displace, with room for a tenth of the keys, and overwrites without
    /// any eviction.
    fn bounded(&mut self, value: fn(u32) -> Bytes) {
        if !self.options.wants("bounded") {
            return;
        }
        let makers = self.bounded_makers();
        for threads in [1, 2] {
            let inserts = self.time_inserts(&makers, KEYS / 10, value, threads);
            let row = Row::new(format!("bounded insert, Bytes 100 B, {threads} threads"), "ns").cells(inserts);
            self.table.push(row.against("quick_cache").at_most(1.7));
            let overwrites = self.time_overwrites(&makers, 2 * KEYS, value, threads);
            let row = Row::new(format!("bounded overwrite, Bytes 100 B, {threads} threads"), "ns").cells(overwrites);
            self.table.push(row.against("quick_cache").at_most(1.7));
        }
    }

    /// Measures more threads than a small machine has cores, compared with two threads on the same cache.
    fn crowd(&mut self, value: fn(u32) -> Bytes) {
        if !self.options.wants("crowd") {
            return;
        }
        let ours = &self.makers::<Bytes>()[..1];
        let work: [(&str, Box<dyn Fn(usize) -> Cells + '_>); 3] = [
            ("get hit", Box::new(|threads| self.time_gets(ours, value, threads))),
            ("insert", Box::new(|threads| self.time_inserts(ours, usize::MAX, value, threads))),
            ("overwrite", Box::new(|threads| self.time_overwrites(ours, usize::MAX, value, threads))),
        ];
        let mut rows = Vec::new();
        for (what, time) in work {
            let two: Cells = time(2).into_iter().map(|(_, samples)| ("two threads".to_owned(), samples)).collect();
            for threads in CROWDS {
                let row = Row::new(format!("{what}, Bytes 100 B, {threads} threads"), "ns");
                // The target is a throughput of at least 0.9, which is a time of at most 1 / 0.9.
                rows.push(row.cells(time(threads)).cells(two.clone()).against("two threads").at_most(1.11));
            }
        }
        rows.into_iter().for_each(|row| self.table.push(row));
    }

    /// Measures caches with room for a tenth of the keys: get, else put.
    fn capacity(&mut self, value: fn(u32) -> Bytes) {
        if !self.options.wants("capacity") {
            return;
        }
        let makers = self.bounded_makers();
        for threads in [1, 2] {
            let length = self.options.scaled(500_000);
            let orders: Vec<_> = (0..threads as u64).map(|seed| zipf(KEYS, SKEW, length, seed + 50)).collect();
            let made = value(7);
            let turns = makers.iter().map(|maker| -> Turn<'_> {
                let cache = (maker.make)(&self.ground, KEYS / 10);
                let (names, orders, made) = (&self.names, &orders, &made);
                (
                    maker.name.to_owned(),
                    Box::new(move |_| {
                        timed(threads, length * threads, |thread| {
                            for number in &orders[thread] {
                                look_through(cache.as_ref(), &names[*number as usize], made);
                            }
                        })
                    }),
                )
            });
            let cells = interleave(self.options.rounds, turns.collect());
            let row = Row::new(format!("capacity 10 %, get else put, {threads} threads"), "ns").cells(cells);
            // The target is a throughput of at least 0.7, which is a time of at most 1 / 0.7.
            self.table.push(row.against("quick_cache").at_most(1.43).note("plain LRU"));
        }
    }

    fn hit_ratios(&mut self) {
        if !self.options.wants("hits") {
            return;
        }
        let length = self.options.scaled(2_000_000);
        let mut patterns = vec![("Zipf 0.99".to_owned(), zipf(KEYS, SKEW, length, 60), KEYS)];
        for trace in traces(&self.options.traces) {
            let length = if self.options.quick { trace.accesses.len() / 10 } else { trace.accesses.len() };
            patterns.push((trace.name, trace.accesses[..length].to_vec(), trace.keys));
        }
        let makers = self.bounded_makers();
        for (name, accesses, keys) in patterns {
            let names: Vec<_> = (0..keys as u32).map(key).collect();
            for percent in [5, 10, 20] {
                let cells = makers.iter().map(|maker| {
                    let cache = (maker.make)(&self.ground, keys * percent / 100);
                    (maker.name.to_owned(), vec![hit_ratio(cache.as_ref(), &names, &accesses)])
                });
                let mut cells: Vec<_> = cells.collect();
                // The ratio uses the first cell, so the sieve comes first: it is meant to compete.
                cells.sort_by_key(|(name, _)| name != "driftless, sieve");
                let row = Row::new(format!("hit ratio, {name}, room for {percent} %"), "%").cells(cells);
                self.table.push(row.against("quick_cache").at_least(1.0));
            }
        }
    }

    /// Measures reads while another process writes at full speed.
    fn tail(&mut self) {
        if self.options.wants("tail") {
            let seconds = if self.options.quick { 2 } else { 5 };
            let mut rows = member::read_tail(self.options.rounds.min(5), seconds);
            rows.drain(..).for_each(|row| self.table.push(row));
        }
    }
}

fn look_through(cache: &dyn Contestant<Bytes>, name: &String, made: &Bytes) -> bool {
    let hit = black_box(cache.get(name)).is_some();
    if !hit {
        cache.insert(name.clone(), made.clone());
    }
    hit
}

/// Returns the hit ratio in percent. The first fifth of the accesses only warms the cache up, for traces too.
fn hit_ratio(cache: &dyn Contestant<Bytes>, names: &[String], accesses: &[u32]) -> f64 {
    let made = Bytes::from_static(&[7; 100]);
    let (warm, counted) = accesses.split_at(accesses.len() / 5);
    warm.iter().for_each(|number| {
        look_through(cache, &names[*number as usize], &made);
    });
    let hits = counted.iter().filter(|number| look_through(cache, &names[**number as usize], &made)).count();
    hits as f64 * 100.0 / counted.len() as f64
}
