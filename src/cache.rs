//! The public cache handle, and everything between that handle and the replica.
//!
//! A [`Cache`] is a handle to one replica; clones share it. Reads go to a table. Writes and merges lock one shard of
//! that table while they change one register there. Every write also holds the replica's lock until the write is
//! applied.
//!
//! User code (`Clone` of values, `Drop`, serialisation, weighers, listeners) runs outside both locks. Exceptions: hash
//! tables call `Hash` and `Eq` of keys as they do anywhere, and a key that becomes a tombstone is cloned.
//!
//! A call passes through these modules from top to bottom. `handle` documents every method and delegates all work.
//!
//! | task | files |
//! | --- | --- |
//! | the interface | `handle`, `closing`, `builder`, `settings`, and one file for each type that is returned |
//! | operations on keys | `as_key`, `lookup`, `write` and `bulk` with `prepare`; `fill` with `fill_*`, `turn`, `flight`, `work`, `handover`, and `waits` against deadlocks; `lease` |
//! | waits of callers | `ready_wait`, `replicated`, `seen` with `token`, `feed` |
//! | calls of a cache to its node | `host`; after a write: `tick::after_write` |
//! | calls of a node to its caches | `port`, `tick`; `port/incoming` also hashes received keys, and weighs values, for own writes too |
//! | reports for operators | `counters` with `stats`, `published` and `metrics_facade`, `report`, `explain`; `inspect` offers these without the key and value types |
//! | the state, by owner | `shared`: `reader`, `writer` with `engine` and `listener`, `connection`, `services`, `counters`, `readable`, `differing` |

use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::hlc::{HlcTime, Now};

mod as_key;
pub mod builder;
mod bulk;
mod closing;
mod connection;
mod counters;
pub(crate) mod differing;
pub(crate) mod engine;
mod entry;
mod explain;
pub(crate) mod feed;
mod fill;
mod fill_end;
mod fill_error;
mod fill_join;
mod fill_run;
mod fill_task;
mod fill_wait;
mod filled;
mod flight;
pub(crate) mod gate;
mod handle;
mod handover;
pub(crate) mod host;
mod insert_error;
pub(crate) mod inspect;
mod iter;
mod lease;
mod lifetime;
pub(crate) mod listener;
mod lookup;
#[cfg(feature = "metrics")]
pub mod metrics_facade;
mod open_error;
mod page;
pub(crate) mod port;
mod prepare;
#[cfg(feature = "metrics")]
mod published;
mod race;
mod readable;
mod reader;
mod ready;
mod ready_wait;
mod replicated;
mod report;
mod seen;
mod services;
mod settings;
mod shared;
mod stats;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tick;
mod token;
mod turn;
mod waits;
mod work;
mod write;
mod writer;

pub use crate::recency::Eviction;
pub use as_key::{AsKey, InArc, Itself};
pub use builder::CacheBuilder;
pub use bulk::BulkError;
pub use counters::FillStats;
pub use entry::EntryInfo;
pub use feed::{ChangeEvent, ChangeKind, Subscription, SubscriptionError};
pub use fill_error::{FillError, ForeignError};
pub use filled::Filled;
pub use handle::Cache;
pub use insert_error::InsertError;
pub use iter::Iter;
pub use lease::FillLease;
pub use open_error::{Limits, OpenError};
pub use page::{Page, Pages};
#[cfg(all(feature = "metrics", feature = "node"))]
pub(crate) use published::Published;
pub use ready::Ready;
pub use replicated::{Members, NotReplicated, Replicated};
pub use seen::NotSeen;
pub use settings::{CacheSettings, Policy};
pub use stats::{CacheStats, PeerLag, RemovalStats};
pub use token::{ParseTokenError, Token};
pub use write::Written;

/// The bounds on keys.
///
/// The serde output of a key must be deterministic, so that one key has one encoding on every node: no `HashMap` inside
/// a key.
pub trait CacheKey: Hash + Eq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<K: Hash + Eq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static> CacheKey for K {}

/// The bounds on values.
pub trait CacheValue: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> CacheValue for V {}

/// A source of time. The node provides the one that reads the system's clocks.
pub trait TimeSource: Send + Sync + 'static {
    /// Returns wall and monotonic time.
    fn now(&self) -> Now;
    /// Returns wall time alone, which is all that a read of a value with a time to live needs.
    fn wall(&self) -> HlcTime;
}

type ExpireAfter<K, V> = Box<dyn Fn(&K, &V) -> Option<std::time::Duration> + Send + Sync>;
type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u32 + Send + Sync>;
