//! Fills: values computed from a source that was read at an unknown time.
//!
//! A fill must lose against any write or delete issued after it began, on any replica. So its stamp is taken at its
//! start. The stamp is `start - max_drift`, if the register of the key, the floors and the epoch are all lower.
//! Otherwise it is just above the highest of these, and the fill carries a [bound](super::contests). The dot of a fill
//! is issued when it completes. The effect is that of memcache leases (Nishtala et al. 2013), without a coordinator.

use std::collections::{BTreeMap, VecDeque};

use super::Ledger;
use super::changes::RemovalCause;
use super::local::Write;
use super::placing::Placing;
use crate::arrival::Provenance;
use crate::crdt::{Kind, Marker};
use crate::env::Env;
use crate::hlc::{GRAIN, HlcTime, Stamp, nanos};
use crate::item::{CoreKey, Key};
use crate::message::FillBound;
use crate::store::{SlotRef, Snapshot};

/// The stamp of a fill, taken before the fill starts.
#[derive(Debug, PartialEq, Eq)]
pub struct FillTicket {
    number: u64,
    stamp: Stamp,
    /// The stamp of the register that the key had at the start.
    found: Option<Stamp>,
    /// The epoch at the start.
    epoch: HlcTime,
    /// The bound of a fill that is stamped above a recent write or epoch; see the module `contests`.
    bound: Option<Box<FillBound>>,
}

impl FillTicket {
    /// Returns the stamp that the value will carry.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }
}

/// The running fills of this replica, and the stamps that its recent fills with a bound have.
#[derive(Debug, Default)]
pub(crate) struct Fills {
    next: u64,
    /// The number of the first fill under the present replica id. Fills with a lower number began under a former id,
    /// and the writes that contest them may be forgotten.
    first: u64,
    /// Running fills that hold back the watermark, by number: the stamp time, and the monotonic time at which the hold
    /// ends.
    holding: BTreeMap<u64, (HlcTime, u64)>,
    /// The most recent stamps just above a register, floor or epoch, each with the hash of its key.
    just_above: VecDeque<(u64, HlcTime)>,
}

/// The highest number of stamps in `Fills::just_above`.
const MAX_JUST_ABOVE: usize = 256;

impl Fills {
    /// Returns the state for a new replica id. Running fills hold back nothing any more, and their numbers are not
    /// issued again.
    pub(super) fn without_holds(&mut self) -> Self {
        Self { first: self.next, holding: BTreeMap::new(), ..std::mem::take(self) }
    }

    /// Returns a time just above `held` that no other recent fill of the key has. Two fills that begin above the same
    /// register must not share a stamp. If a reconcile removed the register of the first fill, the second would then be
    /// stored under the same stamp. Fills of different keys may share one: after an invalidation, all begin above the
    /// same epoch. The time stays below the next time that a clock can issue. Returns zero when no such time is left:
    /// the fill is then not stored. The first time above a tick is reserved for [fills without a bound](off_the_ticks).
    fn unused(&mut self, hash: u64, held: HlcTime) -> HlcTime {
        let first = held - held % GRAIN + 2;
        let mut time = first.max(held.saturating_add(1));
        while self.just_above.contains(&(hash, time)) {
            time += 1;
        }
        if time.is_multiple_of(GRAIN) || time / GRAIN != held / GRAIN {
            return 0;
        }
        if self.just_above.len() == MAX_JUST_ABOVE {
            self.just_above.pop_front();
        }
        self.just_above.push_back((hash, time));
        time
    }
}

/// Returns a time before `time` that is the first above a tick. No clock issues such a time, and no fill with a bound
/// has it, so it identifies a fill without a bound.
fn off_the_ticks(time: HlcTime) -> HlcTime {
    (time - time % GRAIN).saturating_sub(GRAIN - 1)
}

/// Begins a fill of `key`. Must be called before the source is read.
pub(crate) fn begin<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, hash: u64, key: &Key<K>) -> FillTicket {
    // The start is a tick of the hybrid clock, which never goes back and is later than every time observed.
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

/// Ends a fill with a value. Returns its stamp if the value was stored. Returns `None` if the fill has lost against a
/// register, floor or epoch. Also returns `None` if it may have lost against a register that was collected meanwhile.
/// In all these cases the value is for the caller only.
pub(crate) fn finish<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    ticket: &FillTicket,
    write: Write<K, V>,
) -> Option<Stamp> {
    // After its hold a fill no longer keeps the watermark below its stamp. A delete above that stamp may have been
    // collected, so the fill is not stored.
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
    let placing = Placing { hash, marker, expires, size, weight, arrival: env.arrival(Provenance::Filled), item };
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
    let write = held.and_then(|held| ledger.registers.contesting_stamp(held));
    let contests = &ledger.registers.contests;
    let contested = |bound: &FillBound| contests.is_contested(hash, write, ticket.stamp, bound);
    !env.bugs().fill_bound_ignored && ticket.bound.as_deref().is_some_and(contested)
}

/// Returns true if a fill has lost against a register, floor or epoch that came after its start. A caller that asks for
/// the key from now on must not get the value of this fill. A fill without a stamp is never stored, but callers may
/// join it until the register or the epoch changes.
pub(crate) fn is_overtaken<K: CoreKey, V>(
    ledger: &Ledger<K, V>,
    env: &Env,
    ticket: &FillTicket,
    (hash, key): (u64, &Key<K>),
) -> bool {
    let found = ledger.find(hash, key);
    let held = found.as_ref().map(|held| ledger.registers.stamp_of(&held.meta));
    // The fill began under a former replica id. The writes that contest it may have been forgotten since.
    if ticket.number < ledger.fills.first {
        return true;
    }
    // This fill got no stamp to compare with, so any change of the register or the epoch counts.
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

/// Returns the number of running fills that hold back the watermark.
pub(crate) fn running<K, V>(ledger: &Ledger<K, V>) -> usize {
    ledger.fills.holding.len()
}

/// Returns the lowest stamp time that a running fill may still use.
pub(crate) fn lowest<K, V>(ledger: &Ledger<K, V>) -> Option<HlcTime> {
    ledger.fills.holding.values().map(|(time, _)| *time).min()
}

/// Ends the hold of fills that are older than `fill_hold`. They no longer hold back collection; if they end later, they
/// are not stored.
pub(crate) fn expire<K, V>(ledger: &mut Ledger<K, V>, env: &mut Env) {
    let before = ledger.fills.holding.len();
    ledger.fills.holding.retain(|_, (_, until)| *until > env.now.mono);
    env.counters.fills_expired += (before - ledger.fills.holding.len()) as u64;
}

/// Voids the fills of a key that an entry contests. It makes no difference if the entry itself was merged, lost or was
/// seen before.
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
        let by = held.meta.arrival.path;
        ledger.void_held(env, &held, fill, by);
    }
}
