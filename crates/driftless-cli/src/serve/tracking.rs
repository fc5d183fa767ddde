//! `CLIENT TRACKING`: clients keep what they read, and are told when it changes.
//!
//! The change stream of the cache reports each change that readers of this node see: writes by any node, expiry,
//! eviction and `FLUSHALL`. One task per database reads the stream and hands the keys to the clients that read them, or
//! that asked for their prefix.
//!
//! **No reply outlives its invalidation.** A read is remembered before it is made. A change after that is reported, and
//! its message follows the reply, because a connection appends messages only behind the replies it has computed. If the
//! stream was faster than this task (`Lagged`), or a table is full, clients are told to drop more than they must.

mod own;
mod table;

pub use own::OwnWrites;

use super::{
    clients::{Client, Clients},
    sync::lock,
};
use bytes::Bytes;
use driftless::{Cache, ChangeEvent, ChangeKind, RemovalCause, Stamp, Subscription, SubscriptionError};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use table::Table;
use tokio::sync::Notify;

/// The most changes that are handled before the connections get their messages.
const BATCH: usize = 1024;

type Event = ChangeEvent<Bytes, Bytes>;

/// Counters for `INFO`.
#[derive(Debug, Default)]
pub struct TrackingCounters {
    /// Messages that named keys, one per client and batch.
    pub messages: AtomicU64,
    /// Times at which all clients had to drop everything.
    pub flushes: AtomicU64,
    /// Clients that had to drop everything because they did not read their messages.
    pub overflows: AtomicU64,
    /// Times at which the change stream was faster than this server.
    pub lagged: AtomicU64,
    /// Keys whose readers were told to drop them because the table was full.
    pub evicted_keys: AtomicU64,
}

#[derive(Debug, Default)]
struct Interested {
    /// All clients that track, in any mode.
    clients: BTreeSet<u64>,
    /// The clients of `BCAST`, by prefix.
    prefixes: BTreeMap<Bytes, BTreeSet<u64>>,
    /// True while a task reads the change stream.
    is_served: bool,
}

/// The clients that track the keys of one database.
#[derive(Debug)]
pub struct Tracker {
    clients: Arc<Clients>,
    table: Table,
    interested: Mutex<Interested>,
    own: Mutex<OwnWrites>,
    /// The greatest stamp of a value that is known to be gone by an invalidation of everything.
    flushed: Mutex<Option<Stamp>>,
    /// Wakes the task: the last client has left.
    left: Notify,
    pub counters: TrackingCounters,
}

impl Tracker {
    pub fn new(clients: Arc<Clients>, most_keys: usize) -> Arc<Self> {
        Arc::new(Self {
            clients,
            table: Table::new(most_keys),
            interested: Mutex::default(),
            own: Mutex::default(),
            flushed: Mutex::default(),
            left: Notify::new(),
            counters: TrackingCounters::default(),
        })
    }

    /// Starts to report changes to a client. `prefixes` are those of `BCAST`; without them the client is told of keys
    /// that it has read.
    pub fn add(self: &Arc<Self>, cache: &Cache<Bytes, Bytes>, client: u64, prefixes: Option<&[Bytes]>) {
        let mut interested = lock(&self.interested);
        interested.clients.insert(client);
        for prefix in prefixes.unwrap_or_default() {
            interested.prefixes.entry(prefix.clone()).or_default().insert(client);
        }
        if !interested.is_served {
            interested.is_served = true;
            // Subscribed before the client gets its reply: no change after the reply is missed.
            tokio::spawn(Arc::clone(self).serve(cache.subscribe()));
        }
    }

    /// Stops to report changes to a client.
    pub fn remove(&self, client: u64) {
        let mut interested = lock(&self.interested);
        interested.clients.remove(&client);
        interested.prefixes.retain(|_, clients| {
            clients.remove(&client);
            !clients.is_empty()
        });
        if interested.clients.is_empty() {
            self.table.clear();
            self.left.notify_one();
        }
    }

    /// Remembers that a client reads a key. Must be called before the read.
    pub fn remember(&self, key: &[u8], client: u64) {
        if let Some((key, readers)) = self.table.add(key, client) {
            self.counters.evicted_keys.fetch_add(1, Relaxed);
            for reader in readers {
                self.send(reader, vec![key.clone()]);
            }
        }
    }

    /// Keeps the task from reading the stream while a client with `NOLOOP` writes, so that the write is noted before it
    /// is reported.
    pub fn own_writes(&self) -> MutexGuard<'_, OwnWrites> {
        lock(&self.own)
    }

    /// Returns the number of clients that track, of keys that they have read, and of prefixes.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let interested = lock(&self.interested);
        (interested.clients.len(), self.table.len(), interested.prefixes.len())
    }

    /// Reads the change stream until no client tracks any more.
    async fn serve(self: Arc<Self>, mut changes: Subscription<Bytes, Bytes>) {
        loop {
            tokio::select! {
                biased;
                next = changes.recv() => if self.handle(next, &mut changes) { return },
                () = self.left.notified() => {
                    let mut interested = lock(&self.interested);
                    if interested.clients.is_empty() {
                        interested.is_served = false;
                        return;
                    }
                }
            }
            // One batch at a time, so that a busy stream does not keep this thread from its connections.
            tokio::task::yield_now().await;
        }
    }

    /// Handles a batch of changes. Returns true if there will be no more.
    fn handle(&self, first: Result<Event, SubscriptionError>, changes: &mut Subscription<Bytes, Bytes>) -> bool {
        let mut own = lock(&self.own);
        let mut messages = Messages::default();
        let mut next = first;
        for _ in 0..BATCH {
            match next {
                Ok(event) => self.sort(&event, &own, &mut messages),
                Err(SubscriptionError::Empty) => {
                    // Every write that was noted is older than this moment, so its change was among those read.
                    own.clear();
                    break;
                }
                Err(SubscriptionError::Lagged(_)) => {
                    self.counters.lagged.fetch_add(1, Relaxed);
                    messages.everything = true;
                }
                Err(_) => {
                    self.flush();
                    lock(&self.interested).is_served = false;
                    return true;
                }
            }
            next = changes.try_recv();
            if matches!(next, Err(SubscriptionError::Empty)) {
                own.clear();
                break;
            }
        }
        drop(own);
        if messages.everything {
            self.flush();
        } else {
            messages.keys.into_iter().for_each(|(client, keys)| self.send(client, keys));
        }
        false
    }

    /// Adds a change to the messages of the clients that have to know of it.
    fn sort(&self, event: &Event, own: &OwnWrites, messages: &mut Messages) {
        if event.kind() == ChangeKind::Removed(RemovalCause::Invalidated) && self.is_new_flush(event.stamp()) {
            messages.everything = true;
        }
        if messages.everything {
            return;
        }
        let mut readers = self.table.take(event.key());
        let interested = lock(&self.interested);
        let prefixes = interested.prefixes.iter().filter(|(prefix, _)| event.key().starts_with(prefix));
        readers.extend(prefixes.flat_map(|(_, clients)| clients.iter().copied()));
        drop(interested);
        readers.sort_unstable();
        readers.dedup();
        for client in readers {
            if !own.made(event, client) {
                messages.keys.entry(client).or_default().push(event.key().clone());
            }
        }
    }

    /// Returns true if a value with this stamp, which an invalidation of everything removed, is newer than those that
    /// were reported before. The sweep reports each value by itself, in no order: one message covers all of those that
    /// are not newer.
    fn is_new_flush(&self, stamp: Stamp) -> bool {
        let mut flushed = lock(&self.flushed);
        let is_new = flushed.is_none_or(|flushed| stamp > flushed);
        if is_new {
            *flushed = Some(stamp);
        }
        is_new
    }

    /// Makes every client drop everything.
    fn flush(&self) {
        self.counters.flushes.fetch_add(1, Relaxed);
        self.table.clear();
        let clients: Vec<u64> = lock(&self.interested).clients.iter().copied().collect();
        for client in clients {
            self.deliver(client, |receiver| receiver.pushes.add_everything());
        }
    }

    fn send(&self, client: u64, keys: Vec<Bytes>) {
        self.counters.messages.fetch_add(1, Relaxed);
        self.deliver(client, |receiver| {
            if !receiver.pushes.add(keys) {
                self.counters.overflows.fetch_add(1, Relaxed);
            }
        });
    }

    /// Queues a message for a client, or for the client to which it redirects.
    fn deliver(&self, client: u64, queue: impl FnOnce(&Client)) {
        // The table may remember clients that have left.
        let Some(client) = self.clients.get(client) else { return };
        let receiver = match client.pushes.redirect() {
            None => client,
            Some(other) => match self.clients.get(other) {
                Some(other) => other,
                None => {
                    client.pushes.add_broken_redirect();
                    client.signal.notify_one();
                    return;
                }
            },
        };
        queue(&receiver);
        receiver.signal.notify_one();
    }
}

/// The messages of one batch.
#[derive(Default)]
struct Messages {
    everything: bool,
    keys: HashMap<u64, Vec<Bytes>>,
}
