//! The data of a replica: its registers, the times up to which it has seen each origin, and the floors below which it
//! removed registers without a trace.
//!
//! | file | owns, or does |
//! | --- | --- |
//! | this one | vector, floor and dropped times; removal without a trace, the cap of tombstones, adoption |
//! | `registers` | the table and every index over it: the one place where a register changes |
//! | `log`, `tombstones`, `expiry`, `origins` | the indexes: where the dots of an origin are, what is dead, what expires, ids as numbers |
//! | `below_eviction` | the second floor, and what is in doubt below it |
//! | `contests` | what fills above something young must lose against |
//! | `changes` | how what readers see has changed |
//! | `quarantine`, `released` | what comes from the future and waits, and what becomes of it |
//! | `local`, `evict`, `fill`, `epoch` | what the user of this replica does |
//! | `merge` | how an entry of another replica joins what is here |
//! | `reconciled` | what the end of a reconcile removes, voids and doubts |
//! | `collect`, `retire` | the end of tombstones and of retired origins |
//! | `validate` | every index against the registers |

use smallvec::SmallVec;

use crate::crdt::{Cause, Dot, Kind, Marker, VersionVector};
use crate::env::Env;
use crate::hlc::{HlcTime, Stamp};
use crate::item::{CoreKey, Key};
use crate::learnt::LearntBy;
use crate::message::{Entry, FillNote};
use crate::replica_id::ReplicaId;
use crate::store::{Position, SlotRef, Snapshot, Store};
use crate::sync::Arc;

mod below_eviction;
pub mod changes;
pub(crate) mod collect;
mod contests;
pub(crate) mod epoch;
pub(crate) mod evict;
mod expiry;
pub(crate) mod fill;
pub(crate) mod local;
pub(crate) mod log;
pub(crate) mod merge;
mod origins;
pub(crate) mod quarantine;
pub(crate) mod reconciled;
pub(crate) mod registers;
pub(crate) mod released;
pub(crate) mod retire;
pub(crate) mod tombstones;
mod validate;

pub(crate) use contests::contester;
pub(crate) use expiry::{expire_due, next_expiry_in};
pub(crate) use validate::validate;

use changes::RemovalCause;
use registers::Registers;

/// Tombstones that a session has brought and not yet claimed cannot be dropped. Passing by so many of them is paid for with
/// one call that does not look: the cap is exceeded by so small a part of them, and a write costs the same as ever.
const PASSED_PER_REST: usize = 64;

/// The session that is being received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiving {
    /// Entries that this replica lacks.
    Delta,
    /// Everything that its sender holds.
    Reconcile,
}

/// The data of one replica.
pub(crate) struct Ledger<K, V> {
    registers: Registers<K, V>,
    /// The times up to which this replica has seen each origin.
    vector: VersionVector,
    /// Origin -> highest dot time removed without a trace.
    dropped: VersionVector,
    /// The highest stamp of a tombstone removed without a trace.
    floor: Stamp,
    /// The time of the last dot of our own.
    last_own: HlcTime,
    /// Registers whose dot our vector does not cover, placed outside of any claim.
    uncovered: Vec<SlotRef>,
    /// The kind of session that comes in. Collection and eviction leave its entries alone until it is claimed.
    receiving: Option<Receiving>,
    /// What pushes have put in place where frames of a reconcile may have been before them.
    arrived: Vec<(Dot, SlotRef)>,
    /// Dots removed without a trace in this call: sessions that go out must not hide them.
    hidden: SmallVec<[Dot; 2]>,
    /// Somebody knows of a write under our id that we have not made.
    is_cloned: bool,
    /// Whether values were given up here that others may still hold.
    lossy: bool,
    /// The greatest time of a retired origin whose record was dropped: what it stood for is lacked for good.
    retired_up_to: HlcTime,
    /// So many times the cap of tombstones is not looked at, after that took long.
    cap_rests: usize,
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
            is_cloned: false,
            lossy: false,
            retired_up_to: 0,
            cap_rests: 0,
            sweep: None,
            quarantine: quarantine::Quarantine::default(),
            fills: fill::Fills::default(),
        }
    }

    /// How many own dots after this time still stand for something.
    pub(crate) fn count_after(&mut self, own: &ReplicaId, seen: HlcTime) -> u64 {
        let places = self.logs_mut().after(own, seen);
        let current = |(time, slot): &(HlcTime, SlotRef)| self.registers.dot_at(*slot) == Some(Dot::new(*own, *time));
        places.iter().filter(|place| current(place)).count() as u64
    }

    /// For a replica that begins anew: takes over what outlives it. Every register has to be gone.
    pub(crate) fn take_over(&mut self, before: &mut Self) {
        self.registers.take_over(&mut before.registers);
        self.fills = before.fills.without_holds();
    }

    /// Removes every register, and tells nobody.
    pub(crate) fn erase_everything(&mut self) {
        let mut from = Some(Position::default());
        while let Some(position) = from {
            let (page, next) = self.table().page(position, 512);
            page.iter().for_each(|held| self.registers.erase(held, RemovalCause::Void));
            from = next;
        }
    }

    pub(crate) fn registers(&self) -> &Registers<K, V> {
        &self.registers
    }

    pub(crate) fn registers_mut(&mut self) -> &mut Registers<K, V> {
        &mut self.registers
    }

    /// The table that readers share.
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

    /// Values that are no longer here, by cause.
    pub(crate) fn removals(&self) -> changes::RemovalStats {
        self.registers.changes.removals
    }

    pub(crate) fn changes_mut(&mut self) -> &mut changes::Changes<K, V> {
        &mut self.registers.changes
    }

    /// What has been seen, by origin.
    pub(crate) fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// Raises what has been seen of one origin. Returns whether that is news.
    pub(crate) fn raise(&mut self, origin: ReplicaId, time: HlcTime) -> bool {
        self.vector.raise(origin, time)
    }

    /// Origin -> highest dot time removed without a trace.
    pub(crate) fn dropped(&self) -> &VersionVector {
        &self.dropped
    }

    /// The highest stamp of a tombstone that was removed without a trace.
    pub(crate) fn floor(&self) -> Stamp {
        self.floor
    }

    /// The highest stamp of a value that was evicted here without a trace, or by a replica whose state was taken over.
    pub(crate) fn eviction_floor(&self) -> Stamp {
        self.registers.below_eviction.floor()
    }

    /// By origin, the last dot that was evicted without a trace.
    pub(crate) fn evicted(&self) -> &VersionVector {
        self.registers.below_eviction.evicted()
    }

    /// The highest stamp that left without a trace, for whatever reason.
    pub(crate) fn highest_floor(&self) -> Stamp {
        self.floor.max(self.eviction_floor())
    }

    /// Whatever is stamped at or below this is gone.
    pub(crate) fn epoch(&self) -> HlcTime {
        self.table().epoch()
    }

    /// The time of the last dot of our own.
    pub(crate) fn last_own(&self) -> HlcTime {
        self.last_own
    }

    /// Whether values were given up here that others may still hold.
    pub(crate) fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// What is being received.
    pub(crate) fn receiving(&self) -> Option<Receiving> {
        self.receiving
    }

    pub(crate) fn set_receiving(&mut self, receiving: Option<Receiving>) {
        self.receiving = receiving;
    }

    /// Whether some register is held that nobody can be told of yet.
    pub(crate) fn has_uncovered(&self) -> bool {
        !self.uncovered.is_empty()
    }

    /// Registers were placed outside of any claim.
    pub(crate) fn note_uncovered(&mut self, places: impl IntoIterator<Item = SlotRef>) {
        self.uncovered.extend(places);
    }

    /// A push has put this in place while a reconcile is received, and had not been seen.
    pub(crate) fn note_arrived(&mut self, dot: Dot, slot: SlotRef) {
        self.arrived.push((dot, slot));
    }

    pub(crate) fn take_arrived(&mut self) -> Vec<(Dot, SlotRef)> {
        std::mem::take(&mut self.arrived)
    }

    /// Bytes of evicted own writes that are kept to be sent.
    pub(crate) fn retained_bytes(&self) -> usize {
        self.registers.retained.bytes()
    }

    /// Bodies that are kept to be sent, those included that were overwritten since.
    #[cfg(test)]
    pub(crate) fn retained_len(&self) -> usize {
        self.registers.retained.len()
    }

    /// Entries of the expiry index, stale ones included.
    pub(crate) fn expiry_len(&self) -> usize {
        self.registers.expiry.len()
    }

    /// The dots that were removed without a trace in this call. Whoever has seen to them clears them.
    pub(crate) fn hidden_mut(&mut self) -> &mut SmallVec<[Dot; 2]> {
        &mut self.hidden
    }

    /// Something was said under our own id that we did not say. It calls for a new one if we have not got to `time`.
    pub(crate) fn note_clone(&mut self, env: &mut Env, time: HlcTime) {
        env.counters.cloned_id += 1;
        self.is_cloned |= time > self.vector.get(&env.id) && !env.is_ahead(time);
    }

    /// A member says that another process goes by our id.
    pub(crate) fn note_told_of_clone(&mut self) {
        self.is_cloned = true;
    }

    /// Whether somebody has said so since this was last asked.
    pub(crate) fn take_is_cloned(&mut self) -> bool {
        std::mem::take(&mut self.is_cloned)
    }

    /// A new dot of our own.
    pub(crate) fn issue_dot(&mut self, env: &mut Env) -> Dot {
        // Above floor and epoch, which are stamps that were seen, whatever our wall clock says.
        env.clock.observe(self.highest_floor().time.max(self.epoch()));
        let time = env.tick();
        self.last_own = time;
        self.vector.raise(env.id, time);
        Dot::new(env.id, time)
    }

    /// Raises the floor that speaks of a register which leaves without a trace.
    fn raise_floor_for(&mut self, env: &Env, kind: Kind, stamp: Stamp, dot: Dot) {
        if !kind.ranks_live() || env.bugs().eviction_voids {
            self.floor = self.floor.max(stamp);
        } else {
            self.registers.below_eviction.note_evicted(stamp, dot);
        }
    }

    /// Removes a register without a trace: floor and dropped vector say so.
    fn drop_register(&mut self, env: &Env, held: &Snapshot<K, V>, why: RemovalCause) {
        let (stamp, dot) = (self.registers.stamp_of(&held.meta), self.registers.dot_of(&held.meta));
        self.raise_floor_for(env, held.meta.kind, stamp, dot);
        self.note_dropped(dot);
        self.registers.erase(held, why);
    }

    fn note_dropped(&mut self, dot: Dot) {
        self.dropped.raise(dot.actor, dot.counter);
        self.hidden.push(dot);
    }

    /// Drops the oldest tombstones by force once there are more than the cap. Whoever missed them
    /// gets a reconcile.
    #[inline]
    pub(crate) fn enforce_cap(&mut self, env: &mut Env) {
        let excess = self.tombstones().len().saturating_sub(env.config.max_tombstones);
        if excess > 0 {
            self.drop_oldest(env, excess);
        }
    }

    fn drop_oldest(&mut self, env: &mut Env, excess: usize) {
        if self.cap_rests > 0 && !self.uncovered.is_empty() {
            self.cap_rests -= 1;
            return;
        }
        let mut passed = 0;
        let droppable = self.tombstones().iter().filter_map(|(_, slot)| {
            passed += 1;
            let held = self.table().resolve(slot)?;
            self.vector.covers(&self.registers.dot_of(&held.meta)).then_some(held)
        });
        let oldest: Vec<_> = droppable.take(excess).collect();
        self.cap_rests = passed / PASSED_PER_REST;
        for held in oldest {
            if held.meta.retained {
                env.counters.evicted_unsent += 1;
            }
            env.counters.forced_drops += 1;
            self.lossy = true;
            // Not stable, so a fill may come that began without knowing of it.
            self.registers.note_lost(&held, held.meta.stamp_time);
            self.drop_register(env, &held, RemovalCause::Size);
        }
    }

    /// Voids a register that is here, at `stamp`.
    fn void_held(&mut self, env: &mut Env, held: &Snapshot<K, V>, stamp: Stamp, by: LearntBy) {
        let marker = Marker { stamp, kind: Kind::Tombstone(Cause::Void), dot: self.issue_dot(env) };
        let placing = Registers::tombstone_for(held, marker);
        let placing = registers::Placing { expires: 0, learnt: env.learnt(by), ..placing };
        self.registers.place(Some(held), placing, RemovalCause::Void);
    }

    /// Gives a register a dot of ours. What an epoch has made absent goes instead, as if it were swept now: it
    /// is told of once, and nobody else need hear of it. Returns whether it is still here.
    pub(crate) fn spread_again(&mut self, env: &mut Env, held: &Snapshot<K, V>) -> bool {
        let spreads = held.meta.stamp_time > self.epoch();
        if spreads {
            self.reissue(env, held);
        } else {
            epoch::sweep_register(self, env, held);
        }
        spreads
    }

    /// Gives a register a dot of ours.
    pub(crate) fn reissue(&mut self, env: &mut Env, held: &Snapshot<K, V>) {
        let dot = self.issue_dot(env);
        self.registers.reissue(held, dot);
    }

    /// Gives every register whose dot our vector still does not cover a dot of ours, so that it
    /// spreads again.
    pub(crate) fn adopt_orphans(&mut self, env: &mut Env) {
        for slot in std::mem::take(&mut self.uncovered) {
            let held = self.table().resolve(slot);
            let held = held.filter(|held| !self.vector.covers(&self.registers.dot_of(&held.meta)));
            if let Some(held) = held.as_ref().filter(|held| self.is_miss_in_doubt(held)) {
                // Nothing is claimed of it and the eviction floor stands for it. Under a dot of ours it would go round: a
                // reconcile hides it, and its next receiver adopts it again.
                self.registers.erase(held, RemovalCause::Size);
                continue;
            }
            if let Some(held) = held.filter(|_| !env.bugs().no_adoption) {
                env.counters.adopted += u64::from(self.spread_again(env, &held));
            }
        }
    }

    /// Whether a register is in doubt and has no value and no tombstone to spread either.
    fn is_miss_in_doubt(&self, held: &Snapshot<K, V>) -> bool {
        held.meta.kind == Kind::Tombstone(Cause::Evicted) && !held.meta.retained && self.is_unlistable(held)
    }

    /// Whether a register says nothing about what is newest, so that a reconcile must not list it.
    pub(crate) fn is_unlistable(&self, held: &Snapshot<K, V>) -> bool {
        self.registers.below_eviction.is_in_doubt(held.slot)
    }

    /// Writes of another replica that are not merged: fills that began before them must hear of them.
    pub(crate) fn hear_of(&mut self, env: &mut Env, entries: &[Entry<K, V>]) {
        for write in entries.iter().filter_map(contester) {
            if env.bugs().heard_stands_for_lost {
                self.registers.contests.note_loser(write.0, write.1, write.1.time);
            } else {
                self.registers.contests.note_heard(write.0, write.1);
            }
            fill::contest(self, env, Some(write));
        }
    }

    /// The bounds of the fills among these entries.
    pub(crate) fn fill_notes(&self, entries: &[Entry<K, V>]) -> Vec<FillNote> {
        self.registers.fill_notes(entries)
    }

    /// What a key holds.
    pub(crate) fn find(&self, hash: u64, key: &Key<K>) -> Option<Snapshot<K, V>> {
        self.registers.find(hash, key)
    }

    /// Drops what is known of an origin that is retired; this own time stands for it.
    pub(crate) fn forget_origin(&mut self, env: &mut Env, origin: ReplicaId, own: HlcTime) {
        for (time, slot) in self.registers.logs.after(&origin, 0) {
            if let Some(held) = self.registers.holder(Dot::new(origin, time), slot) {
                self.spread_again(env, &held);
            }
        }
        // A late message of this origin will look unseen. That needs no floor of its own: whatever is missing here left
        // below one of the floors, or with a reconcile, whose sender's floors were taken over.
        self.retired_up_to = self.retired_up_to.max(self.vector.get(&origin));
        self.vector.remove(&origin);
        self.dropped.remove(&origin);
        self.dropped.raise(env.id, own);
        self.registers.below_eviction.forget_evicted_of(&origin, (env.id, own));
        self.registers.logs.remove(&origin);
    }
}
