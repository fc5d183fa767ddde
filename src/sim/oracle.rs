//! The naive oracle: every write kept, highest stamp wins.

use std::collections::BTreeMap;

use crate::crdt::{Dot, VersionVector};
use crate::hlc::Stamp;
use crate::item::ItemRef;

/// One write, delete or fill that was stored.
#[derive(Debug)]
pub(super) struct Record<K, V> {
    pub(super) stamp: Stamp,
    pub(super) dot: Dot,
    /// What was written; none is a delete.
    pub(super) item: Option<ItemRef<K, V>>,
    /// Wall time after which it is expired; zero is never.
    pub(super) expires: u64,
    /// When it was issued, and what the writer's wall clock said.
    pub(super) at: u64,
    pub(super) wall: u64,
    /// It is a fill: its stamp is from before its start.
    pub(super) fill: bool,
}

/// Everything that was ever written to one cache.
#[derive(Debug)]
pub(super) struct Oracle<K, V> {
    /// By the number of the key.
    records: Vec<BTreeMap<Stamp, Record<K, V>>>,
}

impl<K, V> Oracle<K, V> {
    pub(super) fn new(keys: usize) -> Self {
        Self { records: (0..keys).map(|_| BTreeMap::new()).collect() }
    }

    /// Returns whether a write with this stamp is there already, which must not be.
    pub(super) fn record(&mut self, key: usize, record: Record<K, V>) -> bool {
        self.records[key].insert(record.stamp, record).is_some()
    }

    pub(super) fn get(&self, key: usize, stamp: &Stamp) -> Option<&Record<K, V>> {
        self.records[key].get(stamp)
    }

    /// All writes of a key, the highest stamp first.
    pub(super) fn of(&self, key: usize) -> impl Iterator<Item = &Record<K, V>> {
        self.records[key].values().rev()
    }

    /// The winner among the writes that someone with one of these vectors has seen.
    pub(super) fn winner(&self, key: usize, seen_by: &[&VersionVector]) -> Option<&Record<K, V>> {
        self.of(key).find(|record| seen_by.iter().any(|vector| vector.covers(&record.dot)))
    }
}
