//! Where a cache and its node meet: bytes in, bytes out, time passing. Knows no socket.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::engine::Engine;
use super::inspect::Inspect;
use super::{CacheKey, CacheValue, Ready, Shared, TimeSource};
use crate::hlc::Now;
use crate::item::{ItemRef, Key};
use crate::message::Message;
use crate::replica::{CaughtUp, Remains, Transmit};
use crate::replica_id::ReplicaId;
use crate::sync::{Arc, Ordering};
use crate::wire;

/// Resolves when a cache is ready; to nothing if the node was shut down.
pub type ReadyFuture = Pin<Box<dyn Future<Output = Option<Ready>> + Send>>;

/// Work that runs by itself, or a timer.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a cache needs of the node it is opened on.
pub trait Host: Send + Sync {
    /// This process, as it is known to others.
    fn node(&self) -> Uuid;
    /// This node's name, and the names of nodes by the replicas of a cache that live there.
    fn node_name(&self) -> String;
    /// See [`node_name`](Self::node_name). May be half a second old.
    fn names(&self, cache: &str) -> BTreeMap<ReplicaId, String>;
    /// The clocks.
    fn time(&self) -> Arc<dyn TimeSource>;
    /// A fresh UUID and a seed.
    fn entropy(&self) -> (Uuid, u64);
    /// Called after a write when there is somebody to send it to.
    fn waker(&self) -> Arc<dyn Fn() + Send + Sync>;
    /// The cache of this name, made now if it is not open; [`close`](Self::close) is owed for it. `None` if the node was shut down.
    fn open(&self, name: &str, make: &mut dyn FnMut() -> Option<Arc<dyn Port>>) -> Option<Arc<dyn Port>>;
    /// Waits until a cache is ready.
    fn ready(&self, cache: &str, timeout: Duration) -> ReadyFuture;
    /// Runs a task to its end: in the runtime of the caller, or else in one of its own. `false` if
    /// there is none; the task is dropped then.
    fn spawn(&self, task: Task) -> bool;
    /// Whether this thread alone drives the runtime it is in: no task there makes progress while it is blocked.
    fn is_sole_driver(&self) -> bool;
    /// Runs a task that must go on whatever becomes of the caller's runtime, and that never blocks its thread. `false` if that
    /// cannot be.
    fn spawn_apart(&self, task: Task) -> bool;
    /// Runs a task on a thread of its own, unless there are many such. `false` if there can be none; the task is dropped then.
    fn spawn_alone(&self, task: Task) -> bool;
    /// A handle that [`open`](Self::open) was asked for is gone. With the last one the cache is closed, once a member has what was
    /// written there, or after some seconds.
    fn close(&self, port: &Arc<dyn Port>);
    /// Resolves after this time, in whatever runtime it is polled.
    fn sleep(&self, duration: Duration) -> Task;
}

/// Encoded bytes and their receivers.
#[derive(Debug)]
pub struct Parcel {
    /// Who gets them.
    pub to: Vec<ReplicaId>,
    /// The message.
    pub bytes: Bytes,
    /// [`Port::sent`] is to be called for each receiver.
    pub bulk: bool,
}

/// What a cache holds and whom it knows.
#[derive(Clone, Debug)]
pub struct CacheStatus {
    /// The first member whose whole state it has had.
    pub caught_up: Option<CaughtUp>,
    /// Members known to have it open, live or not yet forgotten.
    pub members: Vec<ReplicaId>,
    /// Those of them that are believed to be alive.
    pub live: Vec<ReplicaId>,
    /// Values here.
    pub entries: u64,
}

/// An open cache, as its node sees it.
pub trait Port: Any + Inspect + Send + Sync {
    /// The cache's name.
    fn name(&self) -> &Arc<str>;
    /// This opening of it.
    fn id(&self) -> ReplicaId;
    /// For the typed handle.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// A message for this cache came. Returns whether it was understood.
    fn deliver(&self, bytes: Bytes) -> bool;
    /// The next parcel to send.
    fn poll(&self) -> Option<Parcel>;
    /// A bulk parcel has left, or could not be sent.
    fn sent(&self, to: ReplicaId, ok: bool);
    /// Lets time pass; returns the monotonic time of the next call. That is now if there is something to [`poll`](Self::poll).
    fn tick(&self) -> u64;
    /// A digest for whoever has just appeared.
    fn greeting(&self) -> Option<Bytes>;
    /// The failure detector calls a member dead.
    fn member_down(&self, id: ReplicaId);
    /// A member will not return.
    fn member_left(&self, id: ReplicaId);
    /// Whether this node has peers at all: without, writes wake nobody.
    fn set_connected(&self, connected: bool);
    /// The node is down: there is nobody any more, and nobody lets time pass but who writes.
    fn detach(&self);
    /// Whether there are others who may have this cache open and were not heard yet.
    fn await_company(&self, awaits: bool);
    /// Whether members may be there that this cache has not met: callers that wait for members wait for them too.
    fn expect_members(&self, expects: bool);
    /// As last said by [`expect_members`](Self::expect_members).
    fn expects_members(&self) -> bool;
    /// Whether no member has some own write, and one may still take it.
    fn has_unsent(&self) -> bool;
    /// How many own writes no member is known to have, those of the last call left out.
    fn count_unsent(&self) -> u64;
    /// Returns what this cache holds and whom it knows, for its node.
    fn status(&self) -> CacheStatus;
}

impl<K: CacheKey, V: CacheValue> wire::Intake<K, V> for Shared<K, V> {
    fn hash(&self, key: &Key<K>) -> u64 {
        match key {
            Key::Known(key) => self.hash(key),
            Key::Opaque(bytes) => self.hash::<[u8]>(bytes),
        }
    }

    fn weigh(&self, key: &K, value: &V) -> u32 {
        self.weigher.as_ref().map_or(1, |weigh| weigh(key, value))
    }
}

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    fn decode(&self, bytes: Bytes) -> Option<(ReplicaId, Message<K, V>)> {
        let decoded = catch_unwind(AssertUnwindSafe(|| wire::decode::<K, V>(&bytes, self, &self.wire_limits)));
        match decoded {
            Ok(Ok(decoded)) => {
                self.counts.intake.undecodable_values.add(u64::from(decoded.undecodable_values));
                self.counts.intake.undecodable_keys.add(u64::from(decoded.undecodable_keys));
                decoded.message.map(|message| (decoded.envelope.from, message))
            }
            Ok(Err(error)) => {
                self.count_malformed(&error.to_string());
                None
            }
            Err(_) => {
                self.count_malformed("a user type panicked while it was decoded");
                None
            }
        }
    }

    fn count_malformed(&self, error: &str) {
        let before = self.counts.intake.malformed.fetch_one();
        if before.is_power_of_two() || before == 0 {
            tracing::warn!(cache = %self.name, count = before + 1, error, "a message was not understood and is ignored");
        }
    }

    fn parcel(&self, now: Now, transmit: Transmit<K, V>) -> Option<Parcel> {
        let Transmit { to, message, bulk } = transmit;
        match catch_unwind(AssertUnwindSafe(|| self.encode(&message))) {
            Ok(Ok(bytes)) => {
                self.counts.bytes_out.of(&message).add((bytes.len() * to.len()) as u64);
                return Some(Parcel { to, bytes, bulk });
            }
            Ok(Err(error)) => tracing::error!(cache = %self.name, %error, "a message could not be encoded"),
            Err(_) => tracing::error!(cache = %self.name, "a user type panicked while it was encoded"),
        }
        self.give_up_unencodable(now, &message);
        if bulk {
            to.iter().for_each(|id| self.with_engine(now, |engine| engine.replica.handle_sent(now, *id, false)));
        }
        None
    }

    /// One entry that was serialised when it was written and no longer is would hold up everything behind it for ever.
    fn give_up_unencodable(&self, now: Now, message: &Message<K, V>) {
        let bad = message.entries().filter_map(|entry| {
            let what = wire::unencodable(&entry.item)?;
            Some((entry.hash, ItemRef::clone(&entry.item), entry.dot(), what))
        });
        let mut given_up = 0;
        for (hash, item, dot, what) in bad.collect::<Vec<_>>() {
            let found = self.with_engine(now, |engine| engine.replica.give_up(now, hash, &item.key, dot, what));
            given_up += u64::from(found);
        }
        if given_up > 0 {
            tracing::error!(cache = %self.name, entries = given_up, "entries that no longer serialise were removed");
        }
        self.counts.intake.unencodable.add(given_up.max(1));
    }

    /// Another process goes by our id: takes another. What is left is to be dropped without the lock.
    fn renew(&self, now: Now, engine: &mut Engine<K, V>) -> Option<Remains<K, V>> {
        let (uuid, seed) = self.around.host.entropy();
        let id = ReplicaId::from_uuid(uuid);
        let remains = engine.replica.renew(now, id, seed)?;
        *self.id.lock() = id;
        Some(remains)
    }
}

impl<K: CacheKey, V: CacheValue> Port for Shared<K, V> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn id(&self) -> ReplicaId {
        self.id()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn deliver(&self, bytes: Bytes) -> bool {
        let size = bytes.len();
        let Some((from, message)) = self.decode(bytes) else { return false };
        self.counts.bytes_in.of(&message).add(size as u64);
        let now = self.around.time.now();
        let handled = catch_unwind(AssertUnwindSafe(|| {
            let remains = self.with_engine(now, |engine| {
                engine.replica.handle_message(now, from, message);
                engine.replica.needs_new_id(now).then(|| self.renew(now, engine)).flatten()
            });
            super::drop_quietly(remains);
        }));
        self.progress.notify(usize::MAX);
        if handled.is_err() {
            self.count_malformed("a user type panicked while it was merged");
        }
        handled.is_ok()
    }

    fn poll(&self) -> Option<Parcel> {
        let now = self.around.time.now();
        loop {
            let transmit = self.with_engine(now, |engine| engine.replica.poll_transmit(now))?;
            if let Some(parcel) = self.parcel(now, transmit) {
                return Some(parcel);
            }
        }
    }

    fn sent(&self, to: ReplicaId, ok: bool) {
        let now = self.around.time.now();
        self.with_engine(now, |engine| engine.replica.handle_sent(now, to, ok));
    }

    fn tick(&self) -> u64 {
        let now = self.around.time.now();
        #[cfg(feature = "metrics")]
        super::metrics_facade::publish_if_due(self, now.mono);
        self.with_engine(now, |engine| {
            if engine.replica.poll_timeout(now) <= now.mono {
                engine.replica.handle_timeout(now);
                // What became due is sent in the next turn, so the next turn must not wait for the next timer.
                if engine.replica.may_transmit() {
                    return now.mono;
                }
            }
            engine.replica.poll_timeout(now)
        })
    }

    fn greeting(&self) -> Option<Bytes> {
        let now = self.around.time.now();
        let digest = self.with_engine(now, |engine| engine.replica.greeting(now));
        self.encode(&Message::Digest(digest)).ok()
    }

    fn member_down(&self, id: ReplicaId) {
        let now = self.around.time.now();
        self.with_engine(now, |engine| engine.replica.handle_member_down(now, id));
        self.progress.notify(usize::MAX);
    }

    fn member_left(&self, id: ReplicaId) {
        let now = self.around.time.now();
        self.with_engine(now, |engine| engine.replica.handle_member_left(now, id));
        self.progress.notify(usize::MAX);
    }

    fn set_connected(&self, connected: bool) {
        self.company.connected.store(connected, Ordering::Relaxed);
    }

    fn detach(&self) {
        let now = self.around.time.now();
        self.set_connected(false);
        self.company.detached.store(true, Ordering::Release);
        self.company.expecting.store(false, Ordering::Release);
        self.with_engine(now, |engine| {
            for member in engine.replica.view().live_members() {
                engine.replica.handle_member_down(now, member);
            }
        });
        self.progress.notify(usize::MAX);
    }

    fn await_company(&self, awaits: bool) {
        self.engine.lock().replica.await_company(awaits);
    }

    fn expect_members(&self, expects: bool) {
        if self.company.expecting.swap(expects, Ordering::AcqRel) && !expects {
            self.progress.notify(usize::MAX);
        }
    }

    fn expects_members(&self) -> bool {
        self.company.expecting.load(Ordering::Acquire)
    }

    fn has_unsent(&self) -> bool {
        !self.company.detached.load(Ordering::Acquire) && self.engine.lock().replica.view().has_unsent()
    }

    fn count_unsent(&self) -> u64 {
        let count = self.engine.lock().replica.count_unsent();
        count.saturating_sub(self.company.unsent_counted.swap(count, Ordering::AcqRel))
    }

    fn status(&self) -> CacheStatus {
        let engine = self.engine.lock();
        let replica = &engine.replica;
        CacheStatus {
            caught_up: replica.view().caught_up(),
            members: replica.view().peers().map(|peer| peer.id).collect(),
            live: replica.view().live_members(),
            entries: replica.view().live_len(),
        }
    }
}
