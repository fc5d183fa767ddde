//! Per origin, a log of its dots and the places of their registers. Finds the registers of an interval without a scan.

use std::collections::BTreeMap;

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

    fn note_compacted(&mut self, overtaken: HlcTime, followed: HlcTime) {
        (self.overtaken, self.followed) = (self.overtaken.max(overtaken), self.followed.max(followed));
    }

    /// Drops the stale entries of an origin's log. `dot_at` returns the dot of the register that is in a place now.
    pub(super) fn compact(&mut self, origin: ReplicaId, is_own: bool, dot_at: impl Fn(SlotRef) -> Option<Dot>) {
        let Some(mut log) = self.take(&origin) else { return };
        let (mut gone, mut rewritten_here) = (0, 0);
        log.compact(|time, slot| {
            let dot = dot_at(slot);
            let current = dot == Some(Dot::new(origin, time));
            match dot {
                _ if current || !is_own => {}
                // This replica rewrote the key later. A push that starts below this entry claims it, so it must carry
                // the later write. The log no longer shows which write that is, so the push must reach the log's end.
                Some(dot) if dot.actor == origin => rewritten_here = time.max(rewritten_here),
                // Another replica overtook the write, or its register is gone. A push that starts below this entry
                // would claim the write and not carry it. The log no longer shows this, so no push may start there.
                _ => gone = time.max(gone),
            }
            current
        });
        self.put(origin, log);
        self.note_compacted(gone, rewritten_here);
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

/// The time of a dot, and the place of its register.
type Logged = (HlcTime, SlotRef);

/// The number of entries in one chunk of a log. A chunk is below 1 KiB, for which glibc takes and gives back memory
/// without a pass over its free lists.
const CHUNK: usize = 60;

/// An append-only log of `(dot time, place)`. An entry goes stale when its register gets another dot or is removed. The
/// reader detects this by comparing dots, and compaction drops stale entries.
#[derive(Debug, Default)]
pub(crate) struct OriginLog {
    /// The entries in chunks, all of them full but the last: a log that grows copies nothing and reserves little.
    chunks: Vec<Vec<Logged>>,
    len: usize,
    /// The highest time that was appended.
    newest: HlcTime,
    /// If entries wait to be sorted: the number of entries before the first of them, and the lowest time among them.
    late: Option<(usize, HlcTime)>,
    live: usize,
}

impl OriginLog {
    /// Notes that the register at `slot` has the dot `time`.
    pub(crate) fn append(&mut self, time: HlcTime, slot: SlotRef) {
        if self.newest >= time {
            self.note_late(time);
        }
        self.push((time, slot));
        self.live += 1;
    }

    #[cold]
    fn note_late(&mut self, time: HlcTime) {
        let (sorted, lowest) = self.late.unwrap_or((self.len, time));
        self.late = Some((sorted, lowest.min(time)));
    }

    #[inline]
    fn push(&mut self, entry: Logged) {
        self.newest = self.newest.max(entry.0);
        self.len += 1;
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(entry),
            // The first chunk grows step by step: most logs are short.
            None => self.chunks.push(vec![entry]),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(entry);
                self.chunks.push(chunk);
            }
        }
    }

    /// Returns the entry with this index, which must be below the length.
    fn at(&self, index: usize) -> Logged {
        self.chunks[index / CHUNK][index % CHUNK]
    }

    /// Returns the number of leading entries that `is_before` accepts, of the first `len` entries, which are sorted.
    fn partition_point(&self, len: usize, is_before: impl Fn(HlcTime) -> bool) -> usize {
        let (mut low, mut high) = (0, len);
        while low < high {
            let middle = low.midpoint(high);
            if is_before(self.at(middle).0) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn truncate(&mut self, len: usize) {
        self.chunks.truncate(len.div_ceil(CHUNK));
        if let Some(last) = self.chunks.last_mut() {
            last.truncate(len - (len - 1) / CHUNK * CHUNK);
        }
        self.len = len;
    }

    /// Notes that one entry went stale.
    pub(crate) fn note_stale(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    /// Returns the number of entries, including stale ones.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of registers that have a dot of this origin.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    /// Returns the number of entries after `from`, including stale ones, and the time of the first. Both are estimates
    /// while entries wait to be sorted. Reports use them, and a sender uses the number to judge how much a member
    /// lacks.
    pub(crate) fn count_after(&self, from: HlcTime) -> (usize, Option<HlcTime>) {
        let start = self.partition_point(self.len, |time| time <= from);
        (self.len - start, (start < self.len).then(|| self.at(start).0))
    }

    /// Returns true if most entries are stale, so that compaction pays.
    pub(crate) fn is_bloated(&self) -> bool {
        self.len > 2 * self.live + 64
    }

    /// Returns the entries after `from`, by time. Sorts the log first.
    pub(crate) fn after(&mut self, from: HlcTime) -> impl Iterator<Item = Logged> + '_ {
        self.sort();
        self.sorted_after(from)
    }

    /// Returns the entries after `from`, by time. The log must just have been [sorted](Self::sort).
    pub(crate) fn sorted_after(&self, from: HlcTime) -> impl Iterator<Item = Logged> + '_ {
        debug_assert!(self.late.is_none());
        self.starting_from(self.partition_point(self.len, |time| time <= from))
    }

    /// Returns the time of the last entry at or below `time`.
    pub(crate) fn last_up_to(&mut self, time: HlcTime) -> Option<HlcTime> {
        self.sort();
        let end = self.partition_point(self.len, |entry| entry <= time);
        end.checked_sub(1).map(|last| self.at(last).0)
    }

    /// Returns the entries by time, starting at this index.
    pub(crate) fn starting_at(&mut self, first: usize) -> impl Iterator<Item = Logged> + '_ {
        self.sort();
        self.starting_from(first)
    }

    fn starting_from(&self, first: usize) -> impl Iterator<Item = Logged> + '_ {
        let chunks = self.chunks.get(first / CHUNK..).unwrap_or_default();
        chunks.iter().flatten().skip(first % CHUNK).copied()
    }

    /// Drops the entries that `keep` rejects.
    pub(crate) fn compact(&mut self, mut keep: impl FnMut(HlcTime, SlotRef) -> bool) {
        self.sort();
        let mut kept = 0;
        for index in 0..self.len {
            let entry @ (time, slot) = self.at(index);
            if keep(time, slot) {
                self.chunks[kept / CHUNK][kept % CHUNK] = entry;
                kept += 1;
            }
        }
        self.truncate(kept);
        self.chunks.shrink_to(2 * self.chunks.len());
    }

    /// Sorts late entries into place and removes duplicates. A register that was adopted and then gets its old dot back
    /// is appended a second time at the same place. An interval that lists it twice could not be encoded.
    pub(crate) fn sort(&mut self) {
        let Some((sorted, lowest)) = self.late.take() else { return };
        // The entries below the lowest late time are in place already.
        let first = self.partition_point(sorted, |time| time < lowest);
        let mut rest: Vec<_> = self.starting_from(first).collect();
        rest.sort();
        rest.dedup();
        self.truncate(first);
        rest.into_iter().for_each(|entry| self.push(entry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::SlotId;

    const LEAST: SlotRef = SlotRef { id: SlotId(0), generation: 0 };

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

    /// The oracle is a sorted list. Entries arrive in order, late, and twice. Compaction keeps some of them.
    #[test]
    fn a_log_lists_each_entry_once_in_order() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut log, mut all) = (OriginLog::default(), std::collections::BTreeSet::new());
            let mut last = 0;
            for _ in 0..random.usize(1..2_000) {
                let is_late = random.u8(..20) == 0;
                let time = if is_late { random.u64(0..last + 1) } else { last + random.u64(..3) };
                last = last.max(time);
                let slot = SlotRef { id: SlotId(time as u32 % 8), generation: 0 };
                log.append(time, slot);
                all.insert((time, slot));
                let from = random.u64(0..last + 2);
                match random.u8(..50) {
                    0 => assert!(log.after(from).eq(all.range((from + 1, LEAST)..).copied())),
                    1 => {
                        log.compact(|time, _| time % 3 > 0 || time > from);
                        all.retain(|(time, _)| time % 3 > 0 || *time > from);
                    }
                    2 => {
                        let last = all.range(..(from + 1, LEAST)).next_back();
                        assert_eq!(log.last_up_to(from), last.map(|(time, _)| *time));
                    }
                    3 => assert!(log.starting_at(from as usize).eq(all.iter().copied().skip(from as usize))),
                    _ => {}
                }
            }
            assert!(log.starting_at(0).eq(all.iter().copied()));
            assert_eq!(log.len(), all.len());
            let first = all.iter().find(|(time, _)| *time > last / 2).map(|(time, _)| *time);
            assert_eq!(log.count_after(last / 2), (all.range((last / 2 + 1, LEAST)..).count(), first));
        }
    }

    #[test]
    fn a_log_reserves_little_and_gives_back_what_compaction_frees() {
        let slot = SlotRef { id: SlotId(1), generation: 0 };
        let mut log = OriginLog::default();
        (0..100_000).for_each(|time| log.append(time, slot));
        let reserved = |log: &OriginLog| log.chunks.iter().map(Vec::capacity).sum::<usize>();
        assert!(reserved(&log) < 100_000 + 2 * CHUNK);
        log.compact(|time, _| time < 100);
        assert_eq!((log.len(), log.chunks.len()), (100, 2));
        log.compact(|_, _| false);
        assert_eq!((log.len(), reserved(&log), log.chunks.capacity()), (0, 0, 0));
        log.append(7, slot);
        assert_eq!(log.after(0).count(), 1);
    }
}
