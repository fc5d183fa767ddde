//! Two processes under one replica id: a cloned machine, or one that was restored from a picture of its memory.
//!
//! Members believe that a replica has seen what only its twin has seen, and will not send it again; so nothing that is there
//! can be relied on. A replica with a twin begins anew, as after a restart: empty, under a fresh id, to be filled by the
//! others. What it wrote itself a moment ago it tells once more, under the old stamps, and what it deleted at any time: nobody
//! else may have that, and what was decided against it meanwhile wins, or has left its stamp in somebody's floor.
//!
//! Who finds out:
//!
//! - the twin that is *behind*: it is told of a time under its id that it has not reached. From then on it says nothing under
//!   that id, so at most one of two finds out by itself, and the other one still has what both held. As soon as the first has
//!   it from somebody, it tells the other to begin anew as well, for that lacks what the first has written.
//! - everybody else, by a digest that says "I wrote nothing after this" of a time before a write that is known. Its sender
//!   and whoever else goes by that id is told.

use super::message::{Digest, Entry, Message, Push};
use super::place::Placing;
use super::{CoreKey, RemovalCause, Replica};
use crate::crdt::{Cause, Dot, Kind, Marker};
use crate::hlc::{HlcTime, Now, Stamp, nanos};
use crate::item::ItemRef;
use crate::learnt::LearntBy;
use crate::replica_id::ReplicaId;
use crate::store::Position;

/// Who says that we have a twin is believed once in this time, nanoseconds: a liar must not keep us empty.
const RENEW_EVERY: u64 = 60_000_000_000;

/// What is known of others who go by our id.
#[derive(Debug, Default)]
pub(super) struct Twin {
    /// Somebody has said so since it was last asked for.
    seen: bool,
    /// The id we had before, and when we gave it up by monotonic time.
    left: Option<(ReplicaId, u64)>,
    /// That was so long ago that nobody is waited for any more.
    waited: bool,
}

/// What a replica was before it took a new id. Holds users' keys and values: to be dropped outside of locks.
pub(crate) struct Remains<K, V>(#[expect(dead_code, reason = "held to be dropped later")] Box<Replica<K, V>>);

/// An own write that is told again.
struct Kept<K, V> {
    stamp: Stamp,
    kind: Kind,
    hash: u64,
    expires: HlcTime,
    size: u32,
    weight: u32,
    item: ItemRef<K, V>,
}

impl<K: CoreKey, V> Replica<K, V> {
    /// A message came under our own id.
    pub(super) fn note_own_name(&mut self, now: Now, message: &Message<K, V>) {
        let time = match message {
            Message::Digest(digest) => digest.clock,
            Message::Push(push) => push.to,
            Message::Ack(_) | Message::Frame(_) | Message::Audit(_) => 0,
        };
        self.note_twin(now, time);
    }

    /// Something was said under our own id that we did not say. It calls for a new one if we have not got to `time`.
    pub(super) fn note_twin(&mut self, now: Now, time: HlcTime) {
        self.counters.cloned_id += 1;
        self.twin.seen |= time > self.vector.get(&self.id) && !self.is_ahead(now, time);
    }

    /// Takes note of writes whose origin may later know nothing of them.
    pub(super) fn note_written(&mut self, push: &Push<K, V>) {
        if let Some(last) = push.entries.last()
            && let Some(peer) = self.peers.get_mut(&push.origin)
        {
            peer.wrote = peer.wrote.max(last.dot().counter);
        }
    }

    /// Compares what a member says of itself with what is known of it, and takes its word for what it says of us.
    pub(super) fn look_for_twins(&mut self, from: ReplicaId, digest: &Digest) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let (clock, quiet_since) = peer.word;
        let forgets = (digest.clock >= peer.wrote && digest.quiet_since < peer.wrote)
            || (digest.clock > clock && digest.quiet_since < quiet_since);
        if digest.clock > clock {
            peer.word = (digest.clock, digest.quiet_since);
        }
        peer.has_twin |= forgets;
        let ours = digest.renew == Some(self.id);
        self.counters.cloned_id += u64::from(forgets) + u64::from(ours);
        self.twin.seen |= ours;
    }

    /// Whether a member is to be told that it has a twin. Not before we have what it has: it will give that up.
    pub(super) fn has_twin(&self, member: &ReplicaId) -> bool {
        let Some(peer) = self.peers.get(member) else { return false };
        let filled =
            || peer.reported.iter().all(|(origin, time)| origin == *member || self.vector.get(&origin) >= time);
        let waited = self.twin.waited || (self.caught_up.is_some() && (!self.was_ours(member) || filled()));
        (peer.has_twin || self.was_ours(member)) && waited
    }

    /// Whether this was our own id.
    pub(super) fn was_ours(&self, id: &ReplicaId) -> bool {
        self.twin.left.is_some_and(|(left, _)| left == *id)
    }

    /// Whether a message says "this is everything" of our former id, and is not to be believed: who still goes by it does not
    /// know what we wrote. A third member does; as long as there is one, it is waited for, for a minute.
    pub(super) fn comes_of_a_twin(&self, from: ReplicaId, message: &Message<K, V>) -> bool {
        let Some((left, _)) = self.twin.left.filter(|_| !self.twin.waited) else { return false };
        let says_everything = match message {
            Message::Push(push) => push.origin == left,
            Message::Frame(_) => from == left,
            Message::Digest(_) | Message::Ack(_) | Message::Audit(_) => false,
        };
        says_everything && self.live_peers().chain(self.absent.greeted.iter().copied()).any(|member| member != left)
    }

    pub(super) fn note_patience(&mut self, now: Now) {
        let left = self.twin.left.filter(|(_, at)| now.mono.saturating_sub(*at) >= RENEW_EVERY);
        self.twin.waited = left.is_some();
    }

    /// Whether members are expected that this replica has not heard: the node says so, or this replica has begun anew.
    pub(super) fn may_meet_members(&self) -> bool {
        self.absent.awaited || self.twin.left.is_some()
    }

    /// Whether another process goes by our id, so that [`renew`](Self::renew) is to be called now. Asked once for each time that
    /// somebody says so: what was said within the minute does not count later.
    pub(crate) fn needs_new_id(&mut self, now: Now) -> bool {
        let rested = |at: u64| now.mono.saturating_sub(at) >= RENEW_EVERY;
        std::mem::take(&mut self.twin.seen) && self.twin.left.is_none_or(|(_, at)| rested(at))
    }

    /// Begins anew as another replica, with the own writes of the last moments only. `id` was never used before.
    pub(crate) fn renew(&mut self, now: Now, id: ReplicaId, seed: u64) -> Option<Remains<K, V>> {
        let fresh = Self::new(id, self.config.clone(), seed, now).ok()?;
        let (kept, members) = (self.writes_to_keep(now), self.live_members());
        self.erase_everything();
        let mut before = Box::new(std::mem::replace(self, fresh));
        self.store = crate::sync::Arc::clone(&before.store);
        self.bugs = before.bugs;
        self.clock = before.clock.clone();
        self.fills = before.fills.without_holds();
        self.opened = before.opened;
        self.absent.awaited = true; // There are others, whatever they will say.
        std::mem::swap(&mut self.changes, &mut before.changes);
        std::mem::swap(&mut self.garbage, &mut before.garbage);
        std::mem::swap(&mut self.counters, &mut before.counters);
        self.counters.renewed_id += 1;
        self.twin.left = Some((before.id, now.mono));
        tracing::error!(replica = %before.id, renewed = %id, kept = kept.len(), "another process goes by the id of this replica, which begins anew under another");
        for write in kept {
            self.write_again(now, write);
        }
        for member in members {
            self.greet(now, member);
        }
        Some(Remains(before))
    }

    /// What is told again: own tombstones, which make nothing stale, and own values so young that nothing which overrules them
    /// has been collected.
    fn writes_to_keep(&mut self, now: Now) -> Vec<Kept<K, V>> {
        let since = self.clock.last().max(self.clock.judging(now)).saturating_sub(nanos(self.config.gc_grace) / 2);
        let own = self.id;
        let places: Vec<_> = self.logs.get_mut(&own).map_or_else(Vec::new, |log| log.after(0).collect());
        let kept = places.into_iter().filter_map(|(time, slot)| {
            // As it goes on the wire: what was evicted before anybody had it is a value.
            let (Entry { marker, item, expires, size, weight, hash }, _) = self.entry_at(Dot::new(own, time), slot)?;
            let young = marker.stamp.replica == own && marker.stamp.time > since;
            let told = match marker.kind {
                Kind::Live => young,
                Kind::Tombstone(cause) => cause != Cause::Evicted,
            };
            told.then_some(Kept { stamp: marker.stamp, kind: marker.kind, hash, expires, size, weight, item })
        });
        kept.collect()
    }

    fn write_again(&mut self, now: Now, write: Kept<K, V>) {
        let Kept { stamp, kind, hash, expires, size, weight, item } = write;
        if stamp.time <= self.store.epoch() {
            return;
        }
        let marker = Marker { stamp, kind, dot: self.issue_dot(now) };
        let learnt = self.learnt(now, LearntBy::Written);
        self.place(None, Placing { hash, marker, expires, size, weight, learnt, item }, RemovalCause::Replaced);
    }

    fn erase_everything(&mut self) {
        let mut from = Some(Position::default());
        while let Some(position) = from {
            let (page, next) = self.store.page(position, 512);
            page.iter().for_each(|held| self.erase(held, RemovalCause::Void));
            from = next;
        }
    }
}
