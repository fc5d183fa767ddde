//! The state that every conversation may read and change, and the operations on it that several conversations share:
//! the making of a digest, and the housekeeping after each call.

use crate::arrival::Provenance;
use crate::crdt::VersionVector;
use crate::env::Env;
use crate::hlc::HlcTime;
use crate::item::CoreKey;
use crate::ledger::merge::Merge;
use crate::ledger::{Ledger, Receiving, collect, epoch, quarantine};
use crate::members::peer::Peer;
use crate::members::{Members, named, retired, rings, skew};
use crate::message::{Digest, Entry, Fact, Message, Retired};
use crate::outbox::{Outbox, Waiting, Wanted};
use crate::replica_id::ReplicaId;

/// The bytes that the facts in a digest may take, and the bytes of one origin in a vector.
const FACT_BUDGET: usize = 4_096;
const BYTES_PER_ORIGIN: usize = 28;

/// The state of a replica that every conversation may read and change.
pub(crate) struct Context<'a, K, V> {
    pub(crate) env: &'a mut Env,
    pub(crate) ledger: &'a mut Ledger<K, V>,
    pub(crate) members: &'a mut Members,
    pub(crate) outbox: &'a mut Outbox<K, V>,
}

impl<K: CoreKey, V> Context<'_, K, V> {
    /// Records a message received directly from a replica, which becomes a live member. Returns its state.
    pub(super) fn hear(&mut self, from: ReplicaId) -> &mut Peer {
        let logs = self.ledger.logs_mut();
        self.members.hear(self.env.now, from, || logs.last_up_to(&from, HlcTime::MAX).unwrap_or(0))
    }

    /// Returns a merge that records this provenance.
    pub(super) fn merge(&mut self, by: Provenance) -> Merge<'_, K, V> {
        Merge { ledger: self.ledger, env: self.env, members: self.members, by }
    }

    /// Raises the vector entry of one origin to a claim. The caller has merged everything that the claim covers.
    pub(super) fn claim(&mut self, origin: ReplicaId, time: HlcTime) {
        // Only this replica knows what it wrote: no claim of another replica moves its own entry.
        if origin != self.env.id && self.ledger.raise(origin, time) {
            self.members.note_seen(&origin, self.ledger.vector().get(&origin));
        }
    }

    /// Returns true if the cluster is so large that pushes go only to ring successors, which relay them.
    pub(super) fn relays(&self) -> bool {
        rings::relays(self.members, self.env)
    }

    /// Returns the lag of a member behind a live origin, in nanoseconds, up to which the origin is expected to deliver
    /// its claims itself. Other replicas then pass on only registers that are no longer in flight. Above that lag they
    /// pass on the claim too, even without a register to send.
    pub(super) fn max_origin_lag(&self) -> u64 {
        self.members.silence_limit(self.env)
    }

    pub(super) fn adopt_epoch(&mut self, epoch: HlcTime) {
        epoch::adopt(self.ledger, self.env, epoch);
    }

    /// Records a replica whose clock, or whose stamp, is too far ahead.
    pub(super) fn note_offender(&mut self, who: ReplicaId, time: HlcTime) {
        quarantine::note_offender(self.ledger, self.env, who, time);
    }

    /// Records that a member sent something from the future, due at `time`. The member is not asked for more before
    /// that.
    pub(super) fn note_deferral(&mut self, from: ReplicaId, time: HlcTime) {
        skew::note_deferral(self.members, self.env, from, time);
    }

    /// Drops retained values that every live member has, and tombstones above the cap. Checks whether this replica now
    /// has everything that some member had at its first digest. Runs once, at the end of a call.
    #[inline]
    pub(super) fn keep_house(&mut self) {
        collect::release_retained(self.ledger, self.env, self.members);
        self.ledger.enforce_cap(self.env);
        if self.ledger.receiving().is_none() {
            self.members.check_caught_up(self.env, self.ledger.vector());
        }
    }

    /// Returns true if an open reconcile must judge this entry of a push: it is not held under this dot yet, and
    /// earlier frames may already have covered its dot. If the sender of the reconcile has seen the dot and does not
    /// list it, the entry was superseded or removed there. At its end, the reconcile treats the entry like any other
    /// unlisted register.
    pub(super) fn must_be_judged_by_reconcile(&self, entry: &Entry<K, V>) -> bool {
        let is_other = |held: crate::store::Snapshot<K, V>| self.ledger.registers().dot_of(&held.meta) != entry.dot();
        self.ledger.receiving() == Some(Receiving::Reconcile)
            && self.ledger.find(entry.hash, &entry.item.key).is_none_or(is_other)
    }

    /// Queues a small message. An acknowledgement, or an audit that is no reply, replaces a queued message of the same
    /// kind to the same member.
    pub(super) fn queue(&mut self, to: ReplicaId, message: Message<K, V>) {
        if let Some(before) = self.outbox.put(to, message) {
            self.ledger.registers_mut().set_aside(before.entries());
        }
    }

    /// Returns the next small message. A digest is made only now, so that it states the present.
    pub(super) fn take_small(&mut self) -> Option<(ReplicaId, Message<K, V>)> {
        let (to, waiting) = self.outbox.take()?;
        let message = match waiting {
            Waiting::Message(message) => message,
            Waiting::Digest(wanted) => {
                self.env.counters.digests_out += 1;
                Message::Digest(self.digest(Some(to), wanted))
            }
        };
        Some((to, message))
    }

    /// Makes a digest. Raises the own vector entry to the digest's clock: this replica wrote nothing between its last
    /// own write and that clock. The digest does not mention its receiver, the member `to`.
    pub(crate) fn digest(&mut self, to: Option<ReplicaId>, wanted: Wanted) -> Digest {
        let (id, Wanted { reply, full, want_full, greets }) = (self.env.id, wanted);
        // The dropped time of this replica's own id may stand for removals of a retired origin. A member that has not
        // seen that time needs a reconcile. If `quiet_since` were lower, the member would claim past that time, because
        // no own write follows.
        let quiet_since = self.ledger.last_own().max(self.ledger.dropped().get(&id));
        let clock = self.env.tick();
        self.ledger.raise(id, clock);
        let vector = self.ledger.vector();
        let (vector, retired) =
            if full { (vector.clone(), Retired::default()) } else { retired::split(self.members, self.env, vector) };
        Digest {
            clock,
            quiet_since,
            watermark: collect::watermark_at(self.ledger, self.env, clock),
            epoch: self.ledger.epoch(),
            vector,
            retired,
            full,
            want_full,
            reply,
            greets,
            lossy: self.ledger.is_lossy(),
            renew: to.filter(|to| self.members.must_renew(to, self.ledger.vector())),
            facts: self.facts(to, full),
            members: named::names(self.members, self.env, to),
            deferring: to.and_then(|to| skew::requested_wait(self.members, self.env, &to)).unwrap_or(0),
            wall: self.env.now.wall,
        }
    }

    /// Returns what other members reported, so that a stable cut needs fewer rounds than there are members.
    fn facts(&mut self, to: Option<ReplicaId>, full: bool) -> Vec<Fact> {
        let (members, env) = (&*self.members, &mut *self.env);
        // With one member there is no third replica to report on. With two, facts help if these cannot reach each
        // other.
        if members.len() < if env.bugs().no_facts_among_three { 3 } else { 2 } {
            return Vec::new();
        }
        let room = (FACT_BUDGET / (BYTES_PER_ORIGIN * (members.len() + 2))).clamp(1, 8);
        // Random members, so that facts about all of them spread although each digest carries only a few.
        let mut told: Vec<_> =
            members.iter().filter(|(_, peer)| peer.stability.latest.clock > 0).map(|(id, _)| *id).collect();
        env.random.shuffle(&mut told);
        told.truncate(room);
        told.retain(|id| Some(*id) != to);
        let ours = self.ledger.vector();
        let fact = |member: ReplicaId| {
            let peer = members.get(&member)?;
            let listed = |(origin, _): &(ReplicaId, HlcTime)| full || retired::is_listed(members, env, origin);
            let vector: VersionVector = peer.reported.iter().filter(listed).collect();
            let retired = !full && !env.bugs().facts_without_retired && retired::has_all(members, env, peer, ours);
            let latest = peer.stability.latest;
            Some(Fact { member, clock: latest.clock, watermark: latest.watermark, vector, retired })
        };
        told.into_iter().filter_map(fact).collect()
    }
}
