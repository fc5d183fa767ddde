//! Writes and epochs that contest a fill: the fill must lose against them, even if it is stamped above them.
//!
//! A fill reads its source at an unknown time after its start. So it must lose against every write, delete and
//! invalidation issued after its start. It must lose on every replica, even if the writer's clock is behind by up to
//! `max_drift`. A stamp of `start - max_drift` achieves that. But this stamp also loses against the key's register, a
//! floor or the epoch, if one of these already had a higher stamp at the start. A key that was invalidated a moment ago
//! could then not be filled for a whole `max_drift`. A fill that finds something so recent is instead stamped just
//! above that, and carries its **bound**. The bound has three parts: `after`, which is `start - max_drift`; the epoch
//! at the start; and, per replica, the newest stamp of the key above `after` that the filling replica knew. The third
//! part also contains each smaller epoch above `after` that the filling replica knew. Below, "above the bound" means
//! above `after`.
//!
//! **Rule** (`message/bound.rs`). A write, delete or epoch contests a fill if it is stamped above the bound and below
//! the fill, and the filling replica did not know it. It may then have been issued after the start. A replica that
//! knows the fill and the contesting stamp voids the fill. The void has the fill's stamp, or the gc floor's if no
//! register is held and the floor is higher. A tombstone wins over a value of its stamp, so the void removes the fill
//! from every replica. The fill is stamped just above the register, floor or epoch that it found, and any write below
//! that loses anyway. So the void removes no other write, except possibly one between the two, within the same tick.
//!
//! A stamp counts as known if the filling replica knew a stamp of the same replica at or above it. A replica issues
//! rising stamps, so the lower stamp was issued before the higher one, and the higher one existed before the start.
//!
//! A contest has two sides, a fill and a stamp. Each replica remembers both sides until no counterpart can arrive any
//! more. Of fills, it remembers the bounds of those that it holds. Of stamps, it remembers epochs, unmerged writes, and
//! stamps that lost against something at most `max_drift` later.
//!
//! A stamp that lost is not in the table, and messages may leave it out. So its author may be the only replica that
//! knows it, and must remember it. A lost stamp is dropped once the stable watermark has passed every fill that it
//! could contest: every write and fill that is still to arrive is stamped above that watermark. A bound is dropped once
//! the stable watermark has passed its fill and every member has seen the fill. Until then the fill may still be sent,
//! and must carry its bound. Other fills never contest a fill: their stamps lie between the ticks of a clock, which
//! identifies them.
//!
//! There is one exception: a stamp that lost need not be remembered if a later write of the same replica stands in its
//! place. That write beats or contests every fill that the earlier one contests. A stamp that lost against a fill, a
//! void or a floor is remembered, even if both stamps name the same replica. A fill or a void contests nothing. The
//! stamp of a floor, or of a void placed at a floor, is that of a register of any key, so it proves no later write of
//! this key.
//!
//! Three cases go beyond the rule:
//!
//! - **A write that arrived and was not merged** (`unmerged`). Such a write contests each fill that ends or arrives
//!   here after the write arrived, if the filling replica did not know the write and the bound lies below it. This
//!   holds whichever of write and fill is stamped higher.
//! - **A fill without a bound.** A fill stamped `start - max_drift` needs none. Its stamp is 1 ns above a tick, which
//!   identifies it. Any other fill needs a bound, but may arrive without it if it was sent again later, or if its
//!   sender does not count this replica as a member. `Contests::may_contest` then assumes the earliest bound possible:
//!   `max_drift` below the fill.
//! - **A register evicted without a trace while this replica had no members.** No member is left that knows
//!   it, and here only the greatest stamp time of such registers remains (`evicted_alone`). An arriving fill of any key
//!   is contested if that time lies above its bound and not above its stamp.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::crdt::{Cause, Kind};
use crate::hlc::{GRAIN, HlcTime, Stamp};
use crate::message::bound::{FillBound, MAX_KNOWN, is_of_fill, note_newest};
use crate::message::{Entry, FillNote};
use crate::store::SlotRef;

/// The highest number of remembered fills, and of keys with remembered stamps.
const MAX_REMEMBERED: usize = 65_536;

/// The time for which a replica without members remembers both sides of contests, in nanoseconds.
const KEPT_WITHOUT_MEMBERS: u64 = 30_000_000_000;

/// Stamps by hash of the key.
type Stamps = BTreeMap<u64, SmallVec<[Stamp; 2]>>;

/// Adds a stamp of a key. For each replica, keeps the newest write and the newest fill. A fill must not replace a
/// write, because a fill contests nothing. Clears all keys when there are too many, and raises `forgot` to the newest
/// stamp time cleared.
fn remember(stamps: &mut Stamps, forgotten_up_to: &mut HlcTime, hash: u64, stamp: Stamp) {
    if stamps.len() >= MAX_REMEMBERED {
        let newest = stamps.values().flatten().map(|stamp| stamp.time).max();
        *forgotten_up_to = newest.unwrap_or(0).max(*forgotten_up_to);
        stamps.clear();
    }
    let of_key = stamps.entry(hash).or_default();
    note_newest(of_key, stamp, |known| known.replica == stamp.replica && is_of_fill(*known) == is_of_fill(stamp));
}

/// The bounds, stamps and epochs that this replica remembers, because their counterparts may still arrive.
#[derive(Debug, Default)]
pub(crate) struct Contests {
    /// The value of `max_drift`, in nanoseconds.
    drift: u64,
    /// The place and bound of each fill, by hash of its key and stamp of the fill.
    fills: BTreeMap<(u64, Stamp), (SlotRef, FillBound)>,
    /// Stamps that lost against a register stamped at most `max_drift` later, by hash of the key.
    lost_stamps: Stamps,
    /// The newest stamps of writes that arrived and were not merged, by hash of the key. A stamp here counts even if it
    /// is above the fill. Only the newest stamp of a replica is kept, so an older write of that replica may lie below
    /// the fill and contest it. The newer write has not beaten the fill, because it was not merged.
    unmerged: Stamps,
    /// Epochs that were less than `max_drift` older than this replica's epoch when noted, until `prune` drops them.
    epochs: SmallVec<[HlcTime; 2]>,
    /// The time up to which stamps and epochs may have been dropped because there were too many.
    forgotten_up_to: HlcTime,
    /// The greatest stamp time of a register evicted without a trace while this replica had no members. No member is
    /// left that knows that register.
    evicted_alone: HlcTime,
}

/// Returns the hash and stamp by which an entry may contest fills. Returns `None` for a void, which no user
/// wrote. Code that places a void must remember the replaced write separately, under that write's stamp.
pub(crate) fn contester<K, V>(entry: &Entry<K, V>) -> Option<(u64, Stamp)> {
    (entry.kind() != Kind::Tombstone(Cause::Void)).then(|| (entry.hash, entry.stamp()))
}

impl Contests {
    pub(super) fn new(drift: u64) -> Self {
        Self { drift, ..Self::default() }
    }

    fn unmerged_of(&self, hash: u64) -> impl Iterator<Item = &Stamp> {
        self.unmerged.get(&hash).into_iter().flatten()
    }

    /// Returns the bound of a fill, to be sent to another replica.
    pub(super) fn note_of(&self, hash: u64, stamp: Stamp, time: HlcTime) -> Option<FillNote> {
        let (_, bound) = self.fills.get(&(hash, stamp)).filter(|_| is_of_fill(stamp))?;
        Some(FillNote { time, bound: bound.clone() })
    }

    /// Remembers an epoch that was received or issued here. `held` is this replica's epoch before that, and may be the
    /// greater of the two. Ignores an epoch that is at least `max_drift` older than `held`.
    pub(super) fn note_epoch(&mut self, epoch: HlcTime, held: HlcTime) {
        if epoch <= held.saturating_sub(self.drift) || self.epochs.contains(&epoch) {
            return;
        }
        if self.epochs.len() >= MAX_KNOWN {
            let oldest = self.epochs.iter().copied().min().unwrap_or(0);
            self.forgotten_up_to = self.forgotten_up_to.max(oldest);
            self.epochs.retain(|epoch| *epoch > oldest);
        }
        self.epochs.push(epoch);
    }

    /// Returns the bound of a fill that begins at `start`, with the stamps and epochs known for its key. Returns `None`
    /// if there are more than `MAX_KNOWN` of them.
    pub(super) fn bound_of(&self, start: HlcTime, epoch: HlcTime, hash: u64, held: Option<Stamp>) -> Option<FillBound> {
        let mut bound = FillBound { after: start.saturating_sub(self.drift), epoch, known: SmallVec::new() };
        let lost_stamps = self.lost_stamps.get(&hash).into_iter().flatten();
        lost_stamps.chain(self.unmerged_of(hash)).chain(&held).for_each(|stamp| bound.learn(*stamp));
        self.epochs.iter().for_each(|epoch| bound.learn_epoch(*epoch));
        (bound.known.len() <= MAX_KNOWN).then_some(bound)
    }

    /// Returns true if the fill counts as contested: this replica knows a write or epoch that contests it, may have
    /// forgotten one, or has no room for the bound. A write in `unmerged` counts even if it is stamped above the fill.
    pub(super) fn is_contested(&self, hash: u64, held: Option<Stamp>, fill: Stamp, bound: &FillBound) -> bool {
        let lost_stamps = self.lost_stamps.get(&hash).into_iter().flatten();
        self.epochs.iter().any(|epoch| bound.is_contested_by_epoch(fill, *epoch))
            || bound.after < self.forgotten_up_to
            // Without room for its bound a fill cannot be checked later, so it counts as contested.
            || self.fills.len() >= MAX_REMEMBERED
            || self.unmerged_of(hash).any(|stamp| bound.may_precede(*stamp))
            || lost_stamps.chain(&held).any(|stamp| bound.is_contested_by(fill, *stamp))
    }

    /// Notes that a register is evicted without a trace while there are no members. While there are members, only
    /// stable registers are evicted without a trace, and no fill that they contest can still arrive.
    pub(super) fn note_evicted_alone(&mut self, stamp: Stamp) {
        self.evicted_alone = stamp.time.max(self.evicted_alone);
    }

    /// Returns true if a fill of another replica may have begun before the write of a register that was evicted here
    /// while there were no members.
    pub(super) fn is_contested_by_evicted(&self, fill: Stamp, bound: &FillBound) -> bool {
        bound.after < self.evicted_alone && self.evicted_alone <= fill.time
    }

    /// Returns true if a fill without a bound counts as contested: one of the stamps known here may have been issued
    /// after the fill began, or such a stamp may have been forgotten. The `after` of the missing bound is at most
    /// `max_drift` below the stamp of the fill. These stamps are compared:
    ///
    /// - the stamp of the write that is held for the key (`found`), and the remembered stamps of the key;
    /// - the floors and the stamp of a void held at a floor, the epoch (all in `floors`), and the remembered epochs;
    /// - `evicted_alone`.
    ///
    /// Two kinds of stamps do not count, because the filling replica knew them: a stamp below the fill within the same
    /// tick, and the writes of the filling replica itself.
    pub(super) fn may_contest(&self, hash: u64, fill: Stamp, found: Option<Stamp>, floors: [HlcTime; 4]) -> bool {
        let after = fill.time.saturating_sub(self.drift);
        let lost_stamps = self.lost_stamps.get(&hash).into_iter().flatten();
        let of_others =
            lost_stamps.chain(self.unmerged_of(hash)).chain(&found).filter(|stamp| stamp.replica != fill.replica);
        let mut known = of_others.map(|stamp| stamp.time).chain(floors).chain(self.epochs.iter().copied());
        after < self.forgotten_up_to
            || (after < self.evicted_alone && self.evicted_alone <= fill.time)
            || known.any(|time| after < time && time / GRAIN < fill.time / GRAIN)
    }

    /// Remembers the bound of a fill that was placed.
    pub(super) fn note_bound(&mut self, hash: u64, fill: Stamp, slot: SlotRef, bound: &FillBound) {
        self.fills.insert((hash, fill), (slot, bound.clone()));
    }

    /// Remembers a stamp that lost. `winner` is the time of the register, floor or epoch that beat it, or its own time
    /// if it was only removed. Does nothing if `winner` is more than `max_drift` later. A fill below `winner` loses
    /// against it, and the bound of a fill above `winner` lies above `loser`. A fill that lost is remembered too. It
    /// contests nothing, but the bound of a later fill may include its stamp. That bound then counts all earlier writes
    /// of the replica in the stamp as known.
    pub(super) fn note_loser(&mut self, hash: u64, loser: Stamp, winner: HlcTime) {
        if winner.saturating_sub(loser.time) > self.drift {
            return;
        }
        remember(&mut self.lost_stamps, &mut self.forgotten_up_to, hash, loser);
    }

    /// Notes a write that arrived and is not merged.
    pub(super) fn note_unmerged(&mut self, hash: u64, stamp: Stamp) {
        remember(&mut self.unmerged, &mut self.forgotten_up_to, hash, stamp);
    }

    /// Notes an entry that lost against an epoch or a floor.
    pub(super) fn note_skipped<K, V>(&mut self, entry: &Entry<K, V>, winner: HlcTime) {
        if let Some((hash, loser)) = contester(entry) {
            self.note_loser(hash, loser, winner);
        }
    }

    /// Remembers an entry that lost. `winner` is the time of the register or floor that beat it. `write` is the stamp
    /// of that register, or `None` for a void or a floor, which contests no fill. Skips an entry of the same replica as
    /// `write`, because a later write of that replica beats or contests the same fills. Does not skip it if `write` is
    /// the stamp of a fill, because a fill contests nothing.
    pub(super) fn note_beaten<K, V>(&mut self, entry: &Entry<K, V>, winner: HlcTime, write: Option<Stamp>) {
        let replaced = |loser: Stamp| write.is_some_and(|held| held.replica == loser.replica && !is_of_fill(held));
        if let Some((hash, loser)) = contester(entry).filter(|(_, loser)| !replaced(*loser)) {
            self.note_loser(hash, loser, winner);
        }
    }

    /// Returns the stamps and places of the fills of a key that a write with this stamp contests.
    pub(super) fn contested_by(&self, hash: u64, stamp: Stamp) -> Vec<(Stamp, SlotRef)> {
        let all = (hash, Stamp::ZERO)..=(hash, Stamp::end_of(HlcTime::MAX));
        let contested = self.fills.range(all).filter(|((_, fill), (_, bound))| bound.is_contested_by(*fill, stamp));
        contested.map(|((_, fill), (slot, _))| (*fill, *slot)).collect()
    }

    /// Returns the stamps and places of the fills that an epoch contests.
    pub(super) fn contested_by_epoch(&self, epoch: HlcTime) -> Vec<(Stamp, SlotRef)> {
        let contested = self.fills.iter().filter(|((_, fill), (_, bound))| bound.is_contested_by_epoch(*fill, epoch));
        contested.map(|((_, fill), (slot, _))| (*fill, *slot)).collect()
    }

    /// Forgets contests that are over. Returns the time up to which lost stamps are forgotten. Keeps the bound of a
    /// fill that not every member has seen, because the fill may still be sent. `memberless_at` is this
    /// replica's clock if it has no members. The contests of the last `KEPT_WITHOUT_MEMBERS` nanoseconds are then kept,
    /// because a replica met later may bring fills of that age.
    pub(super) fn prune(
        &mut self,
        watermark: HlcTime,
        memberless_at: Option<HlcTime>,
        is_seen: impl Fn(SlotRef, Stamp) -> bool,
    ) -> HlcTime {
        let watermark = memberless_at.map_or(watermark, |now| watermark.min(now.saturating_sub(KEPT_WITHOUT_MEMBERS)));
        self.fills.retain(|(_, stamp), (slot, _)| stamp.time > watermark || !is_seen(*slot, *stamp));
        let may_still_contest = |time: HlcTime| time.saturating_add(self.drift + GRAIN) > watermark;
        self.epochs.retain(|epoch| may_still_contest(*epoch));
        for stamps in [&mut self.lost_stamps, &mut self.unmerged] {
            stamps.retain(|_, stamps| {
                stamps.retain(|stamp| may_still_contest(stamp.time));
                !stamps.is_empty()
            });
        }
        watermark.saturating_sub(self.drift + GRAIN)
    }

    /// Returns the number of remembered fills, and of keys with remembered stamps.
    pub(crate) fn len(&self) -> usize {
        self.fills.len() + self.lost_stamps.len() + self.unmerged.len()
    }
}
