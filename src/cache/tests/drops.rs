//! Values of user types in a message are never dropped under a lock, however the message ends.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Cache;
use crate::cache::testing::Cluster;

static RECEIVER: OnceLock<Cache<u32, Value>> = OnceLock::new();
static DROPPED: AtomicU32 = AtomicU32::new(0);

/// A value whose `Drop` deadlocks if it runs under the receiver's lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Value(u32);

impl Drop for Value {
    fn drop(&mut self) {
        if let Some(cache) = RECEIVER.get() {
            let _ = cache.members();
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn what_comes_twice_too_early_or_from_the_future_is_not_dropped_under_a_lock() {
    let cluster = Cluster::<u32, Value>::new(2, |_, it| it);
    let (a, b) = (&cluster.caches[0], &cluster.caches[1]);
    assert!(RECEIVER.set(b.clone()).is_ok());
    let write = |key: u32| {
        a.insert(key, Value(key)).unwrap();
        cluster.take(0)
    };
    // A duplicate.
    let first = write(1);
    cluster.deliver(&first);
    cluster.deliver(&first);
    assert_eq!(b.counters().pushes_in, 1);
    // A push that comes before its predecessor and waits in vain. The writes arrive by other messages, then the push
    // comes once more.
    write(2);
    let late = write(3);
    cluster.deliver(&late);
    assert_eq!(b.counters().gaps, 1);
    cluster.tick(1, Duration::from_secs(2));
    cluster.advance(Duration::from_secs(3));
    cluster.deliver(&late);
    assert_eq!(b.get(&3), Some(Value(3)));
    // A push that comes before its predecessor, which then arrives.
    let (second, third) = (write(4), write(5));
    cluster.deliver(&third);
    cluster.deliver(&second);
    assert_eq!((b.get(&4), b.get(&5), b.counters().gaps_reordered), (Some(Value(4)), Some(Value(5)), 1));
    // A push from the future, delivered twice.
    cluster.clocks[0].skew(3_600_000);
    let future = write(6);
    cluster.deliver(&future);
    cluster.deliver(&future);
    assert!(b.counters().deferred > 0);
    assert!(DROPPED.load(Ordering::Relaxed) > 0);
}
