//! Digests: who I am and what I have seen; the only repair that loss needs.

use std::borrow::Cow;

use super::Context;
use crate::crdt::VersionVector;
use crate::env::Env;
use crate::hlc::{HlcTime, nanos};
use crate::item::CoreKey;
use crate::members::{named, retired, skew};
use crate::message::Digest;
use crate::outbox::Wanted;
use crate::replica_id::ReplicaId;

/// When the next one is due.
#[derive(Debug)]
pub(crate) struct Digests {
    due: u64,
}

/// A digest that was looked at, and what follows from it.
#[derive(Debug)]
pub(crate) struct Heard {
    from: ReplicaId,
    digest: Digest,
    /// It is the first of its sender.
    first: bool,
    /// It is not older than what is known of its sender.
    newest: bool,
    /// The sender's whole vector.
    theirs: VersionVector,
}

impl Digests {
    pub(crate) fn new(env: &mut Env) -> Self {
        // The first digest goes out as soon as there is somebody; the phase is random.
        let phase = env.random.u64(0..=nanos(env.config.digest_interval));
        Self { due: env.later(phase) }
    }

    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Sends a digest to the live member whose turn it is, if it is time.
    pub(crate) fn handle_timeout<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) {
        if self.due > cx.env.now.mono {
            return;
        }
        let wait = cx.env.jittered(nanos(cx.env.config.digest_interval));
        self.due = cx.env.later(wait);
        if let Some(to) = cx.members.next_turn(&mut cx.env.random) {
            cx.outbox.ask(to);
        }
    }
}

/// A member that has this cache open may have appeared: it is told of us, again and again until
/// it answers or is found dead. For a replica that has begun anew and knows its members; a node greets by [`Replica::greeting`](crate::replica::Replica::greeting).
pub(crate) fn greet<K: CoreKey, V>(cx: &mut Context<'_, K, V>, to: ReplicaId) {
    if to != cx.env.id && !cx.members.is_live(&to) {
        cx.members.note_greeted(to);
    }
    cx.outbox.greet(to);
}

/// A digest came: its sender is a member. Returns the unmet members that are to be forgotten with it.
pub(crate) fn hear<K: CoreKey, V>(
    cx: &mut Context<'_, K, V>,
    from: ReplicaId,
    digest: Digest,
) -> (Heard, Vec<ReplicaId>) {
    cx.env.counters.digests_in += 1;
    let known = cx.members.get(&from);
    let first = known.is_none_or(|peer| !peer.is_met());
    let newest = known.is_none_or(|peer| digest.clock > peer.stability.latest.clock);
    cx.hear(from).lossy = digest.lossy;
    let gone = named::take(cx.members, cx.env, from, &digest.members, newest);
    (Heard { from, digest, first, newest, theirs: VersionVector::new() }, gone)
}

impl Heard {
    /// Takes in what it says. Nothing if there is no more to be done: it comes from the future, or its sender is asked for a
    /// full one. Else also what the member is to be served by, where that is not what it ever reported.
    pub(crate) fn take_in<K: CoreKey, V>(
        mut self,
        cx: &mut Context<'_, K, V>,
    ) -> Option<(Self, Option<VersionVector>)> {
        let (from, digest) = (self.from, &self.digest);
        let has_merged = cx.ledger.vector().iter().any(|(origin, _)| origin != cx.env.id);
        if let Some(source) = skew::note_clocks(cx.members, cx.env, from, digest, has_merged) {
            cx.outbox.ask(source);
        }
        if cx.env.is_ahead(digest.epoch) {
            cx.note_offender(from, digest.epoch);
            cx.note_deferral(from, digest.epoch);
            return None;
        }
        cx.adopt_epoch(digest.epoch);
        let honest = !cx.env.is_ahead(digest.clock);
        if honest {
            look_for_twins(cx, from, digest);
            cx.env.clock.observe(digest.clock);
            if !cx.members.former().was_ours(&from) {
                take_silence(cx, from, digest);
            }
        } else {
            cx.note_offender(from, digest.clock);
        }
        let whole = retired::whole(cx.ledger.vector(), digest);
        take_facts(cx, digest, whole.as_ref());
        let Some(theirs) = whole else {
            ask_for_full(cx, from);
            return None;
        };
        if digest.want_full {
            cx.outbox.send_digest(from, Wanted { reply: true, full: true, ..Wanted::default() });
        }
        if self.newest && honest {
            note_dropped_origins(cx, from, &theirs);
            // Its clock is past all that it holds: nothing of that is ahead of us any more.
            skew::note_no_deferral(cx.members, &from);
        }
        note_reported(cx, from, &theirs);
        cx.members.note_target(from, &theirs, digest);
        let basis = cx.env.bugs().stale_digest.then(|| theirs.clone());
        self.theirs = theirs;
        Some((self, basis))
    }

    /// Finds out whether the sender has something for us, and asks for it.
    pub(crate) fn look_for_news<K: CoreKey, V>(self, cx: &mut Context<'_, K, V>) {
        let Self { from, digest, first, theirs, .. } = self;
        let ours = cx.ledger.vector().get(&from);
        let mut news = (first && ours == 0) || cx.members.has_twin(&from, cx.ledger.vector());
        news |= digest.greets && !cx.env.bugs().greetings_unanswered;
        if skew::defers(cx.members, cx.env, &from) {
            return;
        }
        if ours < digest.quiet_since {
            // Probably on its way; looked at again in a moment.
            let at = cx.env.later(nanos(cx.env.config.repair_delay).saturating_mul(2));
            cx.hear(from).suspected.get_or_insert((digest.quiet_since, at));
            news |= ours == 0;
        }
        let lag = cx.claim_lag();
        news |= theirs.beside(cx.ledger.vector()).any(|(origin, time, ours)| {
            if origin == from || origin == cx.env.id || ours >= time {
                return false;
            }
            let credible = !cx.env.is_ahead(time);
            credible && (ours == 0 || !cx.members.is_live(&origin) || time - ours > lag)
        });
        if news && !digest.reply && !digest.want_full {
            cx.outbox.tell(from);
        }
    }
}

/// Compares what a member says of itself with what is known of it, and takes its word for what it says of us.
fn look_for_twins<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId, digest: &Digest) {
    let Some(peer) = cx.members.get_mut(&from) else { return };
    let forgets = peer.word.take(digest);
    let ours = digest.renew == Some(cx.env.id);
    cx.env.counters.cloned_id += u64::from(forgets) + u64::from(ours);
    if ours {
        cx.ledger.note_told_of_clone();
    }
}

/// The sender wrote nothing between its last dot and its clock: an interval without entries.
fn take_silence<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId, digest: &Digest) {
    if cx.ledger.vector().get(&from) >= digest.quiet_since {
        cx.claim(from, digest.clock);
    }
    cx.members.note_watermark(from, digest.clock, digest.watermark, cx.ledger.vector().get(&from));
}

/// `whole` is the sender's vector with its retired origins, if that is known.
fn take_facts<K: CoreKey, V>(cx: &mut Context<'_, K, V>, digest: &Digest, whole: Option<&VersionVector>) {
    let is_retired = |(origin, _): &(ReplicaId, HlcTime)| digest.vector.get(origin) == 0;
    let whole = whole.filter(|_| digest.facts.iter().any(|fact| fact.retired));
    let retired = whole.map(|whole| whole.iter().filter(is_retired).collect::<VersionVector>());
    for fact in &digest.facts {
        if fact.member == cx.env.id || !cx.members.contains(&fact.member) || cx.env.is_ahead(fact.clock) {
            continue;
        }
        note_reported(cx, fact.member, &fact.vector);
        if let Some(retired) = retired.as_ref().filter(|_| fact.retired) {
            note_reported(cx, fact.member, retired);
        }
        let seen = cx.ledger.vector().get(&fact.member);
        cx.members.note_watermark(fact.member, fact.clock, fact.watermark, seen);
    }
}

fn note_reported<K: CoreKey, V>(cx: &mut Context<'_, K, V>, member: ReplicaId, theirs: &VersionVector) {
    let id = cx.env.id;
    let own = cx.ledger.vector().get(&id);
    let ours = theirs.get(&id);
    if ours > own {
        cx.ledger.note_clone(cx.env, ours);
    }
    let believed = |(origin, time): &(ReplicaId, HlcTime)| !cx.env.is_ahead(*time) && (*origin != id || *time <= own);
    let credible = if theirs.iter().all(|entry| believed(&entry)) {
        Cow::Borrowed(theirs)
    } else {
        Cow::Owned(theirs.iter().filter(believed).collect::<VersionVector>())
    };
    let (relays, last_own) = (cx.relays(), cx.ledger.last_own());
    let Some(peer) = cx.members.get_mut(&member) else { return };
    peer.reported.join(&credible);
    let ours = peer.reported.get(&id);
    let delivery = &mut peer.delivery;
    if ours > delivery.sent_to && relays {
        // It got past what could not be pushed: whether there is more of that is looked at again.
        delivery.needs_session = false;
    }
    delivery.sent_to = delivery.sent_to.max(ours);
    delivery.behind &= delivery.sent_to < last_own;
    if ours >= delivery.sent_to {
        (delivery.unacked_since, delivery.asked) = (None, 0);
    }
}

/// A member that has more retired origins than its cap drops records, and then has seen less of
/// these origins than it once said. Only its newest statement can say so: what an old one lacks
/// may have come since.
fn note_dropped_origins<K: CoreKey, V>(cx: &mut Context<'_, K, V>, member: ReplicaId, theirs: &VersionVector) {
    let id = cx.env.id;
    let Some(peer) = cx.members.get_mut(&member) else { return };
    let less: Vec<_> = peer.reported.beside(theirs).filter(|(_, before, now)| now < before).collect();
    for (origin, ..) in less {
        peer.reported.remove(&origin);
        if origin == id && theirs.get(&id) == 0 {
            peer.delivery.sent_to = 0;
        }
    }
}

fn ask_for_full<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId) {
    cx.env.counters.retired_mismatch += 1;
    cx.outbox.send_digest(from, Wanted { reply: true, full: true, want_full: true, greets: false });
}

/// A member said it had written something that has still not come: asks it.
pub(crate) fn check_suspicions<K: CoreKey, V>(cx: &mut Context<'_, K, V>) {
    let now = cx.env.now.mono;
    let mut due = Vec::new();
    for (id, peer) in cx.members.iter_mut() {
        if let Some((written, _)) = peer.suspected.take_if(|(_, at)| *at <= now) {
            due.push((*id, written));
        }
    }
    for (id, written) in due {
        if cx.ledger.vector().get(&id) < written && !skew::defers(cx.members, cx.env, &id) {
            cx.outbox.ask(id);
        }
    }
}
