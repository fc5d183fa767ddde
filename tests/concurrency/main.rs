//! scenario 96: the data structures that threads share, under a scheduler that tries their interleavings.
//!
//! This test compiles files of the library a second time, with another module for locks and atomics: `sync`, on top of
//! shuttle. Shuttle lets one thread run at a time, and chooses the next thread at every use of a lock or an atomic. A
//! deadlock, a lost wake-up or a failed assertion ends the run and prints the schedule. Each check runs
//! `SHUTTLE_ITERATIONS` random schedules and as many priority-based ones (Burckhardt et al. 2010).
//!
//! There is no test harness: it would also compile the unit tests of these files, and run them without the scheduler.

#[path = "../../src/arrival.rs"]
#[allow(dead_code, unused_imports)]
mod arrival;
#[path = "../../src/ledger/direct.rs"]
#[allow(dead_code)]
mod direct;
#[path = "../../src/cache/flight.rs"]
#[allow(dead_code)]
mod flight;
#[path = "../../src/cache/gate.rs"]
#[allow(dead_code)]
mod gate;
#[path = "../../src/hlc.rs"]
#[allow(dead_code)]
mod hlc;
#[path = "../../src/cache/port/pace.rs"]
#[allow(dead_code)]
mod pace;
#[path = "../../src/node/woken.rs"]
#[allow(dead_code)]
mod woken;
/// The store and the order of eviction, in a module of their own, so that the compiler finds their submodules next to
/// them.
#[path = "../../src"]
mod library {
    #[allow(dead_code, unused_imports)]
    pub(crate) mod recency;
    #[allow(dead_code)]
    pub(crate) mod store;
}
mod sync;

use driftless::{crdt, item, replica_id};

/// A stand-in for the module that a direct write uses.
mod ledger {
    pub(crate) mod local {
        pub(crate) struct Write<K, V> {
            pub(crate) hash: u64,
            pub(crate) item: crate::item::ItemRef<K, V>,
            pub(crate) expires: u64,
            pub(crate) size: u32,
            pub(crate) weight: u32,
        }
    }
}

/// Stand-ins for the modules that a flight uses.
mod replica {
    pub(crate) struct FillTicket;
}

mod fill_error {
    pub(crate) struct Failure;
}

mod waits {
    pub(crate) fn number() -> u64 {
        1
    }
}

mod handover {
    pub(crate) struct Handover<W>(std::marker::PhantomData<W>);

    impl<W> Handover<W> {
        pub(crate) fn new() -> Self {
            Self(std::marker::PhantomData)
        }
    }
}

mod work {
    pub(crate) type Work<K, V> = fn() -> (K, V);
}

use std::collections::BTreeMap;

use crdt::Kind;
use direct::{DirectNote, DirectWriter, Refused};
use flight::{Flight, Flights};
use gate::{Admission, Gate, Gated, Load, Notes, StripeLimits};
use hlc::Now;
use item::{Body, Item, ItemRef, Key};
use library::{recency, store};
use pace::Pace;
use recency::{Eviction, Miss, ReadLog, Recency};
use shuttle::thread;
use store::{Meta, SlotId, Store};
use sync::{Arc, AtomicU64, Mutex, Ordering};
use woken::Woken;

fn main() {
    let wanted = std::env::var("SHUTTLE_ITERATIONS").ok().and_then(|number| number.parse().ok());
    let iterations: usize = wanted.unwrap_or(300);
    let checks: [(&str, fn()); 15] = [
        ("readers see whole registers, and never go back", readers_see_whole_registers),
        ("a place that is given away is not mistaken", a_reused_place_is_not_mistaken),
        ("a walk sees what is there all along", a_walk_sees_what_stays),
        ("a walk by places returns no key twice, and nothing older than was read", a_walk_by_places_goes_forward),
        ("reads are noted at most once, and counted exactly", reads_are_counted),
        ("a use is not lost while the hand passes its neighbours", uses_are_marked),
        ("one thread ends a fill, and its waiters are released", completion_releases_waiters),
        ("waiters in a future are released as well", completion_releases_futures),
        ("a write is followed by a visit of the driver", a_write_is_visited),
        ("a timer of a write is followed by a visit of the driver", a_timer_of_a_write_is_visited),
        ("a write is sent by a thread or by the driver", a_write_is_sent),
        ("an epoch hides at once what is below it", an_epoch_only_rises),
        ("direct writes are absorbed in order, and none is made during a call", direct_writes_are_absorbed),
        ("the notes of all threads are taken at one moment", notes_are_taken_at_one_moment),
        ("no direct write is made while the stripes are closed", closed_stripes_take_no_writes),
    ];
    for (name, check) in checks {
        shuttle::check_random(check, iterations);
        shuttle::check_pct(check, iterations, 3);
        println!("{name}: {} schedules", 2 * iterations);
    }
}

fn meta(time: u64) -> Meta {
    Meta {
        stamp_time: time,
        dot_time: time,
        stamp_replica: 0,
        dot_origin: 0,
        expires: 0,
        size: 0,
        weight: 1,
        arrival: arrival::Arrival::default(),
        kind: Kind::Live,
        retained: false,
    }
}

fn item(key: u64, value: u64) -> ItemRef<u64, u64> {
    ItemRef::new(Item { key: Key::Known(key), body: Body::Known(value) })
}

const HASH: u64 = 7;

fn readers_see_whole_registers() {
    let store = Arc::new(Store::new());
    let slot = store.insert(HASH, meta(1), item(1, 1));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let mut last = 0;
                for _ in 0..4 {
                    let Some(found) = store.get(HASH, &1_u64) else {
                        last = u64::MAX; // Removed: this key is never inserted again.
                        continue;
                    };
                    assert_eq!(found.item.value(), Some(&found.meta.dot_time), "key and value of two writes");
                    assert!(found.meta.dot_time >= last, "{} after {last}", found.meta.dot_time);
                    last = found.meta.dot_time;
                }
            })
        })
        .collect();
    for time in 2..5 {
        assert!(store.replace(slot, meta(time), item(1, time)).is_some());
    }
    assert!(store.remove(slot).is_some());
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

/// Checks that a reader never mistakes one key for another: two keys with one hash occupy one slot in turn.
fn a_reused_place_is_not_mistaken() {
    let store = Arc::new(Store::new());
    let old = store.insert(HASH, meta(1), item(1, 1));
    let reader = {
        let store = Arc::clone(&store);
        thread::spawn(move || {
            for _ in 0..4 {
                if let Some(found) = store.get(HASH, &1_u64) {
                    assert_eq!(found.item.value(), Some(&1));
                }
                if let Some(found) = store.get(HASH, &2_u64) {
                    assert_eq!(found.item.value(), Some(&2));
                }
                if let Some(found) = store.resolve(old) {
                    assert_eq!(found.item.key, Key::Known(1));
                }
            }
        })
    };
    store.remove(old);
    let new = store.insert(HASH, meta(2), item(2, 2));
    assert_eq!(old.id, new.id, "the place is given to another");
    reader.join().unwrap();
}

fn a_walk_sees_what_stays() {
    let store = Arc::new(Store::new());
    let keep: Vec<u64> = (0..3).collect();
    let mut go = Vec::new();
    for key in &keep {
        store.insert(*key << 48, meta(1), item(*key, 1));
        go.push(store.insert(*key << 48, meta(1), item(key + 100, 1)));
    }
    let walker = {
        let store = Arc::clone(&store);
        thread::spawn(move || {
            let (mut seen, mut next) = (Vec::new(), Some(store::Position::default()));
            while let Some(from) = next {
                let (page, after) = store.page(from, 2);
                seen.extend(page.into_iter().filter_map(|held| held.item.key.known().copied()));
                next = after;
            }
            keep.iter().for_each(|key| assert_eq!(seen.iter().filter(|other| *other == key).count(), 1, "{seen:?}"));
        })
    };
    go.into_iter().for_each(|slot| drop(store.remove(slot)));
    store.insert(1 << 48, meta(2), item(200, 2));
    walker.join().unwrap();
}

/// Checks a walk while one key is rewritten, and a second key is removed and added again in another place.
fn a_walk_by_places_goes_forward() {
    let store = Arc::new(Store::new());
    let written = store.insert(0, meta(1), item(1, 1));
    let moved = store.insert(0, meta(1), item(2, 1));
    let walker = {
        let store = Arc::clone(&store);
        thread::spawn(move || {
            let places = store.places(0).unwrap();
            let mut seen = Vec::new();
            for place in places {
                let read = store.get(0, &1_u64).unwrap().meta.dot_time;
                let Some(found) = store.resolve(place) else { continue };
                let key = found.item.key.known().copied().unwrap();
                assert!(key != 1 || found.meta.dot_time >= read, "{} after {read}", found.meta.dot_time);
                seen.push(key);
            }
            assert_eq!(seen.iter().filter(|key| **key == 1).count(), 1, "{seen:?}");
            assert!(seen.iter().filter(|key| **key == 2).count() <= 1, "{seen:?}");
        })
    };
    store.replace(written, meta(2), item(1, 2));
    store.remove(moved);
    store.insert(0, meta(2), item(3, 2));
    store.insert(0, meta(2), item(2, 2));
    store.replace(written, meta(3), item(1, 3));
    walker.join().unwrap();
}

fn reads_are_counted() {
    let log = Arc::new(ReadLog::new(Some(Eviction::Lru)));
    let readers: Vec<_> = (0..2_u32)
        .map(|number| {
            let log = Arc::clone(&log);
            thread::spawn(move || {
                for read in 0..3 {
                    log.hit(SlotId(number * 10 + read));
                }
                log.miss(Miss::Absent);
            })
        })
        .collect();
    let mut seen = Vec::new();
    log.drain(|id| seen.push(id.0));
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    log.drain(|id| seen.push(id.0));
    assert_eq!(log.totals(), (6, 2));
    seen.sort_unstable();
    let noted = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), noted, "noted once, drained twice: {seen:?}");
    assert!(seen.iter().all(|id| [0, 1, 2, 10, 11, 12].contains(id)), "{seen:?}");
}

/// Checks the marks of the sieve: two readers use places whose bits share a word, while the hand clears others.
fn uses_are_marked() {
    let log = Arc::new(ReadLog::new(Some(Eviction::Sieve)));
    let mut order = Recency::new(Eviction::Sieve);
    let place = |id: u32| store::SlotRef { id: SlotId(id), generation: id };
    (0..6).for_each(|id| order.insert(place(id), true, &log));
    let readers: Vec<_> = [3, 4]
        .into_iter()
        .map(|id| {
            let log = Arc::clone(&log);
            thread::spawn(move || (0..2).for_each(|_| log.hit(SlotId(id))))
        })
        .collect();
    assert_eq!(order.pop(&log), Some(place(0)));
    order.insert(place(6), true, &log);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert_eq!(log.totals(), (4, 0));
    let gone: Vec<_> = std::iter::from_fn(|| order.pop(&log)).map(|slot| slot.id.0).collect();
    assert_eq!(gone, [1, 2, 5, 3, 4, 6], "3 and 4 were used, and 6 is the newest");
}

/// Checks that each write is seen by a later visit of the driver, although a cache that waits already is not listed
/// again.
fn a_write_is_visited() {
    let written = Arc::new(AtomicU64::new(0));
    let called = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&called);
    let notify = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let woken = Arc::new(Woken::new(Box::new(notify)));
    let caller = Woken::caller("cache");
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let (written, woken, caller) = (Arc::clone(&written), Arc::clone(&woken), Arc::clone(&caller));
            thread::spawn(move || {
                for _ in 0..2 {
                    written.fetch_add(1, Ordering::SeqCst);
                    woken.call(&caller);
                }
            })
        })
        .collect();
    let (mut seen, mut visits) = (0, 0);
    let mut turn = |seen: &mut u64| {
        for name in woken.take() {
            assert_eq!(&*name, "cache");
            visits += 1;
            *seen = written.load(Ordering::SeqCst);
        }
    };
    (0..2).for_each(|_| turn(&mut seen));
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    turn(&mut seen);
    assert_eq!(seen, 4, "a write that no visit has seen");
    assert_eq!(called.load(Ordering::SeqCst), visits, "the driver is notified once for each visit");
}

/// Checks that a write which makes a timer due earlier requests a visit, unless the driver's next visit is in time.
fn a_timer_of_a_write_is_visited() {
    const SOON: u64 = 5;
    let pace = Arc::new(Pace::default());
    // The driver is due before the timer of the write, and visits the cache now.
    pace.end_visit(1);
    let timer = Arc::new(Mutex::new(1_000));
    let writer = {
        let (pace, timer) = (Arc::clone(&pace), Arc::clone(&timer));
        thread::spawn(move || {
            *timer.lock() = SOON;
            pace.is_late_for(SOON)
        })
    };
    pace.begin_visit();
    let next = *timer.lock();
    pace.end_visit(next);
    let is_requested = writer.join().unwrap();
    assert!(is_requested || !pace.is_late_for(SOON), "no visit comes in time");
}

/// Checks that a write is sent: by its own thread, by the thread that sends at that moment, or by a visit. A cache has one
/// message in flight, as a replica has to each member.
fn a_write_is_sent() {
    /// Sends all writes unless another thread's message is in flight. Returns the number of writes that were sent.
    fn drain(unsent: &Mutex<(u64, bool)>) -> u64 {
        let mut sent = 0;
        loop {
            let taken = {
                let mut state = unsent.lock();
                if state.0 == 0 || state.1 {
                    return sent;
                }
                state.1 = true;
                std::mem::take(&mut state.0)
            };
            unsent.lock().1 = false;
            sent += taken;
        }
    }
    let (pace, unsent) = (Arc::new(Pace::default()), Arc::new(Mutex::new((0, false))));
    let (woken, caller) = (Arc::new(Woken::new(Box::new(|| ()))), Woken::caller("cache"));
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let (pace, unsent) = (Arc::clone(&pace), Arc::clone(&unsent));
            let (woken, caller) = (Arc::clone(&woken), Arc::clone(&caller));
            thread::spawn(move || {
                let mut sent = 0;
                for _ in 0..2 {
                    unsent.lock().0 += 1;
                    if caller.waits() {
                        continue;
                    }
                    if pace.try_begin() {
                        sent += drain(&unsent);
                        pace.end();
                    } else {
                        woken.call(&caller);
                    }
                }
                sent
            })
        })
        .collect();
    let visit = || if woken.take().is_empty() { 0 } else { drain(&unsent) };
    let by_driver: u64 = (0..2).map(|_| visit()).sum();
    let by_writers: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    assert_eq!(by_driver + by_writers + visit(), 4, "a write that no thread has sent");
}

fn flight() -> Arc<Flight<u64, u64>> {
    Arc::new(Flight::new(HASH, item(1, 1), replica::FillTicket, 0))
}

fn completion_releases_waiters() {
    let flight = flight();
    let mut flights = Flights::new();
    assert!(flights.put(Arc::clone(&flight)).is_none());
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            let flight = Arc::clone(&flight);
            thread::spawn(move || flight.outcome_blocking().as_ref().is_ok_and(|item| item.value() == Some(&9)))
        })
        .collect();
    let enders: Vec<_> = (0..2)
        .map(|_| {
            let flight = Arc::clone(&flight);
            thread::spawn(move || {
                let first = flight.claim_completion();
                if first {
                    flight.complete(Ok(item(1, 9)));
                }
                first
            })
        })
        .collect();
    let ended = enders.into_iter().map(|ender| ender.join().unwrap()).filter(|first| *first).count();
    assert_eq!(ended, 1);
    assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
    assert!(flights.remove(&flight).is_some() && flights.is_empty());
}

fn completion_releases_futures() {
    let flight = flight();
    let waiter = {
        let flight = Arc::clone(&flight);
        thread::spawn(move || {
            shuttle::future::block_on(async {
                flight.outcome().await.as_ref().is_ok_and(|item| item.value() == Some(&9))
            })
        })
    };
    assert!(flight.claim_completion());
    flight.complete(Ok(item(1, 9)));
    assert!(waiter.join().unwrap());
}

fn an_epoch_only_rises() {
    let store: Arc<Store<u64, u64>> = Arc::new(Store::new());
    let writers: Vec<_> = [5, 3]
        .into_iter()
        .map(|epoch| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                store.raise_epoch(epoch);
                assert!(store.epoch() >= epoch);
            })
        })
        .collect();
    let (before, after) = (store.epoch(), store.epoch());
    assert!(after >= before);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(store.epoch(), 5);
}

/// A replica that only counts. Its log has what was absorbed and what its own calls wrote. It may have a capacity.
struct Counting {
    store: Arc<Store<u64, u64>>,
    /// The time of the last write in each place, by the log.
    log: BTreeMap<store::SlotRef, u64>,
    last: u64,
    absorbed: u64,
    /// False if writers must go through the replica until the next call.
    admits: bool,
    /// The number of keys in the log from which on no write is direct.
    capacity: usize,
}

impl Gated for Counting {
    type Writer = DirectWriter<u64, u64>;
    type Note = DirectNote;
    type Aside = ();

    fn absorb(&mut self, notes: &mut Vec<DirectNote>, (): &()) {
        notes.sort_unstable_by_key(|note| note.after.stamp_time);
        for DirectNote { slot, before, after, .. } in notes.drain(..) {
            assert!(after.stamp_time > self.last, "an earlier write is absorbed later");
            self.last = after.stamp_time;
            let logged = self.log.insert(slot, after.stamp_time);
            assert_eq!(before.map(|before| before.stamp_time), logged, "a note of an overwritten write is missing");
            self.absorbed += 1;
        }
    }

    fn must_close(&self) -> bool {
        self.log.len() >= self.capacity
    }

    fn admit(&mut self, writer: &mut Option<DirectWriter<u64, u64>>) -> Admission {
        if !self.admits {
            return Admission::Refused;
        }
        if self.must_close() {
            return Admission::Closed;
        }
        if let Some(writer) = writer {
            writer.raise(self.last);
            return Admission::Same;
        }
        *writer = Some(DirectWriter::new(Arc::clone(&self.store), self.last, replica_id::ReplicaId::MIN, 0, 0));
        Admission::Renewed
    }
}

impl Counting {
    /// Removes the key that was written first, as an eviction does.
    fn remove_first(&mut self) {
        let oldest = self.log.iter().min_by_key(|(_, time)| **time).map(|(slot, _)| *slot);
        if let Some(slot) = oldest {
            self.log.remove(&slot);
            assert!(self.store.remove(slot).is_some());
        }
    }

    /// Checks that everything in the log is in the table.
    fn check_log(&self) {
        for (slot, time) in &self.log {
            assert_eq!(self.store.meta(*slot).map(|meta| meta.stamp_time), Some(*time), "written during a call");
        }
    }

    /// Checks that everything in the table is in the log, and writes a key as a call of a replica does.
    fn call(&mut self, key: u64) {
        self.check_log();
        self.last += 160;
        let found = self.store.get(key, &key);
        let slot = match found {
            Some(found) => {
                assert!(self.log.contains_key(&found.slot), "a write that was not absorbed");
                self.store.replace(found.slot, meta(self.last), item(key, self.last));
                found.slot
            }
            None => self.store.insert(key, meta(self.last), item(key, self.last)),
        };
        self.log.insert(slot, self.last);
        assert_eq!(self.store.meta(slot).map(|meta| meta.stamp_time), Some(self.last), "written during a call");
    }
}

type CountingGate = Gate<Counting, DirectWriter<u64, u64>, DirectNote>;

/// Writes a key beside the replica, or through it. Returns true if it was written directly.
fn write_through(gate: &CountingGate, key: u64) -> bool {
    let now = Now { wall: 0, mono: 0 };
    let write = ledger::local::Write { hash: key, item: item(key, 0), expires: 0, size: 0, weight: 1 };
    let keep = |written: Result<direct::DirectlyWritten<u64, u64>, Refused<u64, u64>>,
                notes: &mut Notes<DirectNote>| { written.map(|written| notes.push(written.note, 1)) };
    let added = gate.write(&(), write, |writer, notes, write| keep(writer.add(now, write), notes));
    let done = match added {
        Ok(Ok(())) => true,
        Ok(Err(Refused::Found(write, found))) => {
            let written =
                gate.write(&(), write, |writer, notes, write| keep(writer.overwrite(now, write, &found), notes));
            matches!(written, Ok(Ok(())))
        }
        _ => false,
    };
    if !done {
        gate.lock(&()).call(key);
    }
    done
}

fn counting_gate(capacity: usize) -> Arc<CountingGate> {
    let (store, log) = (Arc::new(Store::new()), BTreeMap::new());
    let relief = Load { notes: 1, weight: u64::MAX };
    let full = Load { notes: if capacity == usize::MAX { 1_024 } else { 2 }, weight: u64::MAX };
    let counting = Counting { store, log, last: 0, absorbed: 0, admits: true, capacity };
    Arc::new(CountingGate::new(counting, StripeLimits { relief, full }))
}

fn direct_writes_are_absorbed() {
    let gate = counting_gate(usize::MAX);
    let writers: Vec<_> = (0..2_u64)
        .map(|number| {
            let gate = Arc::clone(&gate);
            // Both write key 1; the second also writes a key of its own. The first writes of a thread open its stripe.
            thread::spawn(move || [1, 1, 1 + number, 1].iter().filter(|key| write_through(&gate, **key)).count() as u64)
        })
        .collect();
    for round in 0..3 {
        let mut held = gate.lock(&());
        held.admits = round != 1;
        held.call(1);
        held.call(3);
    }
    let direct: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    let mut held = gate.lock(&());
    assert_eq!(held.absorbed, direct);
    held.call(2);
}

/// Checks writers that absorb while two others write one key in turn. `Counting::absorb` checks the order.
fn notes_are_taken_at_one_moment() {
    let gate = counting_gate(usize::MAX);
    let writers: Vec<_> = (0..3_u64)
        .map(|number| {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                // Asks for a stripe, which opens with the next call.
                write_through(&gate, 10 + number);
                drop(gate.lock(&()));
                (0..3).filter(|_| write_through(&gate, 1)).count() as u64
            })
        })
        .collect();
    let direct: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    assert!(gate.lock(&()).absorbed >= direct);
}

/// Checks writers whose stripes are closed once three keys are held, and opened when one of them is removed. The checks
/// of `Counting::call` fail if a thread writes directly although its stripe is closed.
fn closed_stripes_take_no_writes() {
    let gate = counting_gate(3);
    let writers: Vec<_> = (0..2_u64)
        .map(|number| {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                // Asks for a stripe, which opens with the next call.
                write_through(&gate, 1);
                drop(gate.lock(&()));
                for key in [1, 2 + number, 1, 4, 1] {
                    write_through(&gate, key);
                }
            })
        })
        .collect();
    for _ in 0..3 {
        let mut held = gate.lock(&());
        held.call(1);
        held.remove_first();
        held.call(1);
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    gate.lock(&()).call(1);
}
