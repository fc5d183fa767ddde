//! The change stream: what was inserted, updated and removed here, in order, to many subscribers.
//!
//! One bounded ring for all of them. Changes are put in under the replica's lock, which gives them
//! their order; nobody waits for a subscriber, and no user code runs there. One that falls behind by
//! more than the ring is told how many it missed.

use std::collections::VecDeque;
use std::time::Duration;

use super::garbage::drop_quietly;
use crate::hlc::Stamp;
use crate::item::ItemRef;
use crate::replica::{Change, Effect, RemovalCause};
use crate::replica_id::ReplicaId;
use crate::sync::{Arc, AtomicUsize, Event, Listening, Mutex, Ordering};

/// What happened to a key, as far as readers of this node can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// There is a value where there was none.
    Inserted,
    /// There is a newer value.
    Updated,
    /// There is no value any more.
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
        // A key that does not decode here is no reader's.
        event.known_key().is_some().then_some(event)
    }

    /// What readers see of a change: a value that does not decode here is none for them.
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

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        self.kind
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &K {
        self.known_key().expect("an event is made only with a key that is known")
    }

    /// The value that is there now; `None` if it was removed, or replaced by one that does not decode here (a newer release wrote
    /// it).
    #[must_use]
    pub fn value(&self) -> Option<&V> {
        let gone = matches!(self.kind, ChangeKind::Removed(_));
        self.after.as_ref().filter(|_| !gone)?.value()
    }

    /// The value that was there before.
    #[must_use]
    pub fn previous(&self) -> Option<&V> {
        let was = !matches!(self.kind, ChangeKind::Inserted);
        self.before.as_ref().filter(|_| was)?.value()
    }

    /// The stamp of the write or delete. An eviction or expiry has the stamp of the value that is
    /// gone.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The replica through which it was made. An eviction or expiry has the origin of its value.
    #[must_use]
    pub fn origin(&self) -> ReplicaId {
        self.origin
    }

    /// Whether [`origin`](Self::origin) is this node's replica.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.local
    }
}

/// Why there is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscriptionError {
    /// This many events were lost because the subscriber fell behind. What it reads next is the
    /// oldest that is left; to be sure of the state, read the cache.
    #[error("fell behind: {0} events were lost")]
    Lagged(u64),
    /// Nothing new; only from [`Subscription::try_recv`] and [`Subscription::recv_timeout`].
    #[error("nothing new")]
    Empty,
    /// The cache was closed, and everything was read.
    #[error("the cache was closed")]
    Closed,
}

struct Slot<K, V> {
    event: Option<ChangeEvent<K, V>>,
    /// Subscribers that have not read it.
    unread: usize,
}

struct Ring<K, V> {
    /// The number of the first slot; numbers are never used again.
    first: u64,
    slots: VecDeque<Slot<K, V>>,
    subscribers: usize,
    closed: bool,
}

impl<K, V> Ring<K, V> {
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn forget_read(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.unread == 0) {
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Notes that one subscriber has read, or will not read, an event. The last one takes it out.
    fn read(&mut self, number: u64) -> Option<ChangeEvent<K, V>> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let slot = self.slots.get_mut(index)?;
        slot.unread -= 1;
        let event = if slot.unread == 0 { slot.event.take() } else { slot.event.clone() };
        self.forget_read();
        event
    }
}

struct Shelf<K, V> {
    ring: Mutex<Ring<K, V>>,
    news: Event,
}

/// Where changes are put. Dropping it closes the stream.
pub(crate) struct Feed<K, V> {
    shelf: Arc<Shelf<K, V>>,
    capacity: usize,
    watched: Arc<AtomicUsize>,
}

impl<K, V> Feed<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        let ring = Ring { first: 0, slots: VecDeque::new(), subscribers: 0, closed: false };
        let shelf = Shelf { ring: Mutex::new(ring), news: Event::new() };
        Self { shelf: Arc::new(shelf), capacity, watched: Arc::default() }
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire) > 0
    }

    /// Puts changes in, in order: called under the replica's lock. Gives what fell out, to be dropped
    /// without it; nothing if there is no event for anybody.
    #[must_use]
    pub(crate) fn publish(&self, changes: &[Change<K, V>]) -> Option<Vec<ChangeEvent<K, V>>> {
        if changes.is_empty() || !self.is_watched() {
            return None;
        }
        let mut lost = Vec::new();
        let mut ring = self.shelf.ring.lock();
        let (unread, before) = (ring.subscribers, ring.end());
        for event in changes.iter().filter_map(ChangeEvent::of).filter(|_| unread > 0) {
            if ring.slots.len() == self.capacity {
                lost.extend(ring.slots.pop_front().and_then(|slot| slot.event));
                ring.first += 1;
            }
            ring.slots.push_back(Slot { event: Some(event), unread });
        }
        (ring.end() > before).then_some(lost)
    }

    /// Wakes subscribers: not under a lock, since wakers are the executor's code.
    pub(crate) fn announce(&self) {
        self.shelf.news.notify(usize::MAX);
    }

    /// Returns the place of a new subscriber, which gets every change from now on.
    pub(super) fn subscribe(&self) -> Subscription<K, V> {
        let mut ring = self.shelf.ring.lock();
        ring.subscribers += 1;
        let next = ring.end();
        self.watched.fetch_add(1, Ordering::AcqRel);
        Subscription { shelf: Arc::clone(&self.shelf), watched: Arc::clone(&self.watched), next }
    }
}

impl<K, V> Drop for Feed<K, V> {
    fn drop(&mut self) {
        self.shelf.ring.lock().closed = true;
        self.shelf.news.notify(usize::MAX);
    }
}

/// A subscriber's place in the change stream. Made by [`Cache::subscribe`](super::Cache::subscribe).
///
/// It does not keep the cache open. Reading takes no lock of the cache's readers or writers for
/// longer than one event.
pub struct Subscription<K, V> {
    shelf: Arc<Shelf<K, V>>,
    watched: Arc<AtomicUsize>,
    next: u64,
}

impl<K, V> Subscription<K, V> {
    /// The next event. Cancel safe.
    ///
    /// # Errors
    /// `Lagged` if events were lost, `Closed` if there will be none.
    pub async fn recv(&mut self) -> Result<ChangeEvent<K, V>, SubscriptionError> {
        loop {
            let shelf = Arc::clone(&self.shelf);
            let news = shelf.news.listen();
            match self.try_recv() {
                Err(SubscriptionError::Empty) => news.await,
                result => return result,
            }
        }
    }

    /// As [`recv`](Self::recv), on a thread that may block.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_blocking(&mut self) -> Result<ChangeEvent<K, V>, SubscriptionError> {
        loop {
            let news = self.shelf.news.listen();
            match self.try_recv() {
                Err(SubscriptionError::Empty) => news.wait(),
                result => return result,
            }
        }
    }

    /// As [`recv_blocking`](Self::recv_blocking), with `Empty` when nothing happened for this long.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and `Empty`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<ChangeEvent<K, V>, SubscriptionError> {
        loop {
            let news = self.shelf.news.listen();
            match self.try_recv() {
                Err(SubscriptionError::Empty) if news.wait_timeout(timeout).is_none() => {
                    return Err(SubscriptionError::Empty);
                }
                Err(SubscriptionError::Empty) => {}
                result => return result,
            }
        }
    }

    /// The next event if there is one.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and `Empty`.
    pub fn try_recv(&mut self) -> Result<ChangeEvent<K, V>, SubscriptionError> {
        let mut ring = self.shelf.ring.lock();
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
        let mut unread = Vec::new();
        let mut ring = self.shelf.ring.lock();
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
