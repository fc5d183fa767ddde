//! The order in which values are evicted. It handles places only, and is independent of replication.
//!
//! | file | owns |
//! | --- | --- |
//! | this one | the choice of the order, and what all orders have in common |
//! | `order` | the places in order of their last use, plain or segmented |
//! | `sieve` | the places in order of their arrival, with the hand of SIEVE |
//! | `hot` | the places that were read most lately, for reports |
//! | `reads` | the record of reads, which many threads write without waiting for each other |

use serde::{Deserialize, Serialize};

use crate::store::SlotRef;

mod hot;
mod order;
mod reads;
mod sieve;

pub(crate) use hot::{HotPlace, HotPlaces};
pub(crate) use reads::{Miss, ReadLog};

use order::Order;
use sieve::Sieve;

/// The order in which values are evicted when there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Eviction {
    /// The least recently used first.
    #[default]
    Lru,
    /// Values that were used only once, by their write or arrival, are evicted before values that were used again.
    /// Within each group the least recently used is evicted first (Karedla, Love and Wherry 1994). At most four fifths
    /// of the values of a full cache count as used again. One pass over many keys, or a flood of writes from other
    /// nodes, does not evict the values in use here.
    SegmentedLru,
    /// A hand moves from the oldest value to the newest. It spares a value that was used since the hand last passed it,
    /// and evicts a value that was not (SIEVE: Zhang et al. 2024). A use sets one bit and moves nothing, so reads and
    /// writes of a full cache cost less than with the other orders. A value that is not used again is evicted early.
    Sieve,
}

/// The places that can be evicted, in one of the orders.
pub(crate) enum Recency {
    Used(Order),
    Sieve(Sieve),
}

impl Recency {
    pub(crate) fn new(eviction: Eviction) -> Self {
        match eviction {
            Eviction::Lru => Self::Used(Order::new(false)),
            Eviction::SegmentedLru => Self::Used(Order::new(true)),
            Eviction::Sieve => Self::Sieve(Sieve::default()),
        }
    }

    /// Applies the reads that were noted since the last call, and counts a sample of them.
    pub(crate) fn apply(&mut self, reads: &ReadLog, hot: &mut HotPlaces) {
        // The sieve looks at the bits of the log when its hand passes.
        if let Self::Used(order) = self {
            reads.drain(|id| {
                order.touch(id);
                hot.note(id, || order.generation(id));
            });
        }
    }

    /// Returns true if each read leaves a note. With the sieve it sets a bit, which does not tell how often.
    pub(crate) fn notes_reads(&self) -> bool {
        matches!(self, Self::Used(_))
    }

    /// Adds a new entry, or notes a write to one, which counts as a use. `weighs` is true if the entry's weight is more
    /// than zero. Entries without weight are never evicted, because evicting them would make no room.
    pub(crate) fn insert(&mut self, slot: SlotRef, weighs: bool, reads: &ReadLog) {
        match self {
            Self::Used(order) => order.insert(slot, weighs),
            Self::Sieve(sieve) => sieve.insert(slot, weighs, reads.visited()),
        }
    }

    /// Notes that another node's write replaced the value of an entry. That is no use, so an entry with weight keeps its
    /// position. An entry that had no weight had no position either: it takes that of a value that has just arrived.
    pub(crate) fn reweigh(&mut self, slot: SlotRef, weighs: bool) {
        match self {
            Self::Used(order) => order.reweigh(slot, weighs),
            Self::Sieve(sieve) => sieve.reweigh(slot, weighs),
        }
    }

    /// Removes an entry. Must also be called for an entry that [`pop`](Self::pop) took out, once its value is gone.
    pub(crate) fn remove(&mut self, slot: SlotRef, reads: &ReadLog) {
        match self {
            Self::Used(order) => order.remove(slot),
            Self::Sieve(sieve) => sieve.remove(slot, reads.visited()),
        }
    }

    /// Takes out the next entry to evict. The newest entry stays if an older one can be evicted.
    pub(crate) fn pop(&mut self, reads: &ReadLog) -> Option<SlotRef> {
        match self {
            Self::Used(order) => order.pop(),
            Self::Sieve(sieve) => sieve.pop(reads.visited()),
        }
    }

    /// Returns the number of entries that can be evicted.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Used(order) => order.len(),
            Self::Sieve(sieve) => sieve.len(),
        }
    }

    /// Returns the places, starting with those evicted last if nothing else is used. Places that are never evicted
    /// follow at the end.
    pub(crate) fn iter<'a>(&'a self, reads: &'a ReadLog) -> Box<dyn Iterator<Item = SlotRef> + 'a> {
        match self {
            Self::Used(order) => Box::new(order.iter()),
            Self::Sieve(sieve) => Box::new(sieve.iter(reads.visited())),
        }
    }
}
