//! The last-writer-wins register that one key maps to, on top of `crdts`.
//!
//! The join of two registers of one key is the maximum in this order: stamp time, stamp replica, a tombstone over a
//! value, dot. An `Evicted` tombstone ranks as the value it was. Honest replicas never issue equal stamps for different
//! values. If it happens, the order still decides, in the same way on every replica.

use std::fmt;

use crdts::LWWReg;
use serde::{Deserialize, Serialize};

use super::vector::Dot;
use crate::hlc::Stamp;

/// The reason for which a register has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Cause {
    /// A delete.
    Deleted = 1,
    /// The time to live ended. The stamp is that of the value it replaces.
    Expired = 2,
    /// The body was evicted on this replica to stay within capacity. This is local knowledge: the tombstone ranks as
    /// the live value whose body was evicted, and never erases it on other replicas.
    Evicted = 3,
    /// The void of a write that arrived after a newer register of its key may have been collected, of a contested fill,
    /// or of a value that can no longer be encoded.
    Void = 4,
}

/// The content of a register: a value or a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A value.
    Live,
    /// No value, and the reason.
    Tombstone(Cause),
}

impl Kind {
    /// Returns true if this is a value, or a tombstone of a value whose body was evicted.
    #[must_use]
    pub const fn ranks_live(self) -> bool {
        matches!(self, Self::Live | Self::Tombstone(Cause::Evicted))
    }

    /// Returns true if this is a value that can be read.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Live)
    }

    /// Returns the number of this kind on the wire and in memory. Zero is live.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Live => 0,
            Self::Tombstone(cause) => cause as u8,
        }
    }

    /// Returns the kind with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Live,
            1 => Self::Tombstone(Cause::Deleted),
            2 => Self::Tombstone(Cause::Expired),
            3 => Self::Tombstone(Cause::Evicted),
            4 => Self::Tombstone(Cause::Void),
            _ => return None,
        })
    }
}

/// The rank of a register in the total order of registers of one key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// The time and the replica of the write.
    pub stamp: Stamp,
    /// A value or a tombstone.
    pub kind: Kind,
    /// The event that brought the register here.
    pub dot: Dot,
}

impl Marker {
    /// Returns the order of the module's documentation. The kind comes last, so that markers of equal rank are equal.
    fn rank(&self) -> (Stamp, bool, u64, crate::replica_id::ReplicaId, u8) {
        (self.stamp, !self.kind.ranks_live(), self.dot.counter, self.dot.actor, self.kind.code())
    }
}

impl fmt::Debug for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?} by dot {}@{}", self.kind, self.stamp, self.dot.counter, self.dot.actor)
    }
}

impl PartialOrd for Marker {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Marker {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// A last-writer-wins register (Shapiro et al. 2011) under the total order of [`Marker`].
pub type Register<T> = LWWReg<T, Marker>;

/// One of the two registers of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The register that was here.
    Held,
    /// The register that arrived.
    Offered,
}

/// The result of joining two registers of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The marker of the result.
    pub marker: Marker,
    /// The register whose body the result carries.
    pub body: Side,
    /// True if the result differs from the held register.
    pub changed: bool,
}

/// Joins two registers of one key.
///
/// The result is the maximum by [`Marker`], with one refinement. Two registers of one stamp that both rank live are the
/// same write under two dots. The result then has the greater dot, and the body of the register that still has one.
#[must_use]
pub fn join(held: Marker, offered: Marker) -> Joined {
    let mut register = Register { val: Side::Held, marker: held };
    register.update(Side::Offered, offered);
    let Register { val: winner, mut marker } = register;
    let mut body = winner;
    if held.stamp == offered.stamp && held.kind.ranks_live() && offered.kind.ranks_live() {
        let (loser, other) = match winner {
            Side::Held => (offered, Side::Offered),
            Side::Offered => (held, Side::Held),
        };
        if loser.kind.is_live() && !marker.kind.is_live() {
            marker.kind = Kind::Live;
            body = other;
        }
    }
    Joined { marker, body, changed: marker != held }
}

#[cfg(test)]
mod laws {
    use proptest::prelude::*;

    use super::*;
    use crate::replica_id::ReplicaId;

    fn id(n: u8) -> ReplicaId {
        ReplicaId::from_bytes([n; 16])
    }

    pub(super) fn marker() -> impl Strategy<Value = Marker> {
        (1u64..4, 0u8..3, 0u8..5, 1u64..4, 0u8..3).prop_map(|(time, by, kind, dot, origin)| Marker {
            stamp: Stamp::new(time, id(by)),
            kind: Kind::from_code(kind).unwrap(),
            dot: Dot::new(id(origin), dot),
        })
    }

    fn joined(a: Marker, b: Marker) -> Marker {
        join(a, b).marker
    }

    proptest! {
        #![proptest_config(crate::testing::proptest_config())]

        /// Scenario 1 (registers), scenario 2 and scenario 3: the join is commutative, associative and idempotent for
        /// any three registers.
        #[test]
        fn join_is_a_semilattice(a in marker(), b in marker(), c in marker()) {
            prop_assert_eq!(joined(a, b), joined(b, a));
            prop_assert_eq!(joined(joined(a, b), c), joined(a, joined(b, c)));
            prop_assert_eq!(joined(a, a), a);
            prop_assert!(!join(a, a).changed);
        }

        /// Order: the register with the later stamp wins, whatever kinds and dots the two have.
        #[test]
        fn a_later_stamp_always_wins(a in marker(), b in marker()) {
            prop_assume!(a.stamp > b.stamp);
            prop_assert_eq!(joined(a, b), a);
        }

        /// Scenario 3: a delete beats a value of the same stamp.
        #[test]
        fn a_tombstone_beats_the_value_of_its_stamp(a in marker(), b in marker(), dead in 0usize..3) {
            let dead = [Cause::Deleted, Cause::Expired, Cause::Void][dead];
            let a = Marker { kind: Kind::Tombstone(dead), ..a };
            let b = Marker { stamp: a.stamp, kind: Kind::Live, ..b };
            prop_assert!(!joined(a, b).kind.ranks_live());
        }
    }

    /// Eviction is local: the same write restores the body, and an older write does not.
    #[test]
    fn an_evicted_body_is_restored_by_its_own_value_and_not_by_an_older_one() {
        let live = Marker { stamp: Stamp::new(5, id(1)), kind: Kind::Live, dot: Dot::new(id(1), 5) };
        let evicted = Marker { kind: Kind::Tombstone(Cause::Evicted), dot: Dot::new(id(2), 9), ..live };
        let joined = join(evicted, live);
        assert_eq!(joined.body, Side::Offered);
        assert_eq!(joined.marker, Marker { kind: Kind::Live, ..evicted });
        let older = Marker { stamp: Stamp::new(4, id(3)), ..live };
        assert!(!join(evicted, older).changed);
    }

    #[test]
    fn kind_codes_round_trip() {
        for code in 0..=u8::MAX {
            assert!(Kind::from_code(code).is_none_or(|kind| kind.code() == code));
        }
    }
}
