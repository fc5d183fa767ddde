//! driftless: a replicated in-process cache whose replicas cannot drift apart.

pub mod crdt;
pub mod hlc;
pub mod item;
pub mod replica;
pub mod replica_id;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod store;
mod sync;
#[cfg(test)]
mod testing;
