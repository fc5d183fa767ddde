//! Digests: who I am and what I have seen; the only repair that loss needs.

use std::borrow::Cow;

use super::message::{Digest, Fact, Message, Retired};
use super::{CoreKey, Replica};
use crate::crdt::{Dot, VersionVector};
use crate::hlc::{HlcTime, Now, nanos};
use crate::replica_id::ReplicaId;

/// Bytes that facts about others may take in a digest, and what an origin in a vector takes.
const FACT_BUDGET: usize = 4_096;
const BYTES_PER_ORIGIN: usize = 28;
/// Entries of one origin that a member may lack and is sent at once, although they may be on their way.
const LITTLE: usize = 64;

impl<K: CoreKey, V> Replica<K, V> {
    /// A message came from another replica of this cache.
    pub fn handle_message(&mut self, now: Now, from: ReplicaId, message: Message<K, V>) {
        self.set_aside(message.entries());
        if from == self.id {
            self.note_own_name(now, &message);
            return;
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.last_heard = now.mono;
        }
        if self.comes_of_a_twin(from, &message) {
            return;
        }
        match message {
            Message::Digest(digest) => self.handle_digest(now, from, digest),
            Message::Push(push) => self.handle_push(now, from, push),
            Message::Ack(ack) => self.handle_ack(now, from, ack),
            Message::Frame(frame) => self.handle_frame(now, from, frame),
            Message::Audit(audit) => self.handle_audit(now, from, audit),
        }
        self.check_caught_up();
    }

    /// What we tell others. Also moves our own entry with our clock: silence is information.
    pub fn digest(&mut self, now: Now, reply: bool) -> Digest {
        self.make_digest(now, reply, false)
    }

    fn make_digest(&mut self, now: Now, reply: bool, full: bool) -> Digest {
        // A dropped time of our own may stand for a retired origin: nobody gets past it by our silence.
        let quiet_since = self.last_own.max(self.dropped.get(&self.id));
        let clock = self.clock.tick(now);
        self.vector.raise(self.id, clock);
        let (vector, retired) = if full { (self.vector.clone(), Retired::default()) } else { self.split_vector() };
        Digest {
            clock,
            quiet_since,
            watermark: self.watermark_at(clock),
            epoch: self.store.epoch(),
            vector,
            retired,
            full,
            want_full: false,
            reply,
            lossy: self.lossy,
            renew: None,
            facts: self.facts(full),
            members: self.named_members(now),
            deferring: 0,
            wall: now.wall,
        }
    }

    /// What we know of some other members, so that a stable cut needs fewer rounds than members.
    fn facts(&mut self, full: bool) -> Vec<Fact> {
        // With one peer there is no third to report on. With two, their link may be the one that is cut.
        if self.peers.len() < if self.bugs.no_facts_among_three { 3 } else { 2 } {
            return Vec::new();
        }
        let room = (FACT_BUDGET / (BYTES_PER_ORIGIN * (self.peers.len() + 2))).clamp(1, 8);
        let mut members: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.latest.clock > 0).map(|(id, _)| *id).collect();
        self.random.shuffle(&mut members);
        members.truncate(room);
        let fact = |member: ReplicaId| {
            let peer = self.peers.get(&member)?;
            let vector = peer.reported.iter().filter(|(origin, _)| full || self.is_listed(origin)).collect();
            let retired = !full && !self.bugs.facts_without_retired && self.has_our_retired(peer);
            Some(Fact { member, clock: peer.latest.clock, watermark: peer.latest.watermark, vector, retired })
        };
        members.into_iter().filter_map(fact).collect()
    }

    /// Sends a digest to the live member whose turn it is.
    pub(super) fn gossip(&mut self, now: Now) {
        if let Some(to) = self.next_turn() {
            let digest = self.digest(now, false);
            self.queue(to, Message::Digest(digest));
        }
    }

    /// Each live member has a turn in a round, in an order that is drawn anew for each. If each turn were drawn by itself, one member
    /// in a thousand would not be heard in seven rounds, and nothing is stable before all are.
    fn next_turn(&mut self) -> Option<ReplicaId> {
        while let Some(next) = self.timers.turns.pop() {
            if self.is_live_peer(&next) || self.absent.greeted.contains(&next) {
                return Some(next);
            }
        }
        self.timers.turns = self.live_peers().chain(self.absent.greeted.iter().copied()).collect();
        self.random.shuffle(&mut self.timers.turns);
        self.timers.turns.pop()
    }

    /// A member that has this cache open may have appeared: it is told of us, again and again until
    /// it answers or is found dead.
    pub fn greet(&mut self, now: Now, to: ReplicaId) {
        if to != self.id && !self.is_live_peer(&to) {
            self.absent.greeted.insert(to);
        }
        let digest = self.digest(now, false);
        self.queue(to, Message::Digest(digest));
    }

    fn handle_digest(&mut self, now: Now, from: ReplicaId, digest: Digest) {
        self.counters.digests_in += 1;
        let first = self.peers.get(&from).is_none_or(|peer| peer.unmet.is_some());
        let newest = self.peers.get(&from).is_none_or(|peer| digest.clock > peer.latest.clock);
        self.hear(now, from).lossy = digest.lossy;
        self.take_named(now, from, &digest.members);
        self.note_clocks(now, from, &digest);
        if self.is_ahead(now, digest.epoch) {
            self.note_offender(from, digest.epoch);
            self.note_deferral(now, from, digest.epoch);
            return;
        }
        self.adopt_epoch(now, digest.epoch);
        let honest = !self.is_ahead(now, digest.clock);
        if honest {
            self.look_for_twins(from, &digest);
            self.clock.observe(digest.clock);
            if !self.was_ours(&from) {
                self.take_silence(now, from, &digest);
            }
        } else {
            self.note_offender(from, digest.clock);
        }
        let whole = self.whole_vector(&digest);
        self.take_facts(now, &digest, whole.as_ref());
        let Some(theirs) = whole else {
            self.ask_for_full(now, from);
            return;
        };
        if digest.want_full {
            let full = self.make_digest(now, true, true);
            self.queue(from, Message::Digest(full));
        }
        if newest && honest {
            self.note_dropped_origins(from, &theirs);
            // Its clock is past all that it holds: nothing of that is ahead of us any more.
            self.note_no_deferral(from);
        }
        self.note_reported(now, from, &theirs);
        self.note_target(from, &theirs, &digest);
        let basis = self.bugs.stale_digest.then_some(theirs.clone());
        self.serve(now, from, basis);
        self.look_for_news(now, from, &theirs, &digest, first);
    }

    /// The sender wrote nothing between its last dot and its clock: an interval without entries.
    fn take_silence(&mut self, now: Now, from: ReplicaId, digest: &Digest) {
        let _ = now;
        if self.vector.get(&from) >= digest.quiet_since {
            self.claim(from, digest.clock);
        }
        self.note_watermark(from, digest.clock, digest.watermark);
    }

    /// `whole` is the sender's vector with its retired origins, if that is known.
    fn take_facts(&mut self, now: Now, digest: &Digest, whole: Option<&VersionVector>) {
        let is_retired = |(origin, _): &(ReplicaId, HlcTime)| digest.vector.get(origin) == 0;
        let whole = whole.filter(|_| digest.facts.iter().any(|fact| fact.retired));
        let retired = whole.map(|whole| whole.iter().filter(is_retired).collect::<VersionVector>());
        for fact in &digest.facts {
            if fact.member == self.id || !self.peers.contains_key(&fact.member) || self.is_ahead(now, fact.clock) {
                continue;
            }
            self.note_reported(now, fact.member, &fact.vector);
            if let Some(retired) = retired.as_ref().filter(|_| fact.retired) {
                self.note_reported(now, fact.member, retired);
            }
            self.note_watermark(fact.member, fact.clock, fact.watermark);
        }
    }

    fn note_reported(&mut self, now: Now, member: ReplicaId, theirs: &VersionVector) {
        let own = self.vector.get(&self.id);
        let ours = theirs.get(&self.id);
        if ours > own {
            self.note_twin(now, ours);
        }
        let believed =
            |(origin, time): &(ReplicaId, HlcTime)| !self.is_ahead(now, *time) && (*origin != self.id || *time <= own);
        let credible = if theirs.iter().all(|entry| believed(&entry)) {
            Cow::Borrowed(theirs)
        } else {
            Cow::Owned(theirs.iter().filter(believed).collect::<VersionVector>())
        };
        let (id, relays) = (self.id, self.relays());
        let Some(peer) = self.peers.get_mut(&member) else { return };
        peer.reported.join(&credible);
        let ours = peer.reported.get(&id);
        if ours > peer.sent_to && relays {
            // It got past what could not be pushed: whether there is more of that is looked at again.
            peer.needs_session = false;
        }
        peer.sent_to = peer.sent_to.max(ours);
        peer.behind &= peer.sent_to < self.last_own;
        if ours >= peer.sent_to {
            peer.unacked_since = None;
            peer.asked = 0;
        }
    }

    /// A member that has more retired origins than its cap drops records, and then has seen less of
    /// these origins than it once said. Only its newest statement can say so: what an old one lacks
    /// may have come since.
    fn note_dropped_origins(&mut self, member: ReplicaId, theirs: &VersionVector) {
        let id = self.id;
        let Some(peer) = self.peers.get_mut(&member) else { return };
        let less: Vec<_> = peer.reported.beside(theirs).filter(|(_, before, now)| now < before).collect();
        for (origin, ..) in less {
            peer.reported.remove(&origin);
            if origin == id && theirs.get(&id) == 0 {
                peer.sent_to = 0;
            }
        }
    }

    /// Until we are caught up with somebody, what the first digest of each says is what we aim at.
    fn note_target(&mut self, from: ReplicaId, theirs: &VersionVector, digest: &Digest) {
        if self.caught_up.is_some() {
            return;
        }
        let mut target = theirs.clone();
        target.remove(&from);
        target.raise(from, digest.quiet_since);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.target.get_or_insert((target, digest.clock));
        }
    }

    fn ask_for_full(&mut self, now: Now, from: ReplicaId) {
        self.counters.retired_mismatch += 1;
        let mut digest = self.make_digest(now, true, true);
        digest.want_full = true;
        self.queue(from, Message::Digest(digest));
    }

    /// Sends a member what it lacks, if it is not on its way already.
    fn serve(&mut self, now: Now, to: ReplicaId, basis: Option<VersionVector>) {
        let Some(peer) = self.peers.get(&to) else { return };
        if self.incoming.is_some() || self.outgoing.contains_key(&to) || peer.serve_after > now.mono || peer.held_back {
            return;
        }
        let reported = basis.unwrap_or_else(|| peer.reported.clone());
        if !reported.dominates(&self.dropped) {
            if !self.another_serves(now, &to) {
                self.begin_session(now, to, reported);
            }
            return;
        }
        self.forget_progress(&to);
        let mut lacks_ours = false;
        let mut lacks_others = false;
        let behind = self.vector.beside(&reported).filter(|(origin, seen, theirs)| *origin != to && theirs < seen);
        for (origin, seen, theirs) in behind.collect::<Vec<_>>() {
            let lacks = self.lacks(now, to, origin, theirs, seen) && !self.gets_on(now, to, origin, theirs, seen);
            lacks_ours |= lacks && origin == self.id;
            lacks_others |= lacks && origin != self.id;
        }
        lacks_others &= !self.another_serves(now, &to);
        if lacks_others || (lacks_ours && !self.rewind(now, to, reported.get(&self.id))) {
            self.begin_session(now, to, reported);
        }
    }

    /// Whether a member that has `origin` up to `theirs` lacks something that is not on its way.
    fn lacks(&mut self, now: Now, to: ReplicaId, origin: ReplicaId, theirs: HlcTime, seen: HlcTime) -> bool {
        let settled = self.clock.judging(now).saturating_sub(self.in_flight());
        let tells_itself = origin == self.id || self.is_live_peer(&origin);
        if !tells_itself {
            return true;
        }
        if origin == self.id {
            return self.lacks_own(to, theirs, settled);
        }
        if theirs == 0 || seen.saturating_sub(theirs) > self.claim_lag() {
            return true;
        }
        self.first_after(origin, theirs).is_some_and(|time| time <= settled)
    }

    /// Who has all we have of an origin starts anew when it lacks something again.
    fn forget_progress(&mut self, of: &ReplicaId) {
        let Some(peer) = self.peers.get_mut(of) else { return };
        let (reported, vector) = (&peer.reported, &self.vector);
        peer.progress.retain(|origin, _| reported.get(origin) < vector.get(origin));
    }

    /// Whether a member lacks own writes that are not on their way. Writes that were overtaken since
    /// count as well: without the empty interval that stands for them its vector could never move.
    fn lacks_own(&mut self, to: ReplicaId, theirs: HlcTime, settled: HlcTime) -> bool {
        if theirs >= self.last_own {
            return false;
        }
        let unanswered = self.peers.get(&to).is_some_and(|peer| peer.asked > 0);
        let first = self.logs.get_mut(&self.id).and_then(|log| log.after(theirs).next());
        let compacted = self.push_barrier > theirs && self.push_barrier <= settled;
        theirs == 0
            || unanswered
            || compacted
            || self.last_own <= settled
            || first.is_some_and(|(time, _)| time <= settled)
    }

    /// Whether a member that lacks much of a live origin gets it from there: it has come further since this
    /// was last looked at. Who is merely slower than a burst is not helped by getting everything twice.
    fn gets_on(&mut self, now: Now, to: ReplicaId, origin: ReplicaId, theirs: HlcTime, seen: HlcTime) -> bool {
        let tells_itself = origin == self.id || self.is_live_peer(&origin);
        let late = theirs == 0 || seen.saturating_sub(theirs) > self.claim_lag();
        let much = self.logs.get(&origin).is_some_and(|log| log.count_after(theirs).0 > LITTLE);
        if !tells_itself || late || !much || self.relays() {
            return false;
        }
        let patience = self.in_flight();
        let Some(peer) = self.peers.get_mut(&to) else { return false };
        match peer.progress.get(&origin) {
            Some((reached, since)) if *reached >= theirs => now.mono.saturating_sub(*since) < patience,
            _ => {
                peer.progress.insert(origin, (theirs, now.mono));
                true
            }
        }
    }

    /// Writes younger than this are taken to be on their way, nanoseconds.
    fn in_flight(&self) -> u64 {
        nanos(self.config.repair_delay).saturating_mul(4)
    }

    /// An origin that is alive tells everybody itself; a claim of it is passed on only when it lags
    /// by more than this.
    pub(super) fn claim_lag(&self) -> u64 {
        nanos(self.config.digest_interval).saturating_mul(4 * (self.peers.len() as u64 + 1))
    }

    /// The first dot of an origin after `from` whose register is here.
    fn first_after(&mut self, origin: ReplicaId, from: HlcTime) -> Option<HlcTime> {
        self.logs.get_mut(&origin)?.sort();
        let holds = |(time, slot): &(HlcTime, _)| {
            self.store.meta(*slot).is_some_and(|meta| self.dot_of(&meta) == Dot::new(origin, *time))
        };
        self.logs.get(&origin)?.sorted_after(from).find(holds).map(|(time, _)| time)
    }

    /// Goes back to what the member has of our writes and pushes from there, if that can be pushed.
    fn rewind(&mut self, now: Now, to: ReplicaId, reported: HlcTime) -> bool {
        if reported < self.push_barrier || reported < self.dropped.get(&self.id) {
            return false;
        }
        let settled = now.mono.saturating_add(self.in_flight());
        let Some(peer) = self.peers.get_mut(&to).filter(|peer| !peer.needs_session) else { return false };
        peer.sent_to = reported;
        peer.behind = true;
        peer.serve_after = settled;
        true
    }

    /// Whether we have given up values and another live member, which has not and has seen all that
    /// we dropped, can be the source. It has the first few intervals for it: it may never be asked.
    fn another_serves(&self, now: Now, to: &ReplicaId) -> bool {
        let patience = nanos(self.config.digest_interval).saturating_mul(3);
        let new = self.peers.get(to).is_some_and(|peer| now.mono.saturating_sub(peer.known_since) < patience);
        let complete =
            |peer: &super::peers::Peer| peer.is_live() && !peer.lossy && peer.reported.dominates(&self.dropped);
        self.lossy && new && self.peers.iter().any(|(id, peer)| id != to && complete(peer))
    }

    /// Finds out whether the sender has something for us, and asks for it.
    fn look_for_news(&mut self, now: Now, from: ReplicaId, theirs: &VersionVector, digest: &Digest, first: bool) {
        let ours = self.vector.get(&from);
        let mut news = (first && ours == 0) || self.has_twin(&from);
        if self.defers(now, &from) {
            return;
        }
        if ours < digest.quiet_since {
            // Probably on its way; looked at again in a moment.
            let at = now.mono.saturating_add(nanos(self.config.repair_delay).saturating_mul(2));
            let peer = self.hear(now, from);
            peer.suspected.get_or_insert((digest.quiet_since, at));
            news |= ours == 0;
        }
        let lag = self.claim_lag();
        news |= theirs.beside(&self.vector).any(|(origin, time, ours)| {
            if origin == from || origin == self.id || ours >= time {
                return false;
            }
            let credible = !self.is_ahead(now, time);
            credible && (ours == 0 || !self.is_live_peer(&origin) || time - ours > lag)
        });
        if news && !digest.reply && !digest.want_full {
            let reply = self.digest(now, true);
            self.queue(from, Message::Digest(reply));
        }
    }
}
