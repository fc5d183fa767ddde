//! Tests of one cache, and of a few caches that exchange messages when the test says so.

mod drops;
mod duplicate_ids;
mod eviction;
mod expiry;
mod filling;
mod hostile;
mod leases;
mod listening;
mod opaque;
mod others;
mod seen;
mod stream;
mod unencodable;
mod unreadable;
mod walking;

use crate::Cache;

type Act = fn(&Cache<u32, u32>);

/// The changes of key 1 that a fill from before them loses to, each with the value that is there afterwards.
const ACTS: [(&str, Act, Option<u32>); 3] = [
    ("write", |cache| assert!(cache.insert(1, 2).is_ok()), Some(2)),
    ("delete", |cache| cache.invalidate(&1), None),
    ("invalidation", |cache| cache.invalidate_all(), None),
];
