//! A register, packed into one slot: the pointer to its key and value, and its metadata.

use crate::arrival::{Arrival, Provenance};
use crate::crdt::Kind;
use crate::hlc::HlcTime;
use crate::item::ItemRef;

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
/// Set if the register has a deadline, which is stored beside the slot.
const EXPIRES: u32 = 1 << 30;
const RETAINED: u32 = 1 << 31;
/// The number of a stamp's replica that says that the register has a [`Rare`] part.
const RARE: u16 = u16::MAX;

/// The part of a register that most registers have no need of: their dot is their stamp, and the numbers are small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rare {
    dot_time: HlcTime,
    dot_origin: u32,
    stamp_replica: u32,
    weight: u32,
}

impl Rare {
    /// Returns this part of a register, if the slot has no space for all of the metadata.
    #[inline]
    pub(super) fn of(meta: &Meta) -> Option<Self> {
        let Meta { stamp_time, dot_time, stamp_replica, dot_origin, weight, .. } = *meta;
        let is_small = stamp_replica < u32::from(RARE) && weight <= u32::from(u16::MAX);
        let is_common = dot_time == stamp_time && dot_origin == stamp_replica && is_small;
        (!is_common).then_some(Self { dot_time, dot_origin, stamp_replica, weight })
    }

    /// Returns this metadata with this part.
    pub(super) fn complete(self, meta: Meta) -> Meta {
        let Self { dot_time, dot_origin, stamp_replica, weight } = self;
        Meta { dot_time, dot_origin, stamp_replica, weight, ..meta }
    }
}

/// The item of a register, and its metadata, packed.
pub(super) struct Slot<K, V> {
    pub(super) item: ItemRef<K, V>,
    pub(super) hash: u64,
    pub(super) stamp_time: HlcTime,
    pub(super) generation: u32,
    arrived_at: u32,
    /// From the low bits to the top bit: the size, the number of the kind, the number of the path of arrival, and the
    /// flags `EXPIRES` and `RETAINED`.
    packed: u32,
    stamp_replica: u16,
    weight: u16,
}

impl<K, V> Slot<K, V> {
    #[inline]
    pub(super) fn new(hash: u64, generation: u32, meta: &Meta, item: ItemRef<K, V>) -> Self {
        let (stamp_replica, weight) = numbers(meta);
        let (packed, arrived_at) = (pack(meta), meta.arrival.at);
        Self { item, hash, stamp_time: meta.stamp_time, generation, arrived_at, packed, stamp_replica, weight }
    }

    /// Replaces the metadata. The caller stores the deadline and the rare part.
    #[inline]
    pub(super) fn set_meta(&mut self, meta: &Meta) {
        (self.stamp_replica, self.weight) = numbers(meta);
        (self.packed, self.arrived_at, self.stamp_time) = (pack(meta), meta.arrival.at, meta.stamp_time);
    }

    #[inline]
    pub(super) fn kind(&self) -> Kind {
        Kind::from_code((self.packed >> SIZE_BITS) as u8 & 7).unwrap_or(Kind::Live)
    }

    /// Returns true if the register is a value.
    #[inline]
    pub(super) fn is_live(&self) -> bool {
        (self.packed >> SIZE_BITS) & 7 == u32::from(Kind::Live.code())
    }

    /// Returns true if the register has a deadline.
    #[inline]
    pub(super) fn expires(&self) -> bool {
        self.packed & EXPIRES != 0
    }

    /// Returns true if the register has a rare part.
    #[inline]
    pub(super) fn is_rare(&self) -> bool {
        self.stamp_replica == RARE
    }

    #[inline]
    fn arrival(&self) -> Arrival {
        let path = Provenance::from_code((self.packed >> PATH_SHIFT) as u8 & 7);
        Arrival { at: self.arrived_at, path }
    }

    /// Returns the metadata, with a deadline, as if there were no rare part.
    #[inline]
    pub(super) fn meta(&self, expires: HlcTime) -> Meta {
        let stamp_replica = self.stamp_replica.into();
        Meta {
            stamp_time: self.stamp_time,
            dot_time: self.stamp_time,
            stamp_replica,
            dot_origin: stamp_replica,
            expires,
            size: self.packed & SIZE_MASK,
            weight: self.weight.into(),
            arrival: self.arrival(),
            kind: self.kind(),
            retained: self.packed & RETAINED != 0,
        }
    }
}

/// Returns the number of the stamp's replica and the weight, as a slot stores them.
#[inline]
fn numbers(meta: &Meta) -> (u16, u16) {
    // Both conversions are exact unless there is a rare part, which then has the numbers.
    if Rare::of(meta).is_some() { (RARE, 0) } else { (meta.stamp_replica as u16, meta.weight as u16) }
}

#[inline]
fn pack(meta: &Meta) -> u32 {
    let expires = if meta.expires != 0 { EXPIRES } else { 0 };
    let retained = if meta.retained { RETAINED } else { 0 };
    let (kind, path) = (u32::from(meta.kind.code()), meta.arrival.path as u32);
    meta.size.min(SIZE_MASK) | (kind << SIZE_BITS) | (path << PATH_SHIFT) | expires | retained
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_register_takes_in_the_slab() {
        assert_eq!(size_of::<Option<super::Slot<String, bytes::Bytes>>>(), 40);
        assert_eq!(size_of::<super::Rare>(), 24);
    }
}
