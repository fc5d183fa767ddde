//! The cache people use.
//!
//! A [`Cache`] is a handle to one replica; clones share it. Reads go to a table that no writer or
//! merge holds for longer than one register takes; writes take the replica's lock for the time of one
//! write. User code (`Clone` of values, `Drop`, serialisation, weighers, listeners) runs outside of both; only
//! `Hash` and `Eq` of keys are called where any hash table calls them, and `Clone` of a key that becomes a tombstone.
//!
//! A call goes down this list. `handle` documents every method, and does nothing itself.
//!
//! | what | files |
//! | --- | --- |
//! | the interface | `handle`, `closing`, `builder`, `settings`, and one file for each type that is returned |
//! | what is done with one key | `lookup`, `write` and `bulk` with `prepare`, `fill` with `fill_*`, `turn`, `flight` |
//! | what is waited for | `ready_wait`, `replicated`, `feed` |
//! | what a cache and its node ask of each other | `host`; `port`, `tick` |
//! | what people look at | `counters` with `stats` and `metrics_facade`, `report`, `explain`; `inspect` without types |
//! | the state, by owner | `shared`: `reader`, `writer` with `engine` and `listener`, `connection`, `surroundings`, `counters`, `readable` |

use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::hlc::{HlcTime, Now};

pub mod builder;
mod bulk;
mod closing;
mod connection;
mod counters;
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
pub(crate) mod garbage;
mod handle;
mod handover;
pub(crate) mod host;
mod insert_error;
pub(crate) mod inspect;
mod iter;
pub(crate) mod listener;
mod lookup;
#[cfg(feature = "metrics")]
pub mod metrics_facade;
mod open_error;
pub(crate) mod port;
mod prepare;
mod race;
mod readable;
mod reader;
mod ready;
mod ready_wait;
mod replicated;
mod report;
mod settings;
mod shared;
mod stats;
mod surroundings;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tick;
mod turn;
mod waits;
mod work;
mod write;
mod writer;

pub use crate::recency::Eviction;
pub use builder::CacheBuilder;
pub use bulk::BulkError;
pub use counters::FillStats;
pub use entry::EntryInfo;
pub use feed::{ChangeEvent, ChangeKind, Subscription, SubscriptionError};
pub use fill_error::FillError;
pub use filled::Filled;
pub use handle::Cache;
pub use insert_error::InsertError;
pub use iter::Iter;
pub use open_error::{Limits, OpenError};
pub use ready::Ready;
pub use replicated::{Members, NotReplicated, Replicated};
pub use settings::{CacheSettings, Policy};
pub use stats::{CacheStats, PeerLag, RemovalStats};
pub use write::Written;

/// The bounds on keys.
///
/// Its serde output must be deterministic, so that one key has one encoding on every node: no
/// `HashMap` inside a key.
pub trait CacheKey: Hash + Eq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<K: Hash + Eq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static> CacheKey for K {}

/// The bounds on values.
pub trait CacheValue: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> CacheValue for V {}

/// A source of time. The node has the one that reads clocks.
pub trait TimeSource: Send + Sync + 'static {
    /// Returns wall and monotonic time.
    fn now(&self) -> Now;
    /// Returns wall time alone: what a read of a value with a time to live needs.
    fn wall(&self) -> HlcTime;
}

type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u32 + Send + Sync>;
