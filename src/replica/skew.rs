//! Clocks that are wrong: whose clock differs from the others', and what is not sent again while it is deferred.
//!
//! A replica that has merged nothing yet has no reason to trust its own clock more than that of all members. If most of
//! the members it knows of agree with each other and are ahead of it, it takes their time; a single one's only if it hears
//! no second one for a second. Every other replica keeps its
//! time and defers what is ahead, and its digests ask the sender to wait.

use super::message::{Digest, Message};
use super::peers::{Peer, WallClock};
use super::{CoreKey, Replica};
use crate::hlc::{HlcTime, Now, nanos};
use crate::replica_id::ReplicaId;

/// The longest time for which a sender is asked to wait, nanoseconds. The clock of the receiver may be put right earlier.
const LONGEST: u64 = 60_000_000_000;
/// The shortest, and how long a newcomer waits for a second member before it takes the time of a single one, nanoseconds.
/// It is sent nothing for twice as long.
const SHORTEST: u64 = 1_000_000_000;

/// Digest intervals for each member in which a member of a connected pair is heard, but for one time in millions.
const ROUNDS: u64 = 16;

/// The wall clock of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// The member.
    pub member: ReplicaId,
    /// Its wall clock less ours by its last digest, in nanoseconds: the time on the way counts as behind.
    pub nanos: i64,
}

impl<K: CoreKey, V> Replica<K, V> {
    /// How far the wall clocks of live members are ahead of ours, by their last digests. A member that has sent none for
    /// long is left out: its clock may have been put right since.
    pub fn skews(&self, now: Now) -> impl Iterator<Item = Skew> + '_ {
        let known =
            move |(id, peer): (&ReplicaId, &Peer)| Some(Skew { member: *id, nanos: self.wall_skew(now, peer)? });
        self.peers.iter().filter(|(_, peer)| peer.is_live()).filter_map(known)
    }

    /// How far the wall clock of a member is ahead of ours, if it was heard lately.
    pub(super) fn wall_skew(&self, now: Now, peer: &Peer) -> Option<i64> {
        let rounds = ROUNDS.saturating_mul(self.peers.len() as u64 + 1);
        let lately = nanos(self.config.digest_interval).saturating_mul(rounds);
        let clock = peer.wall.filter(|clock| now.mono.saturating_sub(clock.at) <= lately)?;
        Some(signed_difference(clock.reads(now), now.wall))
    }

    /// By how many nanoseconds the time of the members, taken at the start, was ahead of our wall clock.
    #[must_use]
    pub fn taken_time(&self) -> u64 {
        self.clock.offset()
    }

    /// Takes note of the clocks of a member, and of what it asks.
    pub(super) fn note_clocks(&mut self, now: Now, from: ReplicaId, digest: &Digest) {
        let longest = nanos(self.config.digest_interval).max(LONGEST);
        let peer = self.hear(now, from);
        if digest.wall > 0 {
            peer.wall = Some(WallClock { said: digest.wall, at: now.mono });
        }
        if digest.deferring > 0 {
            let until = now.mono.saturating_add(digest.deferring.min(longest));
            peer.serve_after = peer.serve_after.max(until);
            peer.was_asked_to_wait = true;
            // Retries count from then.
            peer.unacked_since = peer.unacked_since.map(|_| until);
        } else if std::mem::take(&mut peer.was_asked_to_wait) {
            peer.serve_after = peer.serve_after.min(now.mono);
        }
        self.judge_newcomer(now, from, digest);
        if self.clock.offset() > 0 {
            self.give_time_back(now);
        } else if !self.bugs.deferral_storm {
            self.take_time_of_members(now, from);
        }
    }

    /// Sends a newcomer nothing as long as it would defer it, for a few digest intervals at most.
    fn judge_newcomer(&mut self, now: Now, from: ReplicaId, digest: &Digest) {
        let behind = digest.clock.saturating_add(nanos(self.config.max_drift)) < self.clock.judging(now);
        let empty = digest.vector.iter().all(|(origin, _)| origin == from);
        let patience = self.patience_with_clocks();
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let new = now.mono.saturating_sub(peer.known_since) < patience;
        peer.held_back = behind && empty && new && !self.bugs.deferral_storm;
    }

    fn patience_with_clocks(&self) -> u64 {
        nanos(self.config.digest_interval).saturating_mul(3).max(2 * SHORTEST)
    }

    /// What was held back long enough is sent: the members of the newcomer may disagree.
    pub(super) fn release_held_back(&mut self, now: Now) {
        let patience = self.patience_with_clocks();
        for peer in self.peers.values_mut() {
            peer.held_back &= now.mono.saturating_sub(peer.known_since) < patience;
        }
    }

    /// Wall clocks of live members less ours, in order.
    fn wall_skews(&self, now: Now) -> Vec<i64> {
        let mut known: Vec<_> = self.skews(now).map(|skew| skew.nanos).collect();
        known.sort_unstable();
        known
    }

    /// Ends the time that was taken once most members' wall clocks are no longer ahead of ours: theirs or ours was put
    /// right.
    fn give_time_back(&mut self, now: Now) {
        let known = self.wall_skews(now);
        let drift = i64::try_from(nanos(self.config.max_drift)).unwrap_or(i64::MAX);
        if known.get(known.len() / 2).is_some_and(|median| *median <= drift) {
            self.clock.set_offset(now, 0);
        }
    }

    /// Something that a member sent is from the future and due at `time`.
    pub(super) fn note_deferral(&mut self, now: Now, from: ReplicaId, time: HlcTime) {
        let judged = self.clock.judging(now).saturating_add(nanos(self.config.max_drift));
        let least = nanos(self.config.digest_interval).max(SHORTEST);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.deferred_until > now.mono {
            return; // The earliest counts.
        }
        // Each time in a row the wait doubles: a clock may be wrong for hours.
        let wait = least.saturating_mul(1 << peer.deferrals.min(16)).max(time.saturating_sub(judged));
        peer.deferrals = peer.deferrals.saturating_add(1);
        peer.deferred_until = now.mono.saturating_add(wait.min(LONGEST));
    }

    /// What a member sent was claimed: nothing of it is from the future.
    pub(super) fn note_no_deferral(&mut self, from: ReplicaId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            (peer.deferrals, peer.deferred_until) = (0, 0);
        }
    }

    /// Whether what a member sends is deferred, so that it is not asked for more.
    pub(super) fn defers(&self, now: Now, from: &ReplicaId) -> bool {
        self.peers.get(from).is_some_and(|peer| peer.deferred_until > now.mono) && !self.bugs.deferral_storm
    }

    /// Says in a digest that leaves now for how long its receiver is to wait.
    pub(super) fn ask_to_wait(&self, now: Now, to: &ReplicaId, message: &mut Message<K, V>) {
        if let Message::Digest(digest) = message
            && self.defers(now, to)
        {
            digest.deferring = self.peers.get(to).map_or(0, |peer| peer.deferred_until - now.mono);
        }
    }

    /// Takes the time of the members if this replica has merged nothing yet, and most of the members it knows of are
    /// ahead of it and agree with each other.
    fn take_time_of_members(&mut self, now: Now, from: ReplicaId) {
        let id = self.id;
        let drift = i64::try_from(nanos(self.config.max_drift)).unwrap_or(i64::MAX);
        if self.caught_up.is_some() || self.vector.iter().any(|(origin, _)| origin != id) {
            return;
        }
        let known = self.wall_skews(now);
        let unheard = self.peers.values().filter(|peer| peer.unmet.is_some() && peer.named_alive).count();
        let (Some(least), Some(most)) = (known.first(), known.last()) else { return };
        if *least <= drift || most - least > drift || known.len() <= unheard {
            return;
        }
        // The first to be heard may be the one that is wrong, and a clock that has run ahead does not come back.
        let live = self.peers.iter().filter(|(_, peer)| peer.is_live());
        let first = live.map(|(id, peer)| (peer.known_since, *id)).min();
        let waited = first.is_some_and(|(met, _)| now.mono.saturating_sub(met) >= SHORTEST);
        if known.len() < 2 && !waited && !self.bugs.time_of_the_first {
            return;
        }
        self.counters.time_taken += 1;
        tracing::warn!(
            replica = %self.id, behind_ms = least / 1_000_000,
            "the clock of this node is behind the clocks of the cluster; this cache takes the time of its members. Set the clock (NTP)"
        );
        self.clock.set_offset(now, least.unsigned_abs());
        let live: Vec<_> = self.live_peers().collect();
        live.into_iter().for_each(|member| self.note_no_deferral(member));
        // One source is enough, and each would send everything: the one that was met first, as with right clocks.
        let source = first.map_or(from, |(_, id)| id);
        let digest = self.digest(now, false);
        self.queue(source, Message::Digest(digest));
    }
}

fn signed_difference(a: HlcTime, b: HlcTime) -> i64 {
    let difference = i128::from(a) - i128::from(b);
    i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
}
