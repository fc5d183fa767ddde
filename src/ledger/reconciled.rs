//! The end of a reconcile. It removes registers that the sender has seen and did not list. It voids registers that the
//! sender has not seen, or puts them in doubt, if the sender may have removed a newer register of their keys without a
//! trace.

use super::Ledger;
use super::changes::RemovalCause;
use crate::arrival::Provenance;
use crate::crdt::{Cause, Dot, VersionVector};
use crate::env::Env;
use crate::hlc::Stamp;
use crate::item::CoreKey;
use crate::message::Last;
use crate::store::{SlotRef, Snapshot};

use std::collections::BTreeMap;

/// The final statement of a reconcile, as this replica judges it.
pub(crate) struct Verdict<'a> {
    last: &'a Last,
    /// The dots that the sender has seen.
    seen: VersionVector,
    /// True if this replica has seen all dots that the sender has evicted without a trace.
    knew: bool,
}

impl<'a> Verdict<'a> {
    pub(crate) fn new<K: CoreKey, V>(ledger: &Ledger<K, V>, env: &Env, last: &'a Last) -> Self {
        let mut seen = last.claim.clone();
        seen.join(&last.beyond);
        // A sender with an eviction floor but no evicted dots does not say which dots it has evicted.
        let told = last.eviction_floor == Stamp::ZERO || !last.evicted.is_empty();
        let knew = told && (ledger.vector.dominates(&last.evicted) || env.bugs().evictions_spared_unseen);
        Self { last, seen, knew }
    }
}

/// Removes the registers that the reconcile did not list although its sender had seen them. If this replica knew what
/// the sender has evicted, it spares registers that only an eviction at the sender can have kept off the list. Each
/// removal raises the dropped vector, so that this replica sends no delta that hides it. `end` is `None` only if a
/// known mistake is put back.
pub(crate) fn remove_unlisted<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    unlisted: impl IntoIterator<Item = (Dot, SlotRef)>,
    end: Option<&Verdict<'_>>,
) {
    for (dot, slot) in unlisted {
        let Some(held) = ledger.registers.holder(dot, slot) else { continue };
        if end.is_some_and(|end| !end.seen.covers(&dot)) {
            continue;
        }
        let stamp = ledger.registers.stamp_of(&held.meta);
        if end.is_some_and(|end| end.knew && stamp > end.last.floor) {
            env.counters.reconcile_spared += 1;
            continue;
        }
        env.counters.reconcile_removed += 1;
        ledger.lossy = true;
        ledger.registers.note_lost(&held, stamp.time);
        if !env.bugs().reconcile_hides_removals {
            ledger.note_dropped(dot);
        }
        if env.bugs().floor_rises_with_removals {
            ledger.floor = ledger.floor.max(stamp);
        }
        let evictable = held.meta.kind.ranks_live() && end.is_some_and(|end| stamp <= end.last.eviction_floor);
        if evictable && !env.bugs().removals_void {
            // The sender has deleted or evicted it. As it may be evicted, the register must be put in doubt and not
            // voided for all replicas when it arrives again.
            ledger.raise_floor_for(env, held.meta.kind, stamp, dot);
        }
        ledger.registers.erase(held.slot, &held.meta, RemovalCause::Reconcile);
    }
}

/// Voids registers that the sender has not seen, or puts them in doubt, if they are at or below one of its floors. A
/// register that the sender collected may have overwritten or deleted them. If this replica knew what the sender has
/// evicted, it puts in doubt only registers that are also at or below the sender's gc floor.
pub(crate) fn void_unknown<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    end: &Verdict<'_>,
    vouched: &BTreeMap<SlotRef, Stamp>,
) {
    let (floor, doubtful) = (end.last.floor, end.last.eviction_floor);
    if env.bugs().no_final_void {
        return;
    }
    let mut suspects = Vec::new();
    for (origin, log) in ledger.registers.logs.iter_mut() {
        let from = end.seen.get(origin);
        suspects.extend(log.after(from).map(|(time, slot)| (Dot::new(*origin, time), slot)));
    }
    for (dot, slot) in suspects {
        let Some(held) = ledger.registers.holder(dot, slot) else { continue };
        if ledger.is_in_doubt(&held) && !env.bugs().doubts_voided {
            continue; // In doubt already: it decides nothing for other replicas, and the floors still cover its key.
        }
        // Tombstones below the floor are voided too: an old one would let in a write stamped between it and the floor.
        let stamp = ledger.registers.stamp_of(&held.meta);
        if vouched.get(&slot) == Some(&stamp) || (end.knew && floor < stamp && stamp <= doubtful) {
            env.counters.reconcile_spared += 1;
            continue;
        }
        if stamp <= doubtful {
            doubt(ledger, env, &held);
        } else if stamp < floor || (stamp == floor && held.meta.kind.ranks_live()) {
            env.counters.reconcile_voided += 1;
            ledger.void_held(env, &held, floor, Provenance::Reconcile);
        }
    }
}

/// Replaces a value by an `Evicted` tombstone in doubt: the sender of a reconcile may have evicted or deleted a newer
/// one. A void would remove the value from all replicas. But the reconcile has changed only the claims of this replica,
/// and other replicas may know that the value is the newest. This replica must not list the register as the newest
/// known write either. Both rules, no void and no listing, apply even if this replica does not take over the sender's
/// evictions. Leaves a tombstone as it is: [`take_evictions`] puts it in doubt if the evictions are taken over.
fn doubt<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, held: &Snapshot<K, V>) {
    if held.meta.kind.is_live() {
        env.counters.reconcile_doubted += 1;
        ledger.lossy = true;
        let stamp = ledger.registers.stamp_of(&held.meta);
        let slot = ledger.registers.make_tombstone(held, Cause::Evicted, RemovalCause::Reconcile);
        if !env.bugs().doubts_listed {
            ledger.registers.below_eviction.doubt(slot, stamp);
        }
    }
}

/// Takes over the sender's eviction floor and evicted dots, because this replica now claims those dots. Does nothing if
/// this replica had seen all of them.
pub(crate) fn take_evictions<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, end: &Verdict<'_>) {
    if end.knew {
        return;
    }
    let floor = end.last.eviction_floor;
    if floor > Stamp::ZERO {
        env.counters.evictions_taken += 1;
    }
    let below = ledger.registers.tombstones.iter().take_while(|(time, _)| *time <= floor.time).map(|(_, slot)| slot);
    ledger.registers.below_eviction.take_over(floor, &end.last.evicted, below);
}

/// Adopts the sender's dropped times, each up to the time that this replica claims of the origin. Above that time this
/// replica claims nothing that could mislead a receiver. Moreover, the origin may be retired and its record gone. No
/// member could then reach a higher dropped time, and if it were adopted, each member would get reconciles without end.
pub(crate) fn take_dropped<K, V>(ledger: &mut Ledger<K, V>, env: &Env, dropped: &VersionVector, floor: Stamp) {
    for (origin, time) in dropped.iter() {
        let claimed = ledger.vector.get(&origin);
        if claimed >= time || !env.bugs().dropped_beyond_claim_left {
            ledger.dropped.raise(origin, time.min(claimed));
        }
    }
    take_floor(ledger, floor);
}

/// Raises the floor to the sender's floor.
pub(crate) fn take_floor<K, V>(ledger: &mut Ledger<K, V>, floor: Stamp) {
    ledger.floor = ledger.floor.max(floor);
}
