//! The part of the history that every member has seen. Every write that can still arrive is stamped above it.

use crate::crdt::{Dot, VersionVector};
use crate::hlc::{HlcTime, Stamp};

/// The stable part of the history.
#[derive(Clone, Debug, Default)]
pub struct StableCut {
    pub(super) seen_by_all: VersionVector,
    /// The stable watermark: every write that is still to arrive carries a stamp above this time.
    pub watermark: HlcTime,
    pub(super) older_than: HlcTime,
}

impl StableCut {
    pub(crate) fn covers(&self, stamp: Stamp, dot: Dot) -> bool {
        stamp.time <= self.watermark && self.is_old(dot) && self.seen_by_all.covers(&dot)
    }

    /// Returns true if every member has seen this dot.
    pub(crate) fn has_been_seen(&self, dot: Dot) -> bool {
        self.seen_by_all.covers(&dot)
    }

    /// Returns true if this dot is older than `gc_grace`.
    pub(crate) fn is_old(&self, dot: Dot) -> bool {
        dot.counter <= self.older_than
    }
}
