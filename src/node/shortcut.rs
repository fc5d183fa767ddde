//! Small messages without a hand-over between threads. The thread of a write sends it, and the mesh's thread, which reads
//! the datagrams, merges a small push or acknowledgement and sends what follows from it. Everything else is left to the
//! driver, and so is everything while the driver is busy.
//!
//! No lock is held while user code runs or a datagram is sent.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use super::lanes::Lanes;
use super::mesh::{MAX_DATAGRAM, Mesh, Peer, Receiver};
use super::registry::{Held, Registry};
use super::woken::Caller;
use crate::cache::TimeSource;
use crate::cache::host::Sender;
use crate::cache::port::{Parcel, Port};
use crate::membership::Membership;
use crate::replica_id::ReplicaId;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::wire::{self, MessageKind, Peeked};

/// Maximum number of receivers to which a thread other than the driver's sends one message.
const MAX_RECEIVERS: usize = 8;
/// Maximum number of messages that such a thread sends for a cache before the driver takes over.
const MAX_PARCELS: usize = 4;
/// Nanoseconds after a write that was sent on its own thread in which further writes are left to the driver. They then
/// leave as one push, and the driver needs about this time to begin.
const PACKING: u64 = 50_000;
/// Nanoseconds for which writes are left to the driver after it was left a message.
const REST: u64 = 10_000_000;
/// Maximum time that merging may take on the mesh's thread before the driver merges, in nanoseconds.
const MERGE_TIME: u64 = 2_000_000;
/// The part of the time that merging may take on the mesh's thread in the long run: one in this many. Pings must not
/// wait for slow types of the user.
const MERGE_PART: u64 = 5;

/// The state that the driver shares with the threads of writes and of the mesh.
pub(crate) struct Shortcut {
    mesh: Arc<Mesh>,
    registry: Arc<Registry>,
    membership: Mutex<Membership<Peer>>,
    pub(super) lanes: Mutex<Lanes>,
    /// Messages that were taken from a cache and are left to the driver.
    left: Mutex<Vec<(Arc<str>, Parcel)>>,
    /// References to caches whose other references may be gone. The driver drops them, because that drops all values.
    dropped: Mutex<Vec<Held>>,
    /// True while the driver waits for something to do.
    driver_waits: AtomicBool,
    merge_time: MergeTime,
}

/// The limit of the time that merging takes on the mesh's thread: a leaky bucket that holds [`MERGE_TIME`] and loses one
/// part in [`MERGE_PART`] of the time that passes.
#[derive(Debug, Default)]
struct MergeTime {
    /// The monotonic time at which the bucket is empty.
    empty_at: AtomicU64,
}

impl MergeTime {
    /// Returns true if the mesh's thread may merge now.
    fn is_left(&self, now: u64) -> bool {
        self.empty_at.load(Ordering::Relaxed) <= now.saturating_add(MERGE_TIME * MERGE_PART)
    }

    /// Counts a merge. Only the mesh's thread calls this.
    fn note(&self, began: u64, ended: u64) {
        let empty_at = self.empty_at.load(Ordering::Relaxed).max(began);
        let took = ended.saturating_sub(began);
        self.empty_at.store(empty_at.saturating_add(took.saturating_mul(MERGE_PART)), Ordering::Relaxed);
    }
}

impl Shortcut {
    pub(crate) fn new(mesh: Arc<Mesh>, registry: Arc<Registry>) -> Arc<Self> {
        let shortcut = Arc::new(Self {
            mesh,
            registry,
            membership: Mutex::default(),
            lanes: Mutex::default(),
            left: Mutex::default(),
            dropped: Mutex::default(),
            driver_waits: AtomicBool::new(false),
            merge_time: MergeTime::default(),
        });
        let receiver: Arc<dyn Receiver> = Arc::clone(&shortcut) as _;
        shortcut.mesh.offer_to(Arc::downgrade(&receiver));
        shortcut
    }

    /// Calls `act` with what is known of members.
    pub(super) fn members<T>(&self, act: impl FnOnce(&mut Membership<Peer>) -> T) -> T {
        act(&mut self.membership.lock())
    }

    /// Records that a stream to a member begins. Writes are left to the driver for a while, because they must not
    /// overtake it.
    pub(super) fn note_stream(&self, port: &Arc<dyn Port>, to: ReplicaId, now: u64) {
        self.lanes.lock().streamed(to, now);
        port.pace().rest_until(now.saturating_add(REST));
    }

    /// Returns the sender of a cache.
    pub(super) fn sender(self: &Arc<Self>, caller: &Arc<Caller>) -> Arc<dyn Sender> {
        Arc::new(CacheSender { shortcut: Arc::clone(self), caller: Arc::clone(caller) })
    }

    /// Records that the driver waits for something to do, or no longer does.
    pub(super) fn set_driver_waits(&self, waits: bool) {
        self.driver_waits.store(waits, Ordering::Release);
    }

    /// Takes out the messages that are left to the driver, of the caches that are still open.
    pub(super) fn take_left(&self) -> Vec<(Held, Parcel)> {
        let (left, dropped) = (std::mem::take(&mut *self.left.lock()), std::mem::take(&mut *self.dropped.lock()));
        drop(dropped);
        left.into_iter().filter_map(|(cache, parcel)| Some((self.registry.port(&cache)?, parcel))).collect()
    }

    /// Sends what a cache has to send. Returns false if something is left to the driver.
    fn drain(&self, port: &dyn Port) -> bool {
        for _ in 0..MAX_PARCELS {
            let Some(parcel) = port.poll() else { return !port.pace().is_late_for(port.next_visit()) };
            if !self.send(port, parcel) {
                return false;
            }
        }
        false
    }

    /// Sends a message. Returns false if it is left to the driver, for all receivers or for some.
    fn send(&self, port: &dyn Port, parcel: Parcel) -> bool {
        let now = self.registry.clock.now().mono;
        let homes = self.homes(port, &parcel, now);
        let sent = if homes.is_empty() { 0 } else { self.mesh.send_now(&homes, parcel.bytes.clone()) };
        let Parcel { mut to, bytes, bulk } = parcel;
        let rest = to.split_off(sent);
        if bulk {
            to.iter().for_each(|replica| port.sent(*replica, true));
        }
        let is_sent = rest.is_empty();
        if !is_sent {
            port.pace().rest_until(now.saturating_add(REST));
            self.left.lock().push((Arc::clone(port.name()), Parcel { to: rest, bytes, bulk }));
        }
        is_sent
    }

    /// Returns the addresses of the receivers to whom this thread may send, up to the first of them to whom it may not.
    fn homes(&self, port: &dyn Port, parcel: &Parcel, now: u64) -> Vec<SocketAddr> {
        let Parcel { to, bytes, bulk } = parcel;
        if bytes.len() > MAX_DATAGRAM || to.len() > MAX_RECEIVERS {
            return Vec::new();
        }
        let (membership, mut lanes) = (self.membership.lock(), self.lanes.lock());
        let mut home = |replica: &ReplicaId| {
            let peer = membership.home(port.name(), *replica)?;
            (!bulk || lanes.takes_datagram(*replica, now)).then_some(peer.addr)
        };
        to.iter().map_while(&mut home).collect()
    }

    /// Returns the cache that a message is for, if the mesh's thread may merge it: only a small push or acknowledgement
    /// of a live member. The driver must see all other messages, because they may change the members.
    fn port_of(&self, message: &Bytes) -> Option<Held> {
        let Ok(Peeked::Message { envelope, kind: MessageKind::Push | MessageKind::Ack }) = wire::peek(message) else {
            return None;
        };
        if self.membership.lock().is_late(envelope.node, envelope.cache, envelope.from) {
            return None;
        }
        // A listener may block, and pings must not wait for it.
        self.registry.port(envelope.cache).filter(|port| !port.has_listener())
    }

    /// Merges a message on this thread and sends what follows from it.
    fn merge(&self, port: &dyn Port, message: &Bytes) {
        self.contain(port, || port.deliver(message.clone()));
        let is_done = port.pace().try_begin() && {
            let is_done = self.contain(port, || self.drain(port)) == Some(true);
            port.pace().end();
            is_done
        };
        if !is_done {
            port.request_visit();
        }
    }

    /// Runs a call to a cache and contains a panic of the user's types.
    fn contain<T>(&self, port: &dyn Port, call: impl FnOnce() -> T) -> Option<T> {
        let outcome = catch_unwind(AssertUnwindSafe(call));
        if outcome.is_err() {
            self.registry.note_contained_panic(port.name());
        }
        outcome.ok()
    }
}

impl Receiver for Shortcut {
    fn receive(&self, message: &Bytes) -> bool {
        let began = self.registry.clock.now().mono;
        if !self.driver_waits.load(Ordering::Acquire) || !self.merge_time.is_left(began) {
            return false;
        }
        let Some(port) = self.port_of(message) else { return false };
        self.merge(&**port, message);
        if Arc::strong_count(&port) == 1 {
            self.dropped.lock().push(port);
            self.registry.wake.notify_one();
        }
        self.merge_time.note(began, self.registry.clock.now().mono);
        true
    }
}

/// The sender for the threads that write to one cache.
struct CacheSender {
    shortcut: Arc<Shortcut>,
    caller: Arc<Caller>,
}

impl Sender for CacheSender {
    fn send(&self, port: &dyn Port) -> bool {
        if self.caller.waits() {
            return true;
        }
        let (pace, registry) = (port.pace(), &self.shortcut.registry);
        let now = registry.clock.now().mono;
        // A fork must not send: the address and the replica id are those of its parent.
        if pace.rests(now) || !pace.try_begin() {
            return false;
        }
        let is_done = !registry.is_forked() && self.shortcut.contain(port, || self.shortcut.drain(port)) == Some(true);
        pace.rest_until(now.saturating_add(PACKING));
        pace.end();
        is_done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICRO: u64 = 1_000;
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn merging_takes_a_fifth_of_the_time_in_the_long_run() {
        let (time, mut spent) = (MergeTime::default(), 0);
        // Messages come without a pause, and each takes 10 us.
        for now in (5 * SECOND..6 * SECOND).step_by(10 * MICRO as usize) {
            if time.is_left(now) {
                time.note(now, now + 10 * MICRO);
                spent += 10 * MICRO;
            }
        }
        assert!((SECOND / 5..SECOND / 5 + 2 * MERGE_TIME).contains(&spent), "{} us", spent / MICRO);
    }

    #[test]
    fn after_one_slow_merge_the_driver_merges_for_long() {
        let time = MergeTime::default();
        assert!(time.is_left(5 * SECOND));
        time.note(5 * SECOND, 6 * SECOND);
        assert!(!time.is_left(6 * SECOND) && !time.is_left(9 * SECOND));
        assert!(time.is_left(10 * SECOND));
        // A few merges now and then are always allowed.
        assert!((20..30).all(|at| {
            time.note(at * SECOND, at * SECOND + 100 * MICRO);
            time.is_left(at * SECOND + 100 * MICRO)
        }));
    }
}
