//! Dots and version vectors, on top of `crdts`.

use std::fmt;

use crdts::{CmRDT, CvRDT, VClock};

use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;

/// The identity of one write event: who issued it, and when by its own clock.
///
/// One origin issues strictly increasing dot times, so time serves as sequence number.
pub type Dot = crdts::Dot<ReplicaId>;

/// Origin -> time: "of everything this origin wrote up to here, I hold it or something newer for
/// its key, or it was properly removed".
///
/// A join-semilattice; the join is the pointwise maximum. An origin that is not listed counts as
/// zero.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct VersionVector(VClock<ReplicaId>);

impl VersionVector {
    /// The vector that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time up to which `origin` has been seen; zero if never.
    #[must_use]
    pub fn get(&self, origin: &ReplicaId) -> HlcTime {
        self.0.get(origin)
    }

    /// Whether the event `dot` lies within this vector.
    #[must_use]
    pub fn covers(&self, dot: &Dot) -> bool {
        dot.counter <= self.get(&dot.actor)
    }

    /// Whether this vector has seen everything `other` has.
    #[must_use]
    pub fn dominates(&self, other: &Self) -> bool {
        other.iter().all(|(origin, time)| self.get(&origin) >= time)
    }

    /// Raises one entry to at least `time`. Returns whether it moved.
    pub fn raise(&mut self, origin: ReplicaId, time: HlcTime) -> bool {
        match self.0.dots.get_mut(&origin) {
            Some(seen) if *seen >= time => false,
            Some(seen) => {
                *seen = time;
                true
            }
            None if time == 0 => false,
            None => {
                self.0.apply(Dot::new(origin, time));
                true
            }
        }
    }

    /// Joins `other` into this vector.
    pub fn join(&mut self, other: &Self) {
        self.0.merge(other.0.clone());
    }

    /// Forgets an origin. Only for records that are no promise to anybody (see retired origins).
    pub fn remove(&mut self, origin: &ReplicaId) -> Option<HlcTime> {
        self.0.dots.remove(origin)
    }

    /// The entries, by origin.
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, HlcTime)> + '_ {
        self.0.dots.iter().map(|(origin, time)| (*origin, *time))
    }

    /// How many origins are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.dots.len()
    }

    /// Whether nothing has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for VersionVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl FromIterator<(ReplicaId, HlcTime)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (ReplicaId, HlcTime)>>(entries: I) -> Self {
        let mut vector = Self::new();
        for (origin, time) in entries {
            vector.raise(origin, time);
        }
        vector
    }
}

#[cfg(test)]
mod laws {
    use proptest::prelude::*;

    use super::*;

    fn vector() -> impl Strategy<Value = VersionVector> {
        proptest::collection::vec((0u8..5, 1u64..50), 0..6).prop_map(|entries| {
            let id = |n: u8| ReplicaId::from_bytes([n; 16]);
            entries.into_iter().map(|(n, time)| (id(n), time)).collect()
        })
    }

    fn join(a: &VersionVector, b: &VersionVector) -> VersionVector {
        let mut joined = a.clone();
        joined.join(b);
        joined
    }

    proptest! {
        #![proptest_config(crate::testing::proptest_config())]

        /// scenario 1 (vectors)
        #[test]
        fn join_is_a_semilattice(a in vector(), b in vector(), c in vector()) {
            prop_assert_eq!(join(&a, &b), join(&b, &a));
            prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
            prop_assert_eq!(join(&a, &a), a.clone());
            prop_assert!(join(&a, &b).dominates(&a));
        }
    }
}
