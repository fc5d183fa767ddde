//! The keys of a run by their hashes. A key has the hash that every process knows. A key that processes with other
//! types cannot read has a second hash there.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::foreign::foreign_keys;
use super::types::SimKey;

/// The hashes of the keys of a run.
pub(super) struct Names {
    /// The hash and bytes under which processes with other types hold each key that they cannot read.
    foreign: Vec<Option<(u64, Bytes)>>,
    /// The number of the key with a hash.
    numbers: BTreeMap<u64, usize>,
}

impl Names {
    /// Collects the hashes of the keys. With `other_types`, some processes cannot read some of the keys.
    pub(super) fn new<K: SimKey>(keys: &[(u64, K)], other_types: bool) -> Self {
        let foreign = if other_types { foreign_keys(keys) } else { vec![None; keys.len()] };
        let known = keys.iter().enumerate().map(|(number, (hash, _))| (*hash, number));
        let unread = foreign.iter().enumerate().filter_map(|(number, key)| Some((key.as_ref()?.0, number)));
        let numbers = known.chain(unread).collect();
        Self { foreign, numbers }
    }

    /// Returns the number of the key with this hash.
    pub(super) fn number(&self, hash: u64) -> Option<usize> {
        self.numbers.get(&hash).copied()
    }

    /// Returns the hash and bytes under which processes with other types hold a key, if they cannot read it.
    pub(super) fn foreign(&self, key: usize) -> Option<&(u64, Bytes)> {
        self.foreign[key].as_ref()
    }
}
