//! Fills: values computed from a source that was read before anybody knows when.
//!
//! A fill must lose against any write or delete issued after it began, anywhere. So its stamp is
//! taken at its start: `max(start - max_drift, just above the register its key had, just above our
//! floors and epoch)`; in the second case it carries a [bound](super::fill_bound). Its dot is issued when it completes. (What memcache leases do, Nishtala et al.
//! 2013, without a coordinator.)

use std::collections::{BTreeMap, VecDeque};

use super::bound::FillBound;
use super::fill_bound::Contests;
use super::place::Placing;
use super::{CoreKey, RemovalCause, Replica, Write};
use crate::crdt::{Kind, Marker};
use crate::hlc::{GRAIN, HlcTime, Now, Stamp, nanos};
use crate::item::Key;
use crate::store::Snapshot;

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
    bound: Option<FillBound>,
}

impl FillTicket {
    /// The stamp the value will carry.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }
}

#[derive(Debug, Default)]
pub(super) struct Fills {
    next: u64,
    /// Those before it began when this was another replica, and what they lost against may be forgotten.
    first: u64,
    /// Running fills that hold the watermark: stamp time and when they stop holding it.
    holding: BTreeMap<u64, (HlcTime, u64)>,
    /// The last keys, by hash, and stamps of theirs that were just above something.
    just_above: VecDeque<(u64, HlcTime)>,
    /// Fills that were stamped above something young, and what they must lose against.
    pub(super) contests: Contests,
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
    /// the next time any clock can issue; when there is none left, the fill is not to be stored.
    fn unused(&mut self, hash: u64, held: HlcTime) -> HlcTime {
        let mut time = held.saturating_add(1);
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

/// The last time before this one that no clock issues: fills are told from writes by it.
fn off_the_ticks(time: HlcTime) -> HlcTime {
    (time - time % GRAIN).saturating_sub(GRAIN - 1)
}

impl<K: CoreKey, V> Replica<K, V> {
    /// Begins a fill of `key`, before its source is read.
    pub fn begin_fill(&mut self, now: Now, hash: u64, key: &Key<K>) -> FillTicket {
        // The start by a clock that never goes back and is past everything seen.
        let start = self.clock.tick(now);
        let held = self.find(hash, key);
        let found = held.as_ref().map(|held| self.stamp_of(&held.meta));
        let above = found.map_or(0, |found| found.time).max(self.highest_floor().time).max(self.store.epoch());
        let bound = self.bound_of(start, hash, found);
        let early = off_the_ticks(start.saturating_sub(nanos(self.config.max_drift)));
        let (time, bound) = match bound {
            _ if early > above => (early, None),
            Some(bound) => (self.fills.unused(hash, above), Some(bound)),
            None => (0, None),
        };
        let number = self.fills.next;
        self.fills.next += 1;
        let until = now.mono.saturating_add(nanos(self.config.fill_hold));
        if time > 0 {
            self.fills.holding.insert(number, (time, until));
        }
        self.counters.fills += 1;
        FillTicket { number, stamp: Stamp::new(time, self.id), found, epoch: self.store.epoch(), bound }
    }

    /// Ends a fill with a value. Returns its stamp if the value was stored; `None` if something newer
    /// is here or may have been collected meanwhile, and the value is for the caller only.
    pub fn finish_fill(&mut self, now: Now, ticket: &FillTicket, write: Write<K, V>) -> Option<Stamp> {
        // Past its hold a fill no longer keeps the watermark below its stamp, and may not be stored.
        let held_back = self.fills.holding.remove(&ticket.number).is_some();
        let stamp = if self.bugs.fill_stamped_late { Stamp::new(self.clock.tick(now), self.id) } else { ticket.stamp };
        let held = self.find(write.hash, &write.item.key);
        let found = held.as_ref().map(|held| self.stamp_of(&held.meta));
        let overtaken = found >= Some(stamp) || self.is_ticket_contested(ticket, write.hash, held.as_ref());
        if !held_back || overtaken || stamp <= self.highest_floor() || stamp.time <= self.store.epoch() {
            self.counters.fills_lost += 1;
            return None;
        }
        let Write { hash, item, expires, size, weight } = write;
        let held = held.map(|held| self.expired_before(now, &held).unwrap_or(held));
        let marker = Marker { stamp, kind: Kind::Live, dot: self.issue_dot(now) };
        let learnt = self.learnt(now, crate::learnt::LearntBy::Filled);
        let placing = Placing { hash, marker, expires, size, weight, learnt, item };
        let slot = self.place(held.as_ref(), placing, RemovalCause::Replaced);
        if let Some(bound) = &ticket.bound {
            self.note_bound(hash, stamp, slot, bound);
        }
        Some(stamp)
    }

    fn is_ticket_contested(&self, ticket: &FillTicket, hash: u64, held: Option<&Snapshot<K, V>>) -> bool {
        let write = held.and_then(|held| self.write_of(held));
        ticket.bound.as_ref().is_some_and(|bound| self.is_contested(hash, write, ticket.stamp, bound))
    }

    /// Whether a fill has lost against something that came after its start. Whoever asks for the key
    /// now must not be given its value. (A fill for which there was no stamp is not stored; that alone
    /// is no reason for another one.)
    #[must_use]
    pub fn is_fill_overtaken(&self, ticket: &FillTicket, hash: u64, key: &Key<K>) -> bool {
        let found = self.find(hash, key);
        let held = found.as_ref().map(|held| self.stamp_of(&held.meta));
        if ticket.number < self.fills.first {
            return true;
        }
        if ticket.stamp.time == 0 {
            return held != ticket.found || self.store.epoch() != ticket.epoch;
        }
        held >= Some(ticket.stamp)
            || self.is_ticket_contested(ticket, hash, found.as_ref())
            || ticket.stamp <= self.highest_floor()
            || ticket.stamp.time <= self.store.epoch()
    }

    /// Ends a fill without a value.
    pub fn abort_fill(&mut self, ticket: &FillTicket) {
        self.fills.holding.remove(&ticket.number);
    }

    /// Fills that run and hold the watermark.
    #[must_use]
    pub fn fills_running(&self) -> usize {
        self.fills.holding.len()
    }

    /// The lowest stamp time that a running fill may still issue.
    pub(super) fn lowest_fill(&self) -> Option<HlcTime> {
        self.fills.holding.values().map(|(time, _)| *time).min()
    }

    /// Fills past their bound stop holding back collection; the floor then decides about them.
    pub(super) fn expire_fills(&mut self, now: Now) {
        let before = self.fills.holding.len();
        self.fills.holding.retain(|_, (_, until)| *until > now.mono);
        self.counters.fills_expired += (before - self.fills.holding.len()) as u64;
    }
}
