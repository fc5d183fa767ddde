//! The metadata of a register, without its key and value, packed into one slot.

use std::num::NonZeroU32;

use crate::arrival::{Arrival, Provenance};
use crate::crdt::Kind;
use crate::hlc::HlcTime;

const SHARD_BITS: u32 = 6;
pub(super) const SHARDS: usize = 1 << SHARD_BITS;

/// The place of a register, until the register is removed. Then the place is reused for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId(pub(crate) u32);

impl SlotId {
    #[inline]
    pub(super) fn new(shard: usize, index: usize) -> Self {
        Self(((index as u32) << SHARD_BITS) | shard as u32)
    }

    #[inline]
    pub(super) fn shard(self) -> usize {
        self.0 as usize & (SHARDS - 1)
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        (self.0 >> SHARD_BITS) as usize
    }
}

/// A place with its generation, which differs if the place was reused for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotRef {
    pub(crate) id: SlotId,
    pub(crate) generation: u32,
}

/// The unpacked metadata of a register: everything but key and value. Replica ids are interned numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) stamp_time: HlcTime,
    pub(crate) dot_time: HlcTime,
    pub(crate) stamp_replica: u32,
    pub(crate) dot_origin: u32,
    /// The wall time from which on the value counts as expired; zero means never.
    pub(crate) expires: HlcTime,
    /// Bytes of the encoded key and value.
    pub(crate) size: u32,
    /// The weight that the user's weigher returned.
    pub(crate) weight: u32,
    pub(crate) arrival: Arrival,
    pub(crate) kind: Kind,
    /// True if the value was evicted here, but its body is kept until every live member has reported it.
    pub(crate) retained: bool,
}

impl Meta {
    /// Returns true if the time to live is over at the wall time `wall`.
    pub(crate) fn is_expired_by(&self, wall: HlcTime) -> bool {
        self.expires != 0 && self.expires <= wall
    }
}

/// The number of bits for a size. The largest entry that can be written needs fewer.
const SIZE_BITS: u32 = 24;
const SIZE_MASK: u32 = (1 << SIZE_BITS) - 1;
/// The lowest of the three bits for the path by which the register arrived.
const PATH_SHIFT: u32 = 27;
/// A bit that is set in every slot in use, so that `Option<Slot>` needs no space for its tag.
const TAKEN: NonZeroU32 = NonZeroU32::new(1 << 30).expect("not zero");
const RETAINED: u32 = 1 << 31;

/// The metadata of a register, packed.
pub(super) struct Slot {
    pub(super) hash: u64,
    pub(super) stamp_time: HlcTime,
    dot_time: HlcTime,
    pub(super) expires: HlcTime,
    pub(super) generation: u32,
    stamp_replica: u32,
    dot_origin: u32,
    weight: u32,
    arrived_at: u32,
    /// From the low bits to the top bit: the size, the number of the kind, the number of the path of arrival, `TAKEN`,
    /// and the retained flag.
    packed: NonZeroU32,
}

impl Slot {
    pub(super) fn new(hash: u64, generation: u32, meta: Meta) -> Self {
        let Meta { stamp_time, dot_time, stamp_replica, dot_origin, expires, weight, .. } = meta;
        let (packed, arrived_at) = (Self::pack(&meta), meta.arrival.at);
        Self { hash, stamp_time, dot_time, expires, generation, stamp_replica, dot_origin, weight, arrived_at, packed }
    }

    fn pack(meta: &Meta) -> NonZeroU32 {
        let retained = if meta.retained { RETAINED } else { 0 };
        let (kind, path) = (u32::from(meta.kind.code()), meta.arrival.path as u32);
        TAKEN | meta.size.min(SIZE_MASK) | (kind << SIZE_BITS) | (path << PATH_SHIFT) | retained
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::from_code((self.packed.get() >> SIZE_BITS) as u8 & 7).unwrap_or(Kind::Live)
    }

    fn arrival(&self) -> Arrival {
        let path = Provenance::from_code((self.packed.get() >> PATH_SHIFT) as u8 & 7);
        Arrival { at: self.arrived_at, path }
    }

    pub(super) fn meta(&self) -> Meta {
        Meta {
            stamp_time: self.stamp_time,
            dot_time: self.dot_time,
            stamp_replica: self.stamp_replica,
            dot_origin: self.dot_origin,
            expires: self.expires,
            size: self.packed.get() & SIZE_MASK,
            weight: self.weight,
            arrival: self.arrival(),
            kind: self.kind(),
            retained: self.packed.get() & RETAINED != 0,
        }
    }
}
