//! Per origin, the dots it issued and where their registers are: finds an interval without a scan.

use std::collections::VecDeque;

use crate::hlc::HlcTime;
use crate::store::SlotRef;

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
