//! Writes and epochs that contest a fill: the fill must lose against them, even if it is stamped above them.
//!
//! A fill reads its source at an unknown time after its start. So it must lose against every write, delete and
//! invalidation issued after its start. This holds for all replicas, even if the writer's clock is behind by up to
//! `max_drift`. A stamp of `start - max_drift` achieves that. But this stamp also loses against the register, floor and
//! epoch that the key had at the start. A key that was invalidated a moment ago could then not be filled for a whole
//! `max_drift`. Such a fill is instead stamped just above what it found, and carries its **bound**: `start -
//! max_drift`, the epoch at the start, and the newest stamps above the bound that its filler knew for the key, one per
//! replica.
//!
//! **Rule** (`message/bound.rs`). A write, delete or epoch contests a fill if it is stamped above the bound and below
//! the fill, and the filler did not know it. It may have been issued after the start. A replica that knows of both
//! replaces the fill with a `Void` of the same stamp. A tombstone wins over a value of its stamp, so the void removes
//! the fill from every replica. The void removes nothing else: any write stamped between the bound and the fill had
//! already lost against the register that the fill found.
//!
//! A stamp counts as known if the filler knew a stamp of the same replica at or above it. A replica issues rising
//! stamps, so the lower stamp was issued before the higher one, and the higher one existed before the start.
//!
//! Each replica remembers both sides until their counterpart can no longer arrive. The first side is the bounds of the
//! fills that it holds. The second side is the stamps that lost against a register stamped at most `max_drift` later. A
//! stamp that lost is no longer in the table, and its author may be the only replica that ever saw it. A bound is
//! dropped once the stable watermark has passed its fill and every member has seen the fill, because the bound travels
//! with the fill. A lost stamp is dropped once the watermark has passed every fill that it could contest. Other fills
//! never contest a fill: their stamps lie between the ticks of a clock, which identifies them.
//!
//! Three cases go beyond the rule:
//!
//! - **A write that arrived and was not merged** (`heard`). It contests each fill that ends or arrives later, does not
//!   know it and has its bound below it. This holds whichever of write and fill is stamped higher.
//! - **A fill without a bound.** A fill stamped `start - max_drift` needs none; the first time above a tick identifies
//!   it. Another fill may arrive without the bound that it needs: a second time, or from a replica that does not count
//!   this one as a member. `Contests::may_contest` then assumes the earliest bound possible: `max_drift` below the
//!   fill.
//! - **A register evicted without a trace while this replica had no members.** No other replica has seen it, and here
//!   only the greatest such time remains (`evicted_alone`). That time contests an arriving fill of any key that is
//!   stamped at or above it, with a bound below it.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::crdt::{Cause, Kind};
use crate::hlc::{GRAIN, HlcTime, Stamp};
use crate::message::bound::{FillBound, MAX_KNOWN, is_of_fill, note_newest};
use crate::message::{Entry, FillNote};
use crate::store::SlotRef;

/// The highest number of remembered fills, and of remembered keys.
const MAX_REMEMBERED: usize = 65_536;

/// The time for which a replica without members remembers both sides, in nanoseconds.
const ALONE: u64 = 30_000_000_000;

/// Stamps by hash of the key.
type Stamps = BTreeMap<u64, SmallVec<[Stamp; 2]>>;

/// Adds a stamp of a key. For each replica, keeps the newest write and the newest fill. A fill must not replace a
/// write, because a fill contests nothing. Clears all keys when there are too many, and raises `forgot` to the newest
/// stamp time cleared.
fn remember(stamps: &mut Stamps, forgot: &mut HlcTime, hash: u64, stamp: Stamp) {
    if stamps.len() >= MAX_REMEMBERED {
        let newest = stamps.values().flatten().map(|stamp| stamp.time).max();
        *forgot = newest.unwrap_or(0).max(*forgot);
        stamps.clear();
    }
    let of_key = stamps.entry(hash).or_default();
    note_newest(of_key, stamp, |known| known.replica == stamp.replica && is_of_fill(*known) == is_of_fill(stamp));
}

/// The fills and the lost stamps that this replica remembers.
#[derive(Debug, Default)]
pub(crate) struct Contests {
    /// The value of `max_drift`, in nanoseconds.
    drift: u64,
    /// The place and bound of each fill, by hash of its key and stamp of the fill.
    fills: BTreeMap<(u64, Stamp), (SlotRef, FillBound)>,
    /// Stamps that lost against a register stamped at most `max_drift` later, by hash of the key.
    losers: Stamps,
    /// The newest stamps of writes that arrived and were not merged, by hash of the key. They have lost against
    /// nothing, so they do not prove that older writes of their replica lost.
    heard: Stamps,
    /// Epochs that are at most `max_drift` older than the greatest epoch, including the greatest.
    epochs: SmallVec<[HlcTime; 2]>,
    /// The time up to which stamps and epochs may have been dropped because there were too many.
    forgot: HlcTime,
    /// The greatest time of a register evicted without a trace while this replica had no members. No other replica has
    /// seen that register.
    evicted_alone: HlcTime,
}

/// Returns the hash and stamp by which an entry may contest fills. Returns `None` for a void: no user wrote it, and the
/// delete that it may stand for is remembered under its own key.
pub(crate) fn contester<K, V>(entry: &Entry<K, V>) -> Option<(u64, Stamp)> {
    (entry.kind() != Kind::Tombstone(Cause::Void)).then(|| (entry.hash, entry.stamp()))
}

impl Contests {
    pub(super) fn new(drift: u64) -> Self {
        Self { drift, ..Self::default() }
    }

    fn unmerged_of(&self, hash: u64) -> impl Iterator<Item = &Stamp> {
        self.heard.get(&hash).into_iter().flatten()
    }

    /// Returns the bound of a fill, to be sent to another replica.
    pub(super) fn note_of(&self, hash: u64, stamp: Stamp, time: HlcTime) -> Option<FillNote> {
        let (_, bound) = self.fills.get(&(hash, stamp)).filter(|_| is_of_fill(stamp))?;
        Some(FillNote { time, bound: bound.clone() })
    }

    /// Remembers an adopted epoch, given the epoch `held` before. Ignores an epoch that is at least `max_drift` older
    /// than `held`.
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

    /// Returns the bound of a fill that begins now, with the stamps known for its key. Returns `None` if there are more
    /// than `MAX_KNOWN` of them.
    pub(super) fn bound_of(&self, start: HlcTime, epoch: HlcTime, hash: u64, held: Option<Stamp>) -> Option<FillBound> {
        let mut bound = FillBound { after: start.saturating_sub(self.drift), epoch, known: SmallVec::new() };
        let losers = self.losers.get(&hash).into_iter().flatten();
        losers.chain(self.unmerged_of(hash)).chain(&held).for_each(|stamp| bound.learn(*stamp));
        self.epochs.iter().for_each(|epoch| bound.learn_epoch(*epoch));
        (bound.known.len() <= MAX_KNOWN).then_some(bound)
    }

    /// Returns true if this replica knows a write or epoch against which the fill must lose, although the fill is
    /// stamped above it. A write in `heard` counts also if it is stamped above the fill.
    pub(super) fn is_contested(&self, hash: u64, held: Option<Stamp>, fill: Stamp, bound: &FillBound) -> bool {
        let losers = self.losers.get(&hash).into_iter().flatten();
        self.epochs.iter().any(|epoch| bound.is_contested_by_epoch(fill, *epoch))
            || bound.after < self.forgot
            // Without room for its bound a fill cannot be checked later, so it counts as contested.
            || self.fills.len() >= MAX_REMEMBERED
            || self.unmerged_of(hash).any(|stamp| bound.may_precede(*stamp))
            || losers.chain(&held).any(|stamp| bound.is_contested_by(fill, *stamp))
    }

    /// Notes that a register is evicted without a trace while there are no members. With members such a register is
    /// stable, and no fill that it contests can still arrive.
    pub(super) fn note_evicted_alone(&mut self, stamp: Stamp) {
        self.evicted_alone = stamp.time.max(self.evicted_alone);
    }

    /// Returns true if a fill of another replica may have begun before a register that was evicted here while there
    /// were no members.
    pub(super) fn is_contested_by_evicted(&self, fill: Stamp, bound: &FillBound) -> bool {
        bound.after < self.evicted_alone && self.evicted_alone <= fill.time
    }

    /// Returns true if a fill that arrived without its bound may have begun before a stamp known here was issued. The
    /// known stamps are `found`, of the register held for its key, the floors, the epochs, and the remembered stamps of
    /// the key. The missing bound began at `max_drift` below the fill or later. Two things do not count, because the
    /// filler knew them: the stamp directly below its fill, within the same tick, and the writes of its own replica.
    pub(super) fn may_contest(&self, hash: u64, fill: Stamp, found: Option<Stamp>, floors: [HlcTime; 3]) -> bool {
        let after = fill.time.saturating_sub(self.drift);
        let losers = self.losers.get(&hash).into_iter().flatten();
        let of_others =
            losers.chain(self.unmerged_of(hash)).chain(&found).filter(|stamp| stamp.replica != fill.replica);
        let mut known = of_others.map(|stamp| stamp.time).chain(floors).chain(self.epochs.iter().copied());
        after < self.forgot
            || (after < self.evicted_alone && self.evicted_alone <= fill.time)
            || known.any(|time| after < time && time / GRAIN < fill.time / GRAIN)
    }

    /// Remembers the bound of a fill that was placed.
    pub(super) fn note_bound(&mut self, hash: u64, fill: Stamp, slot: SlotRef, bound: &FillBound) {
        self.fills.insert((hash, fill), (slot, bound.clone()));
    }

    /// Notes that a register with this stamp lost against a register stamped `winner`. Returns at once unless the two
    /// are so close that a fill can lie between them. A fill is remembered too: it contests nothing, but a filler that
    /// knows it knows all earlier writes of its replica.
    pub(super) fn note_loser(&mut self, hash: u64, loser: Stamp, winner: HlcTime) {
        if winner.saturating_sub(loser.time) > self.drift {
            return;
        }
        remember(&mut self.losers, &mut self.forgot, hash, loser);
    }

    /// Notes a write that arrived and is not merged.
    pub(super) fn note_unmerged(&mut self, hash: u64, stamp: Stamp) {
        remember(&mut self.heard, &mut self.forgot, hash, stamp);
    }

    /// Notes an entry that lost against an epoch or a floor.
    pub(super) fn note_skipped<K, V>(&mut self, entry: &Entry<K, V>, winner: HlcTime) {
        if let Some((hash, loser)) = contester(entry) {
            self.note_loser(hash, loser, winner);
        }
    }

    /// Notes an entry that lost against a held register. Skips it if the held register is a later write of the same
    /// replica, which stands for the earlier one. A held fill does not stand for it.
    pub(super) fn note_beaten<K, V>(&mut self, entry: &Entry<K, V>, held: Stamp) {
        let loser = contester(entry).filter(|(_, loser)| held.replica != loser.replica || is_of_fill(held));
        if let Some((hash, loser)) = loser {
            self.note_loser(hash, loser, held.time);
        }
    }

    /// Returns the stamps and places of the fills of a key that a write with this stamp contests.
    pub(super) fn contested_by(&self, hash: u64, stamp: Stamp) -> Vec<(Stamp, SlotRef)> {
        let all = (hash, Stamp::ZERO)..=(hash, Stamp::end_of(HlcTime::MAX));
        let contested = self.fills.range(all).filter(|((_, fill), (_, bound))| bound.is_contested_by(*fill, stamp));
        contested.map(|((_, fill), (slot, _))| (*fill, *slot)).collect()
    }

    /// Returns the stamps and places of the fills that began before an epoch and are stamped above it.
    pub(super) fn contested_by_epoch(&self, epoch: HlcTime) -> Vec<(Stamp, SlotRef)> {
        let contested = self.fills.iter().filter(|((_, fill), (_, bound))| bound.is_contested_by_epoch(*fill, epoch));
        contested.map(|((_, fill), (slot, _))| (*fill, *slot)).collect()
    }

    /// Forgets contests that are over. Returns the time up to which lost stamps are forgotten. Keeps the bound of a
    /// fill that not every member has seen, because the fill may still be sent. `alone_at` is the clock of a replica
    /// without members. It keeps the last `ALONE`, because it may still meet replicas that have members.
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

    /// Returns the number of keys and fills remembered.
    pub(crate) fn len(&self) -> usize {
        self.fills.len() + self.losers.len() + self.heard.len()
    }
}
