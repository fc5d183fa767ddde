//! One replica of one cache: a state machine without IO, clock or randomness of its own.
//!
//! # How to drive it
//!
//! - **Getters** change nothing.
//! - **Commands** (`write`, `delete`, `invalidate_all`, `evict`, `begin_fill`, …) are the operations of the cache's
//!   user.
//! - **`handle_*`** report an event to the machine: a message came, a send ended, a member left, time passed.
//! - **`poll_*`** take out the effects that the machine wants.
//!
//! After any command or `handle_*` call, drain in this order:
//!
//! 1. [`Replica::poll_change`] until `None`: each change describes what readers already see.
//! 2. [`Replica::poll_transmit`] until `None`: messages to encode and send. Large messages are cut one at a time. A
//!    member gets the next one only after [`Replica::handle_sent`] for the one before. Call `handle_sent` once for each
//!    receiver of a message that is [`Transmit::bulk`], and for no other message.
//! 3. After a message: if `needs_new_id` returns true, call `renew`.
//! 4. [`Replica::poll_timeout`]: call [`Replica::handle_timeout`] at that monotonic time.
//!
//! The machine has no other effects. Keys and values that it no longer needs wait for `take_garbage`, to be dropped
//! outside of any lock. The same calls with the same arguments have the same effects: the simulator replays failures.

use crate::crdt::Dot;
use crate::env::Env;
use crate::hlc::{HlcTime, Now, Stamp};
use crate::item::Key;
use crate::ledger::{self, Ledger, epoch, evict, fill, local, registers::Garbage};
use crate::members::Members;
use crate::message::{Digest, Message};
use crate::outbox::{Outbox, Wanted};
use crate::protocol::{Context, Conversations, digests};
use crate::replica_id::ReplicaId;
use crate::{store::SlotRef, wire::Unencodable};

pub(crate) mod direct;
mod due;
#[cfg(test)]
mod laws;
mod renew;
pub(crate) mod report;
#[cfg(test)]
mod schedules;
pub(crate) mod stills;
pub(crate) mod view;

#[cfg(any(test, feature = "sim"))]
pub use crate::bugs::Bugs;
pub use crate::config::{ConfigError, ReplicaConfig};
pub use crate::counters::Counters;
pub use crate::item::CoreKey;
pub(crate) use crate::ledger::changes::Watch;
pub use crate::ledger::changes::{Change, Effect, RemovalCause, RemovalStats};
pub(crate) use crate::ledger::evict::{Evicted, Room};
pub use crate::ledger::fill::FillTicket;
pub(crate) use crate::ledger::local::Removed;
pub use crate::ledger::local::Write;
pub use crate::members::{CaughtUp, PeerView, Skew, StableCut};
pub use crate::message::FillBound;
pub use crate::outbox::Transmit;
pub(crate) use renew::FormerState;
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
    /// The monotonic time at which stability is checked next.
    collect_due: u64,
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Creates a replica. `id` must never have been used before; `seed` feeds its random choices among members.
    ///
    /// # Errors
    /// If a setting in `config` is out of range.
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

    /// Runs one call at this time, with the housekeeping at its end.
    fn call<T>(&mut self, now: Now, work: impl FnOnce(&mut Self) -> T) -> T {
        self.env.now = now;
        self.ledger.changes_mut().wall = now.wall;
        let done = work(self);
        let (conversations, mut cx) = self.parts();
        conversations.end_call(&mut cx);
        done
    }

    /// Returns the conversations, and the state that they may read and change.
    fn parts(&mut self) -> (&mut Conversations<K, V>, Context<'_, K, V>) {
        let Self { env, ledger, members, outbox, conversations, .. } = self;
        (conversations, Context { env, ledger, members, outbox })
    }

    /// Returns read access to the registers held here and to what is believed of the members.
    #[must_use]
    pub fn view(&self) -> View<'_, K, V> {
        View { env: &self.env, ledger: &self.ledger, members: &self.members, conversations: &self.conversations }
    }

    /// Writes a value. Every replica will have it, or a newer register for its key.
    pub fn write(&mut self, now: Now, write: Write<K, V>) -> Stamp {
        self.call(now, |it| local::write(&mut it.ledger, &mut it.env, write))
    }

    /// Deletes a key, even an unknown one: its write may be on its way. Returns the stamp, and the replaced register if
    /// that was a readable value.
    pub fn delete(&mut self, now: Now, write: Write<K, V>) -> (Stamp, Option<Removed<K, V>>) {
        self.call(now, |it| local::delete(&mut it.ledger, &mut it.env, write))
    }

    /// Removes or voids a register that can no longer be encoded, if it is still held. See [`local::void_unencodable`].
    pub(crate) fn void_unencodable(&mut self, now: Now, hash: u64, key: &Key<K>, dot: Dot, what: Unencodable) -> bool {
        self.call(now, |it| local::void_unencodable(&mut it.ledger, &mut it.env, (hash, key, dot), what))
    }

    /// Evicts the value in a place to stay within capacity. Local: other replicas keep their values.
    pub(crate) fn evict(&mut self, now: Now, slot: SlotRef) -> Evicted {
        self.call(now, |it| evict::evict(&mut it.ledger, &mut it.env, &it.members, slot))
    }

    /// Makes room: expires values whose time is over, or else evicts those in the places that `next` returns.
    pub(crate) fn make_room(&mut self, now: Now, room: Room, next: impl FnMut() -> Option<SlotRef>) {
        self.call(now, |it| evict::make_room(&mut it.ledger, &mut it.env, &it.members, room, next))
    }

    /// Invalidates every register stamped up to now on all replicas, including registers that have not arrived yet.
    pub fn invalidate_all(&mut self, now: Now) -> HlcTime {
        self.call(now, |it| epoch::invalidate_all(&mut it.ledger, &mut it.env))
    }

    /// Begins a fill of `key`. Call this before the source is read.
    pub fn begin_fill(&mut self, now: Now, hash: u64, key: &Key<K>) -> FillTicket {
        self.call(now, |it| fill::begin(&mut it.ledger, &mut it.env, hash, key))
    }

    /// Ends a fill with a value. Returns its stamp if it was stored, and `None` if the fill has lost, or may have lost
    /// against a register that was collected meanwhile: the value is then for the caller only.
    pub fn finish_fill(&mut self, now: Now, ticket: &FillTicket, write: Write<K, V>) -> Option<Stamp> {
        self.call(now, |it| fill::finish(&mut it.ledger, &mut it.env, ticket, write))
    }

    /// Ends a fill without a value.
    pub fn abort_fill(&mut self, ticket: &FillTicket) {
        fill::abort(&mut self.ledger, ticket);
    }

    /// Handles a message from another replica of this cache.
    pub fn handle_message(&mut self, now: Now, from: ReplicaId, message: Message<K, V>) {
        self.converse(now, |conversations, cx| conversations.handle(cx, from, message));
    }

    fn converse<T>(&mut self, now: Now, work: impl FnOnce(&mut Conversations<K, V>, &mut Context<'_, K, V>) -> T) -> T {
        self.call(now, |it| {
            let (conversations, mut cx) = it.parts();
            work(conversations, &mut cx)
        })
    }

    /// Makes a greeting: a digest that the receiver must answer, for a process whose replica is no live member here.
    /// Raises the own vector entry to the clock: nothing was written in between.
    pub fn greeting(&mut self, now: Now) -> Digest {
        self.converse(now, |_, cx| cx.digest(None, Wanted { greets: true, ..Wanted::default() }))
    }

    /// Greets a replica by id, and sends it a digest in each round until it answers or is found dead. For tests.
    pub fn greet(&mut self, now: Now, to: ReplicaId) {
        self.converse(now, |_, cx| digests::greet(cx, to));
    }

    /// Marks a member as unreachable. It holds back collection until it is forgotten.
    pub fn handle_member_down(&mut self, now: Now, id: ReplicaId) {
        self.converse(now, |conversations, cx| conversations.note_down(cx, id));
    }

    /// Forgets a member at once: it left, restarted, or was named as gone for good. If it returns, it gets a reconcile.
    pub fn handle_member_left(&mut self, now: Now, id: ReplicaId) {
        self.converse(now, |conversations, cx| conversations.forget(cx, id));
    }

    /// Records that a bulk message to `to` has left, or that it could not be sent.
    pub fn handle_sent(&mut self, now: Now, to: ReplicaId, ok: bool) {
        self.converse(now, |conversations, cx| conversations.note_sent(cx, to, ok));
    }

    /// Runs all work that is due. The work per call is bounded: if some remains, another call is due at once.
    pub fn handle_timeout(&mut self, now: Now) {
        self.call(now, due::run);
    }

    /// Returns the monotonic time at which [`handle_timeout`](Self::handle_timeout) must be called.
    #[must_use]
    pub fn poll_timeout(&self, now: Now) -> u64 {
        due::next(self, now)
    }

    /// Makes tombstones of all expired values and sweeps all invalidated registers now.
    pub fn run_pending(&mut self, now: Now) {
        self.call(now, due::run_pending);
    }

    /// Takes out the next message: small ones first, then relayed pushes, own pushes, session frames, requested audits.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Transmit<K, V>> {
        self.converse(now, |conversations, cx| conversations.poll(cx))
    }

    /// Returns true if [`poll_transmit`](Self::poll_transmit) may return a message. Does not read the logs.
    #[must_use]
    pub fn may_transmit(&self) -> bool {
        self.conversations.may_transmit(&self.outbox, &self.members, self.ledger.last_own())
    }

    /// Queues an audit of these registers with a member, as an operator asked. Returns how many will be sent.
    pub(crate) fn audit_registers(&mut self, with: ReplicaId, slots: &[SlotRef]) -> usize {
        self.conversations.audits.suspect((&self.ledger, &self.env), with, slots)
    }

    /// Returns true if another process uses this id, so that [`renew`](Self::renew) must be called now. Resets the
    /// report. A report within a minute of the last renewal is ignored and not kept.
    pub(crate) fn needs_new_id(&mut self, now: Now) -> bool {
        self.ledger.take_has_duplicate_id() && self.members.former().may_renew(now)
    }

    /// Begins anew as another replica, with only its recent own values and its own tombstones. `id` must never have
    /// been used before.
    pub(crate) fn renew(&mut self, now: Now, id: ReplicaId, seed: u64) -> Option<FormerState<K, V>> {
        renew::renew(self, now, id, seed)
    }

    /// Takes out the next change of what readers see.
    pub fn poll_change(&mut self) -> Option<Change<K, V>> {
        self.ledger.changes_mut().next()
    }

    /// Takes out the items that were displaced, for the caller to drop after it has released its lock.
    pub(crate) fn take_garbage(&mut self) -> Garbage<K, V> {
        self.ledger.registers_mut().take_garbage()
    }

    /// Puts known bugs back, to prove that the checkers detect them.
    #[cfg(any(test, feature = "sim"))]
    pub fn set_bugs(&mut self, bugs: Bugs) {
        self.env.set_bugs(bugs);
    }

    /// Sets the parts of each change that are kept for its consumer from now on.
    pub(crate) fn set_watch(&mut self, watch: Watch) {
        self.ledger.changes_mut().watch = watch;
    }

    /// Sets whether this replica expects members that have sent nothing yet. While it does and has no member, it removes
    /// nothing without a trace: its floor would void on all replicas what members wrote before and it has not seen.
    pub fn expect_peers(&mut self, awaits: bool) {
        self.members.expect_peers(awaits);
    }

    /// Compares every index and count with all registers. For tests, the simulator and fuzzers: it reads everything.
    ///
    /// # Errors
    /// Names the invariant that does not hold.
    pub fn validate(&mut self) -> Result<(), String> {
        ledger::validate(&mut self.ledger, &self.env)
    }

    /// Returns the number of own writes and deletes that no member is known to have, even without members. Overwritten
    /// ones do not count. Returns at least one if there is anything to hand over, for example an invalidation.
    pub fn count_unsent(&mut self) -> u64 {
        let seen = self.members.handed_over(&self.env);
        if seen >= self.ledger.last_own() { 0 } else { self.ledger.count_after(&self.env.id, seen).max(1) }
    }

    /// Returns the lag of each member behind own writes, whose age is measured at the time `at`.
    pub fn lags(&mut self, at: HlcTime) -> Vec<PeerLag> {
        if let Some(log) = self.ledger.logs_mut().get_mut(&self.env.id) {
            log.sort();
        }
        PeerLag::of_all(self.view(), at)
    }

    /// Copies everything about this replica except its registers, for operators.
    pub(crate) fn report(&self, now: Now) -> ReplicaReport {
        ReplicaReport::of(self.view(), now)
    }
}
