//! The only writer of a cache: the replica behind its lock, and the steps that surround every change.

use super::engine::{Engine, News};
use super::feed::{Feed, Subscription};
use super::listener::Listeners;
use super::{CacheKey, CacheValue, TimeSource};
use crate::garbage::drop_quietly;
use crate::hlc::Now;
use crate::recency::ReadLog;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering};

/// The write side of a cache.
pub(super) struct Writer<K, V> {
    engine: Mutex<Engine<K, V>>,
    /// True if the last change left more to evict than one call may.
    must_evict: AtomicBool,
    /// Reads that are not yet applied to the order of use.
    pub(super) reads: ReadLog,
    /// The change stream.
    pub(super) feed: Feed<K, V>,
    pub(super) listeners: Listeners<K, V>,
}

impl<K: CacheKey, V: CacheValue> Writer<K, V> {
    pub(super) fn new(engine: Engine<K, V>, reads: ReadLog, feed: Feed<K, V>, listeners: Listeners<K, V>) -> Self {
        Self { engine: Mutex::new(engine), must_evict: AtomicBool::new(false), reads, feed, listeners }
    }

    /// Runs `act` under the replica's lock. Then, without the lock, notifies the fills, subscribers and listener that
    /// wait for changes, and drops what was displaced.
    #[inline]
    pub(super) fn change<R>(&self, now: Now, act: impl FnOnce(&mut Engine<K, V>) -> R) -> R {
        let (result, settled) = {
            let mut engine = self.engine.lock();
            let listening = self.listeners.is_listening() || self.feed.is_watched();
            let (result, mut settled) = engine.act(now, &self.reads, listening, act);
            if let Some(news) = &mut settled.news {
                self.put_out(news);
            }
            self.must_evict.store(engine.must_evict(), Ordering::Relaxed);
            (result, settled)
        };
        if let Some(news) = settled.news {
            self.announce(news);
        }
        if !settled.garbage.is_empty() {
            drop_quietly(settled.garbage);
        }
        result
    }

    /// Returns true if the values exceed the capacity until further calls have evicted more. Takes no lock.
    pub(super) fn must_evict(&self) -> bool {
        self.must_evict.load(Ordering::Relaxed)
    }

    /// Runs `look` under the replica's lock.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Engine<K, V>) -> R) -> R {
        look(&self.engine.lock())
    }

    /// Runs `act` under the replica's lock. `act` must change no register, so that nothing is left to do without the
    /// lock.
    pub(super) fn adjust<R>(&self, act: impl FnOnce(&mut Engine<K, V>) -> R) -> R {
        act(&mut self.engine.lock())
    }

    /// Adds a subscriber to the change stream. It receives the changes of every call that takes the replica's lock
    /// after this one.
    pub(super) fn subscribe(&self, time: &Arc<dyn TimeSource>) -> Subscription<K, V> {
        self.adjust(|_| self.feed.subscribe(Arc::clone(time)))
    }

    /// Queues changes for the listener and the change stream. Called under the replica's lock, which defines their
    /// order.
    fn put_out(&self, news: &mut News<K, V>) {
        self.listeners.enqueue(&news.changes);
        news.unread = self.feed.publish(&news.changes);
    }

    /// Notifies fills, subscribers and the listener, without the lock. `news` stays boxed until here, because only this
    /// cold path opens it.
    #[cold]
    #[allow(clippy::boxed_local)]
    fn announce(&self, news: Box<News<K, V>>) {
        let News { changes, touched, unread } = *news;
        for flight in &touched {
            flight.touched.notify(usize::MAX);
        }
        if unread.is_some() {
            self.feed.wake_subscribers();
        }
        drop_quietly(touched);
        drop_quietly(changes);
        drop_quietly(unread.into_iter().flatten());
        self.listeners.deliver();
    }
}
