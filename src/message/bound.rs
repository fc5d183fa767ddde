//! The bound of a fill that is stamped above something young: see `fill_bound` for the rule.

use smallvec::SmallVec;

use crate::hlc::{GRAIN, HlcTime, Stamp};

/// Stamps that one fill may know. One with more is not stored.
pub(crate) const MAX_KNOWN: usize = 8;

/// What a fill must lose against although it is stamped above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FillBound {
    /// Whatever is stamped at or below this was issued before the fill began, or by a clock beyond `max_drift`.
    pub after: HlcTime,
    /// The epoch at the start.
    pub epoch: HlcTime,
    /// The newest stamps of the key above `after` that the filler knew at the start, one per replica.
    pub known: SmallVec<[Stamp; 2]>,
}

/// Whether a stamp is a fill's, or of the void that replaced one. Clocks issue multiples of [`GRAIN`].
pub(crate) fn is_of_fill(stamp: Stamp) -> bool {
    !stamp.time.is_multiple_of(GRAIN)
}

/// Whether a stamp is of a fill that was stamped above something young, or of the void that replaced one: the first time above
/// a tick belongs to the fills that were not.
pub(crate) fn is_above_young(stamp: Stamp) -> bool {
    stamp.time % GRAIN > 1
}

/// Stands for an epoch among the stamps that a filler knows: no replica has this id.
const fn epoch_stamp(epoch: HlcTime) -> Stamp {
    Stamp::end_of(epoch)
}

impl FillBound {
    /// Whether a write with this stamp may have been issued after the fill began, although the fill is stamped above it.
    pub(crate) fn is_contested_by(&self, fill: Stamp, other: Stamp) -> bool {
        other < fill && self.may_precede(other)
    }

    /// Whether a fill with this bound may have begun before a write with this stamp was issued.
    pub(crate) fn may_precede(&self, other: Stamp) -> bool {
        let known = |known: &Stamp| known.replica == other.replica && known.time >= other.time;
        other.time > self.after && !is_of_fill(other) && !self.known.iter().any(known)
    }

    pub(crate) fn is_contested_by_epoch(&self, fill: Stamp, epoch: HlcTime) -> bool {
        epoch > self.after && epoch != self.epoch && epoch < fill.time && !self.known.contains(&epoch_stamp(epoch))
    }

    /// Adds an epoch that the filler knows besides the greatest.
    pub(crate) fn learn_epoch(&mut self, epoch: HlcTime) {
        if epoch > self.after && epoch != self.epoch {
            self.known.push(epoch_stamp(epoch));
        }
    }

    /// Adds a stamp that the filler knows: the newest of each replica.
    pub(crate) fn learn(&mut self, stamp: Stamp) {
        if stamp.time > self.after {
            note_newest(&mut self.known, stamp, |known| known.replica == stamp.replica);
        }
    }
}

/// Keeps the newest stamp of each sort.
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

        /// What the filler knew, or what its replica issued before that, never contests the fill; nor does what is not
        /// between bound and fill. Everything else does.
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
