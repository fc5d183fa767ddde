//! Tells user code what was removed: in order, outside of every lock, whatever it does.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::removal_cause;
use crate::item::ItemRef;
use crate::replica::{Change, RemovalCause};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};

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
    panics: AtomicU64,
}

impl<K, V> Listeners<K, V> {
    pub(crate) fn new(listener: Option<Listener<K, V>>) -> Self {
        Self {
            listener,
            waiting: Mutex::new(VecDeque::new()),
            delivering: AtomicBool::new(false),
            panics: AtomicU64::new(0),
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
                waiting.push_back(Removal { item: ItemRef::clone(item), cause });
            }
        }
    }

    /// Calls the listener until nothing waits. One thread at a time does so; others, and the
    /// listener's own calls into the cache, leave it to that one.
    pub(crate) fn deliver(&self)
    where
        K: Clone,
        V: Clone,
    {
        let Some(listener) = &self.listener else { return };
        while !self.waiting.lock().is_empty() {
            if self.delivering.swap(true, Ordering::AcqRel) {
                return;
            }
            loop {
                let next = self.waiting.lock().pop_front();
                let Some(removal) = next else { break };
                self.tell(listener, &removal);
                super::drop_quietly([removal]);
            }
            self.delivering.store(false, Ordering::Release);
        }
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
        if told.is_err() {
            self.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("the eviction listener panicked; it will be called again for the next removal");
        }
    }

    /// How often the listener panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}
