//! User code that panics, blocks or calls back.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::testing::{Cluster, alone};
use crate::{Cache, FillError};

thread_local! {
    static PANIC_IN: Cell<&'static str> = const { Cell::new("") };
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

fn maybe_panic(place: &'static str) {
    if PANIC_IN.get() == place && !std::thread::panicking() {
        PANICS.set(PANICS.get() + 1);
        panic!("a user type panics in {place}");
    }
}

fn panicking_in<R>(place: &'static str, act: impl FnOnce() -> R) -> std::thread::Result<R> {
    PANIC_IN.set(place);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
    PANIC_IN.set("");
    result
}

#[derive(Debug, Serialize, Deserialize)]
struct Vicious(u32);

impl Clone for Vicious {
    fn clone(&self) -> Self {
        maybe_panic("Clone");
        Self(self.0)
    }
}

impl Drop for Vicious {
    fn drop(&mut self) {
        maybe_panic("Drop");
    }
}

impl Hash for Vicious {
    fn hash<H: Hasher>(&self, state: &mut H) {
        maybe_panic("Hash");
        self.0.hash(state);
    }
}

impl PartialEq for Vicious {
    fn eq(&self, other: &Self) -> bool {
        maybe_panic("Eq");
        self.0 == other.0
    }
}

impl Eq for Vicious {}

#[test]
fn user_types_that_panic_poison_nothing() {
    // scenario 90: after a panic in `Clone`, `Drop`, `Hash` or `Eq`, all later calls of the cache work.
    for place in ["Clone", "Drop", "Hash", "Eq"] {
        let (cache, clock) = alone::<Vicious, Vicious>(|it| it.max_capacity(4).eviction_listener(|_, _, _| ()));
        (0..8).for_each(|n| drop(cache.insert(Vicious(n), Vicious(n))));
        let _ = panicking_in(place, || cache.insert(Vicious(7), Vicious(70)));
        let _ = panicking_in(place, || cache.get(&Vicious(6)));
        let _ = panicking_in(place, || cache.remove(&Vicious(6)));
        let _ = panicking_in(place, || cache.get_with_blocking(Vicious(1), || Vicious(10)));
        let _ = panicking_in(place, || cache.insert_with_ttl(Vicious(3), Vicious(3), Duration::from_secs(1)));
        let _ = panicking_in(place, || (20..30).for_each(|n| drop(cache.insert(Vicious(n), Vicious(n)))));
        clock.advance(Duration::from_secs(2));
        let _ = panicking_in(place, || cache.run_pending_tasks());
        cache.run_pending_tasks();
        for n in 40..60 {
            cache.insert(Vicious(n), Vicious(n)).unwrap();
            assert_eq!(cache.get(&Vicious(n)).map(|value| value.0), Some(n), "{place}");
        }
        assert!(PANICS.replace(0) > 0, "{place} did panic");
        assert!(cache.entry_count() <= 4, "{place}");
        assert_eq!(cache.stats().fills.running, 0, "{place}: no fill is left behind");
        cache.invalidate(&Vicious(1));
        assert_eq!(cache.get_with_blocking(Vicious(1), || Vicious(11)).0, 11, "{place}");
    }
}

#[test]
fn user_types_that_panic_while_they_are_merged_stop_no_caller() {
    // scenario 90: a panic during a merge does not reach the driver's thread, and the protocol repairs the loss.
    for place in ["Clone", "Drop", "Hash", "Eq"] {
        let cluster = Cluster::<Vicious, Vicious>::new(2, |_, it| it.eviction_listener(|_, _, _| ()));
        cluster.caches[1].insert(Vicious(1), Vicious(1)).unwrap();
        cluster.caches[1].insert(Vicious(3), Vicious(3)).unwrap();
        cluster.exchange();
        cluster.caches[0].insert(Vicious(1), Vicious(2)).unwrap();
        cluster.caches[0].insert(Vicious(2), Vicious(2)).unwrap();
        // The listener gets clones of the removed entry, so `Clone` is called as well.
        cluster.caches[0].remove(&Vicious(3));
        PANICS.set(0);
        let parcels = cluster.take(0);
        let handled = panicking_in(place, || cluster.deliver(&parcels));
        assert!(handled.is_ok(), "{place}: the driver's thread goes on");
        assert!(PANICS.replace(0) > 0, "{place} did panic");
        cluster.advance(Duration::from_secs(20));
        assert_eq!(cluster.caches[1].get(&Vicious(1)).map(|value| value.0), Some(2), "{place}: repaired");
        assert_eq!(cluster.caches[1].get(&Vicious(2)).map(|value| value.0), Some(2), "{place}: repaired");
        assert!(cluster.caches[1].get(&Vicious(3)).is_none(), "{place}: repaired");
    }
}

thread_local! {
    static ARMED: Cell<bool> = const { Cell::new(false) };
}

/// A type whose `Drop` panics while `ARMED` is set.
#[derive(Clone, Debug, Hash, PartialEq, Eq, Serialize, Deserialize)]
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!ARMED.get(), "a user type panics in its Drop");
    }
}

/// Checks that a call returns although keys and values panic in their `Drop`, and that the panics are counted. What the
/// call returns is forgotten: its `Drop` is the caller's own.
fn contained<R>(cache: &Cache<Bomb, Bomb>, what: &str, act: impl FnOnce() -> R) {
    let before = cache.stats().drop_panics;
    ARMED.set(true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| std::mem::forget(act())));
    ARMED.set(false);
    assert!(result.is_ok(), "{what} unwinds");
    assert!(cache.stats().drop_panics > before, "{what}: nothing is counted");
    assert_eq!(cache.inspect().intake["drop_panics"], cache.stats().drop_panics);
}

#[test]
fn no_call_unwinds_because_a_key_or_value_panics_in_its_drop() {
    let (cache, clock) = alone::<Bomb, Bomb>(|it| it.max_capacity(100).max_value_bytes(4).change_buffer(1));
    let put = |n| cache.insert(Bomb(n), Bomb(n)).unwrap().stamp;
    let [one, none] = [Bomb(1), Bomb(2)];
    let stale = put(1);
    contained(&cache, "insert", || put(1));
    contained(&cache, "insert_many", || cache.insert_many([(Bomb(1), Bomb(1)), (Bomb(3), Bomb(3))]));
    contained(&cache, "a refused insert", || cache.insert(Bomb(1), Bomb(u32::MAX)));
    contained(&cache, "a refused batch", || cache.insert_many([(Bomb(1), Bomb(1)), (Bomb(3), Bomb(u32::MAX))]));
    contained(&cache, "insert_if_absent_local", || cache.insert_if_absent_local(Bomb(1), Bomb(2)));
    contained(&cache, "replace_if in vain", || cache.replace_if(Bomb(1), Bomb(2), stale));
    let stamp = put(1);
    contained(&cache, "replace_if", || cache.replace_if(Bomb(1), Bomb(2), stamp));
    contained(&cache, "remove", || cache.remove(&one));
    put(1);
    contained(&cache, "invalidate", || cache.invalidate(&one));
    put(1);
    contained(&cache, "remove_many", || cache.remove_many([&one, &none]));
    let stamp = put(1);
    contained(&cache, "remove_if_stamp", || cache.remove_if_stamp(&one, stamp));
    put(1);
    contained(&cache, "remove_if", || cache.remove_if(|key, _| *key == one));
    put(1);
    contained(&cache, "a fill that hits", || cache.get_with_blocking(Bomb(1), || unreachable!()));
    contained(&cache, "a fill that is not cached", || {
        cache.fill_with_blocking(Bomb(5), || Ok::<_, std::fmt::Error>(crate::Filled::uncached(Bomb(5))))
    });
    contained(&cache, "a fill that fails", || cache.try_get_with_blocking(Bomb(5), || Err(std::fmt::Error)));
    let waiting = cache.get_with(Bomb(1), || async { unreachable!() });
    contained(&cache, "an asynchronous fill that hits", || crate::sync::block_on(waiting));
    contained(&cache, "an eviction", || (200..400).for_each(|n| _ = put(n)));
    let changes = cache.subscribe();
    contained(&cache, "a full change stream", || (0..5).for_each(|n| _ = put(n)));
    put(1);
    cache.invalidate_all();
    contained(&cache, "a dropped subscription", || drop(changes));
    contained(&cache, "a sweep", || cache.run_pending_tasks());
    cache.insert_with_ttl(Bomb(1), Bomb(1), Duration::from_secs(1)).unwrap();
    clock.advance(Duration::from_secs(2));
    contained(&cache, "an expiry", || cache.run_pending_tasks());
    put(1);
    let (last, _) = alone::<Bomb, Bomb>(|it| it);
    last.insert(Bomb(1), Bomb(1)).unwrap();
    contained(&cache, "the end of a cache", || drop(last));
    assert_eq!((cache.get(&one), cache.stats().fills.running), (Some(Bomb(1)), 0));
}

/// Checks that a reader that is the last to hold a replaced value does not unwind: the writer is gone by then.
#[test]
fn a_reader_that_drops_the_last_reference_goes_on() {
    let (cache, _) = alone::<Bomb, Bomb>(|it| it);
    let [one] = [Bomb(1)];
    cache.insert(Bomb(1), Bomb(1)).unwrap();
    let held = cache.shared.reader.visible(&one).unwrap();
    cache.insert(Bomb(1), Bomb(2)).unwrap();
    contained(&cache, "a read", || drop(held));
}

thread_local! {
    /// True while 13 can be read. It must be readable on its writer, which would refuse it otherwise.
    static READS_13: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}

/// A number that cannot be read if it is 13. The test's weigher panics if it is 14.
#[derive(Clone, Debug, Hash, PartialEq, Eq, Serialize)]
struct Unlucky(u32);

impl<'de> Deserialize<'de> for Unlucky {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(from)?;
        assert!(number != 13 || READS_13.get(), "on every node, every time");
        Ok(Self(number))
    }
}

#[test]
fn an_entry_that_can_be_read_nowhere_stops_nothing_else() {
    // scenario 84: keys and values that panic in `Deserialize` or in the weigher, between entries that are good.
    let weigh = |_: &Unlucky, value: &Unlucky| if value.0 == 14 { panic!("on every node") } else { 1 };
    let cluster = Cluster::<Unlucky, Unlucky>::new(3, |index, it| match index {
        0 => it,
        _ => it.max_capacity(1_000).weigher(weigh),
    });
    for (key, value) in [(1, 1), (2, 13), (3, 14), (13, 4), (5, 5)] {
        cluster.caches[0].insert(Unlucky(key), Unlucky(value)).unwrap();
    }
    READS_13.set(false);
    cluster.exchange();
    cluster.advance(Duration::from_secs(5));
    for cache in &cluster.caches[1..] {
        let read = |key| cache.get(&Unlucky(key)).map(|value| value.0);
        assert_eq!([read(1), read(2), read(3), read(5)], [Some(1), None, Some(14), Some(5)]);
        let report = cache.inspect();
        assert_eq!((report.intake["undecodable_keys"], report.intake["undecodable_values"]), (1, 1));
        assert_eq!(report.intake["malformed"], 0, "no message is lost for it");
        assert_eq!(report.entries, 5, "it is kept");
    }
    // A good value replaces the unreadable one, and a delete removes the unreadable key.
    cluster.caches[0].insert(Unlucky(2), Unlucky(2)).unwrap();
    cluster.caches[0].remove(&Unlucky(13));
    cluster.exchange();
    for cache in &cluster.caches[1..] {
        assert_eq!(cache.get(&Unlucky(2)).map(|value| value.0), Some(2));
        assert_eq!(cache.entry_count(), 4);
    }
}

#[test]
fn listeners_may_call_back_and_panic() {
    // scenario 60: a listener that reads, writes and fills its cache, and panics for one key.
    let late: Arc<std::sync::OnceLock<Cache<u32, u32>>> = Arc::default();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (cache, _) = alone::<u32, u32>(|it| {
        let (late, seen) = (Arc::clone(&late), Arc::clone(&seen));
        it.max_capacity(2).eviction_listener(move |key, _, _| {
            let cache = late.get().unwrap();
            cache.get(&*key);
            let _ = cache.entry_count();
            cache.iter().count();
            if *key < 10 {
                cache.insert(*key + 10, 0).unwrap();
                assert_eq!(cache.get_with_blocking(*key + 100, || 7), 7);
            }
            seen.lock().unwrap().push(*key);
            assert!(*key != 1, "a listener that panics");
        })
    });
    late.set(cache.clone()).unwrap();
    for key in 0..6 {
        cache.insert(key, key).unwrap();
    }
    let seen = seen.lock().unwrap().clone();
    assert!((0..4).all(|key| seen.contains(&key)), "{seen:?}");
    assert_eq!(cache.stats().listener_panics, 1);
    assert!(cache.entry_count() <= 2);
}

#[test]
fn a_listener_that_blocks_holds_up_no_reader_or_writer() {
    // scenario 60: reads, writes and fills work while one thread is blocked in the listener.
    let (enter, entered) = std::sync::mpsc::channel();
    let (leave, left) = std::sync::mpsc::channel::<()>();
    let left = std::sync::Mutex::new(left);
    let (cache, _) = alone::<u32, u32>(|it| {
        it.eviction_listener(move |_, _, _| {
            enter.send(()).unwrap();
            let _ = left.lock().unwrap().recv();
        })
    });
    cache.insert(1, 1).unwrap();
    let blocked = {
        let cache = cache.clone();
        std::thread::spawn(move || cache.remove(&1))
    };
    entered.recv().unwrap();
    cache.insert(2, 2).unwrap();
    assert_eq!((cache.get(&2), cache.get(&1)), (Some(2), None));
    assert_eq!(cache.get_with_blocking(3, || 3), 3);
    drop(leave);
    assert_eq!(blocked.join().unwrap(), Some(1));
}

#[test]
fn a_filler_whose_value_cannot_be_weighed_or_encoded_is_an_error_or_uncached() {
    let (cache, _) = alone::<u32, u32>(|it| {
        it.weigher(|_, value| {
            assert!(*value != 13, "unlucky");
            1
        })
    });
    let error = cache.try_get_with_blocking(1, || Ok::<_, std::fmt::Error>(13)).unwrap_err();
    assert!(matches!(error, FillError::Panicked(message) if message.contains("unlucky")));
    assert_eq!(cache.get_with_blocking(1, || 14), 14);
    assert_eq!(cache.stats().fills.running, 0);
    assert_eq!(cache.shared.writer.look(|engine| engine.replica.view().fills_running()), 0);
}
