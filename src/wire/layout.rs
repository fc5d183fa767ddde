//! The numbers of the wire format. They are never reused and never change their meaning.

/// The first byte of every message.
pub(super) const VERSION: u8 = 1;

/// The CBOR encoding of null.
pub(super) const NULL: u8 = 0xf6;

/// The number of elements of the outer array in this version.
pub(super) const PARTS: usize = 6;

/// The number of elements of an entry in this version.
pub(super) const ENTRY_PARTS: usize = 6;

/// The number of elements of an interval without bounds of fills.
pub(super) const INTERVAL_PARTS: usize = 4;

/// The number of elements of an interval with bounds of fills. Most intervals have none.
pub(super) const INTERVAL_PARTS_WITH_FILLS: usize = 5;

/// The number of elements of a fill's bound in this version.
pub(super) const BOUND_PARTS: usize = 4;

/// The number of elements of a fact about a member that lacks something of the retired origins.
pub(super) const FACT_PARTS: usize = 4;

/// The number of elements of a fact about a member that has everything of the retired origins.
pub(super) const FACT_PARTS_WITH_RETIRED: usize = 5;

/// The number of elements of a named member in this version.
pub(super) const NAMED_PARTS: usize = 3;

/// The field of every body that holds the table of replica ids. If present, it is the first field.
pub(super) const REPLICAS: u64 = 0;

/// The fields of a digest.
pub(super) mod digest {
    pub(in super::super) const CLOCK: u64 = 1;
    pub(in super::super) const QUIET_SINCE: u64 = 2;
    pub(in super::super) const WATERMARK: u64 = 3;
    pub(in super::super) const EPOCH: u64 = 4;
    pub(in super::super) const VECTOR: u64 = 5;
    pub(in super::super) const RETIRED: u64 = 6;
    pub(in super::super) const FULL: u64 = 7;
    pub(in super::super) const WANT_FULL: u64 = 8;
    pub(in super::super) const REPLY: u64 = 9;
    pub(in super::super) const LOSSY: u64 = 10;
    pub(in super::super) const FACTS: u64 = 11;
    pub(in super::super) const RENEW: u64 = 12;
    pub(in super::super) const MEMBERS: u64 = 13;
    pub(in super::super) const DEFERRING: u64 = 14;
    pub(in super::super) const WALL: u64 = 15;
    pub(in super::super) const GREETS: u64 = 16;
}

/// The fields of a push.
pub(super) mod push {
    pub(in super::super) const ORIGIN: u64 = 1;
    pub(in super::super) const FROM: u64 = 2;
    pub(in super::super) const TO: u64 = 3;
    pub(in super::super) const EPOCH: u64 = 4;
    pub(in super::super) const ENTRIES: u64 = 5;
    pub(in super::super) const FILLS: u64 = 6;
}

/// The fields of an acknowledgement.
pub(super) mod ack {
    pub(in super::super) const TIME: u64 = 1;
    pub(in super::super) const TO: u64 = 2;
}

/// The fields of a frame.
pub(super) mod frame {
    pub(in super::super) const SESSION: u64 = 1;
    pub(in super::super) const INDEX: u64 = 2;
    pub(in super::super) const BASE: u64 = 3;
    pub(in super::super) const RECONCILE: u64 = 4;
    pub(in super::super) const CLOCK: u64 = 5;
    pub(in super::super) const EPOCH: u64 = 6;
    pub(in super::super) const INTERVALS: u64 = 7;
    pub(in super::super) const DROPPED: u64 = 8;
    pub(in super::super) const LAST: u64 = 9;
    pub(in super::super) const TO: u64 = 10;
}

/// The fields of the part that only the last frame of a session has.
pub(super) mod last {
    pub(in super::super) const FRAMES: u64 = 1;
    pub(in super::super) const CLAIM: u64 = 2;
    pub(in super::super) const FLOOR: u64 = 3;
    pub(in super::super) const BEYOND: u64 = 4;
    pub(in super::super) const EVICTION_FLOOR: u64 = 5;
    pub(in super::super) const EVICTED: u64 = 6;
}

/// The fields of an audit.
pub(super) mod audit {
    pub(in super::super) const VECTOR: u64 = 1;
    pub(in super::super) const ENTRIES: u64 = 2;
    pub(in super::super) const REPLY: u64 = 3;
}
