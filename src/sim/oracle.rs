//! The naive oracle: every write kept, highest stamp wins; and by record, what replicas did to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::crdt::{Dot, VersionVector};
use crate::hlc::{GRAIN, HlcTime, Stamp};
use crate::item::ItemRef;

/// The start of a fill: true time, and the filler's hybrid clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct FillStart {
    pub(super) at: u64,
    pub(super) began: HlcTime,
}

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
    /// The furthest clock, then, of a replica that did not have the author for a member.
    pub(super) unmet_clock: HlcTime,
    /// The opening that issued it.
    pub(super) author: usize,
    /// Its start, if it is a fill.
    pub(super) fill: Option<FillStart>,
    /// Dots that adopters gave to it later.
    pub(super) adopted_as: Vec<Dot>,
    /// Openings that received it in a message, whatever they made of it, and when they first did.
    pub(super) told: BTreeMap<usize, u64>,
    /// Openings that received it without the bound that it has, if it is a fill above something young.
    pub(super) bare_to: BTreeSet<usize>,
    /// Openings that held it after an event, and when they first did.
    pub(super) held_by: BTreeMap<usize, u64>,
    pub(super) fate: Fate,
}

/// Why the value of one record may be missing somewhere. Each field is an observed event.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate {
    /// Openings that evicted it.
    pub(super) evicted: BTreeSet<usize>,
    /// Openings that took it for older than what they, or the sender of a reconcile, had evicted, and had to.
    pub(super) doubted: BTreeSet<usize>,
    /// Removed here with a reconcile whose sender had evicted it, or something like it: see the check of evictions.
    pub(super) given_up: BTreeSet<usize>,
    /// Its time to live ended by the clock of a replica that held it.
    pub(super) expired: bool,
    /// A void took its place, of a replica whose floor had passed its stamp before it could know of it.
    pub(super) voided: bool,
    /// Openings that voided it, or took it for a miss, although the floor behind that was set by a replica that had the
    /// record, or knew its author: no excuse.
    pub(super) lost_wrongly: BTreeSet<usize>,
}

impl Fate {
    /// Whether anything that was observed explains that a replica lacks the value.
    pub(super) fn explains_a_miss(&self) -> bool {
        !self.evicted.is_empty() || !self.doubted.is_empty() || self.expired || self.voided
    }
}

impl<K, V> Record<K, V> {
    /// Whether an opening had issued it or held it by then.
    fn is_known_to(&self, opening: usize, at: u64) -> bool {
        (self.author == opening && self.at <= at) || self.held_by.get(&opening).is_some_and(|held| *held <= at)
    }

    /// Whether a replica with this vector claims to have it, under whichever dot.
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
    pub(super) at: u64,
    pub(super) wall: u64,
    pub(super) unmet_clock: HlcTime,
}

/// Everything that was ever written to one cache.
#[derive(Debug)]
pub(super) struct Oracle<K, V> {
    /// By the number of the key.
    records: Vec<BTreeMap<Stamp, Record<K, V>>>,
    pub(super) epochs: Vec<EpochRecord>,
    /// By the number of the key: the highest stamp of a void that was due.
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

    /// Returns whether a write with this stamp is there already, which must not be.
    pub(super) fn record(&mut self, key: usize, mut record: Record<K, V>) -> bool {
        // A fill that began before, or a write of a slower clock, is below a void that stands already.
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

    /// All writes of a key, the highest stamp first.
    pub(super) fn of(&self, key: usize) -> impl Iterator<Item = &Record<K, V>> {
        self.records[key].values().rev()
    }

    /// Whether a fill may be voided: a write, delete or epoch that its filler did not know when it began is stamped above what
    /// any clock within the drift could have stamped before the start. It may be from after the start. If it is stamped above
    /// the fill as well, the fill is worth nothing.
    pub(super) fn is_contested(&self, key: usize, fill: &Record<K, V>, drift: u64) -> bool {
        let Some(start) = &fill.fill else { return false };
        let after = start.began.saturating_sub(drift);
        let known = |stamp: Stamp| {
            let same = self.of(key).filter(|other| other.stamp.replica == stamp.replica && other.stamp >= stamp);
            // Told alone is not enough: a push that came before its predecessor waits, and what was claimed before it came
            // is skipped.
            same.into_iter().any(|other| other.is_known_to(fill.author, start.at))
        };
        let contests = |other: &Record<K, V>| other.fill.is_none() && other.stamp.time > after && !known(other.stamp);
        let by_epoch = |epoch: &EpochRecord| epoch.time > after && epoch.time < fill.stamp.time;
        self.of(key).any(contests) || self.epochs.iter().any(by_epoch)
    }

    /// Whether a fill may be voided by a replica that received it without its bound. What is stamped that close below it may contest
    /// it, but for what its filler is sure to have known. The bound alone could say more, and all who count that replica had
    /// forgotten it.
    pub(super) fn is_contested_bare(&self, key: usize, fill: Stamp, floors: [HlcTime; 2], drift: u64) -> bool {
        let close = |time: HlcTime| time > fill.time.saturating_sub(drift) && time / GRAIN < fill.time / GRAIN;
        let contests = |other: &Record<K, V>| close(other.stamp.time) && other.stamp.replica != fill.replica;
        self.of(key).any(contests) || floors.into_iter().any(close) || self.epochs.iter().any(|epoch| close(epoch.time))
    }

    /// Whether a fill may be voided by a replica that evicted something stamped `evicted` while it was alone. Nobody else has
    /// seen that, nor can the replica say of which keys it was: of all that it remembers one time.
    pub(super) fn is_contested_by_evicted(fill: &Record<K, V>, evicted: HlcTime, drift: u64) -> bool {
        let after = fill.fill.as_ref().map(|start| start.began.saturating_sub(drift));
        after.is_some_and(|after| after < evicted && evicted <= fill.stamp.time)
    }

    /// The winner among the writes that a replica with one of these vectors claims.
    pub(super) fn winner(&self, key: usize, seen_by: &[&VersionVector]) -> Option<&Record<K, V>> {
        self.of(key).find(|record| seen_by.iter().any(|vector| record.is_claimed_by(vector)))
    }
}
