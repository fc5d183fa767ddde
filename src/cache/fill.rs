//! The filler barrier: a miss is filled once, however many ask, and never over something newer.

use std::error::Error;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use equivalent::Equivalent;
use tracing::Instrument;

use super::fill_error::{Failure, FillError};
use super::fill_task::FillTask;
use super::filled::{Filled, Keep};
use super::flight::{Flight, Outcome};
use super::waits::{self, Deadlock, Inside, Waiting};
use super::work::{Brought, Work};
use super::{Cache, CacheKey, CacheValue, Shared, turn};
use crate::hlc::{Now, nanos};
use crate::item::{Body, Item, ItemRef, Key};
use crate::sync::Arc;

/// How a caller that missed goes on.
enum Boarding<K, V> {
    /// The value has come meanwhile.
    Found(ItemRef<K, V>),
    /// Somebody fills already.
    Join(Arc<Flight<K, V>>),
    /// The caller's filler is the one that runs.
    Lead(Arc<Flight<K, V>>),
}

impl<K: CacheKey, V: CacheValue> Cache<K, V> {
    /// The value of a key; if there is none, the filler's, which is then cached on every node.
    ///
    /// However many callers miss at once, one filler runs on this node. A caller that comes after a
    /// write, delete or invalidation of the key does not join a fill from before it. The filler runs
    /// as a task of its own, in the caller's tokio runtime or else in one of the node: a caller that
    /// is dropped drops only itself.
    ///
    /// A fill is joined and waited for by callers that joined it for at most `replication.fill_hold` (30 s) after its start; then they run
    /// their own filler. The caller whose filler runs waits for as long as [`fill_timeout`](super::CacheBuilder::fill_timeout) says. A
    /// filler that the caller's runtime does not begin within a second, because its thread is blocked (by the `block_on` of another
    /// executor, for instance), runs on a thread of its own.
    ///
    /// Whatever is written or deleted anywhere after the fill began beats it, whether it arrives
    /// before or after the fill ends. A fill that lost is handed to its callers and not cached.
    ///
    /// # Panics
    /// If there is no value to return: the filler panicked, the fill took longer than
    /// [`fill_timeout`](super::CacheBuilder::fill_timeout), a filler waits for its own key, maybe through others, the runtime
    /// it ran in has ended or none could be started; or this call joined a [`try_get_with`](Self::try_get_with) of the
    /// same key, whose filler failed. Use that form to get an error instead, for all callers of a key.
    pub async fn get_with<F, Fut>(&self, key: K, filler: F) -> V
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        let filled = self.fill(key, move || async move { Ok(Filled::new(filler().await)) }).await;
        filled.unwrap_or_else(|failure| no_value(failure))
    }

    /// As [`get_with`](Self::get_with), with a filler that can fail.
    ///
    /// # Errors
    /// The filler failed, this caller's or that of the caller whose fill this one joined; it panicked or took too long; it waits for
    /// its own key, maybe through others; or its runtime has ended or could not be started. Everybody who waited for it is told once; nothing is cached; the next call runs its own filler.
    pub async fn try_get_with<F, Fut, E>(&self, key: K, filler: F) -> Result<V, FillError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        self.fill_with(key, move || async move { filler().await.map(Filled::new) }).await
    }

    /// As [`try_get_with`](Self::try_get_with), with a filler that decides how long its value is kept,
    /// and whether it is at all. See [`Filled`].
    ///
    /// # Errors
    /// As [`try_get_with`](Self::try_get_with).
    pub async fn fill_with<F, Fut, E>(&self, key: K, filler: F) -> Result<V, FillError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Filled<V>, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let filled = self.fill(key, move || async move { filler().await.map_err(Failure::of) }).await;
        filled.map_err(Failure::typed)
    }

    /// As [`get_with`](Self::get_with), without a runtime: the filler runs on the calling thread, and
    /// threads that join it block. Do not call it from async code.
    ///
    /// # Panics
    /// As [`get_with`](Self::get_with); and if the fill to be joined runs in a runtime that only this thread drives, for then it would
    /// never end ([`FillError::WouldBlock`]). A filler that takes longer than `fill_timeout` cannot be
    /// interrupted: those who wait for it panic in time, and its own caller once it has returned; its value is thrown away.
    pub fn get_with_blocking(&self, key: K, filler: impl FnOnce() -> V) -> V {
        self.fill_blocking(key, || Ok(Filled::new(filler()))).unwrap_or_else(|failure| no_value(failure))
    }

    /// As [`get_with_blocking`](Self::get_with_blocking), with a filler that can fail.
    ///
    /// # Errors
    /// As [`try_get_with`](Self::try_get_with).
    pub fn try_get_with_blocking<E>(&self, key: K, filler: impl FnOnce() -> Result<V, E>) -> Result<V, FillError<E>>
    where
        E: Error + Send + Sync + 'static,
    {
        self.fill_with_blocking(key, || filler().map(Filled::new))
    }

    /// As [`try_get_with_blocking`](Self::try_get_with_blocking), with a filler that decides how long
    /// its value is kept. See [`Filled`].
    ///
    /// # Errors
    /// As [`try_get_with`](Self::try_get_with).
    pub fn fill_with_blocking<E>(
        &self,
        key: K,
        filler: impl FnOnce() -> Result<Filled<V>, E>,
    ) -> Result<V, FillError<E>>
    where
        E: Error + Send + Sync + 'static,
    {
        self.fill_blocking(key, || filler().map_err(Failure::of)).map_err(Failure::typed)
    }

    /// As [`get_with`](Self::get_with), by a borrowed key: it is made an owned one only on a miss.
    ///
    /// # Panics
    /// As [`get_with`](Self::get_with).
    pub async fn get_with_by_ref<Q, F, Fut>(&self, key: &Q, filler: F) -> V
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        let filled = self.fill_by_ref(key, move || async move { Ok(Filled::new(filler().await)) }).await;
        filled.unwrap_or_else(|failure| no_value(failure))
    }

    /// As [`try_get_with`](Self::try_get_with), by a borrowed key: it is made an owned one only on a miss.
    ///
    /// # Errors
    /// As [`try_get_with`](Self::try_get_with).
    pub async fn try_get_with_by_ref<Q, F, Fut, E>(&self, key: &Q, filler: F) -> Result<V, FillError<E>>
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let filler = move || async move { filler().await.map(Filled::new).map_err(Failure::of) };
        self.fill_by_ref(key, filler).await.map_err(Failure::typed)
    }

    /// As [`get_with_blocking`](Self::get_with_blocking), by a borrowed key: it is made an owned one only
    /// on a miss.
    ///
    /// # Panics
    /// As [`get_with_blocking`](Self::get_with_blocking).
    pub fn get_with_by_ref_blocking<Q>(&self, key: &Q, filler: impl FnOnce() -> V) -> V
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
    {
        self.fill_by_ref_blocking(key, || Ok(Filled::new(filler()))).unwrap_or_else(|failure| no_value(failure))
    }

    /// As [`try_get_with_blocking`](Self::try_get_with_blocking), by a borrowed key: it is made an owned one
    /// only on a miss.
    ///
    /// # Errors
    /// As [`try_get_with`](Self::try_get_with).
    pub fn try_get_with_by_ref_blocking<Q, E>(
        &self,
        key: &Q,
        filler: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, FillError<E>>
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
        E: Error + Send + Sync + 'static,
    {
        self.fill_by_ref_blocking(key, || filler().map(Filled::new).map_err(Failure::of)).map_err(Failure::typed)
    }

    async fn fill<F, Fut>(&self, key: K, filler: F) -> Result<V, Failure>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Filled<V>, Failure>> + Send + 'static,
    {
        match self.get(&key) {
            Some(value) => Ok(value),
            None => self.fill_missing(key, filler).await,
        }
    }

    async fn fill_by_ref<Q, F, Fut>(&self, key: &Q, filler: F) -> Result<V, Failure>
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Filled<V>, Failure>> + Send + 'static,
    {
        match self.get(key) {
            Some(value) => Ok(value),
            None => self.fill_missing(key.to_owned(), filler).await,
        }
    }

    async fn fill_missing<F, Fut>(&self, key: K, filler: F) -> Result<V, Failure>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Filled<V>, Failure>> + Send + 'static,
    {
        loop {
            match self.shared.board(&key) {
                Boarding::Found(item) => return value_of(&Ok(item)),
                Boarding::Join(flight) => {
                    let _waiting = self.shared.wait_for(&flight)?;
                    if let Some(outcome) = self.shared.await_joined(&flight).await {
                        return value_of(outcome);
                    }
                }
                Boarding::Lead(flight) => {
                    let _waiting = self.shared.wait_for(&flight)?;
                    let work = self.work(&flight, filler);
                    self.shared.take_off(&flight, work);
                    drop(key);
                    return value_of(self.shared.await_own(&flight).await);
                }
            }
        }
    }

    /// The filler, after its turn has come.
    ///
    /// It runs as a task of its own, in a span of the caller's: what it logs belongs to the request that missed.
    fn work<F, Fut>(&self, flight: &Arc<Flight<K, V>>, filler: F) -> Work<K, V>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Filled<V>, Failure>> + Send + 'static,
    {
        let turn = self.shared.turn(flight, self.patience);
        let span = tracing::info_span!("driftless.fill", cache = %self.shared.name);
        let filler = async move { filler().await.map(Brought::Filled) }.instrument(span);
        if turn.is_zero() {
            return Box::pin(filler);
        }
        let (shared, flight) = (Arc::downgrade(&self.shared), Arc::clone(flight));
        Box::pin(async move {
            match turn::await_arrival(shared, flight, turn).await {
                Some(item) => Ok(Brought::Arrived(item)),
                None => filler.await,
            }
        })
    }

    fn fill_blocking(&self, key: K, filler: impl FnOnce() -> Result<Filled<V>, Failure>) -> Result<V, Failure> {
        match self.get(&key) {
            Some(value) => Ok(value),
            None => self.fill_missing_blocking(key, filler),
        }
    }

    fn fill_by_ref_blocking<Q>(
        &self,
        key: &Q,
        filler: impl FnOnce() -> Result<Filled<V>, Failure>,
    ) -> Result<V, Failure>
    where
        Q: Equivalent<K> + Hash + ToOwned<Owned = K> + ?Sized,
    {
        match self.get(key) {
            Some(value) => Ok(value),
            None => self.fill_missing_blocking(key.to_owned(), filler),
        }
    }

    fn fill_missing_blocking(&self, key: K, filler: impl FnOnce() -> Result<Filled<V>, Failure>) -> Result<V, Failure> {
        loop {
            match self.shared.board(&key) {
                Boarding::Found(item) => return value_of(&Ok(item)),
                Boarding::Join(flight) => {
                    if flight.handover.is_driven_here() {
                        self.shared.counts.fills.deadlocks.one();
                        return Err(Failure::WouldBlock);
                    }
                    let _waiting = self.shared.wait_for(&flight)?;
                    if let Some(outcome) = self.shared.await_joined_blocking(&flight) {
                        return value_of(outcome);
                    }
                }
                Boarding::Lead(flight) => {
                    let _waiting = self.shared.wait_for(&flight)?;
                    let turn = self.shared.turn(&flight, self.patience);
                    self.shared.fly_here(&flight, turn, filler);
                    drop(key);
                    return value_of(flight.outcome_blocking());
                }
            }
        }
    }
}

/// The value of an outcome. Clones it: to be called outside of locks.
fn value_of<K, V: Clone>(outcome: &Outcome<K, V>) -> Result<V, Failure> {
    match outcome {
        // A fill brings a known value, always.
        Ok(item) => item.value().cloned().ok_or(Failure::Abandoned),
        Err(failure) => Err(failure.clone()),
    }
}

fn no_value<V>(failure: Failure) -> V {
    let error: FillError<std::convert::Infallible> = failure.typed();
    panic!("get_with has no value to return: {error}")
}

impl<K: CacheKey, V: CacheValue> Shared<K, V> {
    fn board(&self, key: &K) -> Boarding<K, V> {
        let now = self.around.time.now();
        let hash = self.hash(key);
        // User types are cloned before and dropped after the lock is held.
        let mut key = Some(Key::Known(key.clone()));
        let mut replaced = None;
        self.with_engine(now, |engine| {
            let Some(known) = key.take() else { unreachable!("taken once") };
            let found = engine.replica.view().find_key(hash, &known).filter(|found| self.is_readable(found));
            if let Some(found) = found {
                key = Some(known);
                return Boarding::Found(found.item);
            }
            if let Some(flight) = engine.flights.find(hash, &known)
                && now.mono.saturating_sub(flight.begun) < nanos(self.join_bound())
                && !engine.replica.view().is_fill_overtaken(&flight.ticket, hash, &known)
            {
                key = Some(known);
                return Boarding::Join(Arc::clone(flight));
            }
            let ticket = engine.replica.begin_fill(now, hash, &known);
            let flight = Arc::new(Flight::new(hash, known, ticket, now.mono));
            replaced = engine.flights.put(Arc::clone(&flight));
            Boarding::Lead(flight)
        })
    }

    /// Begins a fill that nothing runs.
    #[cfg(test)]
    pub(super) fn board_for_test(&self, key: &K) -> Option<Arc<Flight<K, V>>> {
        match self.board(key) {
            Boarding::Lead(flight) => Some(flight),
            Boarding::Found(_) | Boarding::Join(_) => None,
        }
    }

    /// Refuses a filler that would wait for itself.
    fn wait_for(&self, flight: &Flight<K, V>) -> Result<Waiting, Failure> {
        waits::wait_for(flight.number).map_err(|deadlock| {
            self.counts.fills.deadlocks.one();
            match deadlock {
                Deadlock::OwnKey => Failure::OwnKey,
                Deadlock::Cycle => Failure::Cycle,
            }
        })
    }

    /// Starts a fill as a task of its own.
    fn take_off(self: &Arc<Self>, flight: &Arc<Flight<K, V>>, work: Work<K, V>) {
        // The caller's runtime may be driven only while it waits for something; its time runs out all the same.
        self.watch(flight);
        let limit = self.settings.fill_timeout.map(|limit| (limit, self.around.host.sleep(limit)));
        flight.handover.put(work);
        let task = FillTask::new(self, flight, limit);
        if !self.around.host.spawn(Box::pin(task)) {
            self.land(flight, Err(Failure::NoRuntime));
        }
    }

    /// Runs a fill on this thread.
    fn fly_here(
        self: &Arc<Self>,
        flight: &Arc<Flight<K, V>>,
        turn: Duration,
        filler: impl FnOnce() -> Result<Filled<V>, Failure>,
    ) {
        self.watch(flight);
        if let Some(item) = self.await_arrival_blocking(flight, turn) {
            return self.land(flight, Ok(Brought::Arrived(item)));
        }
        let result = {
            let _inside = Inside::of(flight.number);
            catch_unwind(AssertUnwindSafe(filler)).unwrap_or_else(|payload| Err(Failure::panicked(payload)))
        };
        self.land(flight, result.map(Brought::Filled));
    }

    /// Releases those who wait for a fill once its time is up, whatever it runs on.
    fn watch(self: &Arc<Self>, flight: &Arc<Flight<K, V>>) {
        let Some(limit) = self.settings.fill_timeout else { return };
        let landed = Arc::clone(flight);
        let work: Work<K, V> = Box::pin(async move {
            landed.outcome().await;
            Err(Failure::Abandoned) // Too late to be anybody's outcome.
        });
        let task = FillTask::new(self, flight, Some((limit, self.around.host.sleep(limit)))).with_work(work);
        let _ = self.around.host.spawn_apart(Box::pin(task));
    }

    /// Ends a fill, if it has not ended: stores what it brought, then tells everybody.
    pub(crate) fn land(&self, flight: &Arc<Flight<K, V>>, result: Result<Brought<K, V>, Failure>) {
        if !flight.claim_landing() {
            return super::drop_quietly([result]);
        }
        let stored = catch_unwind(AssertUnwindSafe(|| self.store_fill(flight, result)));
        let outcome = stored.unwrap_or_else(|payload| {
            self.abort(flight);
            Err(Failure::panicked(payload))
        });
        self.counts.fills.note(&outcome);
        flight.land(outcome);
    }

    fn store_fill(&self, flight: &Arc<Flight<K, V>>, result: Result<Brought<K, V>, Failure>) -> Outcome<K, V> {
        let filled = match result {
            Ok(Brought::Filled(filled)) => filled,
            Ok(Brought::Arrived(item)) => {
                self.abort(flight);
                self.counts.fills.arrived.one();
                return Ok(item);
            }
            Err(failure) => {
                self.abort(flight);
                return Err(failure);
            }
        };
        self.counts.fills.filled.one();
        let now = self.around.time.now();
        let time_to_live = match filled.keep {
            Keep::AsConfigured => self.settings.time_to_live,
            Keep::For(time) => Some(time),
            Keep::Forever | Keep::Not => None,
        };
        let item = ItemRef::new(Item { key: flight.key.clone(), body: Body::Known(filled.value) });
        if filled.keep == Keep::Not {
            self.abort(flight);
            self.counts.fills.uncached.one();
            return Ok(item);
        }
        match self.prepare_item(now, flight.hash, &item, time_to_live) {
            Ok(write) => self.finish(now, flight, write),
            Err(error) => {
                self.abort(flight);
                let before = self.counts.fills.refused.fetch_one();
                if before.is_power_of_two() || before == 0 {
                    tracing::warn!(cache = %self.name, count = before + 1, %error, "a filled value was returned and not cached");
                }
            }
        }
        Ok(item)
    }

    fn finish(&self, now: Now, flight: &Arc<Flight<K, V>>, write: crate::replica::Write<K, V>) {
        let kept = ItemRef::clone(&write.item);
        let _joinable = self.with_engine(now, |engine| {
            let stored = engine.replica.finish_fill(now, &flight.ticket, write);
            if stored.is_none() {
                self.counts.fills.lost.one();
            }
            engine.flights.remove(flight)
        });
        drop(kept); // Not under the lock, if nobody else has it.
        self.wake_driver();
    }

    fn abort(&self, flight: &Arc<Flight<K, V>>) {
        let _joinable = self.with_engine(self.around.time.now(), |engine| {
            engine.replica.abort_fill(&flight.ticket);
            engine.flights.remove(flight)
        });
    }
}
