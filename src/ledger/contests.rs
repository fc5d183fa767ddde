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
//! or every write, that could still meet them; a bound not before every member has seen the fill, for it goes with it.
//! Other fills never count: they are recognised by their stamps, which lie between the ticks of a clock.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::crdt::{Cause, Kind};
use crate::hlc::{GRAIN, HlcTime, Stamp};
use crate::message::bound::{FillBound, MAX_KNOWN, is_of_fill, note_newest};
use crate::message::{Entry, FillNote};
use crate::store::SlotRef;

/// Fills and keys remembered at most, each.
const MAX_REMEMBERED: usize = 65_536;

/// How long a replica without members remembers them, nanoseconds.
const ALONE: u64 = 30_000_000_000;

/// Stamps by hash of the key.
type Stamps = BTreeMap<u64, SmallVec<[Stamp; 2]>>;

/// Adds a stamp of a key: the newest write and the newest fill of each replica stay. A fill must not stand for a write: it
/// contests nothing. Too many keys are forgotten together, and `forgot` says up to which time.
fn remember(stamps: &mut Stamps, forgot: &mut HlcTime, hash: u64, stamp: Stamp) {
    if stamps.len() >= MAX_REMEMBERED {
        let newest = stamps.values().flatten().map(|stamp| stamp.time).max();
        *forgot = newest.unwrap_or(0).max(*forgot);
        stamps.clear();
    }
    let of_key = stamps.entry(hash).or_default();
    note_newest(of_key, stamp, |known| known.replica == stamp.replica && is_of_fill(*known) == is_of_fill(stamp));
}

/// What this replica remembers of both sides.
#[derive(Debug, Default)]
pub(crate) struct Contests {
    /// Nanoseconds of `max_drift`.
    drift: u64,
    /// By hash of the key and stamp of the fill: where the fill lies, and its bound.
    fills: BTreeMap<(u64, Stamp), (SlotRef, FillBound)>,
    /// By hash of the key: stamps that lost against something at most `max_drift` newer.
    losers: Stamps,
    /// By hash of the key: the newest stamps of writes that came and were not merged. They have lost against nothing, so older
    /// ones of their replica are not known to have lost.
    heard: Stamps,
    /// Epochs that are at most `max_drift` older than the greatest, that one included.
    epochs: SmallVec<[HlcTime; 2]>,
    /// Losers up to this time may have been dropped because there were too many.
    forgot: HlcTime,
    /// The greatest time of what was evicted without a trace while there were no members: nobody else has seen that.
    evicted_alone: HlcTime,
}

/// What an entry may contest fills with. Nobody wrote a void: what it stands for does so by itself.
pub(crate) fn contester<K, V>(entry: &Entry<K, V>) -> Option<(u64, Stamp)> {
    (entry.kind() != Kind::Tombstone(Cause::Void)).then(|| (entry.hash, entry.stamp()))
}

impl Contests {
    pub(super) fn new(drift: u64) -> Self {
        Self { drift, ..Self::default() }
    }

    fn heard_of(&self, hash: u64) -> impl Iterator<Item = &Stamp> {
        self.heard.get(&hash).into_iter().flatten()
    }

    /// What is remembered of a fill, for another replica.
    pub(super) fn note_of(&self, hash: u64, stamp: Stamp, time: HlcTime) -> Option<FillNote> {
        let (_, bound) = self.fills.get(&(hash, stamp)).filter(|_| is_of_fill(stamp))?;
        Some(FillNote { time, bound: bound.clone() })
    }

    /// Remembers an epoch that is adopted where `held` was, or is older than that.
    pub(super) fn note_epoch(&mut self, epoch: HlcTime, held: HlcTime) {
        if epoch <= held.saturating_sub(self.drift) || self.epochs.contains(&epoch) {
            return;
        }
        if self.epochs.len() >= MAX_KNOWN {
            let oldest = self.epochs.iter().copied().min().unwrap_or(0);
            self.forgot = self.forgot.max(oldest);
            self.epochs.retain(|epoch| *epoch > oldest);
        }
        self.epochs.push(epoch);
    }

    /// The bound of a fill that begins now, with what is known of its key. None if too much is.
    pub(super) fn bound_of(&self, start: HlcTime, epoch: HlcTime, hash: u64, held: Option<Stamp>) -> Option<FillBound> {
        let mut bound = FillBound { after: start.saturating_sub(self.drift), epoch, known: SmallVec::new() };
        let losers = self.losers.get(&hash).into_iter().flatten();
        losers.chain(self.heard_of(hash)).chain(&held).for_each(|stamp| bound.learn(*stamp));
        self.epochs.iter().for_each(|epoch| bound.learn_epoch(*epoch));
        (bound.known.len() <= MAX_KNOWN).then_some(bound)
    }

    /// Whether this replica knows of something that a fill must lose against, although the fill is stamped above it.
    pub(super) fn is_contested(&self, hash: u64, held: Option<Stamp>, fill: Stamp, bound: &FillBound) -> bool {
        let losers = self.losers.get(&hash).into_iter().flatten();
        self.epochs.iter().any(|epoch| bound.is_contested_by_epoch(fill, *epoch))
            || bound.after < self.forgot
            || self.fills.len() >= MAX_REMEMBERED
            || self.heard_of(hash).any(|stamp| bound.may_precede(*stamp))
            || losers.chain(&held).any(|stamp| bound.is_contested_by(fill, *stamp))
    }

    /// A register is evicted without a trace while there are no members. With members it is stable, and no fill that it
    /// contests is to come.
    pub(super) fn note_evicted_alone(&mut self, stamp: Stamp) {
        self.evicted_alone = stamp.time.max(self.evicted_alone);
    }

    /// Whether a fill of another replica may have begun before something that was evicted here while there were no members.
    pub(super) fn is_contested_by_evicted(&self, fill: Stamp, bound: &FillBound) -> bool {
        bound.after < self.evicted_alone && self.evicted_alone <= fill.time
    }

    /// Whether a fill that has come without its bound may have begun before something that is known here: `found` for its key, one of
    /// the floors, an epoch, or what lost. Its bound was `max_drift` below it or later. What is directly below it its filler
    /// knew, and what its own replica wrote.
    pub(super) fn may_contest(&self, hash: u64, fill: Stamp, found: Option<Stamp>, floors: [HlcTime; 3]) -> bool {
        let after = fill.time.saturating_sub(self.drift);
        let losers = self.losers.get(&hash).into_iter().flatten();
        let of_others = losers.chain(self.heard_of(hash)).chain(&found).filter(|stamp| stamp.replica != fill.replica);
        let mut known = of_others.map(|stamp| stamp.time).chain(floors).chain(self.epochs.iter().copied());
        after < self.forgot
            || (after < self.evicted_alone && self.evicted_alone <= fill.time)
            || known.any(|time| after < time && time / GRAIN < fill.time / GRAIN)
    }

    /// Remembers the bound of a fill that is in place.
    pub(super) fn note_bound(&mut self, hash: u64, fill: Stamp, slot: SlotRef, bound: &FillBound) {
        self.fills.insert((hash, fill), (slot, bound.clone()));
    }

    /// A register with this stamp has lost against something stamped `winner`. Returns at once unless the two are so close
    /// that a fill can come between them. A fill that lost contests nothing, but whoever knows it knows what its replica
    /// wrote before it.
    pub(super) fn note_loser(&mut self, hash: u64, loser: Stamp, winner: HlcTime) {
        if winner.saturating_sub(loser.time) > self.drift {
            return;
        }
        remember(&mut self.losers, &mut self.forgot, hash, loser);
    }

    /// A write came that is not merged.
    pub(super) fn note_heard(&mut self, hash: u64, stamp: Stamp) {
        remember(&mut self.heard, &mut self.forgot, hash, stamp);
    }

    /// The same of an entry that an epoch or a floor passes.
    pub(super) fn note_skipped<K, V>(&mut self, entry: &Entry<K, V>, winner: HlcTime) {
        if let Some((hash, loser)) = contester(entry) {
            self.note_loser(hash, loser, winner);
        }
    }

    /// The same of an entry, where something is held. The next write of one replica stands for the one before; a fill does
    /// not.
    pub(super) fn note_beaten<K, V>(&mut self, entry: &Entry<K, V>, held: Stamp) {
        let loser = contester(entry).filter(|(_, loser)| held.replica != loser.replica || is_of_fill(held));
        if let Some((hash, loser)) = loser {
            self.note_loser(hash, loser, held.time);
        }
    }

    /// The fills of a key that a write with this stamp contests, and where they lie.
    pub(super) fn contested_by(&self, hash: u64, stamp: Stamp) -> Vec<(Stamp, SlotRef)> {
        let all = (hash, Stamp::ZERO)..=(hash, Stamp::end_of(HlcTime::MAX));
        let contested = self.fills.range(all).filter(|((_, fill), (_, bound))| bound.is_contested_by(*fill, stamp));
        contested.map(|((_, fill), (slot, _))| (*fill, *slot)).collect()
    }

    /// The fills that began before an epoch and are stamped above it.
    pub(super) fn contested_by_epoch(&self, epoch: HlcTime) -> Vec<(Stamp, SlotRef)> {
        let contested = self.fills.iter().filter(|((_, fill), (_, bound))| bound.is_contested_by_epoch(*fill, epoch));
        contested.map(|((_, fill), (slot, _))| (*fill, *slot)).collect()
    }

    /// Forgets contests that are over, and returns up to which time. A fill that not every member has seen may still be sent, so it
    /// keeps its bound. Who is alone, by its clock at this time, may still meet others that were not alone either.
    pub(super) fn prune(
        &mut self,
        watermark: HlcTime,
        alone_at: Option<HlcTime>,
        is_seen: impl Fn(SlotRef, Stamp) -> bool,
    ) -> HlcTime {
        let watermark = alone_at.map_or(watermark, |now| watermark.min(now.saturating_sub(ALONE)));
        self.fills.retain(|(_, stamp), (slot, _)| stamp.time > watermark || !is_seen(*slot, *stamp));
        let meets = |time: HlcTime| time.saturating_add(self.drift + GRAIN) > watermark;
        self.epochs.retain(|epoch| meets(*epoch));
        for stamps in [&mut self.losers, &mut self.heard] {
            stamps.retain(|_, stamps| {
                stamps.retain(|stamp| meets(stamp.time));
                !stamps.is_empty()
            });
        }
        watermark.saturating_sub(self.drift + GRAIN)
    }

    /// How many keys and fills are remembered.
    pub(crate) fn len(&self) -> usize {
        self.fills.len() + self.losers.len() + self.heard.len()
    }
}
