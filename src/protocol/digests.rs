//! Received digests: the statements that are taken from them, and the decision to return one. Also the times at which
//! own digests are sent.
//!
//! A digest summarises what its sender has seen. Digests are the only repair that message loss needs. `context` makes
//! them. `session_out` decides what a member is served after its digest.

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

/// The schedule of the digests that go out at every `digest_interval`.
#[derive(Debug)]
pub(crate) struct Digests {
    due: u64,
}

/// A digest that was received, with what its receiver finds out about it.
#[derive(Debug)]
pub(crate) struct ReceivedDigest {
    from: ReplicaId,
    digest: Digest,
    /// True if it is the first digest of its sender.
    first: bool,
    /// True if no digest or fact with this clock or a later one is known of its sender.
    newest: bool,
    /// The full vector of the sender, retired origins included.
    theirs: VersionVector,
}

impl Digests {
    pub(crate) fn new(env: &mut Env) -> Self {
        // A random phase, so that replicas that start together do not send together.
        let phase = env.random.u64(0..=nanos(env.config.digest_interval));
        Self { due: env.later(phase) }
    }

    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// Queues a digest for the live member whose turn it is, if one is due.
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

/// Greets a replica that may have this cache open, again in each round of digests until it answers or is found dead.
/// Used by a replica that has begun anew and knows its members; a node greets by
/// [`Replica::greeting`](crate::replica::Replica::greeting).
pub(crate) fn greet<K: CoreKey, V>(cx: &mut Context<'_, K, V>, to: ReplicaId) {
    if to != cx.env.id && !cx.members.is_live(&to) {
        cx.members.note_greeted(to);
    }
    cx.outbox.greet(to);
}

/// Records a digest, whose sender becomes a member. Also returns the unmet members that must be forgotten, because no
/// member that met them names them any more.
pub(crate) fn hear<K: CoreKey, V>(
    cx: &mut Context<'_, K, V>,
    from: ReplicaId,
    digest: Digest,
) -> (ReceivedDigest, Vec<ReplicaId>) {
    cx.env.counters.digests_in += 1;
    let known = cx.members.get(&from);
    let first = known.is_none_or(|peer| !peer.is_met());
    let newest = known.is_none_or(|peer| digest.clock > peer.stability.latest.clock);
    cx.hear(from).lossy = digest.lossy;
    let gone = named::take(cx.members, cx.env, from, &digest.members, newest);
    (ReceivedDigest { from, digest, first, newest, theirs: VersionVector::new() }, gone)
}

impl ReceivedDigest {
    /// Applies the digest. Returns `None` if nothing more is to be done: its epoch is from the future, or its sender is
    /// asked for a full digest. The second result is the vector by which to serve the sender. It is `None`, for the
    /// highest vector that the sender ever reported, unless the known mistake `stale_digest` is put back.
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
            check_duplicate_id(cx, from, digest);
            cx.env.clock.observe(digest.clock);
            // A process that still uses this replica's former id does not know what this replica wrote under it.
            if !cx.members.former().was_ours(&from) {
                claim_silence(cx, from, digest);
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
            // The clock of the sender is past all that it holds: nothing that it holds is ahead any more.
            skew::note_no_deferral(cx.members, &from);
        }
        note_reported(cx, from, &theirs);
        cx.members.note_target(from, &theirs, digest);
        let basis = cx.env.bugs().stale_digest.then(|| theirs.clone());
        self.theirs = theirs;
        Some((self, basis))
    }

    /// Answers with a digest if the sender greets, has something that this replica lacks, or must take a new id. The
    /// answer lets the sender begin a session.
    pub(crate) fn look_for_news<K: CoreKey, V>(self, cx: &mut Context<'_, K, V>) {
        let Self { from, digest, first, theirs, .. } = self;
        let ours = cx.ledger.vector().get(&from);
        let mut news = (first && ours == 0) || cx.members.must_renew(&from, cx.ledger.vector());
        news |= digest.greets && !cx.env.bugs().greetings_unanswered;
        // While something of the sender is deferred here, an answer would only bring it again.
        if skew::defers(cx.members, cx.env, &from) {
            return;
        }
        if ours < digest.quiet_since {
            // Probably on its way: checked again after two repair delays.
            let at = cx.env.later(nanos(cx.env.config.repair_delay).saturating_mul(2));
            cx.hear(from).suspected.get_or_insert((digest.quiet_since, at));
            news |= ours == 0;
        }
        let lag = cx.max_origin_lag();
        news |= theirs.zip(cx.ledger.vector()).any(|(origin, time, ours)| {
            if origin == from || origin == cx.env.id || ours >= time {
                return false;
            }
            // A live origin delivers recent writes itself: only a longer lag needs a session.
            let credible = !cx.env.is_ahead(time);
            credible && (ours == 0 || !cx.members.is_live(&origin) || time - ours > lag)
        });
        // A reply gets no answer, or two replicas would answer each other without end. A request for a full digest has
        // been answered in `take_in`.
        if news && !digest.reply && !digest.want_full {
            cx.outbox.tell(from);
        }
    }
}

/// Detects a duplicate id: compares the sender's statement about its own writes with what is known of them. Also takes
/// note if the sender asks this replica to take a new id.
fn check_duplicate_id<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId, digest: &Digest) {
    let Some(peer) = cx.members.get_mut(&from) else { return };
    let forgets = peer.word.take(digest);
    let ours = digest.renew == Some(cx.env.id);
    cx.env.counters.duplicate_id += u64::from(forgets) + u64::from(ours);
    if ours {
        cx.ledger.note_reported_duplicate();
    }
}

/// Claims the interval from the sender's last dot to its clock, in which it wrote nothing, if this replica has seen
/// that dot.
fn claim_silence<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId, digest: &Digest) {
    if cx.ledger.vector().get(&from) >= digest.quiet_since {
        cx.claim(from, digest.clock);
    }
    cx.members.note_watermark(from, digest.clock, digest.watermark, cx.ledger.vector().get(&from));
}

/// Records the facts of a digest about other members. `whole` is the full vector of the sender, if it is known: a fact
/// does not list the retired origins, but may state that its member has seen what the sender has of them.
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
    // No member can have seen own writes that were not issued here: another process issued them under this id.
    if ours > own {
        cx.ledger.note_duplicate_id(cx.env, ours);
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
        // The member now has the writes that could not be pushed. The next cut finds out if more such writes follow.
        delivery.needs_session = false;
    }
    delivery.sent_to = delivery.sent_to.max(ours);
    delivery.behind &= delivery.sent_to < last_own;
    if ours >= delivery.sent_to {
        (delivery.unacked_since, delivery.asked) = (None, 0);
    }
}

/// Lowers the reported vector of a member that dropped records of retired origins, because it had more than its cap.
/// That member counts these origins as unseen from then on. The caller passes only the vector of the newest digest: an
/// older one may be lower because it was sent earlier.
fn note_dropped_origins<K: CoreKey, V>(cx: &mut Context<'_, K, V>, member: ReplicaId, theirs: &VersionVector) {
    let (id, now) = (cx.env.id, cx.env.now.mono);
    let Some(peer) = cx.members.get_mut(&member) else { return };
    let waits = peer.delivery.serve_after > now && !cx.env.bugs().deferral_storm;
    let less: Vec<_> = peer.reported.zip(theirs).filter(|(_, before, now)| now < before).collect();
    for (origin, ..) in less {
        peer.reported.remove(&origin);
        if origin == id && theirs.get(&id) == 0 && !waits {
            // The member has dropped the record of this replica: own writes are sent from the beginning. If it has asked
            // this replica to wait, the first digest after that shows the same: facts of others may repeat what the
            // member reported before, and each digest of it would start another push.
            peer.delivery.sent_to = 0;
        }
    }
}

fn ask_for_full<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId) {
    cx.env.counters.retired_mismatch += 1;
    cx.outbox.send_digest(from, Wanted { reply: true, full: true, want_full: true, greets: false });
}

/// Asks members for writes that they reported and that have still not arrived.
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
