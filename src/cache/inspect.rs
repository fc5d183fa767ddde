//! An open cache without its types, for people who look inside.

use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;
use crate::report::{CacheReport, Marks};

mod answers;

/// An open cache of any types, for people who look inside.
pub trait Inspect {
    /// Reports everything but the registers.
    fn report(&self) -> CacheReport;
    /// Returns the encoding of the key that a text stands for.
    fn key_of(&self, text: &str) -> Option<Vec<u8>>;
    /// Returns what is held for keys. Hashes values only if asked for: that costs what values cost.
    fn marks(&self, keys: &[Vec<u8>], hash: bool) -> Marks;
    /// Returns a page of what is held, and where to go on.
    fn marks_page(&self, cursor: u64, limit: usize) -> (Marks, Option<u64>);
    /// Has the protocol compare these keys with a member's. Returns how many it will.
    fn audit_keys(&self, with: ReplicaId, keys: &[Vec<u8>]) -> usize;
    /// Returns the value of a key as text. Does not count as a use.
    fn value_text(&self, key: &[u8]) -> Option<String>;
    /// Returns keys, the most recently used first; nothing without a capacity.
    fn recent_keys(&self, limit: usize) -> Vec<String>;
    /// Returns the replicas that are not known to have seen an event, the nodes they live on, and for how many
    /// milliseconds each has been silent.
    fn who_lacks(&self, origin: ReplicaId, dot: HlcTime) -> Vec<(ReplicaId, String, u64)>;
    /// Returns the node that a replica of this cache lives on.
    fn node_of(&self, replica: &ReplicaId) -> Option<String>;
}
