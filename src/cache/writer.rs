//! The only writer of a cache: the replica behind its lock, and the steps that surround every change.

use super::engine::{Engine, News};
use super::feed::{Feed, Subscription};
use super::gate::{Gate, Notes, StripeLimits};
use super::listener::Listeners;
use super::{CacheKey, CacheValue, TimeSource};
use crate::garbage::drop_quietly;
use crate::hlc::{Now, Stamp};
use crate::item::ItemRef;
use crate::ledger::direct::{DirectNote, DirectWriter, DirectlyWritten, Refused};
use crate::recency::ReadLog;
use crate::replica::Write;
use crate::store::Snapshot;
use crate::sync::{Arc, AtomicBool, Ordering};

/// The stamp of a direct write or the write that was not made, and the displaced item.
type Overwritten<K, V> = (Result<Stamp, Write<K, V>>, Option<ItemRef<K, V>>);

/// The write side of a cache.
pub(super) struct Writer<K, V> {
    gate: Gate<Engine<K, V>, DirectWriter<K, V>, DirectNote>,
    /// The greatest weight of a value that is written directly; `None` if no write of this cache is ever direct.
    heaviest: Option<u64>,
    /// True if the last change left more to evict than one call may.
    must_evict: AtomicBool,
    /// Reads that are not yet applied to the order of use.
    pub(super) reads: ReadLog,
    /// The change stream.
    pub(super) feed: Feed<K, V>,
    pub(super) listeners: Listeners<K, V>,
}

impl<K: CacheKey, V: CacheValue> Writer<K, V> {
    pub(super) fn new(mut engine: Engine<K, V>, reads: ReadLog, feed: Feed<K, V>, listeners: Listeners<K, V>) -> Self {
        engine.set_listening(listeners.is_listening());
        let limits = engine.limits();
        let heaviest = limits.filter(|_| !listeners.is_listening()).map(|limits| limits.heaviest());
        let gate = Gate::new(engine, limits.unwrap_or(StripeLimits::UNBOUNDED));
        Self { gate, heaviest, must_evict: AtomicBool::new(false), reads, feed, listeners }
    }

    /// Runs `act` under the replica's lock. Then, without the lock, notifies the fills, subscribers and listener that
    /// wait for changes, and drops what was displaced.
    #[inline]
    pub(super) fn change<R>(&self, now: Now, act: impl FnOnce(&mut Engine<K, V>) -> R) -> R {
        let (result, settled) = {
            let mut engine = self.gate.lock(&self.reads);
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

    /// Writes a value: at the table if this is possible, otherwise through the replica. Returns the stamp.
    #[inline]
    pub(super) fn write(&self, now: Now, write: Write<K, V>) -> Stamp {
        let may_be_direct = self.heaviest.is_some_and(|heaviest| u64::from(write.weight) <= heaviest);
        let written = if may_be_direct { self.write_directly(now, write) } else { Err(write) };
        match written {
            Ok(stamp) => stamp,
            Err(write) => self.change(now, |engine| engine.replica.write(now, write)),
        }
    }

    #[inline]
    fn write_directly(&self, now: Now, write: Write<K, V>) -> Result<Stamp, Write<K, V>> {
        let added = self.gate.write(&self.reads, write, |writer, notes: &mut Notes<_>, write| {
            let DirectlyWritten { stamp, note, .. } = writer.add(now, write)?;
            let weight = note.after.weight;
            notes.push(note, weight);
            Ok(stamp)
        })?;
        let (write, found) = match added {
            Ok(stamp) => return Ok(stamp),
            Err(Refused::ForReplica(write)) => return Err(write),
            Err(Refused::Found(write, found)) => (write, found),
        };
        // Compares the keys without a lock. If two keys have one hash, the replica finds the right one.
        let is_same = found.hash == write.hash && found.item.key == write.item.key;
        let (written, displaced) =
            if is_same { self.overwrite_directly(now, write, &found) } else { (Err(write), None) };
        drop_quietly(displaced.into_iter().chain([found.item]));
        written
    }

    /// Writes a value over this register of its key.
    fn overwrite_directly(&self, now: Now, write: Write<K, V>, found: &Snapshot<K, V>) -> Overwritten<K, V> {
        let written = self.gate.write(&self.reads, write, |writer, notes: &mut Notes<_>, write| {
            let DirectlyWritten { stamp, note, displaced } = writer.overwrite(now, write, found)?;
            let weight = note.after.weight;
            notes.push(note, weight);
            Ok((stamp, displaced))
        });
        match written {
            Ok(Ok((stamp, displaced))) => (Ok(stamp), displaced),
            Err(write) | Ok(Err(Refused::ForReplica(write) | Refused::Found(write, _))) => (Err(write), None),
        }
    }

    /// Returns the number of direct writes that the replica has not absorbed.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.gate.waiting()
    }

    /// Returns true if the values exceed the capacity until further calls have evicted more. Takes no lock.
    pub(super) fn must_evict(&self) -> bool {
        self.must_evict.load(Ordering::Relaxed)
    }

    /// Runs `look` under the replica's lock.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Engine<K, V>) -> R) -> R {
        look(&self.gate.lock(&self.reads))
    }

    /// Runs `act` under the replica's lock. `act` must change no register, so that nothing is left to do without the
    /// lock.
    pub(super) fn adjust<R>(&self, act: impl FnOnce(&mut Engine<K, V>) -> R) -> R {
        act(&mut self.gate.lock(&self.reads))
    }

    /// Adds a subscriber to the change stream. It receives the changes of every call that takes the replica's lock
    /// after this one.
    pub(super) fn subscribe(&self, time: &Arc<dyn TimeSource>) -> Subscription<K, V> {
        self.adjust(|engine| {
            // From now on every write goes through the replica, so that the subscriber receives its change.
            engine.set_listening(true);
            self.feed.subscribe(Arc::clone(time))
        })
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
