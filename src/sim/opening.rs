//! One opening of one cache in one process: the production engine, and the observations of it.

use std::collections::BTreeMap;

use super::observed::History;
use super::oracle::FillStart;
use super::types::{SimKey, SimValue};
use crate::cache::engine::Engine;
use crate::crdt::VersionVector;
use crate::hlc::{Now, Stamp};
use crate::ledger::direct::{DirectNote, DirectWriter};
use crate::recency::{Eviction, ReadLog};
use crate::replica::FillTicket;
use crate::replica_id::ReplicaId;

/// A running fill.
pub(super) struct RunningFill {
    /// The number of its key.
    pub(super) key: usize,
    pub(super) ticket: FillTicket,
    pub(super) start: FillStart,
    /// The time to live of its value in nanoseconds; zero is unlimited.
    pub(super) ttl: u64,
}

/// The direct writes of one opening.
pub(super) struct DirectWrites<K, V> {
    pub(super) writer: Option<DirectWriter<K, V>>,
    /// The notes that wait to be absorbed.
    pub(super) notes: Vec<DirectNote>,
}

/// One opening, with the observations by which it is checked.
pub(super) struct Opening<K, V> {
    pub(super) id: ReplicaId,
    pub(super) process: usize,
    pub(super) cache: u8,
    pub(super) engine: Engine<K, V>,
    pub(super) reads: ReadLog,
    /// True until the cache is closed or its process stops.
    pub(super) is_open: bool,
    /// The time of its next timer.
    pub(super) wake: u64,
    /// The running fills, by number.
    pub(super) fills: BTreeMap<u64, RunningFill>,
    /// The join of all vectors that it ever claimed, including origins whose records it has dropped since.
    pub(super) seen: VersionVector,
    /// The newest register that it ever held for each key, with true if that was a tombstone.
    pub(super) newest: Vec<Option<(Stamp, bool)>>,
    /// The stamp of each key according to a listener that follows the changes.
    pub(super) mirror: Vec<Option<Stamp>>,
    /// The latest time that its wall clock has shown.
    pub(super) latest_wall: u64,
    pub(super) history: History,
    pub(super) direct: DirectWrites<K, V>,
    /// Consecutive wake-ups at the same instant.
    pub(super) spins: u32,
    pub(super) last_timeout: u64,
}

impl<K: SimKey, V: SimValue> Opening<K, V> {
    /// Returns a cache that a process has just opened. Its engine holds nothing.
    pub(super) fn new(
        (process, cache): (usize, u8),
        (engine, eviction): (Engine<K, V>, Eviction),
        keys: usize,
        now: Now,
    ) -> Self {
        Self {
            id: engine.replica.view().id(),
            process,
            cache,
            wake: engine.replica.poll_timeout(now),
            engine,
            reads: ReadLog::new(Some(eviction)),
            is_open: true,
            fills: BTreeMap::new(),
            seen: VersionVector::new(),
            newest: vec![None; keys],
            mirror: vec![None; keys],
            latest_wall: now.wall,
            history: History::new(keys),
            direct: DirectWrites { writer: None, notes: Vec::new() },
            spins: 0,
            last_timeout: 0,
        }
    }
}
