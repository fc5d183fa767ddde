//! Per origin, the dots it issued and where their registers are: finds an interval without a scan.

use std::collections::{BTreeMap, VecDeque};

use crate::crdt::Dot;
use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

/// The logs of all origins.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    by_origin: BTreeMap<ReplicaId, OriginLog>,
    /// Own entries up to here may be missing: no push may start below.
    overtaken: HlcTime,
    /// Own entries up to here may be missing although their key was written again by us: a push that starts below reaches
    /// all the way, or is none.
    followed: HlcTime,
}

impl Logs {
    /// Notes that the register at `slot` has this dot. Returns whether compaction would pay.
    pub(super) fn append(&mut self, dot: Dot, slot: SlotRef) -> bool {
        let log = self.by_origin.entry(dot.actor).or_default();
        log.append(dot.counter, slot);
        log.is_bloated()
    }

    pub(super) fn retire_one(&mut self, origin: &ReplicaId) {
        if let Some(log) = self.by_origin.get_mut(origin) {
            log.retire_one();
        }
    }

    pub(super) fn bloated(&self) -> Vec<ReplicaId> {
        self.by_origin.iter().filter(|(_, log)| log.is_bloated()).map(|(origin, _)| *origin).collect()
    }

    pub(super) fn note_compacted(&mut self, overtaken: HlcTime, followed: HlcTime) {
        (self.overtaken, self.followed) = (self.overtaken.max(overtaken), self.followed.max(followed));
    }

    /// Own entries up to here may be missing: no push may start below.
    pub(crate) fn overtaken(&self) -> HlcTime {
        self.overtaken
    }

    /// Own entries up to here may be missing although their key was written again by us.
    pub(crate) fn followed(&self) -> HlcTime {
        self.followed
    }

    /// Takes a log out, to walk it while registers are looked at. It has to be [`put`](Self::put) back.
    pub(crate) fn take(&mut self, origin: &ReplicaId) -> Option<OriginLog> {
        self.by_origin.remove(origin)
    }

    pub(crate) fn put(&mut self, origin: ReplicaId, log: OriginLog) {
        self.by_origin.insert(origin, log);
    }

    pub(crate) fn get(&self, origin: &ReplicaId) -> Option<&OriginLog> {
        self.by_origin.get(origin)
    }

    pub(crate) fn get_mut(&mut self, origin: &ReplicaId) -> Option<&mut OriginLog> {
        self.by_origin.get_mut(origin)
    }

    /// The entries of an origin after `from`, by time.
    pub(crate) fn after(&mut self, origin: &ReplicaId, from: HlcTime) -> Vec<(HlcTime, SlotRef)> {
        self.by_origin.get_mut(origin).map_or_else(Vec::new, |log| log.after(from).collect())
    }

    /// The time of the last entry of an origin that is not after `time`.
    pub(crate) fn last_up_to(&mut self, origin: &ReplicaId, time: HlcTime) -> Option<HlcTime> {
        self.by_origin.get_mut(origin)?.last_up_to(time)
    }

    /// The origins that have a log, and it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ReplicaId, &OriginLog)> {
        self.by_origin.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&ReplicaId, &mut OriginLog)> {
        self.by_origin.iter_mut()
    }

    pub(super) fn remove(&mut self, origin: &ReplicaId) {
        self.by_origin.remove(origin);
    }

    pub(super) fn forget_empty(&mut self) {
        self.by_origin.retain(|_, log| log.live() > 0 || log.len() > 0);
    }

    /// Entries of all logs, stale ones included.
    pub(crate) fn len(&self) -> usize {
        self.by_origin.values().map(OriginLog::len).sum()
    }
}

/// An append-only log of `(dot time, place)`. Entries go stale when their register moves on; the
/// reader tells by comparing dots, and compaction drops them.
#[derive(Debug, Default)]
pub(crate) struct OriginLog {
    entries: VecDeque<(HlcTime, SlotRef)>,
    unsorted: bool,
    live: usize,
}

impl OriginLog {
    /// Notes that the register at `slot` has the dot `time`.
    pub(crate) fn append(&mut self, time: HlcTime, slot: SlotRef) {
        self.unsorted |= self.entries.back().is_some_and(|(last, _)| *last >= time);
        self.entries.push_back((time, slot));
        self.live += 1;
    }

    /// Notes that one entry has gone stale.
    pub(crate) fn retire_one(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    /// How many entries there are, stale ones included.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many registers have a dot of this origin.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// How many entries there are after `from`, stale ones included, and the time of the first. An
    /// estimate while entries wait to be sorted: only people look at it.
    pub(crate) fn count_after(&self, from: HlcTime) -> (usize, Option<HlcTime>) {
        let start = self.entries.partition_point(|(time, _)| *time <= from);
        (self.entries.len() - start, self.entries.get(start).map(|(time, _)| *time))
    }

    /// Whether compaction would pay.
    pub(crate) fn is_bloated(&self) -> bool {
        self.entries.len() > 2 * self.live + 64
    }

    /// The entries after `from`, by time.
    pub(crate) fn after(&mut self, from: HlcTime) -> impl Iterator<Item = (HlcTime, SlotRef)> + '_ {
        self.sort();
        self.sorted_after(from)
    }

    /// The same, of a log that was just [sorted](Self::sort).
    pub(crate) fn sorted_after(&self, from: HlcTime) -> impl Iterator<Item = (HlcTime, SlotRef)> + '_ {
        debug_assert!(!self.unsorted);
        let start = self.entries.partition_point(|(time, _)| *time <= from);
        self.entries.range(start..).copied()
    }

    /// The time of the last entry that is not after `time`.
    pub(crate) fn last_up_to(&mut self, time: HlcTime) -> Option<HlcTime> {
        self.sort();
        let end = self.entries.partition_point(|(entry, _)| *entry <= time);
        end.checked_sub(1).map(|last| self.entries[last].0)
    }

    /// The entries from the one with this number on, by time.
    pub(crate) fn starting_at(&mut self, first: usize) -> impl Iterator<Item = (HlcTime, SlotRef)> + '_ {
        self.sort();
        self.entries.iter().skip(first).copied()
    }

    /// Drops the entries that `keep` does not want.
    pub(crate) fn compact(&mut self, mut keep: impl FnMut(HlcTime, SlotRef) -> bool) {
        self.sort();
        self.entries.retain(|(time, slot)| keep(*time, *slot));
        if self.entries.capacity() > 4 * self.entries.len() + 64 {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Puts entries that came late in their place, and lists each once: a register that was adopted, and
    /// then is given its old dot back, is noted a second time at the same place. Twice in one interval it
    /// could not be encoded.
    pub(crate) fn sort(&mut self) {
        if self.unsorted {
            self.entries.make_contiguous().sort();
            let mut before = None;
            self.entries.retain(|entry| before.replace(*entry) != Some(*entry));
            self.unsorted = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SlotId;

    #[test]
    fn a_dot_that_comes_back_to_its_place_is_listed_once() {
        let slot = |id| SlotRef { id: SlotId(id), generation: 0 };
        let mut log = OriginLog::default();
        for (time, id) in [(1, 1), (2, 2), (1, 1), (3, 3), (3, 3)] {
            log.append(time, slot(id));
        }
        let listed: Vec<_> = log.after(0).collect();
        assert_eq!(listed, [(1, slot(1)), (2, slot(2)), (3, slot(3))]);
    }
}
