//! The change stream: inserts, updates and removals on this node, in order, for any number of subscribers.
//!
//! One bounded ring serves all subscribers. Changes are added under the replica's lock, which defines their order. No
//! writer waits until a subscriber has read, and no user code runs under that lock. A subscriber that falls behind by
//! more than the ring holds receives the number of events that it missed.

use std::collections::VecDeque;
use std::time::Duration;

use super::TimeSource;
use crate::garbage::drop_quietly;
use crate::hlc::{Stamp, nanos};
use crate::item::ItemRef;
use crate::replica::{Change, Effect, RemovalCause};
use crate::replica_id::ReplicaId;
use crate::sync::{Arc, AtomicUsize, Event, Listening, Mutex, Ordering};

/// The kind of a change, as far as readers of this node can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// A value appeared where there was none.
    Inserted,
    /// A newer value replaced the value. The same write under another dot is no change.
    Updated,
    /// The value was removed.
    Removed(RemovalCause),
}

/// One change of what readers of this node see. Cheap to clone.
pub struct ChangeEvent<K, V> {
    kind: ChangeKind,
    before: Option<ItemRef<K, V>>,
    after: Option<ItemRef<K, V>>,
    stamp: Stamp,
    origin: ReplicaId,
    local: bool,
}

impl<K, V> Clone for ChangeEvent<K, V> {
    fn clone(&self) -> Self {
        Self { before: self.before.clone(), after: self.after.clone(), ..*self }
    }
}

impl<K: std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for ChangeEvent<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangeEvent")
            .field("kind", &self.kind)
            .field("key", &self.known_key())
            .field("value", &self.value())
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

impl<K, V> ChangeEvent<K, V> {
    fn of(change: &Change<K, V>) -> Option<Self> {
        let kind = Self::kind_of(change)?;
        let Change { before, after, stamp, origin, local, .. } = change;
        let event =
            Self { kind, before: before.clone(), after: after.clone(), stamp: *stamp, origin: *origin, local: *local };
        // No reader can ask for a key that does not decode here.
        event.known_key().is_some().then_some(event)
    }

    /// Returns the kind of the change as readers see it; `None` if they see no change. For readers, a value that does
    /// not decode here does not exist.
    fn kind_of(change: &Change<K, V>) -> Option<ChangeKind> {
        let is_readable = |item: &Option<ItemRef<K, V>>| item.as_ref().is_some_and(|item| item.value().is_some());
        let (before, after) = (is_readable(&change.before), is_readable(&change.after));
        match change.effect {
            Effect::Inserted => after.then_some(ChangeKind::Inserted),
            Effect::Updated => match (before, after) {
                (true, true) => Some(ChangeKind::Updated),
                (false, true) => Some(ChangeKind::Inserted),
                (true, false) => Some(ChangeKind::Removed(RemovalCause::Replaced)),
                (false, false) => None,
            },
            Effect::Removed(cause) => before.then_some(ChangeKind::Removed(cause)),
        }
    }

    fn known_key(&self) -> Option<&K> {
        self.after.as_ref().or(self.before.as_ref())?.key.known()
    }

    /// Returns the kind of the change.
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        self.kind
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &K {
        self.known_key().expect("an event is made only with a key that is known")
    }

    /// Returns the value after the change. Returns `None` if the change removed the value, or replaced it by one that
    /// does not decode here, for instance one that a newer release wrote.
    #[must_use]
    pub fn value(&self) -> Option<&V> {
        let gone = matches!(self.kind, ChangeKind::Removed(_));
        self.after.as_ref().filter(|_| !gone)?.value()
    }

    /// Returns the value before the change; `None` if readers saw none.
    #[must_use]
    pub fn previous(&self) -> Option<&V> {
        let had_value = !matches!(self.kind, ChangeKind::Inserted);
        self.before.as_ref().filter(|_| had_value)?.value()
    }

    /// Returns the stamp of the register that is there after the change, or of the removed register if none is there.
    /// An eviction or expiry on this node has the stamp of the value that it removed.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns the replica that issued the dot of the register whose stamp [`stamp`](Self::stamp) returns. It differs
    /// from the writer, `stamp().replica`, if another replica gave the write a new dot, or voided it.
    #[must_use]
    pub fn origin(&self) -> ReplicaId {
        self.origin
    }

    /// Returns true if [`origin`](Self::origin) is this node's replica.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.local
    }
}

/// The reason why a subscriber gets no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// The subscriber fell behind, and this many events were lost. Its next read returns the oldest event that is left.
    /// To be sure of the state, read the cache.
    #[error("the reader fell behind and lost {0} events: read the cache for the current state, or raise change_buffer")]
    Lagged(u64),
    /// There is no new event. Returned only by [`Subscription::try_recv`] and [`Subscription::recv_timeout`].
    #[error("nothing new")]
    Empty,
    /// The cache was closed, and the subscriber has read all events.
    #[error("the cache was closed")]
    Closed,
}

struct RingSlot<K, V> {
    event: Option<ChangeEvent<K, V>>,
    /// The number of subscribers that have not read the event.
    unread: usize,
}

struct Ring<K, V> {
    /// The number of the first slot. Numbers are never reused.
    first: u64,
    slots: VecDeque<RingSlot<K, V>>,
    subscribers: usize,
    closed: bool,
}

impl<K, V> Ring<K, V> {
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Removes the slots at the front that every subscriber has read.
    fn forget_read(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.unread == 0) {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Counts an event as read by one subscriber, and returns it. A dropped subscription reads its remaining events
    /// this way. The last subscriber takes the event out of the ring; earlier ones get a clone.
    fn read(&mut self, number: u64) -> Option<ChangeEvent<K, V>> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let slot = self.slots.get_mut(index)?;
        slot.unread -= 1;
        let event = if slot.unread == 0 { slot.event.take() } else { slot.event.clone() };
        self.forget_read();
        event
    }
}

/// The state that the feed and all subscriptions share: the ring, and the notifier that wakes subscribers.
struct SharedRing<K, V> {
    ring: Mutex<Ring<K, V>>,
    /// Notified when an event is added or the stream ends.
    added: Event,
}

/// The writing end of the change stream. Dropping it closes the stream.
pub(crate) struct Feed<K, V> {
    shared: Arc<SharedRing<K, V>>,
    capacity: usize,
    /// The number of subscribers, readable without the ring's lock.
    watched: Arc<AtomicUsize>,
}

impl<K, V> Feed<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        let ring = Ring { first: 0, slots: VecDeque::new(), subscribers: 0, closed: false };
        let shared = SharedRing { ring: Mutex::new(ring), added: Event::new() };
        Self { shared: Arc::new(shared), capacity, watched: Arc::default() }
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire) > 0
    }

    /// Adds changes in order. Called under the replica's lock. Returns the events that fell out of the ring, for the
    /// caller to drop without that lock; `None` if no event was added.
    #[must_use]
    pub(crate) fn publish(&self, changes: &[Change<K, V>]) -> Option<Vec<ChangeEvent<K, V>>> {
        if changes.is_empty() || !self.is_watched() {
            return None;
        }
        let mut lost = Vec::new();
        let mut ring = self.shared.ring.lock();
        // Counted under the ring's lock: the last subscriber may have left since `is_watched` was read.
        let (unread, before) = (ring.subscribers, ring.end());
        for event in changes.iter().filter_map(ChangeEvent::of).filter(|_| unread > 0) {
            if ring.slots.len() == self.capacity {
                lost.extend(ring.slots.pop_front().and_then(|slot| slot.event));
                ring.first += 1;
            }
            ring.slots.push_back(RingSlot { event: Some(event), unread });
        }
        (ring.end() > before).then_some(lost)
    }

    /// Wakes subscribers. Must not be called under a lock, because wakers are the executor's code.
    pub(crate) fn wake_subscribers(&self) {
        self.shared.added.notify(usize::MAX);
    }

    /// Adds a subscriber, which receives every later change. Must be called under the replica's lock. Otherwise a call
    /// that holds the lock may already have found that there are no subscribers, and would not publish its changes.
    pub(super) fn subscribe(&self, time: Arc<dyn TimeSource>) -> Subscription<K, V> {
        let mut ring = self.shared.ring.lock();
        ring.subscribers += 1;
        let next = ring.end();
        self.watched.fetch_add(1, Ordering::AcqRel);
        Subscription { shared: Arc::clone(&self.shared), watched: Arc::clone(&self.watched), time, next }
    }
}

impl<K, V> Drop for Feed<K, V> {
    fn drop(&mut self) {
        self.shared.ring.lock().closed = true;
        self.shared.added.notify(usize::MAX);
    }
}

/// A subscriber's position in the change stream. Made by [`Cache::subscribe`](super::Cache::subscribe).
///
/// A subscription does not keep the cache open. A read holds the lock of the ring while it takes one event, and writers
/// of the cache wait for that lock. Dropping a subscription holds the lock while it counts all unread events as read.
pub struct Subscription<K, V> {
    shared: Arc<SharedRing<K, V>>,
    watched: Arc<AtomicUsize>,
    time: Arc<dyn TimeSource>,
    next: u64,
}

impl<K, V> Subscription<K, V> {
    /// Waits for the next event, and returns it. Cancel safe.
    ///
    /// # Errors
    /// `Lagged` if events were lost; `Closed` if there will be no more events.
    pub async fn recv(&mut self) -> Result<ChangeEvent<K, V>, SubscriptionError> {
        loop {
            let shared = Arc::clone(&self.shared);
            // Listens before it checks, so that an event which is added in between is not missed.
            let added = shared.added.listen();
            match self.try_recv() {
                Err(SubscriptionError::Empty) => added.await,
                result => return result,
            }
        }
    }

    /// As [`recv`](Self::recv), but blocks the calling thread.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_blocking(&mut self) -> Result<ChangeEvent<K, V>, SubscriptionError> {
        loop {
            let added = self.shared.added.listen();
            match self.try_recv() {
                Err(SubscriptionError::Empty) => added.wait(),
                result => return result,
            }
        }
    }

    /// As [`recv_blocking`](Self::recv_blocking), but returns `Empty` after `timeout` without an event.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and `Empty`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<ChangeEvent<K, V>, SubscriptionError> {
        let deadline = self.time.now().mono.saturating_add(nanos(timeout));
        loop {
            let added = self.shared.added.listen();
            match self.try_recv() {
                Err(SubscriptionError::Empty) => {}
                result => return result,
            }
            // An announcement can be of an event that this subscriber has read already.
            let left = deadline.saturating_sub(self.time.now().mono);
            if left == 0 || added.wait_timeout(Duration::from_nanos(left)).is_none() {
                return self.try_recv();
            }
        }
    }

    /// Returns the next event, if there is one.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and `Empty`.
    pub fn try_recv(&mut self) -> Result<ChangeEvent<K, V>, SubscriptionError> {
        let mut ring = self.shared.ring.lock();
        if let Some(lost) = ring.first.checked_sub(self.next).filter(|lost| *lost > 0) {
            self.next = ring.first;
            return Err(SubscriptionError::Lagged(lost));
        }
        if let Some(event) = ring.read(self.next) {
            self.next += 1;
            return Ok(event);
        }
        Err(if ring.closed { SubscriptionError::Closed } else { SubscriptionError::Empty })
    }
}

impl<K, V> Drop for Subscription<K, V> {
    fn drop(&mut self) {
        // Events hold user types, so they are dropped after the ring's lock is released.
        let mut unread = Vec::new();
        let mut ring = self.shared.ring.lock();
        ring.subscribers -= 1;
        self.watched.fetch_sub(1, Ordering::AcqRel);
        for number in self.next.max(ring.first)..ring.end() {
            unread.extend(ring.read(number));
        }
        drop(ring);
        drop_quietly(unread);
    }
}

impl<K, V> std::fmt::Debug for Subscription<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("next", &self.next).finish_non_exhaustive()
    }
}
