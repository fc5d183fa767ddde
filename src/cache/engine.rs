//! A replica with a capacity. The only module in which the order of use and replication meet.

use super::feed::ChangeEvent;
use super::flight::{Flight, Flights};
use super::gate::{Admission, Gated, SHARE, STRIPES, StripeLimits};
use crate::hlc::Now;
use crate::ledger::direct::{DirectNote, DirectWriter};
use crate::ledger::registers::Garbage;
use crate::recency::{Eviction, HotPlace, HotPlaces, ReadLog, Recency};
use crate::replica::direct::Direct;
use crate::replica::{Change, CoreKey, Effect, Replica, Room, Watch};
use crate::store::SlotRef;
use crate::sync::Arc;

/// The most values that one call evicts, in addition to one for each change that it made. The rest is left to later
/// calls.
const EVICTIONS: usize = 512;
/// The use of a capacity, in 16ths, from which on no write is direct: twice the notes of all stripes, 3/32 of the
/// capacity each time, fit into the rest. One time they wait, and one time they are made while the first are absorbed.
const CLOSE_ABOVE: u64 = 13;
const _: () = assert!(2 * 3 * STRIPES as u64 * 16 <= (16 - CLOSE_ABOVE) * SHARE, "the notes must fit");
/// The use of a capacity, in 16ths, from which on writes are direct again.
const OPEN_BELOW: u64 = 12;
/// The nanoseconds after which the counts of reads are halved.
const FADE: u64 = 10_000_000_000;

/// The work that is left for after the lock is released: user types to drop, and changes to report.
pub(crate) struct Settled<K, V> {
    pub(crate) garbage: Garbage<K, V>,
    /// The changes to report and the fills to notify; `None` if there are neither.
    pub(crate) news: Option<Box<News<K, V>>>,
}

/// Changes to report, fills to notify, and events to drop.
pub(crate) struct News<K, V> {
    pub(crate) changes: Vec<Change<K, V>>,
    /// Fills whose key was written.
    pub(crate) touched: Vec<Arc<Flight<K, V>>>,
    /// Events that fell out of the change stream; `None` if no event was added to it.
    pub(crate) unread: Option<Vec<ChangeEvent<K, V>>>,
}

impl<K, V> News<K, V> {
    /// Returns the news collected so far. Creates an empty record if there is none.
    fn of(news: &mut Option<Box<Self>>) -> &mut Self {
        news.get_or_insert_with(|| Box::new(Self { changes: Vec::new(), touched: Vec::new(), unread: None }))
    }
}

/// A replica, and the order in which its values were used.
pub(crate) struct Engine<K, V> {
    pub(crate) replica: Replica<K, V>,
    capacity: Option<u64>,
    recency: Option<Recency>,
    /// The places that were read most lately, for reports.
    hot: HotPlaces,
    /// The monotonic time at which the counts of reads fade next.
    fade_at: u64,
    /// The running fills that callers can join.
    pub(crate) flights: Flights<K, V>,
    /// True if a listener or subscriber wants the changes.
    listening: bool,
    /// The bounds of direct writes; `None` if there may be none.
    limits: Option<StripeLimits>,
    /// True from when the values use more than [`CLOSE_ABOVE`] of the capacity until they use at most [`OPEN_BELOW`].
    is_nearly_full: bool,
}

impl<K: CoreKey, V> Gated for Engine<K, V> {
    type Writer = DirectWriter<K, V>;
    type Note = DirectNote;
    type Aside = ReadLog;

    fn absorb(&mut self, notes: &mut Vec<DirectNote>, reads: &ReadLog) {
        // `admit` refuses direct writes while a listener, a subscriber or a fill waits for changes. The order of use
        // follows the notes themselves.
        self.replica.set_watch(Watch::CountsOnly);
        Direct::of(&mut self.replica).absorb(notes);
        self.note_uses(notes, reads);
        // After the notes: a read that preceded the note of its value would find no place in the order, and be lost.
        self.apply_reads(reads);
        notes.clear();
    }

    fn must_close(&self) -> bool {
        self.uses_more_than(CLOSE_ABOVE)
    }

    /// A change for which a listener, a subscriber or a fill waits goes through the replica. So does every write to a
    /// cache that is nearly full.
    fn admit(&mut self, writer: &mut Option<DirectWriter<K, V>>) -> Admission {
        if self.limits.is_none() || self.listening || !self.flights.is_empty() {
            return Admission::Refused;
        }
        self.is_nearly_full = self.uses_more_than(if self.is_nearly_full { OPEN_BELOW } else { CLOSE_ABOVE });
        if self.is_nearly_full {
            return Admission::Closed;
        }
        let mut direct = Direct::of(&mut self.replica);
        if writer.as_ref().is_some_and(|writer| direct.may_go_on(writer)) {
            return Admission::Same;
        }
        *writer = direct.writer();
        if writer.is_some() { Admission::Renewed } else { Admission::Refused }
    }
}

impl<K: CoreKey, V> Engine<K, V> {
    pub(crate) fn new(replica: Replica<K, V>, capacity: Option<u64>, eviction: Eviction) -> Self {
        Self {
            replica,
            capacity,
            recency: capacity.map(|_| Recency::new(eviction)),
            hot: HotPlaces::default(),
            fade_at: 0,
            flights: Flights::new(),
            listening: false,
            limits: capacity.map_or(Some(StripeLimits::UNBOUNDED), StripeLimits::of_capacity),
            is_nearly_full: false,
        }
    }

    /// Returns the bounds of direct writes, or `None` if every write goes through the replica.
    pub(crate) fn limits(&self) -> Option<StripeLimits> {
        self.limits
    }

    /// Bounds the direct writes of a cache with a capacity by this weight. For tests and the simulator: the capacities
    /// that they use are too small for direct writes.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn set_budget(&mut self, weight: u64) {
        if let Some(capacity) = self.capacity {
            self.limits = StripeLimits::of_budget(weight.min(capacity));
        }
    }

    /// Runs `act`, then settles the changes it made. `listening` is true if a listener or subscriber wants the changes.
    #[inline]
    pub(super) fn act<R>(
        &mut self,
        now: Now,
        reads: &ReadLog,
        listening: bool,
        act: impl FnOnce(&mut Self) -> R,
    ) -> (R, Settled<K, V>) {
        self.set_listening(listening);
        let result = act(self);
        (result, self.settle(now, reads, listening))
    }

    /// Sets how much of its changes the replica records.
    pub(super) fn set_listening(&mut self, listening: bool) {
        self.listening = listening;
        let ours = self.recency.is_some() || !self.flights.is_empty();
        self.replica.set_watch(match (listening, ours) {
            (true, _) => Watch::Everything,
            (false, true) => Watch::Places,
            (false, false) => Watch::CountsOnly,
        });
    }

    /// Applies the changes to the order of use, evicts down to capacity as far as one call may, and returns the work
    /// that is left for after the lock is released. Values whose time has ended go before any other. Must be called
    /// after every command and every `handle_*`. `listening` is true if a listener or subscriber wants the changes.
    pub(crate) fn settle(&mut self, now: Now, reads: &ReadLog, listening: bool) -> Settled<K, V> {
        let mut news = None;
        // These reads preceded the write, so they precede it in the order of use too.
        self.apply_reads(reads);
        if now.mono >= self.fade_at {
            self.fade(now);
        }
        let most = EVICTIONS + self.follow(now, reads, listening, &mut news);
        if self.is_over_capacity() {
            self.make_room(now, reads, most);
            self.follow(now, reads, listening, &mut news);
        }
        Settled { garbage: self.replica.take_garbage(), news }
    }

    /// Applies noted reads to the order of use.
    pub(crate) fn apply_reads(&mut self, reads: &ReadLog) {
        if let Some(recency) = &mut self.recency {
            recency.apply(reads, &mut self.hot);
        }
    }

    /// Lets the counts of reads fade, so that hot keys are those of the last seconds.
    #[cold]
    fn fade(&mut self, now: Now) {
        self.fade_at = now.mono.saturating_add(FADE);
        let store = self.replica.view().store();
        self.hot.age(|place| store.meta(place).is_some());
    }

    /// Returns the number of sampled reads, and the places that were read most lately. Returns `None` if reads are not
    /// noted.
    pub(crate) fn hot(&self) -> Option<(u64, Vec<HotPlace>)> {
        self.recency.as_ref().filter(|recency| recency.notes_reads()).map(|_| self.hot.top())
    }

    fn is_over_capacity(&self) -> bool {
        self.capacity.is_some_and(|capacity| self.replica.view().live_weight() > capacity)
    }

    /// Returns true if the values use more than this many 16ths of the capacity.
    fn uses_more_than(&self, sixteenths: u64) -> bool {
        let Some(capacity) = self.capacity else { return false };
        u128::from(self.replica.view().live_weight()) * 16 > u128::from(capacity) * u128::from(sixteenths)
    }

    /// Returns true if the values exceed the capacity and the next call can evict some of them.
    pub(crate) fn must_evict(&self) -> bool {
        self.is_over_capacity() && self.recency.as_ref().is_some_and(|recency| recency.len() > 0)
    }

    /// Evicts down to capacity, but at most `most` values.
    fn make_room(&mut self, now: Now, reads: &ReadLog, most: usize) {
        let Self { replica, recency: Some(recency), capacity: Some(capacity), .. } = self else { return };
        replica.make_room(now, Room { capacity: *capacity, most }, || recency.pop(reads));
    }

    /// Applies the changes to the order of use. Returns their number.
    fn follow(&mut self, now: Now, reads: &ReadLog, listening: bool, news: &mut Option<Box<News<K, V>>>) -> usize {
        let mut changes = 0;
        while let Some(change) = self.replica.poll_change() {
            changes += 1;
            let (slot, weight) = (change.slot, u64::from(change.weight));
            let remains = self.note_use(&change, reads);
            self.touch_flight(slot, news);
            if listening {
                News::of(news).changes.push(change);
            }
            if remains && self.capacity.is_some_and(|capacity| weight > capacity) && self.is_too_heavy(slot) {
                // This value alone exceeds the capacity, so evicting other values would not make room for it. The
                // present weight is checked too, because a later change may have replaced this value.
                self.replica.evict(now, slot);
            }
        }
        changes
    }

    /// Notes the use of the values that were written directly, in the order of the notes.
    fn note_uses(&mut self, notes: &[DirectNote], reads: &ReadLog) {
        let Some(recency) = &mut self.recency else { return };
        for note in notes {
            recency.insert(note.slot, note.after.weight > 0, reads);
        }
    }

    /// Adds the running fill of a changed key to the fills to notify: the fill may be waiting for another node's value.
    fn touch_flight(&self, slot: SlotRef, news: &mut Option<Box<News<K, V>>>) {
        if self.flights.is_empty() {
            return;
        }
        let hash = self.replica.view().store().hash(slot);
        if let Some(flight) = hash.and_then(|hash| self.flights.with_hash(hash)) {
            News::of(news).touched.push(flight);
        }
    }

    /// Updates the order of use. Returns true if there is a capacity and the place holds a value now. If a merge
    /// replaces a value that is already here, that does not count as a use: only local reads and writes do.
    fn note_use(&mut self, change: &Change<K, V>, reads: &ReadLog) -> bool {
        let Some(recency) = &mut self.recency else { return false };
        let weighs = change.weight > 0;
        match change.effect {
            Effect::Inserted => recency.insert(change.slot, weighs, reads),
            Effect::Updated if change.local => recency.insert(change.slot, weighs, reads),
            Effect::Updated => recency.reweigh(change.slot, weighs),
            Effect::Removed(_) => {
                recency.remove(change.slot, reads);
                return false;
            }
        }
        true
    }

    fn is_too_heavy(&self, slot: SlotRef) -> bool {
        let weight = self.replica.view().store().meta(slot).map_or(0, |meta| u64::from(meta.weight));
        self.capacity.is_some_and(|capacity| weight > capacity)
    }

    /// Returns the places of the live values. The value that would be evicted last comes first.
    pub(crate) fn by_recency<'a>(&'a self, reads: &'a ReadLog) -> impl Iterator<Item = SlotRef> + 'a {
        self.recency.iter().flat_map(|recency| recency.iter(reads))
    }
}
