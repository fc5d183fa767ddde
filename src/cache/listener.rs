//! Tells user code what was removed: in order, outside of every lock, whatever it does.
//!
//! One thread at a time calls the listener; the others leave what they removed to that one. Were that all, one thread would work
//! for as long as others write, and what waits would grow without end under a listener that is slower than they are. So
//! the listener sets the pace: whoever removes more while a thousand wait lets it come along first, and takes its turn at calling
//! it. Nobody waits for a listener that stands still, nor from within one: then what is too much is not told, and counted.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::counters::ListenerCounters;
use super::garbage::drop_quietly;
use crate::item::ItemRef;
use crate::replica::{Change, Effect, RemovalCause};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Event, Listening, Mutex, Ordering};

/// So many removals wait before whoever makes more does.
const PACED: usize = 1_024;
/// Beyond these a listener that stands still is not told.
const MOST: usize = 65_536;
/// Removals that one thread tells of before another one that waits takes over.
const SHARE: usize = 64;
/// A listener that takes longer for one removal stands still.
const PATIENCE: Duration = Duration::from_millis(100);

std::thread_local! {
    /// Whether this thread is inside of a listener: it must not wait for one.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Returns why a value is gone, if a change took one away.
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

/// The eviction listener and what it has still to be told.
pub(crate) struct Listeners<K, V> {
    listener: Option<Listener<K, V>>,
    waiting: Mutex<VecDeque<Removal<K, V>>>,
    delivering: AtomicBool,
    /// Threads that wait for room.
    paced: AtomicUsize,
    /// Notified when there is some, or a turn to be taken.
    room: Event,
    told: AtomicU64,
    /// Somebody has waited for nothing since the last removal was told.
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
            told: AtomicU64::new(0),
            stands_still: AtomicBool::new(false),
            counters: ListenerCounters::default(),
        }
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    /// Notes changes, in the order in which they were made: called under the replica's lock.
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
            tracing::error!(count, "the eviction listener stands still, and is not told of all removals");
        }
    }

    /// Calls the listener until nothing waits, or somebody else does it.
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
                // Whoever is counted here looks once more after it is not.
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

    /// Calls the listener until nothing waits, or a share is done and somebody is there to do the next.
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
            self.tell(listener, &removal);
            drop_quietly([removal]);
            self.told.fetch_add(1, Ordering::Relaxed);
            self.stands_still.store(false, Ordering::Relaxed);
            if left < PACED {
                self.room.notify(1);
            }
        }
        INSIDE.set(outer);
        self.delivering.store(false, Ordering::SeqCst);
    }

    /// Waits until fewer wait, or nobody calls the listener. Returns whether waiting any longer makes sense.
    fn await_room(&self) -> bool {
        self.paced.fetch_add(1, Ordering::SeqCst);
        let room = self.room.listen();
        let told = self.told.load(Ordering::Relaxed);
        let is_needed = self.delivering.load(Ordering::SeqCst) && self.waiting.lock().len() > PACED;
        let came = !is_needed || room.wait_timeout(PATIENCE).is_some() || self.told.load(Ordering::Relaxed) != told;
        self.paced.fetch_sub(1, Ordering::SeqCst);
        if !came {
            self.stands_still.store(true, Ordering::Relaxed);
        }
        came
    }

    fn tell(&self, listener: &Listener<K, V>, removal: &Removal<K, V>)
    where
        K: Clone,
        V: Clone,
    {
        let told = catch_unwind(AssertUnwindSafe(|| {
            if let (Some(key), Some(value)) = (removal.item.key.known(), removal.item.value()) {
                listener(Arc::new(key.clone()), value.clone(), removal.cause);
            }
        }));
        if let Err(panic) = told {
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
