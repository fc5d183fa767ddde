//! The messages between the replicas of one cache, and the reasons for them. Each kind of conversation has its own file
//! and does not depend on other kinds.
//!
//! | file | content |
//! | --- | --- |
//! | `digests` | received digests: what is taken from them, and whether one is returned; the only repair that message loss needs |
//! | `push` | fresh writes, sent eagerly, and their acknowledgements |
//! | `relay` | pushes of other origins, passed on in a large cluster |
//! | `session_out`, `session_in` | the registers that a member lacks, frame by frame; `session_out` decides whether a member is served |
//! | `stills` | statements that the last digest to a member still holds, in place of a digest |
//! | `audit` | the safety net: comparison of registers that both sides have seen |
//! | `duplicate_id` | two processes under one replica id |
//! | `context` | the state that all conversations share; how a digest is made; the housekeeping after each call |
//!
//! Each conversation has its own state and is passed a [`Context`]. If a conversation needs another conversation, it
//! returns the request to [`Conversations`], which owns all of them, or queues a message in the
//! [`outbox`](crate::outbox).

use crate::env::Env;
use crate::hlc::nanos;
use crate::item::CoreKey;
use crate::ledger::quarantine;
use crate::members::{Members, named};
use crate::message::{Digest, Message};
use crate::outbox::{Outbox, Transmit};
use crate::replica_id::ReplicaId;

pub(crate) mod audit;
mod context;
pub(crate) mod digests;
pub(crate) mod duplicate_id;
pub(crate) mod push;
pub(crate) mod relay;
pub(crate) mod session_in;
pub(crate) mod session_out;
pub(crate) mod stills;

pub(crate) use context::Context;

/// The approximate number of bytes that an entry takes on the wire besides its key and value.
const ENTRY_OVERHEAD: usize = 24;

/// All conversations of one replica.
pub(crate) struct Conversations<K, V> {
    pub(crate) pushes: push::Pushes<K, V>,
    relay: relay::Relay<K, V>,
    pub(crate) session_in: session_in::SessionIn,
    pub(crate) sessions_out: session_out::SessionsOut,
    digests: digests::Digests,
    pub(crate) audits: audit::Audits,
}

impl<K: CoreKey, V> Conversations<K, V> {
    pub(crate) fn new(env: &mut Env) -> Self {
        let (digests, audits) = (digests::Digests::new(env), audit::Audits::new(env));
        Self {
            pushes: push::Pushes::default(),
            relay: relay::Relay::default(),
            session_in: session_in::SessionIn::default(),
            sessions_out: session_out::SessionsOut::default(),
            digests,
            audits,
        }
    }

    /// Handles a message from another replica of this cache.
    pub(crate) fn handle(&mut self, cx: &mut Context<'_, K, V>, from: ReplicaId, message: Message<K, V>) {
        // The list of displaced items keeps a reference to each item, because user types must not be dropped under the
        // lock.
        cx.ledger.registers_mut().set_aside(message.entries());
        if from == cx.env.id {
            duplicate_id::note_own_name(cx, &message);
            return;
        }
        if let Some(peer) = cx.members.get_mut(&from) {
            peer.last_heard = cx.env.now.mono;
        }
        if duplicate_id::is_from_duplicate(cx.members, from, &message) {
            return;
        }
        match message {
            Message::Digest(digest) => self.handle_digest(cx, from, digest),
            Message::Push(push) => self.pushes.handle(cx, from, push),
            Message::Ack(ack) => push::handle_ack(cx, from, ack),
            Message::Frame(frame) => {
                let outcome = self.session_in.handle(cx, from, frame);
                self.follow_frame(cx, from, outcome);
            }
            Message::Audit(audit) => audit::handle(cx, from, audit),
        }
        for (from, push) in cx.outbox.take_to_pass_on() {
            self.relay.pass_on(cx, from, push);
        }
    }

    fn handle_digest(&mut self, cx: &mut Context<'_, K, V>, from: ReplicaId, digest: Digest) {
        let (received, gone) = digests::record(cx, from, digest);
        gone.into_iter().for_each(|id| self.forget(cx, id));
        let Some((received, basis)) = received.apply(cx) else { return };
        // Before `serve`: removals raise the dropped vector that it compares, and abort sessions that have not listed
        // them.
        self.end_call(cx);
        self.sessions_out.serve(cx, from, basis);
        received.answer_if_needed(cx);
    }

    fn follow_frame(&mut self, cx: &mut Context<'_, K, V>, from: ReplicaId, outcome: session_in::Outcome) {
        if outcome.opened {
            // A register of the incoming session may overtake one that an outgoing session has not sent yet. The
            // outgoing session would claim the overtaken one, although none of its frames holds either of the two.
            self.sessions_out.abort_all(cx.members, cx.env);
        }
        if outcome.claimed {
            self.pushes.apply_all_early(cx);
            cx.ledger.adopt_orphans(cx.env);
            // This digest acknowledges the session: it reports the new vector.
            cx.outbox.tell(from);
        }
    }

    /// Runs the housekeeping at the end of a call. Then aborts outgoing sessions that would hide a removal: this call
    /// has removed a register without a trace, and the session has not listed it yet.
    #[inline]
    pub(crate) fn end_call(&mut self, cx: &mut Context<'_, K, V>) {
        cx.keep_house();
        let hidden = cx.ledger.hidden_mut();
        if !hidden.is_empty() {
            self.sessions_out.abort_hiding(cx.members, cx.env, hidden);
            hidden.clear();
        }
    }

    /// Marks a member as unreachable, as the failure detector reports, and ends the sessions with it.
    pub(crate) fn note_down(&mut self, cx: &mut Context<'_, K, V>, id: ReplicaId) {
        if cx.members.note_down(cx.env.now, id) {
            self.sessions_out.abort(cx.members, cx.env, id);
            self.session_in.abandon_from(cx, id);
        }
    }

    /// Forgets a member that will not return or has been unreachable for too long.
    pub(crate) fn forget(&mut self, cx: &mut Context<'_, K, V>, id: ReplicaId) {
        self.note_down(cx, id);
        let own = cx.ledger.vector().get(&cx.env.id);
        cx.members.forget(cx.env, id, own);
        let for_it = cx.outbox.take_for(id);
        quarantine::purge(cx.ledger, cx.env, id);
        for gone in named::named_only_by(cx.members, id) {
            self.forget(cx, gone);
        }
        for_it.iter().for_each(|message| cx.ledger.registers_mut().set_aside(message.entries()));
    }

    /// Records that a bulk message has left, or that it could not be sent.
    pub(crate) fn note_sent(&mut self, cx: &mut Context<'_, K, V>, to: ReplicaId, ok: bool) {
        let (now, wait) = (cx.env.now.mono, cx.env.later(nanos(cx.env.config.digest_interval)));
        let Some(peer) = cx.members.get_mut(&to) else { return };
        peer.delivery.busy = false;
        if !ok {
            peer.delivery.unacked_since.get_or_insert(now);
            // The member may be unreachable: it is served again only after a digest interval.
            peer.delivery.serve_after = wait;
            self.sessions_out.abort(cx.members, cx.env, to);
        }
    }

    /// Runs all work that is due, except audits.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_, K, V>) {
        self.session_in.handle_timeout(cx);
        self.pushes.check_early(cx);
        push::flush_acks(cx);
        digests::check_suspicions(cx);
        push::check_unacked(cx);
        self.sessions_out.handle_timeout(cx.members, cx.env);
        if let Some(to) = self.digests.handle_timeout(cx) {
            self.digests.delay(|at| stills::in_company(cx.members, cx.env, at));
            if !stills::stand_in(cx, &to) {
                cx.outbox.ask(to);
            }
        }
    }

    /// Returns the monotonic time at which the next work is due.
    pub(crate) fn due(&self, env: &Env, members: &Members) -> u64 {
        let own = [self.audits.due(env), self.session_in.deadline(env), self.pushes.deadline()];
        let of_peers = members.iter().flat_map(|(_, peer)| {
            let unacked = peer.delivery.unacked_since.filter(|_| peer.is_live());
            let retry = unacked.map(|since| push::retry_at(env, since, peer.delivery.asked));
            [peer.acks.due, peer.suspected.map(|(_, at)| at), retry]
        });
        own.into_iter().chain(of_peers).flatten().fold(self.digests.due(), u64::min)
    }

    /// Returns the next message: small ones first (digests, acknowledgements, audits that are due), then relayed
    /// pushes, own writes, session frames, and audits that an operator asked for.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_, K, V>) -> Option<Transmit<K, V>> {
        let transmit = poll_control(cx).or_else(|| self.relay.poll());
        let transmit = transmit.or_else(|| push::poll(cx));
        let transmit = transmit.or_else(|| self.sessions_out.poll(cx));
        let transmit = transmit.or_else(|| self.audits.poll(cx));
        // A push that could not be made may have queued a digest, which asks its receivers what they have.
        transmit.or_else(|| poll_control(cx))
    }

    /// Returns true if [`poll`](Self::poll) may return a message. Reads the state of members, not the logs.
    pub(crate) fn may_transmit(&self, outbox: &Outbox<K, V>, members: &Members, last_own: crate::hlc::HlcTime) -> bool {
        !outbox.is_empty()
            || self.relay.is_waiting()
            || self.audits.has_suspects()
            || members.iter().any(|(_, peer)| peer.is_pushable(last_own))
            || self.sessions_out.is_ready(members)
    }
}

fn poll_control<K: CoreKey, V>(cx: &mut Context<'_, K, V>) -> Option<Transmit<K, V>> {
    let (to, message) = cx.take_small()?;
    if let Message::Digest(digest) = &message {
        stills::note_sent(cx, to, digest);
    }
    Some(Transmit { to: vec![to], message, bulk: false })
}
