//! One replica of one cache: a machine without IO, clock or randomness of its own.
//!
//! # How to drive it
//!
//! - **Getters** change nothing.
//! - **Commands** (`write`, `delete`, `invalidate_all`, `evict`, `begin_fill`, …) are what the user
//!   of the cache does.
//! - **`handle_*`** tell the machine what happened: a message came, a send ended, a member left,
//!   time passed.
//! - **`poll_*`** take out what it wants done.
//!
//! After any command or `handle_*` call, drain in this order:
//!
//! 1. [`Replica::poll_change`] until `None`: what readers see has already changed; this says how.
//! 2. [`Replica::poll_transmit`] until `None`: messages to encode and send. Large ones are cut one
//!    at a time, and a peer gets the next only after [`Replica::handle_sent`] for the one before. That is owed for each
//!    receiver of a message that is [`Transmit::bulk`], and for no other.
//! 3. After a message: if `needs_new_id` says so, call `renew`.
//! 4. [`Replica::poll_timeout`]: call [`Replica::handle_timeout`] at that monotonic time.
//!
//! These are all its effects. What it no longer needs of keys and values waits for `take_garbage`, to be dropped
//! outside of any lock. The same calls with the same arguments give the same effects: so the simulator replays a failure.

use crate::crdt::Dot;
use crate::env::Env;
use crate::hlc::{HlcTime, Now, Stamp};
use crate::item::Key;
use crate::ledger::registers::Garbage;
use crate::ledger::{self, Ledger, epoch, evict, fill, local};
use crate::members::Members;
use crate::message::{Digest, Message};
use crate::outbox::{Outbox, Wanted};
use crate::protocol::{Context, Conversations, digests};
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;
use crate::wire::Unencodable;

mod due;
#[cfg(test)]
mod laws;
mod renew;
pub(crate) mod report;
#[cfg(test)]
mod schedules;
pub(crate) mod view;

#[cfg(any(test, feature = "sim"))]
pub use crate::bugs::Bugs;
pub use crate::config::{ConfigError, ReplicaConfig};
pub use crate::counters::Counters;
pub use crate::item::CoreKey;
pub(crate) use crate::ledger::changes::Watch;
pub use crate::ledger::changes::{Change, Effect, RemovalCause, RemovalStats};
pub(crate) use crate::ledger::evict::Evicted;
pub use crate::ledger::fill::FillTicket;
pub(crate) use crate::ledger::local::Removed;
pub use crate::ledger::local::Write;
pub use crate::members::{CaughtUp, PeerView, Skew, StableCut};
pub use crate::message::FillBound;
pub use crate::outbox::Transmit;
pub(crate) use renew::Remains;
pub use report::PeerLag;
pub(crate) use report::ReplicaReport;
pub use view::View;

/// One replica. See the [module](self).
pub struct Replica<K, V> {
    env: Env,
    ledger: Ledger<K, V>,
    members: Members,
    outbox: Outbox<K, V>,
    conversations: Conversations<K, V>,
    /// When stability is looked at next, by monotonic time.
    collect_due: u64,
}

impl<K: CoreKey, V> Replica<K, V> {
    /// A new replica. `id` was never used before; `seed` feeds its choices among peers.
    ///
    /// # Errors
    /// If a knob of `config` is out of range.
    pub fn new(id: ReplicaId, config: ReplicaConfig, seed: u64, now: Now) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut env = Env::new(id, config, fastrand::Rng::with_seed(seed), now);
        let conversations = Conversations::new(&mut env);
        Ok(Self {
            ledger: Ledger::new(&env),
            members: Members::default(),
            outbox: Outbox::default(),
            conversations,
            collect_due: now.mono + due::collect_every(&env),
            env,
        })
    }

    /// One call, at this moment.
    fn call<T>(&mut self, now: Now, work: impl FnOnce(&mut Self) -> T) -> T {
        self.env.now = now;
        let done = work(self);
        let (conversations, mut cx) = self.parts();
        conversations.end_call(&mut cx);
        done
    }

    /// The conversations, and what they may look at and change.
    fn parts(&mut self) -> (&mut Conversations<K, V>, Context<'_, K, V>) {
        let Self { env, ledger, members, outbox, conversations, .. } = self;
        (conversations, Context { env, ledger, members, outbox })
    }

    /// What it holds, and what it believes of its members.
    #[must_use]
    pub fn view(&self) -> View<'_, K, V> {
        View { env: &self.env, ledger: &self.ledger, members: &self.members, conversations: &self.conversations }
    }

    /// Writes a value. Every replica will have it, or something newer.
    pub fn write(&mut self, now: Now, write: Write<K, V>) -> Stamp {
        self.call(now, |it| local::write(&mut it.ledger, &mut it.env, write))
    }

    /// Deletes a key, also one never heard of: the write may still be on its way. Returns the stamp
    /// of the delete, and the register it replaced if that was a readable value.
    pub fn delete(&mut self, now: Now, write: Write<K, V>) -> (Stamp, Option<Removed<K, V>>) {
        self.call(now, |it| local::delete(&mut it.ledger, &mut it.env, write))
    }

    /// Gives up a register that can no longer be told to anybody, if it is still there: a value becomes a `Void` tombstone, so that no
    /// replica keeps what it overwrote; what has a key that cannot be told goes without a trace.
    pub(crate) fn give_up(&mut self, now: Now, hash: u64, key: &Key<K>, dot: Dot, what: Unencodable) -> bool {
        self.call(now, |it| local::give_up(&mut it.ledger, &mut it.env, (hash, key, dot), what))
    }

    /// Gives up the value in a place to stay within capacity. Local: other replicas keep theirs.
    pub(crate) fn evict(&mut self, now: Now, slot: SlotRef) -> Evicted {
        self.call(now, |it| evict::evict(&mut it.ledger, &mut it.env, &it.members, slot))
    }

    /// Invalidates everything stamped up to now, everywhere, including what has not arrived yet.
    pub fn invalidate_all(&mut self, now: Now) -> HlcTime {
        self.call(now, |it| epoch::invalidate_all(&mut it.ledger, &mut it.env))
    }

    /// Begins a fill of `key`, before its source is read.
    pub fn begin_fill(&mut self, now: Now, hash: u64, key: &Key<K>) -> FillTicket {
        self.call(now, |it| fill::begin(&mut it.ledger, &mut it.env, hash, key))
    }

    /// Ends a fill with a value. Returns its stamp if the value was stored; `None` if something newer
    /// is here or may have been collected meanwhile, and the value is for the caller only.
    pub fn finish_fill(&mut self, now: Now, ticket: &FillTicket, write: Write<K, V>) -> Option<Stamp> {
        self.call(now, |it| fill::finish(&mut it.ledger, &mut it.env, ticket, write))
    }

    /// Ends a fill without a value.
    pub fn abort_fill(&mut self, ticket: &FillTicket) {
        fill::abort(&mut self.ledger, ticket);
    }

    /// A message came from another replica of this cache.
    pub fn handle_message(&mut self, now: Now, from: ReplicaId, message: Message<K, V>) {
        self.converse(now, |conversations, cx| conversations.handle(cx, from, message));
    }

    fn converse<T>(&mut self, now: Now, work: impl FnOnce(&mut Conversations<K, V>, &mut Context<'_, K, V>) -> T) -> T {
        self.call(now, |it| {
            let (conversations, mut cx) = it.parts();
            work(conversations, &mut cx)
        })
    }

    /// Makes a digest for a process whose replica is no live member here. The receiver answers it. Also moves our own vector entry with
    /// our clock: silence is information.
    pub fn greeting(&mut self, now: Now) -> Digest {
        self.converse(now, |_, cx| cx.digest(None, Wanted { greets: true, ..Wanted::default() }))
    }

    /// A member that has this cache open may have appeared: it is told of us, again and again until
    /// it answers or is found dead.
    pub fn greet(&mut self, now: Now, to: ReplicaId) {
        self.converse(now, |_, cx| digests::greet(cx, to));
    }

    /// The failure detector calls a member dead. It holds back collection until it is forgotten.
    pub fn handle_member_down(&mut self, now: Now, id: ReplicaId) {
        self.converse(now, |conversations, cx| conversations.note_down(cx, id));
    }

    /// A member left cleanly, restarted, or an operator says it will not return: it is forgotten at
    /// once. If it does return, it gets a reconcile.
    pub fn handle_member_left(&mut self, now: Now, id: ReplicaId) {
        self.converse(now, |conversations, cx| conversations.forget(cx, id));
    }

    /// A bulk message to `to` has left, or could not be sent.
    pub fn handle_sent(&mut self, now: Now, to: ReplicaId, ok: bool) {
        self.converse(now, |conversations, cx| conversations.note_sent(cx, to, ok));
    }

    /// Does what is due. Work is bounded: what is left over asks for another call at once.
    pub fn handle_timeout(&mut self, now: Now) {
        self.call(now, due::run);
    }

    /// The monotonic time at which [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self, now: Now) -> u64 {
        due::next(self, now)
    }

    /// Buries what is expired and sweeps what is invalidated, all of it, now.
    pub fn run_pending(&mut self, now: Now) {
        self.call(now, due::run_pending);
    }

    /// Takes out the next message: digests and acknowledgements first, then fresh writes, then
    /// sessions.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Transmit<K, V>> {
        self.converse(now, |conversations, cx| conversations.poll(cx))
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may return something. Looks at members, not at logs.
    #[must_use]
    pub fn may_transmit(&self) -> bool {
        self.conversations.may_transmit(&self.outbox, &self.members, self.ledger.last_own())
    }

    /// Compares these registers with a member's: an audit of what somebody suspects. Returns how many were sent.
    pub(crate) fn audit_registers(&mut self, with: ReplicaId, slots: &[SlotRef]) -> usize {
        self.conversations.audits.suspect((&self.ledger, &self.env), with, slots)
    }

    /// Whether another process goes by our id, so that [`renew`](Self::renew) is to be called now. Asked once for each time that
    /// somebody says so: what was said within the minute does not count later.
    pub(crate) fn needs_new_id(&mut self, now: Now) -> bool {
        self.ledger.take_is_cloned() && self.members.former().may_renew(now)
    }

    /// Begins anew as another replica, with the own writes of the last moments only. `id` was never used before.
    pub(crate) fn renew(&mut self, now: Now, id: ReplicaId, seed: u64) -> Option<Remains<K, V>> {
        renew::renew(self, now, id, seed)
    }

    /// Takes out the next change of what readers see.
    pub fn poll_change(&mut self) -> Option<Change<K, V>> {
        self.ledger.changes_mut().next()
    }

    /// Takes out the items that were displaced, for the caller to drop once its lock is gone.
    pub(crate) fn take_garbage(&mut self) -> Garbage<K, V> {
        self.ledger.registers_mut().take_garbage()
    }

    /// Puts known bugs back, to prove that the checkers catch them.
    #[cfg(any(test, feature = "sim"))]
    pub fn set_bugs(&mut self, bugs: Bugs) {
        self.env.set_bugs(bugs);
    }

    /// Says who wants to know of changes from now on.
    pub(crate) fn set_watch(&mut self, watch: Watch) {
        self.ledger.changes_mut().watch = watch;
    }

    /// Says whether there are others who have not been heard yet. As long as none has, nothing is removed
    /// without a trace: a floor of our own, from a time when we were alone, would void everything that they
    /// wrote before it and that we have not seen, on all of them.
    pub fn await_company(&mut self, awaits: bool) {
        self.members.await_company(awaits);
    }

    /// Compares every index and count with the registers themselves. Walks over everything: for
    /// tests, the simulator and fuzzers.
    ///
    /// # Errors
    /// Says which invariant does not hold.
    pub fn validate(&mut self) -> Result<(), String> {
        ledger::validate(&mut self.ledger, &self.env)
    }

    /// Counts the own writes and deletes that no member is known to have, whether or not there is a member to send them to.
    /// Overwritten ones do not count. Returns at least one if there is anything to hand over, an invalidation for instance.
    pub fn count_unsent(&mut self) -> u64 {
        let seen = self.members.handed_over(&self.env);
        if seen >= self.ledger.last_own() { 0 } else { self.ledger.count_after(&self.env.id, seen).max(1) }
    }

    /// Returns how far each member is behind our own writes, whose age is counted at this time.
    pub fn lags(&mut self, at: HlcTime) -> Vec<PeerLag> {
        if let Some(log) = self.ledger.logs_mut().get_mut(&self.env.id) {
            log.sort();
        }
        PeerLag::of_all(self.view(), at)
    }

    /// Copies everything about this replica but its registers, for people.
    pub(crate) fn report(&self, now: Now) -> ReplicaReport {
        ReplicaReport::of(self.view(), now)
    }
}
