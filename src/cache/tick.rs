//! Time passes for a cache: when its node says so, or with its writes if the node is down.

use super::shared::Shared;
use super::{CacheKey, CacheValue};

/// Lets time pass. Returns the monotonic time at which it is to be called again, which is now if there is a message to send.
pub(super) fn tick<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> u64 {
    let now = shared.around.time.now();
    #[cfg(feature = "metrics")]
    super::metrics_facade::publish_if_due(shared, now.mono);
    shared.writer.change(now, |engine| {
        if engine.replica.poll_timeout(now) <= now.mono {
            engine.replica.handle_timeout(now);
            // What became due is sent in the next turn, so the next turn must not wait for the next timer.
            if engine.replica.may_transmit() {
                return now.mono;
            }
        }
        engine.replica.poll_timeout(now)
    })
}

/// Sees to it that a write is sent: wakes the node's driver, or lets time pass itself if the node is down.
#[inline]
pub(super) fn after_write<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) {
    if shared.connection.is_connected() {
        (shared.around.wake)();
    } else if shared.connection.is_detached() {
        tick(shared);
    }
}

/// Does now what is otherwise done in the background: applies noted reads, makes tombstones of expired values, and sweeps.
pub(super) fn run_pending<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) {
    let now = shared.around.time.now();
    shared.writer.change(now, |engine| {
        engine.apply_reads(&shared.writer.reads);
        engine.replica.run_pending(now);
    });
}
