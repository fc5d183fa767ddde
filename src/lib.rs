//! driftless: a replicated in-process cache whose replicas cannot drift apart.

pub mod cache;
pub mod crdt;
pub mod hlc;
#[cfg(feature = "node")]
pub mod inspect;
#[doc(hidden)]
pub mod item;
#[cfg(feature = "node")]
pub mod node;
mod recency;
#[doc(hidden)]
pub mod replica;
pub mod replica_id;
pub mod report;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod store;
mod sync;
#[cfg(test)]
mod testing;

pub use cache::{Cache, CacheBuilder, EntryInfo, FillError, Filled, InsertError, OpenError, Policy, Ready, Written};
pub use hlc::Stamp;
#[cfg(feature = "node")]
pub use node::{Member, Node, NodeBuilder, StartError, Traffic};
pub use replica::{Counters, RemovalCause, ReplicaConfig};
pub use replica_id::ReplicaId;
