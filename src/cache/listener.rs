//! Calls the eviction listener for removed values: in order, outside every lock, and even if the listener blocks or
//! panics.
//!
//! One thread at a time calls the listener. Other threads leave their removals in a queue. Without a limit, that one
//! thread would work for as long as others write. A listener slower than the writers would make the queue grow without
//! end.
//!
//! So the listener sets the pace. While more than 1,024 removals are queued, a thread that adds a removal must wait for
//! room, and may have to take over the calls. No thread waits for a listener that stands still, and none waits from
//! within a listener. While the listener stands still, removals beyond 65,536 are not reported, and are counted.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::counters::ListenerCounters;
use crate::garbage::drop_quietly;
use crate::item::ItemRef;
use crate::replica::{Change, Effect, RemovalCause};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Event, Listening, Mutex, Ordering};

/// The number of queued removals above which a thread that adds more has to wait for room.
const PACED: usize = 1_024;
/// The number of queued removals from which further ones are not reported, if the listener stands still.
const MOST: usize = 65_536;
/// The number of removals that one thread reports before a waiting thread takes over.
const SHARE: usize = 64;
/// The time that the listener may take for one removal. A listener that takes longer stands still.
const PATIENCE: Duration = Duration::from_millis(100);

std::thread_local! {
    /// True while this thread runs a listener: it must not wait for one.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Returns the cause of a removal; `None` if the change took no value away.
fn removal_cause(effect: Effect) -> Option<RemovalCause> {
    match effect {
        Effect::Inserted => None,
        Effect::Updated => Some(RemovalCause::Replaced),
        Effect::Removed(cause) => Some(cause),
    }
}

type Listener<K, V> = Box<dyn Fn(Arc<K>, V, RemovalCause) + Send + Sync>;

struct Removal<K, V> {
    item: ItemRef<K, V>,
    cause: RemovalCause,
}

/// The eviction listener, and the removals for which it has yet to be called.
pub(crate) struct Listeners<K, V> {
    listener: Option<Listener<K, V>>,
    waiting: Mutex<VecDeque<Removal<K, V>>>,
    /// True while a thread calls the listener.
    delivering: AtomicBool,
    /// The number of threads that wait for room in the queue.
    paced: AtomicUsize,
    /// Notified when there is room, or when another thread has to take over the calls.
    room: Event,
    /// The number of removals that were reported.
    reported: AtomicU64,
    /// True if a thread has waited in vain for `PATIENCE` since the last removal was reported.
    stands_still: AtomicBool,
    pub(super) counters: ListenerCounters,
}

impl<K, V> Listeners<K, V> {
    pub(crate) fn new(listener: Option<Listener<K, V>>) -> Self {
        Self {
            listener,
            waiting: Mutex::new(VecDeque::new()),
            delivering: AtomicBool::new(false),
            paced: AtomicUsize::new(0),
            room: Event::new(),
            reported: AtomicU64::new(0),
            stands_still: AtomicBool::new(false),
            counters: ListenerCounters::default(),
        }
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    /// Queues the removals among `changes`, in the order in which they were made. Called under the replica's lock,
    /// which defines that order.
    pub(crate) fn enqueue(&self, changes: &[Change<K, V>]) {
        if self.listener.is_none() || changes.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock();
        for change in changes {
            if let (Some(cause), Some(item)) = (removal_cause(change.effect), &change.before) {
                if waiting.len() >= MOST && self.stands_still.load(Ordering::Relaxed) {
                    self.lose();
                } else {
                    waiting.push_back(Removal { item: ItemRef::clone(item), cause });
                }
            }
        }
    }

    #[cold]
    fn lose(&self) {
        if let Some(count) = self.counters.listener_lost.one_to_log() {
            tracing::error!(count, "the eviction listener is blocked and misses removals");
        }
    }

    /// Calls the listener until the queue is empty, or leaves that to a thread that calls it already.
    pub(crate) fn deliver(&self)
    where
        K: Clone,
        V: Clone,
    {
        let Some(listener) = &self.listener else { return };
        let mut patient = true;
        loop {
            let waiting = self.waiting.lock().len();
            if waiting == 0 {
                return;
            }
            if !self.delivering.swap(true, Ordering::SeqCst) {
                self.take_turn(listener);
                // A thread that is counted in `paced` checks the queue again after its wait, so this thread may leave.
                // If there is no such thread, this thread checks the queue again: another thread may have queued a
                // removal and left because `delivering` was still set.
                if self.paced.load(Ordering::SeqCst) > 0 {
                    self.room.notify(usize::MAX);
                    return;
                }
            } else if patient && waiting > PACED && !INSIDE.get() && !self.stands_still.load(Ordering::Relaxed) {
                patient = self.await_room();
            } else {
                return;
            }
        }
    }

    /// Calls the listener until the queue is empty, or until this thread's share is done and a thread waits that can
    /// take over.
    fn take_turn(&self, listener: &Listener<K, V>)
    where
        K: Clone,
        V: Clone,
    {
        let outer = INSIDE.replace(true);
        for done in 0_usize.. {
            if done >= SHARE && self.paced.load(Ordering::SeqCst) > 0 {
                break;
            }
            let (next, left) = {
                let mut waiting = self.waiting.lock();
                (waiting.pop_front(), waiting.len())
            };
            let Some(removal) = next else { break };
            self.call(listener, &removal);
            drop_quietly([removal]);
            self.reported.fetch_add(1, Ordering::Relaxed);
            self.stands_still.store(false, Ordering::Relaxed);
            if left < PACED {
                self.room.notify(1);
            }
        }
        INSIDE.set(outer);
        self.delivering.store(false, Ordering::SeqCst);
    }

    /// Waits until there is room in the queue, or no thread calls the listener. Returns false if the listener stands
    /// still.
    fn await_room(&self) -> bool {
        // This thread raises `paced` before it reads `delivering`. The delivering thread clears `delivering` (in
        // `take_turn`) before it reads `paced` (in `deliver`). So this thread finds `delivering` cleared, or the
        // delivering thread finds `paced` raised and notifies `room`. Either way this thread checks the queue again,
        // and no queued removal is left without a thread that delivers it.
        self.paced.fetch_add(1, Ordering::SeqCst);
        let room = self.room.listen();
        let before = self.reported.load(Ordering::Relaxed);
        let is_needed = self.delivering.load(Ordering::SeqCst) && self.waiting.lock().len() > PACED;
        let came =
            !is_needed || room.wait_timeout(PATIENCE).is_some() || self.reported.load(Ordering::Relaxed) != before;
        self.paced.fetch_sub(1, Ordering::SeqCst);
        if !came {
            self.stands_still.store(true, Ordering::Relaxed);
        }
        came
    }

    fn call(&self, listener: &Listener<K, V>, removal: &Removal<K, V>)
    where
        K: Clone,
        V: Clone,
    {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            if let (Some(key), Some(value)) = (removal.item.key.known(), removal.item.value()) {
                listener(Arc::new(key.clone()), value.clone(), removal.cause);
            }
        }));
        if let Err(panic) = outcome {
            self.counters.listener_panics.one();
            tracing::error!("the eviction listener panicked; it will be called again for the next removal");
            drop_quietly([panic]);
        }
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }
}
