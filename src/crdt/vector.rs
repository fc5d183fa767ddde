//! Dots and version vectors, on top of `crdts`.

use std::collections::BTreeMap;
use std::fmt;

use crdts::VClock;

use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;

/// The identity of one write event: the replica that issued it, and the time by that replica's own clock.
///
/// One origin issues strictly increasing dot times, so the time serves as a sequence number.
pub type Dot = crdts::Dot<ReplicaId>;

/// The size ratio above which a join or comparison looks up each entry of the short vector, instead of walking both.
const FEW: usize = 8;

/// A map from origin to time. An entry means: "of everything this origin wrote up to this time, I hold it or a newer
/// register of its key, or it was properly removed".
///
/// A join-semilattice; the join is the pointwise maximum. An origin that is not listed counts as zero. Entries are
/// sorted by origin. Functions that need all entries of two vectors walk them together in linear time: in a cluster of
/// a thousand, most of the cost of a message is such walks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct VersionVector(VClock<ReplicaId>);

impl VersionVector {
    /// Returns the vector that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the time up to which `origin` has been seen; zero if it has never been seen.
    #[must_use]
    pub fn get(&self, origin: &ReplicaId) -> HlcTime {
        self.0.get(origin)
    }

    /// Returns true if the event `dot` lies within this vector.
    #[must_use]
    pub fn covers(&self, dot: &Dot) -> bool {
        dot.counter <= self.get(&dot.actor)
    }

    /// Returns true if this vector has seen everything that `other` has seen.
    #[must_use]
    pub fn dominates(&self, other: &Self) -> bool {
        if other.len() < self.len() / FEW {
            return other.iter().all(|(origin, time)| self.get(&origin) >= time);
        }
        other.zip(self).all(|(_, theirs, ours)| ours >= theirs)
    }

    /// Raises one entry to at least `time`. Returns true if the entry changed.
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

    /// Returns each entry with `other`'s time of the same origin, which is zero if `other` does not list it.
    pub fn zip<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (ReplicaId, HlcTime, HlcTime)> + 'a {
        let mut others = other.0.dots.iter().peekable();
        self.iter().map(move |(origin, time)| {
            while others.next_if(|(known, _)| **known < origin).is_some() {}
            let there = others.next_if(|(known, _)| **known == origin);
            (origin, time, there.map_or(0, |(_, time)| *time))
        })
    }

    /// Removes an origin. Only for records that no member relies on (see retired origins).
    pub fn remove(&mut self, origin: &ReplicaId) -> Option<HlcTime> {
        self.0.dots.remove(origin)
    }

    /// Returns the entries, by origin.
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, HlcTime)> + '_ {
        self.0.dots.iter().map(|(origin, time)| (*origin, *time))
    }

    /// Returns the number of origins listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.dots.len()
    }

    /// Returns true if nothing has been seen.
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
        // Linear if the entries are already sorted. Of one origin's entries the map keeps the last, which is the
        // greatest.
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

        /// Scenario 1 (vectors): the join is commutative, associative and idempotent, and dominates both sides.
        #[test]
        fn join_is_a_semilattice(a in vector(), b in vector(), c in vector()) {
            prop_assert_eq!(join(&a, &b), join(&b, &a));
            prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
            prop_assert_eq!(join(&a, &a), a.clone());
            prop_assert!(join(&a, &b).dominates(&a));
        }

        /// Walking two vectors together returns the same results as looking up each entry, and the same as `crdts`.
        #[test]
        fn walks_agree_with_look_ups(a in vector(), b in vector(), wide in proptest::collection::vec(1u64..50, 40)) {
            let id = |n: usize| ReplicaId::from_bytes([n as u8; 16]);
            let wide: VersionVector = wide.into_iter().enumerate().map(|(n, time)| (id(n), time)).collect();
            for (a, b) in [(&a, &b), (&a, &wide), (&wide, &b)] {
                let mut merged = a.0.clone();
                merged.merge(b.0.clone());
                prop_assert_eq!(&join(a, b).0, &merged);
                prop_assert_eq!(a.dominates(b), b.iter().all(|(origin, time)| a.get(&origin) >= time));
                let zip: Vec<_> = a.iter().map(|(origin, time)| (origin, time, b.get(&origin))).collect();
                prop_assert_eq!(a.zip(b).collect::<Vec<_>>(), zip);
            }
        }

        /// Collecting entries equals raising them one by one. In any order and with any repeats, the greatest time of
        /// each origin counts, and zero is not listed.
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
