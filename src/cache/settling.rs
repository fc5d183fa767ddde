//! What surrounds every change: the replica's lock, and what is left to do without it.

use super::engine::{Engine, News, Settled};
use super::{CacheKey, CacheValue, Shared, drop_quietly};
use crate::hlc::Now;

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    /// Runs `act` under the replica's lock; then, without it, tells who has to know and drops what was
    /// displaced.
    pub(crate) fn with_engine<R>(&self, now: Now, act: impl FnOnce(&mut Engine<K, V>) -> R) -> R {
        let (result, settled) = {
            let mut engine = self.engine.lock();
            let listening = self.listeners.is_listening() || self.feed.is_watched();
            engine.set_listening(listening);
            let result = act(&mut engine);
            let settled = engine.settle(now, &self.reads, listening);
            (result, self.put_out(settled))
        };
        if let Some(news) = settled.news {
            self.announce(news);
        }
        drop_quietly(settled.garbage);
        result
    }

    /// Puts changes where those who listen will find them: under the replica's lock, which orders them.
    fn put_out(&self, settled: Settled<K, V>) -> Settled<K, V> {
        let Settled { garbage, mut news } = settled;
        if let Some(news) = &mut news {
            self.listeners.enqueue(&news.changes);
            news.unread = self.feed.publish(&news.changes);
        }
        Settled { garbage, news }
    }

    /// Tells everybody, without the lock. What only this cold path opens stays boxed on the way there.
    #[cold]
    #[allow(clippy::boxed_local)]
    fn announce(&self, news: Box<News<K, V>>) {
        let News { changes, touched, unread } = *news;
        for flight in &touched {
            flight.touched.notify(usize::MAX);
        }
        if unread.is_some() {
            self.feed.announce();
        }
        drop_quietly(touched);
        drop_quietly(changes);
        drop_quietly(unread.into_iter().flatten());
        self.listeners.deliver();
    }
}
