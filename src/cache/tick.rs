//! The timers of a cache, and the sending of a write: on its thread or by the node's driver. The driver handles the timers; once the node
//! is down, the cache's own writes do.

use super::shared::Shared;
use super::{CacheKey, CacheValue};

/// Handles the timers that are due. Returns the monotonic time of the next call, which is now if there is a message to
/// send or more to evict.
pub(super) fn tick<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> u64 {
    let now = shared.services.time.now();
    #[cfg(feature = "metrics")]
    super::metrics_facade::publish_if_due(shared, now.mono);
    let next = shared.writer.change(now, |engine| {
        if engine.replica.poll_timeout(now) <= now.mono {
            engine.replica.handle_timeout(now);
            // A timer has made a message due. The driver sends messages at its next turn, so that turn must come at
            // once and not at the time of the next timer.
            if engine.replica.may_transmit() {
                return now.mono;
            }
        }
        engine.replica.poll_timeout(now)
    });
    if shared.writer.must_evict() { now.mono } else { next }
}

/// Makes sure that a write is sent, and that what it left to evict is evicted: sends a small message on this thread, or
/// wakes the node's driver. If the node is down, handles due timers instead.
#[inline]
pub(super) fn after_write<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) {
    // Without peers only the evictions that are left need the driver: it would otherwise come after up to a second.
    if shared.connection.is_connected() || (shared.writer.must_evict() && !shared.connection.is_detached()) {
        let sender = shared.services.sender.as_ref().filter(|_| !shared.writer.must_evict());
        if !sender.is_some_and(|sender| sender.send(shared)) {
            (shared.services.wake)();
        }
    } else if shared.connection.is_detached() {
        // No driver calls `tick` any more, so only writes can handle timers.
        tick(shared);
    }
}

/// Does the background work now: applies noted reads, makes tombstones of expired values, sweeps, and evicts.
pub(super) fn run_pending<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) {
    let now = shared.services.time.now();
    shared.writer.change(now, |engine| {
        engine.apply_reads(&shared.writer.reads);
        engine.replica.run_pending(now);
    });
    // Each call evicts at least one value, so this ends.
    while shared.writer.must_evict() {
        shared.writer.change(now, |_| ());
    }
}
