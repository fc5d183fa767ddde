//! What a fill must lose against when it is stamped above something young.
//!
//! A fill read its source at some time after it began. So it must lose against every write, delete and invalidation issued
//! after its start, on any replica, also by a clock that is behind by up to `max_drift`. A stamp of `start - max_drift` does
//! that. But it would also lose against what the key, the floor or the epoch had at the start, so a key that was
//! invalidated a moment ago could not be filled for a whole `max_drift`. Such a fill is stamped just above what it found
//! instead, and carries its **bound**: `start - max_drift`, the epoch at the start, and the newest stamps above the bound
//! that its filler knew for the key, one per replica.
//!
//! **Rule.** A write, delete or epoch that is stamped above the bound and below the fill, and that the filler did not
//! know, may have been issued after the start. A replica that knows of both replaces the fill with a `Void` of the same
//! stamp. A tombstone wins over a value of its stamp, so the void takes the fill from every replica, and it takes
//! nothing else: whatever is stamped between the bound and the fill had already lost against what the fill found.
//!
//! A stamp counts as known if the filler knew a stamp of the same replica at or above it. A replica issues rising
//! stamps, so the lower one was issued before the higher one, which was there before the start.
//!
//! Each replica remembers both sides until the other one can no longer arrive: the bounds of the fills that it holds, and
//! the stamps that lost against something at most `max_drift` newer. A stamp that lost is not in the table any more, and
//! its author may be the only replica that ever saw it. Both are dropped when the stable watermark has passed every fill,
//! or every write, that could still meet them. Other fills never count: they are recognised by their stamps, which lie
//! between the ticks of a clock.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use super::bound::{FillBound, MAX_KNOWN, is_of_fill, note_newest};
use super::message::{Entry, FillNote};
use super::{CoreKey, Replica};
use crate::crdt::{Cause, Kind};
use crate::hlc::{GRAIN, HlcTime, Now, Stamp, nanos};
use crate::store::{SlotRef, Snapshot};

/// Fills and keys remembered at most, each.
const MAX_REMEMBERED: usize = 65_536;

/// How long a replica without members remembers them, nanoseconds.
const ALONE: u64 = 30_000_000_000;

/// What this replica remembers of both sides.
#[derive(Debug, Default)]
pub(super) struct Contests {
    /// By hash of the key and stamp of the fill: where the fill lies, and its bound.
    fills: BTreeMap<(u64, Stamp), (SlotRef, FillBound)>,
    /// By hash of the key: stamps that lost against something at most `max_drift` newer.
    losers: BTreeMap<u64, SmallVec<[Stamp; 2]>>,
    /// By hash of the key: the newest stamps of writes that came and were not merged. They have lost against nothing, so older
    /// ones of their replica are not known to have lost.
    heard: BTreeMap<u64, SmallVec<[Stamp; 2]>>,
    /// Epochs that are at most `max_drift` older than the greatest, that one included.
    epochs: SmallVec<[HlcTime; 2]>,
    /// Losers up to this time may have been dropped because there were too many.
    forgot: HlcTime,
    /// Losers and epochs up to this time were dropped because no fill was to come that they contest.
    pruned: HlcTime,
    /// The greatest time of what was evicted without a trace while there were no members: nobody else has seen that.
    evicted_alone: HlcTime,
}

impl Contests {
    fn fills_of(&self, hash: u64) -> impl Iterator<Item = (Stamp, SlotRef, &FillBound)> {
        let all = (hash, Stamp::ZERO)..=(hash, Stamp::end_of(HlcTime::MAX));
        self.fills.range(all).map(|((_, stamp), (slot, bound))| (*stamp, *slot, bound))
    }

    fn heard_of(&self, hash: u64) -> impl Iterator<Item = &Stamp> {
        self.heard.get(&hash).into_iter().flatten()
    }

    /// What is remembered of a fill, for another replica.
    pub(super) fn note_of(&self, hash: u64, stamp: Stamp, time: HlcTime) -> Option<FillNote> {
        let (_, bound) = self.fills.get(&(hash, stamp)).filter(|_| is_of_fill(stamp))?;
        Some(FillNote { time, bound: bound.clone() })
    }

    /// Remembers an epoch, unless it is older than `since`.
    pub(super) fn note_epoch(&mut self, epoch: HlcTime, since: HlcTime) {
        if epoch <= since || self.epochs.contains(&epoch) {
            return;
        }
        if self.epochs.len() >= MAX_KNOWN {
            let oldest = self.epochs.iter().copied().min().unwrap_or(0);
            self.forgot = self.forgot.max(oldest);
            self.epochs.retain(|epoch| *epoch > oldest);
        }
        self.epochs.push(epoch);
    }

    /// Drops what nothing can meet any more: whatever is still to come is stamped above `watermark`.
    pub(super) fn prune(&mut self, watermark: HlcTime, drift: u64) {
        self.pruned = self.pruned.max(watermark.saturating_sub(drift + GRAIN));
        self.fills.retain(|(_, stamp), _| stamp.time > watermark);
        let meets = |stamp: &Stamp| stamp.time.saturating_add(drift + GRAIN) > watermark;
        self.epochs.retain(|epoch| epoch.saturating_add(drift + GRAIN) > watermark);
        for stamps in [&mut self.losers, &mut self.heard] {
            stamps.retain(|_, stamps| {
                stamps.retain(|stamp| meets(stamp));
                !stamps.is_empty()
            });
        }
    }

    /// How many keys and fills are remembered.
    pub(super) fn len(&self) -> usize {
        self.fills.len() + self.losers.len() + self.heard.len()
    }
}

/// What an entry may contest fills with. Nobody wrote a void: what it stands for does so by itself.
pub(super) fn contester<K, V>(entry: &Entry<K, V>) -> Option<(u64, Stamp)> {
    (entry.kind() != Kind::Tombstone(Cause::Void)).then(|| (entry.hash, entry.stamp()))
}

impl<K: CoreKey, V> Replica<K, V> {
    /// The bound of a fill that begins now, with what is known of its key. None if too much is.
    pub(super) fn bound_of(&self, start: HlcTime, hash: u64, held: Option<Stamp>) -> Option<FillBound> {
        let after = start.saturating_sub(nanos(self.config.max_drift));
        let mut bound = FillBound { after, epoch: self.store.epoch(), known: SmallVec::new() };
        let contests = &self.fills.contests;
        let losers = contests.losers.get(&hash).into_iter().flatten();
        losers.chain(contests.heard_of(hash)).chain(&held).for_each(|stamp| bound.learn(*stamp));
        self.fills.contests.epochs.iter().for_each(|epoch| bound.learn_epoch(*epoch));
        (bound.known.len() <= MAX_KNOWN).then_some(bound)
    }

    /// Whether this replica knows of something that a fill must lose against, although the fill is stamped above it.
    pub(super) fn is_contested(&self, hash: u64, held: Option<Stamp>, fill: Stamp, bound: &FillBound) -> bool {
        if self.bugs.fill_bound_ignored {
            return false;
        }
        let losers = self.fills.contests.losers.get(&hash).into_iter().flatten();
        self.fills.contests.epochs.iter().any(|epoch| bound.is_contested_by_epoch(fill, *epoch))
            || bound.after < self.fills.contests.forgot
            || self.fills.contests.heard_of(hash).any(|stamp| bound.may_precede(*stamp))
            || self.fills.contests.fills.len() >= MAX_REMEMBERED
            || losers.chain(&held).any(|stamp| bound.is_contested_by(fill, *stamp))
    }

    /// A register is evicted without a trace. If there are members, it is stable, and so no fill that it contests is to come.
    pub(super) fn note_evicted(&mut self, stamp: Stamp) {
        if self.peers.is_empty() {
            let alone = &mut self.fills.contests.evicted_alone;
            *alone = stamp.time.max(*alone);
        }
    }

    /// Whether a fill of another replica may have begun before something that was evicted here while there were no members.
    pub(super) fn is_contested_by_evicted(&self, fill: Stamp, bound: &FillBound) -> bool {
        let evicted = self.fills.contests.evicted_alone;
        bound.after < evicted && evicted <= fill.time && !self.bugs.fill_bound_ignored
    }

    /// Whether a fill of a replica that is no member comes so late that what it must lose against may be forgotten.
    pub(super) fn is_late(&self, fill: Stamp, bound: &FillBound) -> bool {
        let departed = !self.peers.contains_key(&fill.replica);
        departed && bound.after < self.fills.contests.pruned && !self.bugs.late_fills_uncontested
    }

    /// Remembers the bound of a fill that is in place.
    pub(super) fn note_bound(&mut self, hash: u64, fill: Stamp, slot: SlotRef, bound: &FillBound) {
        self.fills.contests.fills.insert((hash, fill), (slot, bound.clone()));
    }

    /// A register with this stamp has lost against something stamped `winner`. Returns at once unless the two are so close
    /// that a fill can come between them. A fill that lost contests nothing, but whoever knows it knows what its replica
    /// wrote before it.
    pub(super) fn note_loser(&mut self, hash: u64, loser: Stamp, winner: HlcTime) {
        if winner.saturating_sub(loser.time) > nanos(self.config.max_drift) {
            return;
        }
        if self.fills.contests.losers.len() >= MAX_REMEMBERED {
            let newest = self.fills.contests.losers.values().flatten().map(|stamp| stamp.time).max();
            self.fills.contests.forgot = self.fills.contests.forgot.max(newest.unwrap_or(0));
            self.fills.contests.losers.clear();
        }
        let losers = self.fills.contests.losers.entry(hash).or_default();
        // A fill must not stand for a write: it contests nothing.
        note_newest(losers, loser, |known| known.replica == loser.replica && is_of_fill(*known) == is_of_fill(loser));
    }

    /// A write came that is not merged.
    pub(super) fn note_heard(&mut self, hash: u64, stamp: Stamp) {
        if self.bugs.heard_stands_for_lost {
            return self.note_loser(hash, stamp, stamp.time);
        }
        let contests = &mut self.fills.contests;
        if contests.heard.len() >= MAX_REMEMBERED {
            let newest = contests.heard.values().flatten().map(|stamp| stamp.time).max();
            contests.forgot = contests.forgot.max(newest.unwrap_or(0));
            contests.heard.clear();
        }
        let heard = contests.heard.entry(hash).or_default();
        note_newest(heard, stamp, |known| known.replica == stamp.replica && is_of_fill(*known) == is_of_fill(stamp));
    }

    /// The same of an entry that an epoch or a floor passes.
    pub(super) fn note_skipped(&mut self, entry: &Entry<K, V>, winner: HlcTime) {
        if let Some((hash, loser)) = contester(entry) {
            self.note_loser(hash, loser, winner);
        }
    }

    /// The same of an entry, where something is held. The next write of one replica stands for the one before; a fill does
    /// not.
    pub(super) fn note_beaten(&mut self, entry: &Entry<K, V>, held: Stamp) {
        let loser = contester(entry).filter(|(_, loser)| held.replica != loser.replica || is_of_fill(held));
        if let Some((hash, loser)) = loser {
            self.note_loser(hash, loser, held.time);
        }
    }

    /// The same of a register that is removed or replaced.
    pub(super) fn note_lost(&mut self, held: &Snapshot<K, V>, winner: HlcTime) {
        if let Some(loser) = self.write_of(held) {
            self.note_loser(held.hash, loser, winner);
        }
    }

    /// The stamp of what somebody wrote to this register.
    pub(super) fn write_of(&self, held: &Snapshot<K, V>) -> Option<Stamp> {
        (held.meta.kind != Kind::Tombstone(Cause::Void)).then(|| self.stamp_of(&held.meta))
    }

    /// Voids the fills of a key that an entry contests. The entry itself has lost, or was seen before.
    pub(super) fn contest_fills(&mut self, now: Now, entry: Option<(u64, Stamp)>) {
        let Some((hash, stamp)) = entry else { return };
        if self.fills.contests.fills.is_empty() {
            return;
        }
        let contested = |(fill, slot, bound): (Stamp, SlotRef, &FillBound)| {
            bound.is_contested_by(fill, stamp).then_some((fill, slot))
        };
        let contested: Vec<_> = self.fills.contests.fills_of(hash).filter_map(contested).collect();
        contested.into_iter().for_each(|(fill, slot)| self.void_fill(now, fill, slot));
    }

    /// Voids the fills that began before an epoch and are stamped above it.
    pub(super) fn contest_fills_by_epoch(&mut self, now: Now, epoch: HlcTime) {
        let contested = |((_, fill), (slot, bound)): (&(u64, Stamp), &(SlotRef, FillBound))| {
            bound.is_contested_by_epoch(*fill, epoch).then_some((*fill, *slot))
        };
        let contested: Vec<_> = self.fills.contests.fills.iter().filter_map(contested).collect();
        contested.into_iter().for_each(|(fill, slot)| self.void_fill(now, fill, slot));
        self.enforce_tombstone_cap();
    }

    fn void_fill(&mut self, now: Now, fill: Stamp, slot: SlotRef) {
        let held = self.store.resolve(slot).filter(|held| self.stamp_of(&held.meta) == fill);
        let Some(held) = held.filter(|held| held.meta.kind.ranks_live() && !self.bugs.fill_bound_ignored) else {
            return;
        };
        self.counters.fills_contested += 1;
        self.void_held(now, &held, fill);
    }

    /// Puts a void in place of a fill that arrives and is contested here.
    pub(super) fn void_contested(&mut self, now: Now, held: Option<&Snapshot<K, V>>, entry: &Entry<K, V>) {
        self.counters.fills_contested += 1;
        self.place_void(now, held, entry, entry.stamp());
    }

    /// Forgets contests that are over. Who is alone may still meet others that were not alone either.
    pub(super) fn prune_contests(&mut self, now: Now, watermark: HlcTime) {
        let alone = self.clock.judging(now).saturating_sub(ALONE);
        let over = if self.peers.is_empty() { watermark.min(alone) } else { watermark };
        self.fills.contests.prune(over, nanos(self.config.max_drift));
    }
}
