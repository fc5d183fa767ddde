//! The last reports of a node to a cache about members, and the number of unsent writes that the cache last reported to
//! the node.

use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// The connection of a cache to its node.
#[derive(Debug, Default)]
pub(super) struct Connection {
    connected: AtomicBool,
    detached: AtomicBool,
    expecting: AtomicBool,
    /// The number of unsent writes at the last count.
    unsent_counted: AtomicU64,
}

impl Connection {
    /// Returns true if there is a member to send to. Without one, a write wakes no driver.
    #[inline]
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// Returns true if the node is down. Then only the cache's own writes handle its timers.
    #[inline]
    pub(super) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }

    /// Records that the node is down: there is no member any more, and none is expected.
    pub(super) fn detach(&self) {
        self.set_connected(false);
        self.detached.store(true, Ordering::Release);
        self.expecting.store(false, Ordering::Release);
    }

    /// Returns true if there may be members that this cache has not met.
    pub(super) fn is_expecting(&self) -> bool {
        self.expecting.load(Ordering::Acquire)
    }

    /// Records whether there may be members that this cache has not met. Returns true if there might be before this
    /// call and no longer are.
    pub(super) fn expect(&self, expects: bool) -> bool {
        self.expecting.swap(expects, Ordering::AcqRel) && !expects
    }

    /// Records the number of unsent writes. Returns the increase since the last call.
    pub(super) fn note_unsent(&self, count: u64) -> u64 {
        count.saturating_sub(self.unsent_counted.swap(count, Ordering::AcqRel))
    }
}
