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
//! 3. [`Replica::poll_timeout`]: call [`Replica::handle_timeout`] at that monotonic time.
//!
//! These are all its effects. What it no longer needs of keys and values waits for [`Replica::take_garbage`], to be dropped
//! outside of any lock. The same calls with the same arguments give the
//! same effects, which is what lets the simulator replay a failure from a seed.

use crate::env::Env;
use crate::hlc::{HlcTime, Now, Stamp, nanos};
use crate::item::Key;
use crate::ledger::registers::Garbage;
use crate::ledger::{self, Ledger, collect, epoch, evict, fill, local, quarantine, released};
use crate::members::{Former, Members, named, skew};
use crate::message::{Digest, Message};
use crate::outbox::Outbox;
use crate::protocol::audit::{self, Audits};
use crate::protocol::digests::{self, Digests};
use crate::protocol::push::{self, Pushes};
use crate::protocol::relay::Relay;
use crate::protocol::session_in::{Outcome, SessionIn};
use crate::protocol::session_out::SessionsOut;
use crate::protocol::{Context, duplicate_id};
use crate::replica_id::ReplicaId;
use crate::store::SlotRef;
use crate::wire::Unencodable;

pub(crate) mod inspect;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod schedules;
mod standing;

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
pub use standing::Lag;

/// How often stability is looked at, nanoseconds.
const COLLECT_EVERY: u64 = 1_000_000_000;
/// When there was more to collect than one go may take, nanoseconds.
const COLLECT_AGAIN: u64 = 1_000_000;

/// One replica. See the [module](self).
pub struct Replica<K, V> {
    env: Env,
    ledger: Ledger<K, V>,
    members: Members,
    outbox: Outbox<K, V>,
    pushes: Pushes<K, V>,
    relay: Relay<K, V>,
    session_in: SessionIn,
    sessions_out: SessionsOut,
    digests: Digests,
    audits: Audits,
    /// When stability is looked at next, by monotonic time.
    collect_due: u64,
}

/// What a replica was before it took a new id. Holds users' keys and values: to be dropped outside of locks.
pub(crate) struct Remains<K, V>(#[expect(dead_code, reason = "held to be dropped later")] Box<Replica<K, V>>);

/// The surroundings of a conversation, beside the replica's conversations themselves.
macro_rules! context {
    ($replica:expr) => {
        &mut Context {
            env: &mut $replica.env,
            ledger: &mut $replica.ledger,
            members: &mut $replica.members,
            outbox: &mut $replica.outbox,
        }
    };
}

impl<K: CoreKey, V> Replica<K, V> {
    /// A new replica. `id` was never used before; `seed` feeds its choices among peers.
    ///
    /// # Errors
    /// If a knob of `config` is out of range.
    pub fn new(id: ReplicaId, config: ReplicaConfig, seed: u64, now: Now) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut env = Env::new(id, config, fastrand::Rng::with_seed(seed), now);
        let (digests, audits) = (Digests::new(&mut env), Audits::new(&mut env));
        Ok(Self {
            ledger: Ledger::new(&env),
            members: Members::default(),
            outbox: Outbox::default(),
            pushes: Pushes::default(),
            relay: Relay::default(),
            session_in: SessionIn::default(),
            sessions_out: SessionsOut::default(),
            digests,
            audits,
            collect_due: now.mono + COLLECT_EVERY.min(nanos(env.config.digest_interval)),
            env,
        })
    }

    /// One call, at this moment.
    fn call<T>(&mut self, now: Now, work: impl FnOnce(&mut Self) -> T) -> T {
        self.env.now = now;
        let done = work(self);
        self.abort_hiding();
        done
    }

    /// Breaks off sessions that would hide registers which were removed without a trace.
    fn abort_hiding(&mut self) {
        let hidden = self.ledger.take_hidden();
        self.sessions_out.abort_hiding(&mut self.members, &mut self.env, &hidden);
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
    pub(crate) fn give_up(
        &mut self,
        now: Now,
        hash: u64,
        key: &Key<K>,
        dot: crate::crdt::Dot,
        what: Unencodable,
    ) -> bool {
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
        self.call(now, |it| it.receive(from, message));
    }

    fn receive(&mut self, from: ReplicaId, message: Message<K, V>) {
        self.ledger.registers_mut().set_aside(message.entries());
        if from == self.env.id {
            duplicate_id::note_own_name(context!(self), &message);
            return;
        }
        if let Some(peer) = self.members.get_mut(&from) {
            peer.last_heard = self.env.now.mono;
        }
        if duplicate_id::is_of_a_twin(&self.members, from, &message) {
            return;
        }
        match message {
            Message::Digest(digest) => self.handle_digest(from, digest),
            Message::Push(push) => self.pushes.handle(context!(self), from, push),
            Message::Ack(ack) => push::handle_ack(context!(self), from, ack),
            Message::Frame(frame) => {
                let outcome = self.session_in.handle(context!(self), from, frame);
                self.follow_frame(from, outcome);
            }
            Message::Audit(audit) => audit::handle(context!(self), from, audit),
        }
        for (from, push) in self.outbox.take_to_pass_on() {
            self.relay.pass_on(context!(self), from, push);
        }
        (context!(self)).check_caught_up();
    }

    fn handle_digest(&mut self, from: ReplicaId, digest: Digest) {
        let (heard, gone) = digests::hear(context!(self), from, digest);
        gone.into_iter().for_each(|id| self.forget(id));
        let Some((heard, basis)) = heard.take_in(context!(self)) else { return };
        self.abort_hiding(); // Before another is begun.
        self.sessions_out.serve(context!(self), from, basis);
        heard.look_for_news(context!(self));
    }

    fn follow_frame(&mut self, from: ReplicaId, outcome: Outcome) {
        if outcome.opened {
            self.sessions_out.abort_all(&mut self.members, &mut self.env);
        }
        if outcome.claimed {
            self.pushes.apply_all_early(context!(self));
            self.ledger.adopt_orphans(&mut self.env);
            let cx = context!(self);
            cx.check_caught_up();
            cx.tell(from);
        }
        if outcome.merged {
            // After the claim: before it, no tombstone of this session can be dropped.
            self.ledger.enforce_cap(&mut self.env);
        }
    }

    /// What we tell others. Also moves our own entry with our clock: silence is information.
    pub fn digest(&mut self, now: Now, reply: bool) -> Digest {
        self.call(now, |it| (context!(it)).digest(reply))
    }

    /// A member that has this cache open may have appeared: it is told of us, again and again until
    /// it answers or is found dead.
    pub fn greet(&mut self, now: Now, to: ReplicaId) {
        self.call(now, |it| digests::greet(context!(it), to));
    }

    /// The failure detector calls a member dead. It holds back collection until it is forgotten.
    pub fn handle_member_down(&mut self, now: Now, id: ReplicaId) {
        self.call(now, |it| it.note_down(id));
    }

    fn note_down(&mut self, id: ReplicaId) {
        if self.members.note_down(self.env.now, id) {
            self.sessions_out.abort(&mut self.members, &mut self.env, id);
            let cx = context!(self);
            self.session_in.abandon_from(cx, id);
            cx.release_retained();
        }
    }

    /// A member left cleanly, restarted, or an operator says it will not return: it is forgotten at
    /// once. If it does return, it gets a reconcile.
    pub fn handle_member_left(&mut self, now: Now, id: ReplicaId) {
        self.call(now, |it| it.forget(id));
    }

    fn forget(&mut self, id: ReplicaId) {
        self.note_down(id);
        let own = self.ledger.vector().get(&self.env.id);
        self.members.forget(&mut self.env, id, own);
        let for_it = self.outbox.take_for(id);
        quarantine::purge(&mut self.ledger, &mut self.env, id);
        for gone in named::named_only_by(&mut self.members, id) {
            self.forget(gone);
        }
        for_it.iter().for_each(|message| self.ledger.registers_mut().set_aside(message.entries()));
        (context!(self)).release_retained();
    }

    /// A bulk message to `to` has left, or could not be sent.
    pub fn handle_sent(&mut self, now: Now, to: ReplicaId, ok: bool) {
        self.call(now, |it| it.note_sent(to, ok));
    }

    fn note_sent(&mut self, to: ReplicaId, ok: bool) {
        let (now, wait) = (self.env.now.mono, self.env.later(nanos(self.env.config.digest_interval)));
        let Some(peer) = self.members.get_mut(&to) else { return };
        peer.delivery.busy = false;
        if !ok {
            peer.delivery.unacked_since.get_or_insert(now);
            // Whoever cannot be reached is not tried again at once.
            peer.delivery.serve_after = wait;
            self.sessions_out.abort(&mut self.members, &mut self.env, to);
        }
        (context!(self)).release_retained();
    }

    /// Does what is due. Work is bounded: what is left over asks for another call at once.
    pub fn handle_timeout(&mut self, now: Now) {
        self.call(now, Self::do_what_is_due);
    }

    fn do_what_is_due(&mut self) {
        ledger::expire_due(&mut self.ledger, &mut self.env);
        epoch::sweep_page(&mut self.ledger, &mut self.env);
        released::release(&mut self.ledger, &mut self.env, &self.members);
        fill::expire(&mut self.ledger, &mut self.env);
        self.members.former_mut().note_time(self.env.now);
        let cx = context!(self);
        self.session_in.handle_timeout(cx);
        self.pushes.check_early(cx);
        push::flush_acks(cx);
        digests::check_suspicions(cx);
        push::check_unacked(cx);
        self.sessions_out.handle_timeout(cx.members, cx.env);
        self.digests.handle_timeout(cx);
        self.collect_if_due();
        let cx = context!(self);
        self.audits.handle_timeout(cx);
        cx.check_caught_up();
    }

    fn collect_if_due(&mut self) {
        if self.collect_due > self.env.now.mono {
            return;
        }
        self.collect_due = self.env.now.mono + COLLECT_EVERY.min(nanos(self.env.config.digest_interval));
        for id in self.members.long_dead(&self.env) {
            let returns = self.members.is_greeted(&id);
            self.forget(id);
            if returns {
                self.members.note_greeted(id);
            }
        }
        // A member may have got from others what was kept to be sent to it.
        (context!(self)).release_retained();
        if collect::collect(&mut self.ledger, &mut self.env, &mut self.members) {
            self.collect_due = self.env.now.mono + COLLECT_AGAIN;
        }
        collect::compact_logs(&mut self.ledger);
        ledger::retire::cap(&mut self.ledger, &mut self.env, &self.members);
        collect::forget_empty_logs(&mut self.ledger);
    }

    /// The monotonic time at which [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self, now: Now) -> u64 {
        let env = &self.env;
        let first = self.digests.due().min(self.collect_due);
        let own = [self.audits.due(env), self.session_in.deadline(env), self.pushes.deadline()];
        let of_peers = self.members.iter().flat_map(|(_, peer)| {
            let unacked = peer.delivery.unacked_since.filter(|_| peer.is_live());
            let retry = unacked.map(|since| push::retry_at(env, since, peer.delivery.asked));
            [peer.acks.due, peer.suspected.map(|(_, at)| at), retry]
        });
        let next = own.into_iter().chain(of_peers).flatten().fold(first, u64::min);
        let sweep = epoch::is_sweeping(&self.ledger).then_some(0);
        let expiry = ledger::next_expiry_in(&self.ledger, now.wall);
        let soon = [expiry, quarantine::next_due_in(&self.ledger, env, now), sweep];
        soon.into_iter().flatten().fold(next, |next, wait| next.min(now.mono.saturating_add(wait)))
    }

    /// Buries what is expired and sweeps what is invalidated, all of it, now.
    pub fn run_pending(&mut self, now: Now) {
        self.call(now, |it| {
            while ledger::expire_due(&mut it.ledger, &mut it.env) {}
            while epoch::sweep_page(&mut it.ledger, &mut it.env) {}
            released::release(&mut it.ledger, &mut it.env, &it.members);
        });
    }

    /// Takes out the next message: digests and acknowledgements first, then fresh writes, then
    /// sessions.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Transmit<K, V>> {
        self.call(now, Self::next_transmit)
    }

    fn next_transmit(&mut self) -> Option<Transmit<K, V>> {
        let transmit = self.poll_control().or_else(|| self.relay.poll());
        let transmit = transmit.or_else(|| push::poll(context!(self)));
        let transmit = transmit.or_else(|| self.sessions_out.poll(context!(self)));
        let transmit = transmit.or_else(|| self.audits.poll(context!(self)));
        // A push that could not be made asks for what its receivers have.
        transmit.or_else(|| self.poll_control())
    }

    fn poll_control(&mut self) -> Option<Transmit<K, V>> {
        let (to, mut message) = self.outbox.take()?;
        if let Message::Digest(digest) = &mut message {
            if let Some(wait) = skew::wait_of(&self.members, &self.env, &to) {
                digest.deferring = wait;
            }
            self.env.counters.digests_out += 1;
        }
        Some(Transmit { to: vec![to], message, bulk: false })
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may return something. Looks at members, not at logs.
    #[must_use]
    pub fn may_transmit(&self) -> bool {
        let last_own = self.ledger.last_own();
        !self.outbox.is_empty()
            || self.relay.is_waiting()
            || self.audits.has_suspects()
            || self.members.iter().any(|(_, peer)| peer.is_pushable(last_own))
            || self.sessions_out.is_ready(&self.members)
    }

    /// Compares these registers with a member's: an audit of what somebody suspects. Returns how many were sent.
    pub(crate) fn audit_registers(&mut self, with: ReplicaId, slots: &[SlotRef]) -> usize {
        self.audits.suspect((&self.ledger, &self.env), with, slots)
    }

    /// Whether another process goes by our id, so that [`renew`](Self::renew) is to be called now. Asked once for each time that
    /// somebody says so: what was said within the minute does not count later.
    pub(crate) fn needs_new_id(&mut self, now: Now) -> bool {
        self.ledger.take_is_cloned() && self.members.former().may_renew(now)
    }

    /// Begins anew as another replica, with the own writes of the last moments only. `id` was never used before.
    pub(crate) fn renew(&mut self, now: Now, id: ReplicaId, seed: u64) -> Option<Remains<K, V>> {
        self.env.now = now;
        let fresh = Self::new(id, self.env.config.clone(), seed, now).ok()?;
        let kept = duplicate_id::writes_to_keep(&mut self.ledger, &self.env);
        let members: Vec<_> = self.members.live().collect();
        self.ledger.erase_everything();
        let mut before = Box::new(std::mem::replace(self, fresh));
        self.ledger.take_over(&mut before.ledger);
        self.env.bugs = before.env.bugs;
        self.env.clock = before.env.clock.clone();
        self.env.opened = before.env.opened;
        std::mem::swap(&mut self.env.counters, &mut before.env.counters);
        self.env.counters.renewed_id += 1;
        self.members.await_company(true); // There are others, whatever they will say.
        *self.members.former_mut() = Former::left(before.env.id, now);
        tracing::error!(replica = %before.env.id, renewed = %id, kept = kept.len(), "another process goes by the id of this replica, which begins anew under another");
        for write in kept {
            local::write_again(&mut self.ledger, &mut self.env, write);
        }
        members.into_iter().for_each(|member| digests::greet(context!(self), member));
        Some(Remains(before))
    }

    /// Audits at once.
    #[cfg(test)]
    fn audit_now(&mut self, now: Now) {
        self.audits.make_due();
        self.call(now, |it| it.audits.handle_timeout(context!(it)));
    }

    /// Looks at the session that comes in, and at nothing else that is due.
    #[cfg(test)]
    fn check_session(&mut self, now: Now) {
        self.call(now, |it| it.session_in.handle_timeout(context!(it)));
    }

    /// Takes out the next change of what readers see.
    pub fn poll_change(&mut self) -> Option<Change<K, V>> {
        self.ledger.changes_mut().next()
    }

    /// Takes out the items that were displaced, for the caller to drop once its lock is gone.
    pub(crate) fn take_garbage(&mut self) -> Garbage<K, V> {
        self.ledger.registers_mut().take_garbage()
    }
}
