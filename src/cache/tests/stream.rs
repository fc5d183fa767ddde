//! The change stream: order, origins, lost events, memory, and the end of waits.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::filled::Lifetime;
use crate::cache::testing::{Cluster, RUNTIME, alone};
use crate::cache::write;
use crate::{ChangeKind, RemovalCause, SubscriptionError};

#[test]
fn every_reader_receives_all_events_in_order() {
    let (cache, clock) = alone::<u32, u32>(|it| it.max_capacity(2));
    cache.insert(0, 0).unwrap();
    let (mut first, mut second) = (cache.subscribe(), cache.subscribe());
    cache.insert(1, 10).unwrap();
    cache.insert(1, 11).unwrap();
    cache.insert_with_ttl(2, 20, Duration::from_secs(1)).unwrap();
    cache.remove(&1);
    clock.advance(Duration::from_secs(2));
    cache.run_pending_tasks();
    cache.insert(3, 30).unwrap();
    cache.invalidate_all();
    cache.run_pending_tasks();
    for changes in [&mut first, &mut second] {
        let mut seen = Vec::new();
        while let Ok(event) = changes.try_recv() {
            assert!(event.is_local() && event.origin() == cache.replica_id());
            seen.push((*event.key(), event.previous().copied(), event.value().copied(), event.kind()));
        }
        use ChangeKind::{Inserted, Removed, Updated};
        let expected = [
            (1, None, Some(10), Inserted),
            (1, Some(10), Some(11), Updated),
            (2, None, Some(20), Inserted),
            (0, Some(0), None, Removed(RemovalCause::Size)),
            (1, Some(11), None, Removed(RemovalCause::Explicit)),
            (2, Some(20), None, Removed(RemovalCause::Expired)),
            (3, None, Some(30), Inserted),
            (3, Some(30), None, Removed(RemovalCause::Invalidated)),
        ];
        assert_eq!(seen, expected);
    }
}

#[test]
fn what_others_do_is_seen_with_its_origin() {
    let cluster = Cluster::<u32, u32>::new(2, |_, it| it);
    let mut changes = cluster.caches[1].subscribe();
    let written = cluster.caches[0].insert(1, 1).unwrap();
    cluster.exchange();
    cluster.caches[0].remove(&1);
    cluster.exchange();
    let event = changes.try_recv().unwrap();
    assert!(!event.is_local());
    assert_eq!((event.stamp(), event.origin()), (written.stamp, cluster.caches[0].replica_id()));
    let event = changes.try_recv().unwrap();
    assert_eq!((event.kind(), event.is_local()), (ChangeKind::Removed(RemovalCause::Explicit), false));
}

#[test]
fn a_reader_that_falls_behind_gets_the_number_lost_and_blocks_no_writer() {
    let (cache, _) = alone::<u32, u32>(|it| it.change_buffer(10));
    let (mut slow, mut quick) = (cache.subscribe(), cache.subscribe());
    for key in 0..25 {
        cache.insert(key, key).unwrap();
        assert_eq!(*quick.try_recv().unwrap().key(), key);
    }
    assert_eq!(slow.try_recv().unwrap_err(), SubscriptionError::Lagged(15));
    let rest: Vec<_> = std::iter::from_fn(|| slow.try_recv().ok()).map(|event| *event.key()).collect();
    assert_eq!(rest, (15..25).collect::<Vec<_>>());
    cache.insert(99, 99).unwrap();
    assert_eq!(*slow.try_recv().unwrap().key(), 99);
}

#[test]
fn events_that_all_readers_have_read_are_not_kept() {
    #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    struct Counted {
        #[serde(skip)]
        held: Arc<()>,
    }
    let (cache, _) = alone::<u32, Counted>(|it| it);
    let value = Counted::default();
    let (mut first, second) = (cache.subscribe(), cache.subscribe());
    cache.insert(1, value.clone()).unwrap();
    cache.invalidate(&1);
    drop(first.try_recv().unwrap());
    drop(first.try_recv().unwrap());
    assert_eq!(Arc::strong_count(&value.held), 2, "the second reader has not read it");
    drop(second);
    assert_eq!(Arc::strong_count(&value.held), 1);
    drop(first);
    cache.insert(1, value.clone()).unwrap();
    cache.invalidate(&1);
    assert_eq!(Arc::strong_count(&value.held), 1);
}

/// Checks that a change is either what a new subscriber reads or an event that it receives. A call that changes the
/// cache is running when the subscriber arrives.
#[test]
fn a_subscriber_misses_no_change_of_a_running_call() {
    let (cache, _) = alone::<u32, u32>(|it| it);
    let (running, run) = std::sync::mpsc::channel();
    let writer = cache.clone();
    let call = std::thread::spawn(move || {
        write::insert_if(&writer.shared, 1, 10, Lifetime::Forever, |_, _, expires| {
            running.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            Some(expires)
        })
    });
    run.recv().unwrap();
    let mut changes = cache.subscribe();
    let (read, event) = (cache.get(&1), changes.recv_timeout(Duration::from_millis(200)));
    call.join().unwrap().unwrap();
    assert!(read.is_some() || event.is_ok(), "read {read:?}, event {event:?}");
}

/// Checks that `recv_timeout` returns after its time although subscribers are woken again and again.
#[test]
fn a_wakening_without_an_event_starts_no_new_wait() {
    let (cache, clock) = alone::<u32, u32>(|it| it);
    let mut changes = cache.subscribe();
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (done, waker) = (Arc::clone(&over), cache.clone());
    let wakes = std::thread::spawn(move || {
        let mut woken = 0;
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            clock.advance(Duration::from_millis(10));
            waker.shared.writer.feed.wake_subscribers();
            std::thread::sleep(Duration::from_millis(1));
            woken += 1;
            assert!(woken < 5_000, "the wait does not end");
        }
        woken
    });
    assert_eq!(changes.recv_timeout(Duration::from_millis(100)).unwrap_err(), SubscriptionError::Empty);
    over.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(wakes.join().unwrap() > 1, "it was woken while it waited");
}

#[test]
fn waiting_ends_with_news_or_with_the_cache() {
    let (cache, _) = alone::<u32, u32>(|it| it);
    let (mut asynchronous, mut blocking) = (cache.subscribe(), cache.subscribe());
    assert_eq!(blocking.recv_timeout(Duration::from_millis(5)).unwrap_err(), SubscriptionError::Empty);
    let tasks = (
        RUNTIME.spawn(async move {
            let first = asynchronous.recv().await.map(|event| *event.key());
            (first, asynchronous.recv().await.map(|event| *event.key()))
        }),
        std::thread::spawn(move || {
            let first = blocking.recv_blocking().map(|event| *event.key());
            (first, blocking.recv_blocking().map(|event| *event.key()))
        }),
    );
    cache.insert(1, 1).unwrap();
    drop(cache);
    let expected = (Ok(1), Err(SubscriptionError::Closed));
    assert_eq!(RUNTIME.block_on(tasks.0).unwrap(), expected);
    assert_eq!(tasks.1.join().unwrap(), expected);
}
