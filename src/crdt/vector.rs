//! Dots and version vectors, on top of `crdts`.

use std::collections::BTreeMap;
use std::fmt;

use crdts::VClock;

use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;

/// The identity of one write event: who issued it, and when by its own clock.
///
/// One origin issues strictly increasing dot times, so time serves as sequence number.
pub type Dot = crdts::Dot<ReplicaId>;

/// A vector this many times shorter than another is looked up in it rather than walked beside it.
const FEW: usize = 8;

/// Origin -> time: "of everything this origin wrote up to here, I hold it or something newer for
/// its key, or it was properly removed".
///
/// A join-semilattice; the join is the pointwise maximum. An origin that is not listed counts as
/// zero. Both sides are sorted by origin, so whatever looks at all of two vectors walks them side by
/// side, in linear time: in a cluster of a thousand that is what most messages cost.
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
        if other.len() < self.len() / FEW {
            return other.iter().all(|(origin, time)| self.get(&origin) >= time);
        }
        other.beside(self).all(|(_, theirs, ours)| ours >= theirs)
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
                self.0.dots.insert(origin, time);
                true
            }
        }
    }

    /// Joins `other` into this vector.
    pub fn join(&mut self, other: &Self) {
        if other.len() < self.len() / FEW {
            for (origin, time) in other.iter() {
                self.raise(origin, time);
            }
            return;
        }
        let mut unknown = Vec::new();
        let mut ours = self.0.dots.iter_mut().peekable();
        for (origin, time) in other.iter() {
            while ours.next_if(|(known, _)| **known < origin).is_some() {}
            match ours.next_if(|(known, _)| **known == origin) {
                Some((_, seen)) => *seen = time.max(*seen),
                None => unknown.push((origin, time)),
            }
        }
        drop(ours);
        self.0.dots.extend(unknown);
    }

    /// The entries with what `other` has of the same origin, zero if nothing.
    pub fn beside<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (ReplicaId, HlcTime, HlcTime)> + 'a {
        let mut others = other.0.dots.iter().peekable();
        self.iter().map(move |(origin, time)| {
            while others.next_if(|(known, _)| **known < origin).is_some() {}
            let there = others.next_if(|(known, _)| **known == origin);
            (origin, time, there.map_or(0, |(_, time)| *time))
        })
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
        let mut entries: Vec<_> = entries.into_iter().filter(|(_, time)| *time > 0).collect();
        // Linear when it is sorted already. Of one origin's entries the map keeps the last, the greatest.
        entries.sort();
        Self(VClock { dots: BTreeMap::from_iter(entries) })
    }
}

#[cfg(test)]
mod laws {
    use crdts::CvRDT;
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

        /// Walking side by side comes to what looking up one by one does, and to what `crdts` says.
        #[test]
        fn walks_agree_with_look_ups(a in vector(), b in vector(), wide in proptest::collection::vec(1u64..50, 40)) {
            let id = |n: usize| ReplicaId::from_bytes([n as u8; 16]);
            let wide: VersionVector = wide.into_iter().enumerate().map(|(n, time)| (id(n), time)).collect();
            for (a, b) in [(&a, &b), (&a, &wide), (&wide, &b)] {
                let mut merged = a.0.clone();
                merged.merge(b.0.clone());
                prop_assert_eq!(&join(a, b).0, &merged);
                prop_assert_eq!(a.dominates(b), b.iter().all(|(origin, time)| a.get(&origin) >= time));
                let beside: Vec<_> = a.iter().map(|(origin, time)| (origin, time, b.get(&origin))).collect();
                prop_assert_eq!(a.beside(b).collect::<Vec<_>>(), beside);
            }
        }

        /// In any order and with any repeats, the greatest time of each origin counts; zero is not listed.
        #[test]
        fn collecting_is_raising(entries in proptest::collection::vec((0u8..5, 0u64..9), 0..12)) {
            let entries: Vec<_> = entries.into_iter().map(|(n, time)| (ReplicaId::from_bytes([n; 16]), time)).collect();
            let mut raised = VersionVector::new();
            for (origin, time) in &entries {
                raised.raise(*origin, *time);
            }
            prop_assert_eq!(entries.into_iter().collect::<VersionVector>(), raised);
        }
    }
}
