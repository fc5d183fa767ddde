//! What the passing of time does. All by monotonic time.

use super::collect::StableCut;
use super::config::ReplicaConfig;
use super::message::Message;
use super::push::ACK_DELAY;
use super::{CoreKey, Replica};
use crate::hlc::{Now, nanos};
use crate::replica_id::ReplicaId;

/// How often stability is looked at, nanoseconds.
const COLLECT_EVERY: u64 = 1_000_000_000;

/// When there was more to collect than one go may take, nanoseconds.
const COLLECT_AGAIN: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Timers {
    pub(super) digest: u64,
    pub(super) collect: u64,
    pub(super) audit: u64,
    /// Who is sent a digest next, the last one first.
    pub(super) turns: Vec<ReplicaId>,
    cut: StableCut,
}

impl Timers {
    pub(super) fn new(config: &ReplicaConfig, now: Now, random: &mut fastrand::Rng) -> Self {
        Self {
            // The first digest goes out as soon as there is somebody; the phase is random.
            digest: now.mono.saturating_add(random.u64(0..=nanos(config.digest_interval))),
            collect: now.mono + COLLECT_EVERY.min(nanos(config.digest_interval)),
            audit: now.mono.saturating_add(jittered(nanos(config.audit_interval), random)),
            turns: Vec::new(),
            cut: StableCut::default(),
        }
    }

    /// The stable cut of the last look.
    pub(super) fn cut(&self) -> &StableCut {
        &self.cut
    }

    pub(super) fn set_cut(&mut self, cut: StableCut) {
        self.cut = cut;
    }
}

/// `mean`, give or take a quarter.
fn jittered(mean: u64, random: &mut fastrand::Rng) -> u64 {
    (mean - mean / 4).saturating_add(random.u64(0..=mean / 2))
}

impl<K: CoreKey, V> Replica<K, V> {
    /// The monotonic time at which [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self, now: Now) -> u64 {
        let mut next = self.timers.digest.min(self.timers.collect);
        if !self.config.audit_interval.is_zero() {
            next = next.min(self.timers.audit);
        }
        let peers = self.peers.values().flat_map(|peer| {
            let unacked = peer.unacked_since.filter(|_| peer.is_live()).map(|since| self.retry_at(since, peer.asked));
            [peer.ack_due, peer.suspected.map(|(_, at)| at), unacked]
        });
        next = peers.flatten().fold(next, u64::min);
        next = self.incoming_deadline().map_or(next, |at| next.min(at));
        next = self.early.deadline().map_or(next, |at| next.min(at));
        let soon = [self.next_expiry_in(now), self.next_deferred_in(now), self.sweep.map(|_| 0)];
        soon.into_iter().flatten().fold(next, |next, wait| next.min(now.mono.saturating_add(wait)))
    }

    pub(super) fn retry_at(&self, since: u64, asked: u32) -> u64 {
        let first = nanos(self.config.repair_delay).saturating_mul(4);
        let wait = first.saturating_mul(1 << asked.min(10)).min(nanos(self.config.digest_interval).max(first));
        since.saturating_add(wait)
    }

    /// Does what is due. Work is bounded: what is left over asks for another call at once.
    pub fn handle_timeout(&mut self, now: Now) {
        self.expire_due(now);
        self.sweep_page();
        self.release_deferred(now);
        self.expire_fills(now);
        self.note_patience(now);
        self.check_incoming(now);
        self.check_early(now);
        self.flush_acks(now);
        self.check_suspicions(now);
        self.check_unacked(now);
        self.check_outgoing(now);
        if self.timers.digest <= now.mono {
            self.timers.digest =
                now.mono.saturating_add(jittered(nanos(self.config.digest_interval), &mut self.random));
            self.gossip(now);
        }
        if self.timers.collect <= now.mono {
            self.timers.collect = now.mono + COLLECT_EVERY.min(nanos(self.config.digest_interval));
            self.forget_the_long_dead(now);
            if self.collect(now) {
                self.timers.collect = now.mono + COLLECT_AGAIN;
            }
            self.compact_bloated_logs();
            self.cap_retired(now);
            self.forget_empty_logs();
        }
        if !self.config.audit_interval.is_zero() && self.timers.audit <= now.mono {
            self.timers.audit = now.mono.saturating_add(jittered(nanos(self.config.audit_interval), &mut self.random));
            self.audit_random_slice(now);
        }
        self.check_caught_up();
    }

    /// Buries what is expired and sweeps what is invalidated, all of it, now.
    pub fn run_pending(&mut self, now: Now) {
        while self.expire_due(now) {}
        while self.sweep_page() {}
        self.release_deferred(now);
    }

    pub(super) fn flush_acks(&mut self, now: Now) {
        let due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.ack_due.is_some_and(|at| at <= now.mono))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.ack_due = None;
                peer.ack_after = now.mono.saturating_add(ACK_DELAY);
            }
            self.queue_ack(id);
        }
    }

    /// A member said it had written something that has still not come: ask it.
    fn check_suspicions(&mut self, now: Now) {
        let due = |(_, peer): &(_, &super::peers::Peer)| peer.suspected.is_some_and(|(_, at)| at <= now.mono);
        let due: Vec<_> = self.peers.iter().filter(due).map(|(id, peer)| (*id, peer.suspected)).collect();
        for (id, suspected) in due {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.suspected = None;
            }
            if suspected.is_some_and(|(written, _)| self.vector.get(&id) < written) && !self.defers(now, &id) {
                let digest = self.digest(now, false);
                self.queue(id, Message::Digest(digest));
            }
        }
    }

    /// A push was not acknowledged: a digest finds out what is missing.
    fn check_unacked(&mut self, now: Now) {
        let mut ask = Vec::new();
        for (id, peer) in &self.peers {
            let Some(since) = peer.unacked_since.filter(|_| peer.is_live()) else { continue };
            if self.retry_at(since, peer.asked) <= now.mono {
                ask.push(*id);
            }
        }
        let relays = self.relays();
        for id in ask {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            if peer.reported.get(&self.id) >= peer.sent_to {
                peer.unacked_since = None;
                peer.asked = 0;
                continue;
            }
            peer.asked = peer.asked.saturating_add(1);
            // In a large cluster nobody acknowledges: once is enough, then digests find out like everything.
            peer.unacked_since = (!relays).then_some(now.mono);
            let digest = self.digest(now, false);
            self.queue(id, Message::Digest(digest));
        }
    }
}
