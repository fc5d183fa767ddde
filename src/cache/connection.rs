//! The node's reports to a cache about its members, and the number of unsent writes that the cache has reported to the node.

use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Connection {
    connected: AtomicBool,
    detached: AtomicBool,
    expecting: AtomicBool,
    /// Unsent writes that the node has taken note of.
    unsent_counted: AtomicU64,
}

impl Connection {
    /// Returns whether there is a member to send to. A lone writer wakes no driver.
    #[inline]
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    /// Returns whether the node is down: then time passes with writes.
    #[inline]
    pub(super) fn is_detached(&self) -> bool {
        self.detached.load(Ordering::Acquire)
    }

    /// Notes that the node is down: there is no member any more, and none is expected.
    pub(super) fn detach(&self) {
        self.set_connected(false);
        self.detached.store(true, Ordering::Release);
        self.expecting.store(false, Ordering::Release);
    }

    /// Returns whether members may be there that this cache has not met.
    pub(super) fn is_expecting(&self) -> bool {
        self.expecting.load(Ordering::Acquire)
    }

    /// Notes whether members may be there that this cache has not met. Returns whether that was so and no longer is.
    pub(super) fn expect(&self, expects: bool) -> bool {
        self.expecting.swap(expects, Ordering::AcqRel) && !expects
    }

    /// Takes note of the number of unsent writes. Returns how many came since the last call.
    pub(super) fn note_unsent(&self, count: u64) -> u64 {
        count.saturating_sub(self.unsent_counted.swap(count, Ordering::AcqRel))
    }
}
