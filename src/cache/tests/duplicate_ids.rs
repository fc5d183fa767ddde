//! scenario 34: two caches that were opened with one replica id.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::testing::{Cluster, RUNTIME};
use crate::cache::{NotSeen, TimeSource, Token};
use crate::{Cache, ReplicaId, Stamp};

static WATCHED: OnceLock<Cache<u32, Value>> = OnceLock::new();

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Value(u32);

/// A value whose `Drop` deadlocks if it runs under a lock of the watched cache.
impl Drop for Value {
    fn drop(&mut self) {
        if let Some(cache) = WATCHED.get() {
            let _ = cache.members();
        }
    }
}

#[test]
fn caches_with_one_id_take_others_and_go_on() {
    let cluster = Cluster::<u32, Value>::of(&[1, 1, 2], |_, it| it.max_capacity(1_000));
    assert!(WATCHED.set(cluster.caches[0].clone()).is_ok());
    let (a, b, c) = (&cluster.caches[0], &cluster.caches[1], &cluster.caches[2]);
    for round in 0..20 {
        a.insert(round, Value(round)).unwrap();
        b.insert(100 + round, Value(round)).unwrap();
        c.insert(200 + round, Value(round)).unwrap();
        a.insert(300, Value(round)).unwrap();
        b.insert(300, Value(round)).unwrap();
        cluster.advance(Duration::from_millis(100));
        cluster.meet();
    }
    let shared_id = ReplicaId::from_bytes([1; 16]);
    let before = Token::new(Stamp::new(cluster.clocks[0].wall(), shared_id));
    cluster.advance(Duration::from_secs(3));
    cluster.meet();
    cluster.advance(Duration::from_secs(3));
    let ids: BTreeSet<_> = cluster.caches.iter().map(Cache::replica_id).collect();
    assert_eq!(
        (ids.len(), ids.contains(&ReplicaId::from_bytes([1; 16]))),
        (3, false),
        "three replicas, none of them under the old id"
    );
    for cache in &cluster.caches {
        let known = (0..20).flat_map(|n| [n, 100 + n, 200 + n]).filter(|key| cache.get(key) == Some(Value(key % 100)));
        assert_eq!((known.count(), cache.get(&300), cache.entry_count()), (60, Some(Value(19)), 61));
        assert_eq!(cache.inspect().replica, cache.replica_id().to_string());
    }
    let renewed: u64 = cluster.caches.iter().map(|cache| cache.counters().new_id).sum();
    assert_eq!(renewed, 2);
    let waited = RUNTIME.block_on(a.wait_seen(&before, Duration::from_secs(600)));
    assert_eq!(waited, Err(NotSeen::Renewed { replica: shared_id }), "what is seen under that id proves nothing");
    // A replica under a new id works like any other: its writes arrive, it can wait for them, and fills run.
    let written = a.insert(1, Value(77)).unwrap();
    cluster.advance(Duration::from_secs(1));
    assert!(written.stamp.replica == a.replica_id() && a.last_written() == Some(written));
    assert_eq!((b.get(&1), c.get(&1)), (Some(Value(77)), Some(Value(77))));
    assert_eq!(RUNTIME.block_on(b.get_with(999, || async { Value(9) })), Value(9));
    cluster.advance(Duration::from_secs(1));
    assert_eq!(c.get(&999), Some(Value(9)));
}
