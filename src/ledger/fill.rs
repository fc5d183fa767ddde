//! Fills: values computed from a source that was read before anybody knows when.
//!
//! A fill must lose against any write or delete issued after it began, anywhere. So its stamp is
//! taken at its start: `max(start - max_drift, just above the register its key had, just above our
//! floors and epoch)`; in the second case it carries a [bound](super::contests). Its dot is issued when it completes. (What memcache leases do, Nishtala et al.
//! 2013, without a coordinator.)

use std::collections::{BTreeMap, VecDeque};

use super::Ledger;
use super::changes::RemovalCause;
use super::local::Write;
use super::registers::Placing;
use crate::crdt::{Kind, Marker};
use crate::env::Env;
use crate::hlc::{GRAIN, HlcTime, Stamp, nanos};
use crate::item::{CoreKey, Key};
use crate::learnt::LearntBy;
use crate::message::FillBound;
use crate::store::{SlotRef, Snapshot};

/// The stamp of a fill, from before its start.
#[derive(Debug, PartialEq, Eq)]
pub struct FillTicket {
    number: u64,
    stamp: Stamp,
    /// What its key had at the start.
    found: Option<Stamp>,
    /// The epoch at the start.
    epoch: HlcTime,
    /// What it must lose against although it is stamped above that.
    bound: Option<Box<FillBound>>,
}

impl FillTicket {
    /// The stamp the value will carry.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }
}

#[derive(Debug, Default)]
pub(crate) struct Fills {
    next: u64,
    /// Those before it began when this was another replica, and what they lost against may be forgotten.
    first: u64,
    /// Running fills that hold the watermark: stamp time and when they stop holding it.
    holding: BTreeMap<u64, (HlcTime, u64)>,
    /// The last keys, by hash, and stamps of theirs that were just above something.
    just_above: VecDeque<(u64, HlcTime)>,
}

/// Stamps just above something that are remembered.
const REMEMBERED: usize = 256;

impl Fills {
    /// For a replica that begins anew: what runs holds nothing any more, and its numbers are not given again.
    pub(super) fn without_holds(&mut self) -> Self {
        Self { first: self.next, holding: BTreeMap::new(), ..std::mem::take(self) }
    }

    /// A time just above `held` that no other fill of the key was given lately: two fills that begin
    /// above the same register must not share a stamp, should that register vanish meanwhile. (Fills of
    /// other keys may: after an invalidation, all begin above the same epoch.) It stays below
    /// the next time any clock can issue; when there is none left, the fill is not to be stored. The first time above a tick is
    /// for fills [off the ticks](off_the_ticks).
    fn unused(&mut self, hash: u64, held: HlcTime) -> HlcTime {
        let first = held - held % GRAIN + 2;
        let mut time = first.max(held.saturating_add(1));
        while self.just_above.contains(&(hash, time)) {
            time += 1;
        }
        if time.is_multiple_of(GRAIN) || time / GRAIN != held / GRAIN {
            return 0;
        }
        if self.just_above.len() == REMEMBERED {
            self.just_above.pop_front();
        }
        self.just_above.push_back((hash, time));
        time
    }
}

/// A time before this one that no clock issues, and no fill above something young has: fills are told by it.
fn off_the_ticks(time: HlcTime) -> HlcTime {
    (time - time % GRAIN).saturating_sub(GRAIN - 1)
}

/// Begins a fill of `key`, before its source is read.
pub(crate) fn begin<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, hash: u64, key: &Key<K>) -> FillTicket {
    // The start by a clock that never goes back and is past everything seen.
    let start = env.tick();
    let (held, epoch) = (ledger.find(hash, key), ledger.epoch());
    let found = held.as_ref().map(|held| ledger.registers.stamp_of(&held.meta));
    let above = found.map_or(0, |found| found.time).max(ledger.highest_floor().time).max(epoch);
    let early = off_the_ticks(start.saturating_sub(env.max_drift()));
    let fills = &mut ledger.fills;
    let (time, bound) = if early > above {
        (early, None)
    } else {
        match ledger.registers.contests.bound_of(start, epoch, hash, found) {
            Some(bound) => (fills.unused(hash, above), Some(Box::new(bound))),
            None => (0, None),
        }
    };
    let number = fills.next;
    fills.next += 1;
    if time > 0 {
        fills.holding.insert(number, (time, env.later(nanos(env.config.fill_hold))));
    }
    env.counters.fills += 1;
    FillTicket { number, stamp: Stamp::new(time, env.id), found, epoch, bound }
}

/// Ends a fill with a value. Returns its stamp if the value was stored; `None` if something newer
/// is here or may have been collected meanwhile, and the value is for the caller only.
pub(crate) fn finish<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    ticket: &FillTicket,
    write: Write<K, V>,
) -> Option<Stamp> {
    // Past its hold a fill no longer keeps the watermark below its stamp, and may not be stored.
    let held_back = ledger.fills.holding.remove(&ticket.number).is_some();
    let stamp = if env.bugs().fill_stamped_late { Stamp::new(env.tick(), env.id) } else { ticket.stamp };
    let held = ledger.find(write.hash, &write.item.key);
    let found = held.as_ref().map(|held| ledger.registers.stamp_of(&held.meta));
    let overtaken = found >= Some(stamp) || is_contested(ledger, env, ticket, write.hash, held.as_ref());
    if !held_back || overtaken || stamp <= ledger.highest_floor() || stamp.time <= ledger.epoch() {
        env.counters.fills_lost += 1;
        return None;
    }
    let Write { hash, item, expires, size, weight } = write;
    let held = held.map(|held| ledger.registers.expired_before(env, &held).unwrap_or(held));
    let marker = Marker { stamp, kind: Kind::Live, dot: ledger.issue_dot(env) };
    let placing = Placing { hash, marker, expires, size, weight, learnt: env.learnt(LearntBy::Filled), item };
    let slot = ledger.registers.place(held.as_ref(), placing, RemovalCause::Replaced);
    if let Some(bound) = &ticket.bound {
        ledger.registers.contests.note_bound(hash, stamp, slot, bound);
    }
    Some(stamp)
}

fn is_contested<K: CoreKey, V>(
    ledger: &Ledger<K, V>,
    env: &Env,
    ticket: &FillTicket,
    hash: u64,
    held: Option<&Snapshot<K, V>>,
) -> bool {
    let write = held.and_then(|held| ledger.registers.write_of(held));
    let contests = &ledger.registers.contests;
    let contested = |bound: &FillBound| contests.is_contested(hash, write, ticket.stamp, bound);
    !env.bugs().fill_bound_ignored && ticket.bound.as_deref().is_some_and(contested)
}

/// Whether a fill has lost against something that came after its start. Whoever asks for the key
/// now must not be given its value. (A fill for which there was no stamp is not stored; that alone
/// is no reason for another one.)
pub(crate) fn is_overtaken<K: CoreKey, V>(
    ledger: &Ledger<K, V>,
    env: &Env,
    ticket: &FillTicket,
    (hash, key): (u64, &Key<K>),
) -> bool {
    let found = ledger.find(hash, key);
    let held = found.as_ref().map(|held| ledger.registers.stamp_of(&held.meta));
    if ticket.number < ledger.fills.first {
        return true;
    }
    if ticket.stamp.time == 0 {
        return held != ticket.found || ledger.epoch() != ticket.epoch;
    }
    held >= Some(ticket.stamp)
        || is_contested(ledger, env, ticket, hash, found.as_ref())
        || ticket.stamp <= ledger.highest_floor()
        || ticket.stamp.time <= ledger.epoch()
}

/// Ends a fill without a value.
pub(crate) fn abort<K, V>(ledger: &mut Ledger<K, V>, ticket: &FillTicket) {
    ledger.fills.holding.remove(&ticket.number);
}

/// Fills that run and hold the watermark.
pub(crate) fn running<K, V>(ledger: &Ledger<K, V>) -> usize {
    ledger.fills.holding.len()
}

/// The lowest stamp time that a running fill may still issue.
pub(crate) fn lowest<K, V>(ledger: &Ledger<K, V>) -> Option<HlcTime> {
    ledger.fills.holding.values().map(|(time, _)| *time).min()
}

/// Fills past their bound stop holding back collection; the floor then decides about them.
pub(crate) fn expire<K, V>(ledger: &mut Ledger<K, V>, env: &mut Env) {
    let before = ledger.fills.holding.len();
    ledger.fills.holding.retain(|_, (_, until)| *until > env.now.mono);
    env.counters.fills_expired += (before - ledger.fills.holding.len()) as u64;
}

/// Voids the fills of a key that an entry contests. The entry itself has lost, or was seen before.
pub(super) fn contest<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, entry: Option<(u64, Stamp)>) {
    let Some((hash, stamp)) = entry else { return };
    for (fill, slot) in ledger.registers.contests.contested_by(hash, stamp) {
        void(ledger, env, fill, slot);
    }
}

/// Voids the fills that began before an epoch and are stamped above it.
pub(super) fn contest_by_epoch<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, epoch: HlcTime) {
    for (fill, slot) in ledger.registers.contests.contested_by_epoch(epoch) {
        void(ledger, env, fill, slot);
    }
}

fn void<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, fill: Stamp, slot: SlotRef) {
    let held = ledger.table().resolve(slot).filter(|held| ledger.registers.stamp_of(&held.meta) == fill);
    let held = held.filter(|held| held.meta.kind.ranks_live() && !env.bugs().fill_bound_ignored);
    if let Some(held) = held {
        env.counters.fills_contested += 1;
        let by = held.meta.learnt.path;
        ledger.void_held(env, &held, fill, by);
    }
}
