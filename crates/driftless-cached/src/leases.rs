//! The leases of computations that began with a look-up through the traits, until their values are set.
//!
//! A memoized function looks its key up, computes, and sets. The traits connect neither call to the other, so a lease
//! waits here, under its key and the task or thread that missed it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use driftless::cache::{CacheKey, CacheValue};
use driftless::{Cache, FillLease};

/// The most leases in one generation. A computation that fails never sets, so its lease would stay for ever.
const MOST: usize = 8_192;

/// The age at which a generation is replaced by a new one. The next replacement drops it.
const RENEW_AFTER: Duration = Duration::from_secs(300);

/// The owner of a computation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// A synchronous function, which ends on the thread on which it began.
    Function(ThreadId),
    /// A future in a task of tokio, which may move between threads.
    Task(tokio::task::Id),
    /// A future outside of such a task, for instance in `block_on`.
    Future(ThreadId),
}

impl Caller {
    pub(crate) fn function() -> Self {
        Self::Function(std::thread::current().id())
    }

    pub(crate) fn future() -> Self {
        tokio::task::try_id().map_or_else(|| Self::Future(std::thread::current().id()), Self::Task)
    }
}

/// The fill of a value that is set.
pub(crate) enum Begun<K: CacheKey, V: CacheValue> {
    /// No look-up of this caller has missed the key.
    No,
    /// The lease that the look-up began.
    Lease(Box<FillLease<K, V>>),
    /// Another computation of this caller has set the key meanwhile, with the lease that both share.
    Ended,
}

/// The computations of one key by one caller.
struct Pending<K: CacheKey, V: CacheValue> {
    /// `None` once one of the computations has set its value.
    lease: Option<Box<FillLease<K, V>>>,
    begun: Instant,
    computations: u32,
}

type Generation<K, V> = HashMap<(Caller, K), Pending<K, V>>;

/// The leases of a store, in two generations of at most [`MOST`].
pub(crate) struct Leases<K: CacheKey, V: CacheValue> {
    generations: Mutex<Generations<K, V>>,
}

struct Generations<K: CacheKey, V: CacheValue> {
    young: Generation<K, V>,
    old: Generation<K, V>,
    since: Instant,
}

impl<K: CacheKey, V: CacheValue> Generations<K, V> {
    fn find(&mut self, key: &(Caller, K)) -> Option<&mut Pending<K, V>> {
        self.young.get_mut(key).or_else(|| self.old.get_mut(key))
    }

    /// Removes an entry. Returns it whole, for the caller to drop without the lock.
    fn remove(&mut self, key: &(Caller, K)) -> Option<((Caller, K), Pending<K, V>)> {
        self.young.remove_entry(key).or_else(|| self.old.remove_entry(key))
    }

    /// Begins a new generation if it is time. Returns the one that is then too old.
    fn renew(&mut self) -> Generation<K, V> {
        if self.young.len() < MOST && self.since.elapsed() < RENEW_AFTER {
            return HashMap::new();
        }
        self.since = Instant::now();
        std::mem::replace(&mut self.old, std::mem::take(&mut self.young))
    }
}

impl<K: CacheKey, V: CacheValue> Leases<K, V> {
    pub(crate) fn new() -> Self {
        let generations = Generations { young: HashMap::new(), old: HashMap::new(), since: Instant::now() };
        Self { generations: Mutex::new(generations) }
    }

    /// Begins the lease of a computation whose look-up has missed.
    pub(crate) fn begin(&self, cache: &Cache<K, V>, caller: Caller, key: &K) {
        let place = (caller, key.clone());
        // Futures of one task can compute one key at the same time, for instance in `join_all`. They share the oldest
        // lease, which is no younger than any of them. A function has returned or failed before its thread looks the
        // key up again, so it always gets a new lease.
        let shares = !matches!(caller, Caller::Function(_));
        if shares && self.join(&place, cache.settings().replication.fill_hold) {
            return;
        }
        let lease = Some(Box::new(cache.begin_fill(place.1.clone())));
        let pending = Pending { lease, begun: Instant::now(), computations: 1 };
        // Leases are dropped without the lock, because they lock their cache.
        let (_replaced, _too_old) = {
            let mut generations = self.lock();
            let replaced = generations.remove(&place);
            let too_old = generations.renew();
            generations.young.insert(place, pending);
            (replaced, too_old)
        };
    }

    /// Adds a computation to those that share a lease. Returns false if there is none that can still be completed.
    fn join(&self, place: &(Caller, K), fill_hold: Duration) -> bool {
        let mut generations = self.lock();
        let found = generations.find(place).filter(|pending| pending.begun.elapsed() < fill_hold);
        found.map(|pending| pending.computations += 1).is_some()
    }

    /// Ends a computation whose value is set now.
    pub(crate) fn end(&self, caller: Caller, key: &K) -> Begun<K, V> {
        let (place, _removed);
        place = (caller, key.clone());
        let mut generations = self.lock();
        let Some(pending) = generations.find(&place) else { return Begun::No };
        let lease = pending.lease.take();
        pending.computations -= 1;
        // Dropped after the lock: variables are dropped in the reverse order of their declaration.
        _removed = if pending.computations == 0 { generations.remove(&place) } else { None };
        lease.map_or(Begun::Ended, Begun::Lease)
    }

    /// Locks the leases. A panic of a key's `Eq` leaves the tables whole, so it does not matter.
    fn lock(&self) -> MutexGuard<'_, Generations<K, V>> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
