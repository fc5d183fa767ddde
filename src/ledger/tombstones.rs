//! The index of the held tombstones, and the list of evicted bodies that are kept to be sent. `collect` lists the ways
//! in which a tombstone ends.

use std::collections::{BTreeSet, VecDeque};

use crate::crdt::{Cause, Kind};
use crate::hlc::HlcTime;
use crate::store::{Meta, SlotRef};

/// The number of tombstones of each [`Cause`], indexed by the cause's number.
pub(crate) type ByCause = [u64; 5];

/// The held tombstones by stamp time, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    by_time: BTreeSet<(HlcTime, SlotRef)>,
    by_cause: ByCause,
}

impl Tombstones {
    pub(super) fn add(&mut self, meta: &Meta, slot: SlotRef) {
        self.by_time.insert((meta.stamp_time, slot));
        self.count(meta.kind, 1);
    }

    pub(super) fn remove(&mut self, meta: &Meta, slot: SlotRef) {
        self.by_time.remove(&(meta.stamp_time, slot));
        self.count(meta.kind, -1);
    }

    fn count(&mut self, kind: Kind, by: i64) {
        if let Kind::Tombstone(cause) = kind {
            let count = &mut self.by_cause[cause as usize];
            *count = count.saturating_add_signed(by);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_time.len()
    }

    pub(crate) fn by_cause(&self) -> ByCause {
        self.by_cause
    }

    /// Returns the stamp time and place of each tombstone, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (HlcTime, SlotRef)> + '_ {
        self.by_time.iter().copied()
    }
}

/// Returns the number of tombstones with one cause.
pub(crate) fn of_cause(by_cause: &ByCause, cause: Cause) -> u64 {
    by_cause[cause as usize]
}

/// Bodies of evicted own writes that some live member has not reported yet, by dot time.
#[derive(Debug, Default)]
pub(super) struct Retained {
    places: VecDeque<(HlcTime, SlotRef)>,
    bytes: usize,
}

impl Retained {
    pub(super) fn keep(&mut self, time: HlcTime, slot: SlotRef, size: u32) {
        self.bytes += size as usize;
        self.places.push_back((time, slot));
    }

    /// Subtracts the size of a body that is no longer kept.
    pub(super) fn release(&mut self, size: u32) {
        self.bytes = self.bytes.saturating_sub(size as usize);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes out the first place, if its dot time is at or below `time`.
    pub(super) fn next_up_to(&mut self, time: HlcTime) -> Option<(HlcTime, SlotRef)> {
        self.places.front().filter(|(first, _)| *first <= time)?;
        self.places.pop_front()
    }

    /// Drops places whose bodies were overwritten since, once the places are more than twice the tombstones. Without
    /// compaction they accumulate until the slowest live member has reported the first body. Gives memory back once most
    /// of it is unused.
    pub(super) fn compact(&mut self, tombstones: usize, is_kept: impl Fn(HlcTime, SlotRef) -> bool) {
        if self.places.len() > 2 * tombstones + 64 {
            self.places.retain(|(time, slot)| is_kept(*time, *slot));
        }
        if self.places.capacity() > 4 * self.places.len() + 1_024 {
            self.places.shrink_to(2 * self.places.len());
        }
    }
}
