//! driftless: a replicated in-process cache whose replicas cannot drift apart.

pub mod cache;
pub mod crdt;
pub mod hlc;
#[doc(hidden)]
pub mod item;
#[cfg(feature = "node")]
pub mod node;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod probe;
mod recency;
#[doc(hidden)]
pub mod replica;
pub mod replica_id;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod store;
mod sync;
#[cfg(test)]
mod testing;

pub use cache::{Cache, CacheBuilder, EntryInfo, InsertError, OpenError, Policy, Ready, Written};
pub use hlc::Stamp;
#[cfg(feature = "node")]
pub use node::{Member, Node, NodeBuilder, StartError, Traffic};
pub use replica::{Counters, RemovalCause, ReplicaConfig};
pub use replica_id::ReplicaId;
