//! The oracle: every write is kept and the highest stamp wins. Each record also holds the effects that replicas had on
//! it.

use std::collections::{BTreeMap, BTreeSet};

use crate::crdt::{Dot, VersionVector};
use crate::hlc::{GRAIN, HlcTime, Stamp};
use crate::item::ItemRef;

/// The start of a fill: the true time, and the reading of the filler's hybrid clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct FillStart {
    pub(super) at: u64,
    pub(super) began: HlcTime,
}

/// A write, delete or fill that was stored.
#[derive(Debug)]
pub(super) struct Record<K, V> {
    pub(super) stamp: Stamp,
    pub(super) dot: Dot,
    /// The written item; `None` for a delete.
    pub(super) item: Option<ItemRef<K, V>>,
    /// The wall time at which it expires; zero is never.
    pub(super) expires: u64,
    /// The true time at which it was issued. `wall` is the writer's wall clock at that time.
    pub(super) at: u64,
    pub(super) wall: u64,
    /// The furthest clock, at the time of the write, of a replica that did not have the author as a member.
    pub(super) unmet_clock: HlcTime,
    /// The opening that issued it.
    pub(super) author: usize,
    /// The start of the fill, if it is a fill.
    pub(super) fill: Option<FillStart>,
    /// The dots under which adopters spread it later.
    pub(super) adopted_as: Vec<Dot>,
    /// Openings that received it in a message, each with the time of the first arrival. They may not have merged it.
    pub(super) received_by: BTreeMap<usize, u64>,
    /// Openings whose clocks called it from the future when they received it, so that they deferred it.
    pub(super) deferred_by: BTreeSet<usize>,
    /// Openings that received it without its bound, if it is a fill that needs one.
    pub(super) bare_to: BTreeSet<usize>,
    /// Openings that held it after an event, each with the first such time.
    pub(super) held_by: BTreeMap<usize, u64>,
    pub(super) fate: Fate,
}

/// The reasons for which the value of one record may be missing on a replica. Each field is an observed event.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate {
    /// Openings that evicted it.
    pub(super) evicted: BTreeSet<usize>,
    /// Openings where it is in doubt: a newer value may have been evicted, by this replica or by the sender of a
    /// reconcile. The doubt was due.
    pub(super) doubted: BTreeSet<usize>,
    /// Openings that lost it to a void or reconcile while they may lose values to evictions: see the check of
    /// evictions.
    pub(super) given_up: BTreeSet<usize>,
    /// True if its time to live has ended by the clock of a replica that held it.
    pub(super) expired: bool,
    /// True if a void replaced it, and the void was due: the floor had passed its stamp before the replica could know
    /// of it.
    pub(super) voided: bool,
    /// Openings that voided it or doubted it without need: the replica that set the floor had the record, or knew its
    /// author. This is no excuse for a miss.
    pub(super) lost_wrongly: BTreeSet<usize>,
}

impl Fate {
    /// Returns true if an observed event explains that a replica lacks the value.
    pub(super) fn explains_a_miss(&self) -> bool {
        !self.evicted.is_empty() || !self.doubted.is_empty() || self.expired || self.voided
    }
}

impl<K, V> Record<K, V> {
    /// Returns true if an opening had issued it or held it by the time `at`.
    fn is_known_to(&self, opening: usize, at: u64) -> bool {
        (self.author == opening && self.at <= at) || self.held_by.get(&opening).is_some_and(|held| *held <= at)
    }

    /// Returns true if a replica with this vector claims to have it, under any of its dots.
    pub(super) fn is_claimed_by(&self, vector: &VersionVector) -> bool {
        vector.covers(&self.dot) || self.adopted_as.iter().any(|dot| vector.covers(dot))
    }
}

/// One `invalidate_all`.
#[derive(Clone, Copy, Debug)]
pub(super) struct EpochRecord {
    /// The opening that issued it.
    pub(super) author: usize,
    pub(super) time: HlcTime,
    /// The times `at`, `wall` and `unmet_clock` are those of a [`Record`].
    pub(super) at: u64,
    pub(super) wall: u64,
    pub(super) unmet_clock: HlcTime,
}

/// Everything that was ever written to one cache.
#[derive(Debug)]
pub(super) struct Oracle<K, V> {
    /// The records of each key, by the number of the key.
    records: Vec<BTreeMap<Stamp, Record<K, V>>>,
    pub(super) epochs: Vec<EpochRecord>,
    /// The highest stamp of a void that was due, by the number of the key.
    due_voids: Vec<Stamp>,
}

impl<K, V> Oracle<K, V> {
    pub(super) fn new(keys: usize) -> Self {
        Self {
            records: (0..keys).map(|_| BTreeMap::new()).collect(),
            epochs: Vec::new(),
            due_voids: vec![Stamp::ZERO; keys],
        }
    }

    /// Adds a record. Returns true if a record with this stamp exists already, which is a violation.
    pub(super) fn record(&mut self, key: usize, mut record: Record<K, V>) -> bool {
        // A fill that began earlier, or a write by a slower clock, may be at or below a void that stands already.
        record.fate.voided |= record.stamp <= self.due_voids[key];
        self.records[key].insert(record.stamp, record).is_some()
    }

    pub(super) fn note_due_void(&mut self, key: usize, stamp: Stamp) {
        self.due_voids[key] = self.due_voids[key].max(stamp);
    }

    pub(super) fn due_void(&self, key: usize) -> Stamp {
        self.due_voids[key]
    }

    pub(super) fn get(&self, key: usize, stamp: &Stamp) -> Option<&Record<K, V>> {
        self.records[key].get(stamp)
    }

    pub(super) fn get_mut(&mut self, key: usize, stamp: &Stamp) -> Option<&mut Record<K, V>> {
        self.records[key].get_mut(stamp)
    }

    /// Returns all records of a key, the highest stamp first.
    pub(super) fn of(&self, key: usize) -> impl Iterator<Item = &Record<K, V>> {
        self.records[key].values().rev()
    }

    /// Returns true if a fill may be voided because of a contesting write, delete or epoch. A write or delete contests
    /// the fill if the filler did not know it at the start, and its stamp is above the filler's clock at the start less
    /// `drift`. It may then have been issued after the start, by a clock that is behind. It may also be stamped above
    /// the fill: then the fill has lost to it in any case. An epoch between that time and the fill counts, known or
    /// not.
    pub(super) fn is_contested(&self, key: usize, fill: &Record<K, V>, drift: u64) -> bool {
        let Some(start) = &fill.fill else { return false };
        let after = start.began.saturating_sub(drift);
        let known = |stamp: Stamp| {
            let same = self.of(key).filter(|other| other.stamp.replica == stamp.replica && other.stamp >= stamp);
            // A received stamp alone does not count as known: a push may wait for its predecessor, and a register that
            // was claimed before it arrived is skipped.
            same.into_iter().any(|other| other.is_known_to(fill.author, start.at))
        };
        let contests = |other: &Record<K, V>| other.fill.is_none() && other.stamp.time > after && !known(other.stamp);
        let by_epoch = |epoch: &EpochRecord| epoch.time > after && epoch.time < fill.stamp.time;
        self.of(key).any(contests) || self.epochs.iter().any(by_epoch)
    }

    /// Returns true if a fill may be voided by a replica that received it without its bound. A stamp within `drift`
    /// below the fill may contest it, except a stamp that the filler must have known. Only the bound could decide this
    /// exactly, and the fill's sender had dropped the bound.
    pub(super) fn is_contested_bare(&self, key: usize, fill: Stamp, floors: [HlcTime; 2], drift: u64) -> bool {
        // Stamps within the tick of the fill lie directly below it: the filler must have known them.
        let close = |time: HlcTime| time > fill.time.saturating_sub(drift) && time / GRAIN < fill.time / GRAIN;
        let contests = |other: &Record<K, V>| close(other.stamp.time) && other.stamp.replica != fill.replica;
        self.of(key).any(contests) || floors.into_iter().any(close) || self.epochs.iter().any(|epoch| close(epoch.time))
    }

    /// Returns true if a fill may be voided by a replica that evicted something stamped `evicted` while it was alone.
    /// No other replica has seen the evicted value. The replica remembers one time for all of them, so it does not know
    /// their keys.
    pub(super) fn is_contested_by_evicted(fill: &Record<K, V>, evicted: HlcTime, drift: u64) -> bool {
        let after = fill.fill.as_ref().map(|start| start.began.saturating_sub(drift));
        after.is_some_and(|after| after < evicted && evicted <= fill.stamp.time)
    }

    /// Returns the winner among the records of a key that a replica with one of these vectors claims.
    pub(super) fn winner(&self, key: usize, seen_by: &[&VersionVector]) -> Option<&Record<K, V>> {
        self.of(key).find(|record| seen_by.iter().any(|vector| record.is_claimed_by(vector)))
    }
}
