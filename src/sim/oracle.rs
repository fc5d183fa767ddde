//! The naive oracle: every write kept, highest stamp wins.

use std::collections::BTreeMap;

use crate::crdt::{Dot, VersionVector};
use crate::hlc::Stamp;

/// One write, delete or fill that was stored.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) stamp: Stamp,
    pub(super) dot: Dot,
    /// The number of its value; none is a delete.
    pub(super) value: Option<u64>,
    /// Wall time after which it is expired; zero is never.
    pub(super) expires: u64,
    /// When it was issued, and what the writer's wall clock said.
    pub(super) at: u64,
    pub(super) wall: u64,
    /// It is a fill: its stamp is from before its start.
    pub(super) fill: bool,
}

/// Everything that was ever written.
#[derive(Debug)]
pub(super) struct Oracle<K> {
    records: BTreeMap<K, BTreeMap<Stamp, Record>>,
}

impl<K: Ord + Clone> Oracle<K> {
    pub(super) fn new() -> Self {
        Self { records: BTreeMap::new() }
    }

    /// Returns whether a write with this stamp is there already, which must not be.
    pub(super) fn record(&mut self, key: &K, record: Record) -> bool {
        self.records.entry(key.clone()).or_default().insert(record.stamp, record).is_some()
    }

    pub(super) fn get(&self, key: &K, stamp: &Stamp) -> Option<&Record> {
        self.records.get(key)?.get(stamp)
    }

    /// All writes of a key, the highest stamp first.
    pub(super) fn of(&self, key: &K) -> impl Iterator<Item = &Record> {
        self.records.get(key).into_iter().flat_map(|records| records.values().rev())
    }

    /// The winner among the writes that someone with one of these vectors has seen.
    pub(super) fn winner(&self, key: &K, seen_by: &[&VersionVector]) -> Option<&Record> {
        self.of(key).find(|record| seen_by.iter().any(|vector| vector.covers(&record.dot)))
    }
}
