//! The bound of a fill that is stamped above its start less `max_drift`, and the rule by which stamps and epochs
//! contest such a fill. `ledger/contests.rs` gives the reasons, makes the bounds (`bound_of`), and
//! remembers them and the contesting stamps.

use smallvec::SmallVec;

use crate::hlc::{GRAIN, HlcTime, Stamp};

/// The highest number of stamps in the bound of one fill. A fill that needs more is not stored.
pub(crate) const MAX_KNOWN: usize = 8;

/// The record by which every replica decides against which stamps a fill must lose, although it is stamped above them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FillBound {
    /// The time at or below which no stamp contests the fill. Such a stamp was issued before the fill began, or by a
    /// clock that is wrong by more than `max_drift`.
    pub after: HlcTime,
    /// The epoch at the start of the fill.
    pub epoch: HlcTime,
    /// The newest stamps of the key above `after` that the filling replica knew at the start, one per replica.
    pub known: SmallVec<[Stamp; 2]>,
}

/// Returns true if the stamp is of a fill, or of the void that replaced a fill. Clocks issue multiples of [`GRAIN`].
pub(crate) fn is_of_fill(stamp: Stamp) -> bool {
    !stamp.time.is_multiple_of(GRAIN)
}

/// Returns true if the stamp is of a fill that needs a bound, or of the void that replaced such a fill. Fills without a
/// bound use the first time above a tick.
pub(crate) fn needs_bound(stamp: Stamp) -> bool {
    stamp.time % GRAIN > 1
}

/// Returns the stamp that represents an epoch among the known stamps. No replica has its id.
const fn epoch_stamp(epoch: HlcTime) -> Stamp {
    Stamp::end_of(epoch)
}

impl FillBound {
    /// Returns true if a write with this stamp may have been issued after the fill began, although the fill is stamped
    /// above it.
    pub(crate) fn is_contested_by(&self, fill: Stamp, other: Stamp) -> bool {
        other < fill && self.may_precede(other)
    }

    /// Returns true if a fill with this bound may have begun before a write with this stamp was issued.
    pub(crate) fn may_precede(&self, other: Stamp) -> bool {
        // A replica issues rising stamps: a lower stamp of a known replica was issued before the fill began.
        let known = |known: &Stamp| known.replica == other.replica && known.time >= other.time;
        other.time > self.after && !is_of_fill(other) && !self.known.iter().any(known)
    }

    pub(crate) fn is_contested_by_epoch(&self, fill: Stamp, epoch: HlcTime) -> bool {
        epoch > self.after && epoch != self.epoch && epoch < fill.time && !self.known.contains(&epoch_stamp(epoch))
    }

    /// Adds an epoch that the filling replica knows besides the greatest one.
    pub(crate) fn learn_epoch(&mut self, epoch: HlcTime) {
        if epoch > self.after && epoch != self.epoch {
            self.known.push(epoch_stamp(epoch));
        }
    }

    /// Adds a stamp that the filling replica knows. Only the newest stamp of each replica is kept.
    pub(crate) fn learn(&mut self, stamp: Stamp) {
        if stamp.time > self.after {
            note_newest(&mut self.known, stamp, |known| known.replica == stamp.replica);
        }
    }
}

/// Adds a stamp. If `is_same` matches a stamp that is there, keeps only the newer one of the two.
pub(crate) fn note_newest(stamps: &mut SmallVec<[Stamp; 2]>, stamp: Stamp, is_same: impl Fn(&Stamp) -> bool) {
    match stamps.iter_mut().find(|known| is_same(known)) {
        Some(known) => *known = stamp.max(*known),
        None => stamps.push(stamp),
    }
}

#[cfg(test)]
mod laws {
    use proptest::prelude::*;

    use super::*;
    use crate::replica_id::ReplicaId;

    fn stamp() -> impl Strategy<Value = Stamp> {
        (0u64..12, 0u8..3).prop_map(|(time, by)| Stamp::new(time * GRAIN, ReplicaId::from_bytes([by; 16])))
    }

    proptest! {
        #![proptest_config(crate::testing::proptest_config())]

        /// Checks the rule of bounds. A stamp contests the fill exactly if it lies between bound and fill and the
        /// filling replica did not know it. A known stamp covers all earlier stamps of its replica.
        #[test]
        fn a_fill_is_contested_by_what_it_cannot_have_known(known in proptest::collection::vec(stamp(), 0..4), other in stamp(), after in 0u64..12, fill in 0u64..12) {
            let fill = Stamp::new(fill * GRAIN + 1, ReplicaId::from_bytes([1; 16]));
            let mut bound = FillBound { after: after * GRAIN, epoch: 0, known: SmallVec::new() };
            known.iter().for_each(|stamp| bound.learn(*stamp));
            let knew = known.iter().any(|known| known.replica == other.replica && known.time >= other.time);
            let between = other.time > bound.after && other < fill;
            prop_assert_eq!(bound.is_contested_by(fill, other), between && !knew);
        }
    }
}
