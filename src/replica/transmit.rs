//! What is to be sent, in order of urgency.

use super::message::{Ack, Message};
use super::{CoreKey, Replica};
use crate::hlc::Now;
use crate::replica_id::ReplicaId;

/// A message and its receivers.
#[derive(Debug)]
pub struct Transmit<K, V> {
    /// Who gets it; every one the same bytes.
    pub to: Vec<ReplicaId>,
    /// The message.
    pub message: Message<K, V>,
    /// It carries registers: no other such message goes to these receivers until
    /// [`Replica::handle_sent`] was called for each.
    pub bulk: bool,
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Takes out the next message: digests and acknowledgements first, then fresh writes, then
    /// sessions.
    pub fn poll_transmit(&mut self, now: Now) -> Option<Transmit<K, V>> {
        let urgent = self.poll_control(now).or_else(|| self.poll_relay());
        let transmit = urgent.or_else(|| self.poll_push(now)).or_else(|| self.poll_frame(now));
        let transmit = transmit.or_else(|| self.poll_suspects());
        // A push that could not be made asks for what its receivers have.
        transmit.or_else(|| self.poll_control(now))
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may return something. Looks at members, not at logs.
    #[must_use]
    pub fn may_transmit(&self) -> bool {
        let is_ready = |id: &ReplicaId| self.peers.get(id).is_some_and(|peer| peer.is_live() && !peer.busy);
        !self.control.is_empty()
            || self.relay.is_waiting()
            || !self.suspects.is_empty()
            || self.peers.iter().any(|(id, peer)| self.is_pushable(id, peer))
            || self.outgoing.keys().any(is_ready)
    }

    fn poll_control(&mut self, now: Now) -> Option<Transmit<K, V>> {
        let (to, mut message) = self.control.pop_front()?;
        self.ask_to_wait(now, &to, &mut message);
        self.counters.digests_out += u64::from(matches!(message, Message::Digest(_)));
        Some(Transmit { to: vec![to], message, bulk: false })
    }

    /// A bulk message to `to` has left, or could not be sent.
    pub fn handle_sent(&mut self, now: Now, to: ReplicaId, ok: bool) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        peer.busy = false;
        if !ok {
            peer.unacked_since.get_or_insert(now.mono);
            // Whoever cannot be reached is not tried again at once.
            peer.serve_after = now.mono.saturating_add(crate::hlc::nanos(self.config.digest_interval));
            self.abort_outgoing(to);
        }
        self.release_retained();
    }

    /// Queues a small message; a newer digest or acknowledgement to the same member takes the place
    /// of one that has not left yet, so the queue is bounded by the number of members.
    pub(super) fn queue(&mut self, to: ReplicaId, mut message: Message<K, V>) {
        if let Message::Digest(digest) = &mut message {
            digest.renew = Some(to).filter(|to| self.has_twin(to));
        }
        let same = |queued: &Message<K, V>| match (queued, &message) {
            (Message::Digest(a), Message::Digest(b)) => a.reply == b.reply && a.want_full == b.want_full,
            (Message::Ack(_), Message::Ack(_)) => true,
            // Answers are not alike: each is about other keys. There is one for each audit that came.
            (Message::Audit(a), Message::Audit(b)) => !a.reply && !b.reply,
            _ => false,
        };
        match self.control.iter_mut().find(|(other, queued)| *other == to && same(queued)) {
            Some((_, queued)) => {
                let before = std::mem::replace(queued, message);
                self.set_aside(before.entries());
            }
            None => self.control.push_back((to, message)),
        }
    }

    pub(super) fn queue_ack(&mut self, to: ReplicaId) {
        let time = self.vector.get(&to);
        self.queue(to, Message::Ack(Ack { to: Some(to), time }));
    }
}
