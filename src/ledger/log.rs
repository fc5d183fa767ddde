//! Per origin, a log of its dots and the places of their registers. Finds the registers of an interval without a scan.

use std::collections::{BTreeMap, VecDeque};

use crate::crdt::Dot;
use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;

/// The logs of all origins.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    by_origin: BTreeMap<ReplicaId, OriginLog>,
    /// The push barrier. Compaction may have removed own entries at or below this time whose writes another replica
    /// overtook, or whose registers are gone. No push may start below it.
    overtaken: HlcTime,
    /// Compaction may have removed own entries at or below this time whose keys this replica rewrote later. A push that
    /// starts below it must cover the log to its end.
    followed: HlcTime,
}

impl Logs {
    /// Notes that the register at `slot` has this dot. Returns true if the log should be compacted.
    pub(super) fn append(&mut self, dot: Dot, slot: SlotRef) -> bool {
        let log = self.by_origin.entry(dot.actor).or_default();
        log.append(dot.counter, slot);
        log.is_bloated()
    }

    pub(super) fn note_stale(&mut self, origin: &ReplicaId) {
        if let Some(log) = self.by_origin.get_mut(origin) {
            log.note_stale();
        }
    }

    pub(super) fn bloated(&self) -> Vec<ReplicaId> {
        self.by_origin.iter().filter(|(_, log)| log.is_bloated()).map(|(origin, _)| *origin).collect()
    }

    pub(super) fn note_compacted(&mut self, overtaken: HlcTime, followed: HlcTime) {
        (self.overtaken, self.followed) = (self.overtaken.max(overtaken), self.followed.max(followed));
    }

    /// Returns the push barrier: own entries at or below this time may be missing, so no push may start below it.
    pub(crate) fn overtaken(&self) -> HlcTime {
        self.overtaken
    }

    /// Returns the time at or below which own entries may be missing because this replica rewrote their keys later.
    pub(crate) fn followed(&self) -> HlcTime {
        self.followed
    }

    /// Takes a log out, so that registers can be read during the walk. The caller must [`put`](Self::put) it back.
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

    /// Returns the entries of an origin after `from`, by time.
    pub(crate) fn after(&mut self, origin: &ReplicaId, from: HlcTime) -> Vec<(HlcTime, SlotRef)> {
        self.by_origin.get_mut(origin).map_or_else(Vec::new, |log| log.after(from).collect())
    }

    /// Returns the time of the last entry of an origin at or below `time`.
    pub(crate) fn last_up_to(&mut self, origin: &ReplicaId, time: HlcTime) -> Option<HlcTime> {
        self.by_origin.get_mut(origin)?.last_up_to(time)
    }

    /// Returns each origin that has a log, with its log.
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

    /// Returns the number of entries of all logs, including stale ones.
    pub(crate) fn len(&self) -> usize {
        self.by_origin.values().map(OriginLog::len).sum()
    }
}

/// An append-only log of `(dot time, place)`. An entry goes stale when its register gets another dot or is removed. The
/// reader detects this by comparing dots, and compaction drops stale entries.
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

    /// Notes that one entry went stale.
    pub(crate) fn note_stale(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    /// Returns the number of entries, including stale ones.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the number of registers that have a dot of this origin.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Returns the number of entries after `from`, including stale ones, and the time of the first. Both are estimates
    /// while entries wait to be sorted. Reports use them, and a sender uses the number to judge how much a member
    /// lacks.
    pub(crate) fn count_after(&self, from: HlcTime) -> (usize, Option<HlcTime>) {
        let start = self.entries.partition_point(|(time, _)| *time <= from);
        (self.entries.len() - start, self.entries.get(start).map(|(time, _)| *time))
    }

    /// Returns true if most entries are stale, so that compaction pays.
    pub(crate) fn is_bloated(&self) -> bool {
        self.entries.len() > 2 * self.live + 64
    }

    /// Returns the entries after `from`, by time. Sorts the log first.
    pub(crate) fn after(&mut self, from: HlcTime) -> impl Iterator<Item = (HlcTime, SlotRef)> + '_ {
        self.sort();
        self.sorted_after(from)
    }

    /// Returns the entries after `from`, by time. The log must just have been [sorted](Self::sort).
    pub(crate) fn sorted_after(&self, from: HlcTime) -> impl Iterator<Item = (HlcTime, SlotRef)> + '_ {
        debug_assert!(!self.unsorted);
        let start = self.entries.partition_point(|(time, _)| *time <= from);
        self.entries.range(start..).copied()
    }

    /// Returns the time of the last entry at or below `time`.
    pub(crate) fn last_up_to(&mut self, time: HlcTime) -> Option<HlcTime> {
        self.sort();
        let end = self.entries.partition_point(|(entry, _)| *entry <= time);
        end.checked_sub(1).map(|last| self.entries[last].0)
    }

    /// Returns the entries by time, starting at this index.
    pub(crate) fn starting_at(&mut self, first: usize) -> impl Iterator<Item = (HlcTime, SlotRef)> + '_ {
        self.sort();
        self.entries.iter().skip(first).copied()
    }

    /// Drops the entries that `keep` rejects.
    pub(crate) fn compact(&mut self, mut keep: impl FnMut(HlcTime, SlotRef) -> bool) {
        self.sort();
        self.entries.retain(|(time, slot)| keep(*time, *slot));
        if self.entries.capacity() > 4 * self.entries.len() + 64 {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Sorts late entries into place and removes duplicates. A register that was adopted and then gets its old dot back
    /// is appended a second time at the same place. An interval that lists it twice could not be encoded.
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
