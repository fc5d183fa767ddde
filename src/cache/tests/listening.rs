//! The pace that the eviction listener sets for the threads that remove values.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::cache::testing::alone;

#[test]
fn a_slow_listener_receives_everything_in_order() {
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let (cache, _) = alone::<u32, u32>(|it| {
        it.max_capacity(10).eviction_listener(move |_, _, _| {
            std::thread::sleep(Duration::from_micros(10));
            count.fetch_add(1, Ordering::Relaxed);
        })
    });
    let done = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(cache.shared.writer.listeners.waiting());
                std::thread::yield_now();
            }
            most
        });
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let cache = cache.clone();
                scope.spawn(move || {
                    for round in 0..3_000 {
                        cache.insert(writer * 3_000 + round, 0).unwrap();
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert!((1_000..1_100).contains(&most), "{most} waited");
    assert_eq!((told.load(Ordering::Relaxed), cache.stats().listener_lost), (8_990, 0));
}

#[test]
fn a_listener_that_stands_still_is_not_waited_for_and_misses_what_is_too_much() {
    let (leave, left) = mpsc::channel::<()>();
    let (enter, entered) = mpsc::channel();
    let left = std::sync::Mutex::new(left);
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let (cache, _) = alone::<u32, u32>(|it| {
        it.max_capacity(1).eviction_listener(move |_, _, _| {
            enter.send(()).unwrap();
            let _ = left.lock().unwrap().recv();
            count.fetch_add(1, Ordering::Relaxed);
        })
    });
    cache.insert(0, 0).unwrap();
    let blocked = {
        let cache = cache.clone();
        std::thread::spawn(move || cache.insert(1, 1).unwrap())
    };
    entered.recv().unwrap();
    for key in 2..70_000 {
        cache.insert(key, key).unwrap();
    }
    let lost = cache.stats().listener_lost;
    assert_eq!((lost, cache.shared.writer.listeners.waiting()), (69_999 - 1 - 65_536, 65_536));
    drop(leave);
    blocked.join().unwrap();
    assert_eq!((told.load(Ordering::Relaxed), cache.entry_count()), (69_999 - lost, 1));
    cache.insert(70_000, 0).unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 70_000 - lost, "the listener is called again");
}

/// A panic payload whose own `Drop` panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the panic payload panics in its Drop");
    }
}

#[test]
fn a_listener_whose_panic_panics_is_called_again() {
    let (cache, _) = alone::<u32, u32>(|it| it.eviction_listener(|_, _, _| std::panic::panic_any(Bomb)));
    for key in 0..3 {
        cache.insert(key, key).unwrap();
        assert_eq!(cache.remove(&key), Some(key));
    }
    assert_eq!(cache.stats().listener_panics, 3);
}
