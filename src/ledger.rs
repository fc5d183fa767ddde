//! The data of a replica: its registers, the times up to which it has seen each origin, and the floors below which it
//! removed registers without a trace.
//!
//! | file | owns, or does |
//! | --- | --- |
//! | this one | vector, floor and dropped vector; removal without a trace, the cap of tombstones, adoption |
//! | `registers` | the table and every index over it: the only code that changes a register |
//! | `log`, `tombstones`, `expiry`, `origins` | indexes: dots by origin, tombstones by age, deadlines, interned ids |
//! | `below_eviction` | the eviction floor, and the registers that are in doubt below it |
//! | `contests` | the writes and epochs against which a fill with a bound must lose |
//! | `changes` | the stream of changes that readers see |
//! | `invalidations` | the epochs whose registers wait to be swept, and the wall times at which they came |
//! | `quarantine`, `released` | entries stamped too far in the future, and their merge once they are due |
//! | `local`, `evict`, `fill`, `epoch` | the operations of the user of this replica |
//! | `direct`, `absorb` | own writes that take only their shard's lock, and their entry into the indexes |
//! | `merge` | the join of an entry from another replica with the register held here |
//! | `reconciled` | the registers that the end of a reconcile removes, voids and puts in doubt |
//! | `collect`, `retire` | the end of tombstones and of retired origins |
//! | `validate` | a check of every index against the registers |

use smallvec::SmallVec;

use crate::arrival::Provenance;
use crate::crdt::{Cause, Dot, Kind, Marker, VersionVector};
use crate::env::Env;
use crate::hlc::{HlcTime, Stamp};
use crate::item::{CoreKey, Key};
use crate::message::{Entry, FillNote};
use crate::replica_id::ReplicaId;
use crate::store::{Meta, Position, SlotRef, Snapshot, Store};
use crate::sync::Arc;

pub(crate) mod absorb;
mod below_eviction;
pub mod changes;
pub(crate) mod collect;
mod contests;
pub(crate) mod direct;
pub(crate) mod epoch;
pub(crate) mod evict;
mod expiry;
pub(crate) mod fill;
mod invalidations;
pub(crate) mod local;
pub(crate) mod log;
pub(crate) mod merge;
mod origins;
mod placing;
pub(crate) mod quarantine;
pub(crate) mod reconciled;
pub(crate) mod registers;
pub(crate) mod released;
pub(crate) mod retire;
pub(crate) mod tombstones;
mod validate;

pub(crate) use contests::contester;
pub(crate) use expiry::{expire_due, expire_first, next_expiry_in};
pub(crate) use validate::validate;

use changes::RemovalCause;
use registers::Registers;

/// The number of tombstones passed over by a cap check for which one later check is skipped. A check passes over
/// tombstones that a session has brought and not yet claimed, because they cannot be dropped. Skipping keeps the cost
/// of a write constant. The excess over the cap stays a small part of the passed tombstones.
const PASSED_PER_SKIPPED_CHECK: usize = 64;

/// The kind of session that this replica is receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// A session with the entries that this replica lacks.
    Delta,
    /// A session with everything that its sender holds.
    Reconcile,
}

/// The data of one replica.
pub(crate) struct Ledger<K, V> {
    registers: Registers<K, V>,
    /// Per origin, the time up to which this replica has seen its writes.
    vector: VersionVector,
    /// Per origin, the highest dot time removed without a trace.
    dropped: VersionVector,
    /// The highest stamp of a tombstone removed without a trace.
    floor: Stamp,
    /// The time of the last dot that this replica issued.
    last_own: HlcTime,
    /// Places of registers that came outside of any claim, and whose dots the vector does not cover.
    uncovered: Vec<SlotRef>,
    /// The kind of the incoming session, if there is one. Collection and eviction leave its entries alone until it is
    /// claimed.
    receiving: Option<Receiving>,
    /// Registers that pushes placed during an incoming reconcile, after frames of it may already have covered their
    /// dots.
    arrived: Vec<(Dot, SlotRef)>,
    /// Dots removed without a trace during this call. An outgoing session must end if it would hide one of them.
    hidden: SmallVec<[Dot; 2]>,
    /// True if another replica reported a write under this replica's id that this replica has not made.
    has_duplicate_id: bool,
    /// True if this replica has evicted or dropped values that other replicas may still hold.
    lossy: bool,
    /// The greatest time of a retired origin whose record was dropped. Writes of such an origin up to here will never
    /// arrive.
    retired_up_to: HlcTime,
    /// Cap checks to skip after an expensive scan.
    cap_checks_to_skip: usize,
    sweep: Option<Position>,
    quarantine: quarantine::Quarantine<K, V>,
    fills: fill::Fills,
}

impl<K: CoreKey, V> Ledger<K, V> {
    pub(crate) fn new(env: &Env) -> Self {
        Self {
            registers: Registers::new(env),
            vector: VersionVector::new(),
            dropped: VersionVector::new(),
            floor: Stamp::ZERO,
            last_own: 0,
            uncovered: Vec::new(),
            receiving: None,
            arrived: Vec::new(),
            hidden: SmallVec::new(),
            has_duplicate_id: false,
            lossy: false,
            retired_up_to: 0,
            cap_checks_to_skip: 0,
            sweep: None,
            quarantine: quarantine::Quarantine::default(),
            fills: fill::Fills::default(),
        }
    }

    /// Returns the number of own dots after this time that still belong to a register.
    pub(crate) fn count_after(&mut self, own: &ReplicaId, seen: HlcTime) -> u64 {
        let places = self.logs_mut().after(own, seen);
        let current = |(time, slot): &(HlcTime, SlotRef)| self.registers.dot_at(*slot) == Some(Dot::new(*own, *time));
        places.iter().filter(|place| current(place)).count() as u64
    }

    /// Takes over the state that outlives a change of the replica id. Requires that `before` holds no register any
    /// more.
    pub(crate) fn take_over(&mut self, before: &mut Self) {
        self.registers.take_over(&mut before.registers);
        self.fills = before.fills.without_holds();
    }

    /// Removes every register without raising a floor or the dropped vector.
    pub(crate) fn erase_everything(&mut self) {
        let mut from = Some(Position::default());
        while let Some(position) = from {
            let (page, next) = self.table().page(position, 512);
            page.iter().for_each(|held| self.registers.erase(held.slot, &held.meta, RemovalCause::Void));
            from = next;
        }
    }

    pub(crate) fn registers(&self) -> &Registers<K, V> {
        &self.registers
    }

    pub(crate) fn registers_mut(&mut self) -> &mut Registers<K, V> {
        &mut self.registers
    }

    /// Returns the table that readers share.
    pub(crate) fn table(&self) -> &Arc<Store<K, V>> {
        self.registers.table()
    }

    pub(crate) fn logs(&self) -> &log::Logs {
        &self.registers.logs
    }

    pub(crate) fn logs_mut(&mut self) -> &mut log::Logs {
        &mut self.registers.logs
    }

    pub(crate) fn tombstones(&self) -> &tombstones::Tombstones {
        &self.registers.tombstones
    }

    pub(crate) fn quarantine(&self) -> &quarantine::Quarantine<K, V> {
        &self.quarantine
    }

    /// Returns the numbers of values that were removed, by cause.
    pub(crate) fn removals(&self) -> changes::RemovalStats {
        self.registers.changes.removals
    }

    pub(crate) fn changes_mut(&mut self) -> &mut changes::Changes<K, V> {
        &mut self.registers.changes
    }

    /// Returns the version vector: per origin, the time up to which this replica has seen its writes.
    pub(crate) fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// Raises the vector entry of one origin. Returns true if the entry changed.
    pub(crate) fn raise(&mut self, origin: ReplicaId, time: HlcTime) -> bool {
        self.vector.raise(origin, time)
    }

    /// Returns, per origin, the highest dot time removed without a trace.
    pub(crate) fn dropped(&self) -> &VersionVector {
        &self.dropped
    }

    /// Returns the highest stamp of a tombstone that was removed without a trace.
    pub(crate) fn floor(&self) -> Stamp {
        self.floor
    }

    /// Returns the highest stamp of a value that was evicted without a trace, here or on a replica whose state was
    /// taken over.
    pub(crate) fn eviction_floor(&self) -> Stamp {
        self.registers.below_eviction.floor()
    }

    /// Returns, per origin, the last dot that was evicted without a trace.
    pub(crate) fn evicted(&self) -> &VersionVector {
        self.registers.below_eviction.evicted()
    }

    /// Returns the highest stamp of a register that was removed without a trace, whatever the reason.
    pub(crate) fn highest_floor(&self) -> Stamp {
        self.floor.max(self.eviction_floor())
    }

    /// Returns the epoch: registers stamped at or below it count as absent.
    pub(crate) fn epoch(&self) -> HlcTime {
        self.table().epoch()
    }

    /// Returns the time of the last dot that this replica issued.
    pub(crate) fn last_own(&self) -> HlcTime {
        self.last_own
    }

    /// Returns true if this replica has evicted or dropped values that other replicas may still hold.
    pub(crate) fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// Returns the kind of the incoming session, if there is one.
    pub(crate) fn receiving(&self) -> Option<Receiving> {
        self.receiving
    }

    pub(crate) fn set_receiving(&mut self, receiving: Option<Receiving>) {
        self.receiving = receiving;
    }

    /// Returns true if the list of registers placed outside of any claim is not empty.
    pub(crate) fn has_uncovered(&self) -> bool {
        !self.uncovered.is_empty()
    }

    /// Notes that registers were placed outside of any claim.
    pub(crate) fn note_uncovered(&mut self, places: impl IntoIterator<Item = SlotRef>) {
        self.uncovered.extend(places);
    }

    /// Notes a register that a push placed during an incoming reconcile, if it was not held under this dot before.
    pub(crate) fn note_arrived(&mut self, dot: Dot, slot: SlotRef) {
        self.arrived.push((dot, slot));
    }

    pub(crate) fn take_arrived(&mut self) -> Vec<(Dot, SlotRef)> {
        std::mem::take(&mut self.arrived)
    }

    /// Returns true if nothing here waits to be merged, claimed, sent or collected, and no stamp is remembered that may
    /// contest a fill.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.registers.tombstones.len() == 0
            && self.registers.retained.is_empty()
            && self.registers.contested_len() == 0
            && self.quarantine.len() == 0
            && self.uncovered.is_empty()
            && self.receiving.is_none()
            && !self.has_duplicate_id
    }

    /// Returns the bytes of evicted own writes that are kept to be sent.
    pub(crate) fn retained_bytes(&self) -> usize {
        self.registers.retained.bytes()
    }

    /// Returns the number of bodies that are kept to be sent, including those overwritten since.
    #[cfg(test)]
    pub(crate) fn retained_len(&self) -> usize {
        self.registers.retained.len()
    }

    /// Returns the number of entries of the expiry index, including stale ones.
    pub(crate) fn expiry_len(&self) -> usize {
        self.registers.expiry.len()
    }

    /// Returns the dots that were removed without a trace during this call. The caller that handles them clears them.
    pub(crate) fn hidden_mut(&mut self) -> &mut SmallVec<[Dot; 2]> {
        &mut self.hidden
    }

    /// Notes that another process used this replica's own id. Requests a new id if this replica's vector has not
    /// reached `time` under its id.
    pub(crate) fn note_duplicate_id(&mut self, env: &mut Env, time: HlcTime) {
        env.counters.duplicate_id += 1;
        self.has_duplicate_id |= time > self.vector.get(&env.id) && !env.is_ahead(time);
    }

    /// Notes that a member reported a second process under this replica's id.
    pub(crate) fn note_reported_duplicate(&mut self) {
        self.has_duplicate_id = true;
    }

    /// Returns true if a duplicate of this replica's id was reported since the last call of this function.
    pub(crate) fn take_has_duplicate_id(&mut self) -> bool {
        std::mem::take(&mut self.has_duplicate_id)
    }

    /// Issues the next dot of this replica.
    pub(crate) fn issue_dot(&mut self, env: &mut Env) -> Dot {
        // Floors and epoch are stamps of other replicas. A new dot must lie above them even if this replica's wall
        // clock is behind.
        env.clock.observe(self.highest_floor().time.max(self.epoch()));
        let time = env.tick();
        self.last_own = time;
        self.vector.raise(env.id, time);
        Dot::new(env.id, time)
    }

    /// Raises the floor that covers a register removed without a trace: the eviction floor if it ranks as a value,
    /// otherwise the floor.
    fn raise_floor_for(&mut self, env: &Env, kind: Kind, stamp: Stamp, dot: Dot) {
        if !kind.ranks_live() || env.bugs().eviction_voids {
            self.floor = self.floor.max(stamp);
        } else {
            self.registers.below_eviction.note_evicted(stamp, dot);
        }
    }

    /// Removes a register without a trace. Raises the floor and the dropped vector to record the removal.
    fn drop_register(&mut self, env: &Env, slot: SlotRef, meta: &Meta, why: RemovalCause) {
        let (stamp, dot) = (self.registers.stamp_of(meta), self.registers.dot_of(meta));
        self.raise_floor_for(env, meta.kind, stamp, dot);
        self.note_dropped(dot);
        self.registers.erase(slot, meta, why);
    }

    fn note_dropped(&mut self, dot: Dot) {
        self.dropped.raise(dot.actor, dot.counter);
        self.hidden.push(dot);
    }

    /// Drops the oldest tombstones by force while there are more than the cap. A member that has not seen them gets a
    /// reconcile.
    #[inline]
    pub(crate) fn enforce_cap(&mut self, env: &mut Env) {
        let excess = self.tombstones().len().saturating_sub(env.config.max_tombstones);
        if excess > 0 {
            self.drop_oldest(env, excess);
        }
    }

    fn drop_oldest(&mut self, env: &mut Env, excess: usize) {
        // Only tombstones that no claim covers yet make a scan long.
        if self.cap_checks_to_skip > 0 && !self.uncovered.is_empty() {
            self.cap_checks_to_skip -= 1;
            return;
        }
        let mut passed = 0;
        let droppable = self.tombstones().iter().filter_map(|(_, slot)| {
            passed += 1;
            let held = self.table().resolve(slot)?;
            self.vector.covers(&self.registers.dot_of(&held.meta)).then_some(held)
        });
        let oldest: Vec<_> = droppable.take(excess).collect();
        self.cap_checks_to_skip = passed / PASSED_PER_SKIPPED_CHECK;
        for held in oldest {
            if held.meta.retained {
                env.counters.evicted_unsent += 1;
            }
            env.counters.forced_drops += 1;
            self.lossy = true;
            // The tombstone is not stable: a fill that began without knowing it may still arrive.
            self.registers.note_lost(&held, held.meta.stamp_time);
            self.drop_register(env, held.slot, &held.meta, RemovalCause::Size);
        }
    }

    /// Replaces a held register with a `Void` tombstone stamped `stamp`.
    fn void_held(&mut self, env: &mut Env, held: &Snapshot<K, V>, stamp: Stamp, by: Provenance) {
        let marker = Marker { stamp, kind: Kind::Tombstone(Cause::Void), dot: self.issue_dot(env) };
        let placing = placing::Placing::without_body(held, marker);
        let placing = placing::Placing { expires: 0, arrival: env.arrival(by), ..placing };
        let void_counts_as_write = env.bugs().void_stands_for_write;
        self.registers.place_with(Some(held), placing, RemovalCause::Void, void_counts_as_write);
    }

    /// Gives a register a new dot of this replica, so that it spreads again. A register at or below the epoch is swept
    /// instead: its removal is reported to readers once, and no other replica needs it. Returns true if the register is
    /// still held.
    pub(crate) fn spread_again(&mut self, env: &mut Env, held: &Snapshot<K, V>) -> bool {
        let spreads = held.meta.stamp_time > self.epoch();
        if spreads {
            self.reissue(env, held);
        } else {
            epoch::sweep_register(self, env, held);
        }
        spreads
    }

    /// Gives a register a new dot of this replica.
    pub(crate) fn reissue(&mut self, env: &mut Env, held: &Snapshot<K, V>) {
        let dot = self.issue_dot(env);
        self.registers.reissue(held, dot);
    }

    /// Adopts the orphans: gives a new dot of this replica to each noted register whose dot the vector still does not
    /// cover. Orphans in doubt are adopted too, because an orphan may have overtaken a write that this replica claims
    /// by now. A session may have claimed that write with a part of the orphan's origin, a push may have claimed it
    /// meanwhile, or the orphan's place may have held it before. A delta without the orphan would claim the overtaken
    /// write to a member that holds an older value.
    pub(crate) fn adopt_orphans(&mut self, env: &mut Env) {
        for slot in std::mem::take(&mut self.uncovered) {
            let held = self.table().resolve(slot);
            let held = held.filter(|held| !self.vector.covers(&self.registers.dot_of(&held.meta)));
            if let Some(held) =
                held.as_ref().filter(|held| env.bugs().doubtful_orphans_erased && self.is_miss_in_doubt(held))
            {
                self.registers.erase(held.slot, &held.meta, RemovalCause::Size);
                continue;
            }
            if let Some(held) = held.filter(|_| !env.bugs().no_adoption) {
                env.counters.adopted += u64::from(self.spread_again(env, &held));
            }
        }
    }

    /// Returns true if a register is in doubt and has neither a value nor a retained body to spread.
    fn is_miss_in_doubt(&self, held: &Snapshot<K, V>) -> bool {
        held.meta.kind == Kind::Tombstone(Cause::Evicted) && !held.meta.retained && self.is_in_doubt(held)
    }

    /// Returns true if a register is in doubt: it does not prove which write is the newest, so a reconcile must not
    /// list it.
    pub(crate) fn is_in_doubt(&self, held: &Snapshot<K, V>) -> bool {
        self.registers.below_eviction.is_in_doubt(held.slot)
    }

    /// Notes writes of another replica that are not merged, and voids the fills that they contest.
    pub(crate) fn note_unmerged(&mut self, env: &mut Env, entries: &[Entry<K, V>]) {
        for write in entries.iter().filter_map(contester) {
            if env.bugs().heard_stands_for_lost {
                self.registers.contests.note_loser(write.0, write.1, write.1.time);
            } else {
                self.registers.contests.note_unmerged(write.0, write.1);
            }
            fill::contest(self, env, Some(write));
        }
    }

    /// Returns the bounds of the fills among these entries.
    pub(crate) fn fill_notes(&self, entries: &[Entry<K, V>]) -> Vec<FillNote> {
        self.registers.fill_notes(entries)
    }

    /// Returns the register of a key.
    pub(crate) fn find(&self, hash: u64, key: &Key<K>) -> Option<Snapshot<K, V>> {
        self.registers.find(hash, key)
    }

    /// Drops the record of a retired origin. The time `own` of this replica stands for the origin's dropped time; it is
    /// zero if nothing of the origin was dropped.
    pub(crate) fn forget_origin(&mut self, env: &mut Env, origin: ReplicaId, own: HlcTime) {
        // Registers of the origin are adopted first: without its record no delta would list them under the old dots.
        for (time, slot) in self.registers.logs.after(&origin, 0) {
            if let Some(held) = self.registers.holder(Dot::new(origin, time), slot) {
                self.spread_again(env, &held);
            }
        }
        // A late message of this origin will look unseen. That needs no floor of its own. A register missing here was
        // removed below one of the floors, or by a reconcile whose sender's floors were taken over.
        self.retired_up_to = self.retired_up_to.max(self.vector.get(&origin));
        self.vector.remove(&origin);
        self.dropped.remove(&origin);
        self.dropped.raise(env.id, own);
        self.registers.below_eviction.forget_evicted_of(&origin, (env.id, own));
        self.registers.logs.remove(&origin);
    }
}
