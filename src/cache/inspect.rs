//! The inspection interface of an open cache, independent of its key and value types.

use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;
use crate::report::{CacheReport, HotKeys, Marks, TombstoneLine};

mod answers;

/// An open cache of any types, for inspection by operators.
pub trait Inspect {
    /// Returns a report on everything but the registers.
    fn report(&self) -> CacheReport;
    /// Returns the encoding of the key that a text stands for; `None` if it stands for no key of this cache.
    fn key_of(&self, text: &str) -> Option<Vec<u8>>;
    /// Returns what is held for keys. Hashes the values only if `hash` is true, because that encodes each value.
    fn marks(&self, keys: &[Vec<u8>], hash: bool) -> Marks;
    /// Returns a page of what is held, and the cursor to continue from.
    fn marks_page(&self, cursor: u64, limit: usize) -> (Marks, Option<u64>);
    /// Starts a protocol audit of these keys with a member. Returns the number of keys that will be compared.
    fn audit_keys(&self, with: ReplicaId, keys: &[Vec<u8>]) -> usize;
    /// Returns the value of a key as text. Does not count as a use.
    fn value_text(&self, key: &[u8]) -> Option<String>;
    /// Returns keys, the most recently used first. Returns none if the cache has no capacity.
    fn recent_keys(&self, limit: usize) -> Vec<String>;
    /// Returns the keys that were read most lately. The name of the node is filled in.
    fn hot_keys(&self, limit: usize) -> HotKeys;
    /// Returns the oldest tombstones, and what holds back each.
    fn oldest_tombstones(&self, limit: usize) -> Vec<TombstoneLine>;
    /// Returns a page of the keys whose text begins with `prefix`, as [`marks_page`](Self::marks_page) does, and the
    /// number of registers examined for it. Examines at most `examine` registers.
    fn marks_with_prefix(&self, prefix: &str, cursor: u64, limit: usize, examine: usize) -> (Marks, Option<u64>, u64);
    /// Returns the members that are not known to have seen an event, each with the name of its node and the
    /// milliseconds since its last message.
    fn who_lacks(&self, origin: ReplicaId, dot: HlcTime) -> Vec<(ReplicaId, String, u64)>;
    /// Returns the node that a replica of this cache lives on.
    fn node_of(&self, replica: &ReplicaId) -> Option<String>;
}
