//! The handling of received digests: the statements taken from them, and the decision to answer with a digest. Also
//! the times at which own digests are sent.
//!
//! A digest summarises what its sender has seen. If messages are lost, digests are enough to start the repair.
//! `context` makes them. `session_out` decides what a member is served after its digest.

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
    /// True if its clock is later than the newest clock recorded for its sender, from digests or facts.
    newest: bool,
    /// The full vector of the sender, retired origins included. Empty until `apply` has computed it.
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

    /// Moves the time of the next digest.
    pub(crate) fn delay(&mut self, to: impl FnOnce(u64) -> u64) {
        self.due = to(self.due);
    }

    /// If a digest is due, returns the live member or greeted replica whose turn it is.
    pub(crate) fn handle_timeout<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) -> Option<ReplicaId> {
        if self.due > cx.env.now.mono {
            return None;
        }
        let wait = cx.env.jittered(nanos(cx.env.config.digest_interval));
        self.due = cx.env.later(wait);
        cx.members.next_turn(&mut cx.env.random)
    }
}

/// Greets a replica that may have this cache open. Until it answers or is found dead, the rounds of digests also reach
/// it. Used where the id of the replica is known, for instance after this replica took a new id. A node that knows only
/// the process sends [`Replica::greeting`](crate::replica::Replica::greeting).
pub(crate) fn greet<K: CoreKey, V>(cx: &mut Context<'_, K, V>, to: ReplicaId) {
    if to != cx.env.id && !cx.members.is_live(&to) {
        cx.members.note_greeted(to);
    }
    cx.outbox.greet(to);
}

/// Records a digest, whose sender becomes a member. Also returns the unmet members that must be forgotten, because no
/// member that met them names them any more.
pub(crate) fn record<K: CoreKey, V>(
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
    /// asked for a full digest. Otherwise the second result is the vector by which to serve the sender. If that vector
    /// is missing, the sender is served by the highest vector that it ever reported. Only the known mistake
    /// `stale_digest` returns a vector.
    pub(crate) fn apply<K: CoreKey, V>(mut self, cx: &mut Context<'_, K, V>) -> Option<(Self, Option<VersionVector>)> {
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
        let is_credible = !cx.env.is_ahead(digest.clock);
        if is_credible {
            check_duplicate_id(cx, from, digest);
            cx.env.clock.observe(digest.clock);
            // A process that still uses this replica's former id does not know what this replica wrote under that id.
            // So neither the clock nor the watermark in its digest is recorded.
            if !cx.members.former().was_ours(&from) {
                take_clock_and_watermark(cx, from, digest);
            }
        } else {
            cx.note_offender(from, digest.clock);
        }
        let full = retired::full_vector(cx.ledger.vector(), digest);
        take_facts(cx, digest, full.as_ref());
        let Some(theirs) = full else {
            ask_for_full(cx, from);
            return None;
        };
        if digest.want_full {
            cx.outbox.send_digest(from, Wanted { reply: true, full: true, ..Wanted::default() });
        }
        if self.newest && is_credible {
            note_dropped_origins(cx, from, &theirs);
            // The sender's clock is not ahead, and is later than every stamp and dot that the sender holds. So none of
            // these stamps and dots is ahead.
            skew::note_no_deferral(cx.members, &from);
        }
        if self.newest {
            cx.hear(from).stills.note_heard(digest, is_credible);
        }
        note_reported(cx, from, &theirs);
        cx.members.note_target(from, &theirs, digest);
        let basis = cx.env.bugs().stale_digest.then(|| theirs.clone());
        self.theirs = theirs;
        Some((self, basis))
    }

    /// Answers with a digest, so that the sender can begin a session. Does so if the sender greets, must take a new id,
    /// or has something this replica lacks that is probably not on its way. Never answers a reply, nor while entries of
    /// the sender are deferred here.
    pub(crate) fn answer_if_needed<K: CoreKey, V>(self, cx: &mut Context<'_, K, V>) {
        let Self { from, digest, first, theirs, .. } = self;
        let seen = cx.ledger.vector().get(&from);
        let mut must_answer = (first && seen == 0) || cx.members.must_renew(&from, cx.ledger.vector());
        must_answer |= digest.greets && !cx.env.bugs().greetings_unanswered;
        // While something of the sender is deferred here, an answer would only bring it again.
        if skew::defers(cx.members, cx.env, &from) {
            return;
        }
        if seen < digest.quiet_since {
            // The sender's last write is probably on its way. `check_suspicions` checks again after two repair delays.
            let at = cx.env.later(nanos(cx.env.config.repair_delay).saturating_mul(2));
            cx.hear(from).suspected.get_or_insert((digest.quiet_since, at));
            must_answer |= seen == 0;
        }
        let lag = cx.max_origin_lag();
        must_answer |= theirs.zip(cx.ledger.vector()).any(|(origin, time, ours)| {
            if origin == from || origin == cx.env.id || ours >= time {
                return false;
            }
            // A live origin delivers recent writes itself: only a longer lag needs a session.
            let credible = !cx.env.is_ahead(time);
            credible && (ours == 0 || !cx.members.is_live(&origin) || time - ours > lag)
        });
        // A reply gets no answer, or two replicas would answer each other without end. A request for a full digest has
        // been answered in `apply`.
        if must_answer && !digest.reply && !digest.want_full {
            cx.outbox.tell(from);
        }
    }
}

/// Detects a duplicate id: compares the sender's statement about its own writes with what is known of them. Also takes
/// note if the sender asks this replica to take a new id.
fn check_duplicate_id<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId, digest: &Digest) {
    let Some(peer) = cx.members.get_mut(&from) else { return };
    let denies_known_write = peer.claims.take(digest);
    let must_renew = digest.renew == Some(cx.env.id);
    cx.env.counters.duplicate_id += u64::from(denies_known_write) + u64::from(must_renew);
    if must_renew {
        cx.ledger.note_reported_duplicate();
    }
}

/// Records the sender's clock and watermark. If this replica has seen the sender up to `quiet_since`, also claims the
/// rest up to the sender's clock, because the sender wrote nothing there.
fn take_clock_and_watermark<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId, digest: &Digest) {
    if cx.ledger.vector().get(&from) >= digest.quiet_since {
        cx.claim(from, digest.clock);
    }
    cx.members.note_watermark(from, digest.clock, digest.watermark, cx.ledger.vector().get(&from));
}

/// Records the facts of a digest about other members. A fact lists no retired origins. Instead, its flag `retired`
/// states that the fact's member has seen all that the digest's sender has seen of them. `full`, the sender's full
/// vector if known, says how much that is.
fn take_facts<K: CoreKey, V>(cx: &mut Context<'_, K, V>, digest: &Digest, full: Option<&VersionVector>) {
    let is_unlisted = |(origin, _): &(ReplicaId, HlcTime)| digest.vector.get(origin) == 0;
    let full = full.filter(|_| digest.facts.iter().any(|fact| fact.retired));
    let retired = full.map(|full| full.iter().filter(is_unlisted).collect::<VersionVector>());
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
    // A member reports writes under this id that this replica did not issue: another process uses the id.
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
        // The member has reported writes of this replica beyond `sent_to`. If no push could start at `sent_to`, one may
        // be possible from the reported time. The next push starts there, and shows whether a session is still needed.
        delivery.needs_session = false;
    }
    delivery.sent_to = delivery.sent_to.max(ours);
    delivery.behind &= delivery.sent_to < last_own;
    if ours >= delivery.sent_to {
        (delivery.unacked_since, delivery.asked) = (None, 0);
    }
}

/// Lowers the reported vector of a member that has dropped records of retired origins, because it had more than
/// `max_retired`. That member counts these origins as unseen from then on. The caller passes only the vector of the
/// newest digest: an older one may be lower because it was sent earlier.
fn note_dropped_origins<K: CoreKey, V>(cx: &mut Context<'_, K, V>, member: ReplicaId, theirs: &VersionVector) {
    let (id, now) = (cx.env.id, cx.env.now.mono);
    let Some(peer) = cx.members.get_mut(&member) else { return };
    let is_before_serve_after = peer.delivery.serve_after > now && !cx.env.bugs().deferral_storm;
    let lowered: Vec<_> = peer.reported.zip(theirs).filter(|(_, before, reports)| reports < before).collect();
    for (origin, ..) in lowered {
        peer.reported.remove(&origin);
        if origin == id && theirs.get(&id) == 0 && !is_before_serve_after {
            // The member has dropped the record of this replica: own writes are sent from the beginning. Before
            // `serve_after`, for instance while the member has asked to wait, nothing is reset. Between two digests of
            // the member, facts of other members may restore the old report. Each digest would then lower the report
            // and reset `sent_to` again, and each reset starts a full push. The first digest after `serve_after` shows
            // the same lack.
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
