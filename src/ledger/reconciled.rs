//! The end of a reconcile: what its sender does not have, and may have had a reason for, goes.

use super::Ledger;
use super::changes::RemovalCause;
use crate::crdt::{Cause, Dot, VersionVector};
use crate::env::Env;
use crate::hlc::Stamp;
use crate::item::CoreKey;
use crate::learnt::LearntBy;
use crate::message::Last;
use crate::store::{SlotRef, Snapshot};

use std::collections::BTreeMap;

/// What a reconcile says at its end.
pub(crate) struct Verdict<'a> {
    last: &'a Last,
    /// What its sender has seen.
    seen: VersionVector,
    /// All that its sender has evicted without a trace has been seen here.
    knew: bool,
}

impl<'a> Verdict<'a> {
    pub(crate) fn new<K: CoreKey, V>(ledger: &Ledger<K, V>, env: &Env, last: &'a Last) -> Self {
        let mut seen = last.claim.clone();
        seen.join(&last.beyond);
        let told = last.eviction_floor == Stamp::ZERO || !last.evicted.is_empty();
        let knew = told && (ledger.vector.dominates(&last.evicted) || env.bugs().evictions_spared_unseen);
        Self { last, seen, knew }
    }
}

/// Removes what the reconcile did not list although its sender had seen it, but for what only an eviction can explain if
/// we knew what was evicted. Each removal raises our dropped time, so that nobody gets a delta from us that hides it.
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
            // Deleted there, or evicted: that is no reason to void it for others once it comes again.
            ledger.raise_floor_for(env, held.meta.kind, stamp, dot);
        }
        ledger.registers.erase(&held, RemovalCause::Reconcile);
    }
}

/// What the sender has not seen and what lies at or below its floor may have been overwritten or deleted by something it
/// collected. If we knew what the sender has evicted, nothing is in doubt that its gc floor does not void as well.
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
        if ledger.is_unlistable(&held) && !env.bugs().doubts_voided {
            continue; // It decides nothing, and lets nothing past that the floors would not.
        }
        // A tombstone below the floor too: standing there it would let an older write past it.
        let stamp = ledger.registers.stamp_of(&held.meta);
        if vouched.get(&slot) == Some(&stamp) || (end.knew && floor < stamp && stamp <= doubtful) {
            env.counters.reconcile_spared += 1;
            continue;
        }
        if stamp <= doubtful {
            doubt(ledger, env, &held);
        } else if stamp < floor || (stamp == floor && held.meta.kind.ranks_live()) {
            env.counters.reconcile_voided += 1;
            ledger.void_held(env, &held, floor, LearntBy::Reconcile);
        }
    }
}

/// Something newer than this register may have been evicted, or deleted, by the sender of a reconcile. It is not voided: only what
/// this replica claims has changed, and others may know better. Nor may it be passed on as the newest that is known, whether or
/// not this replica takes over what the sender has evicted.
fn doubt<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, held: &Snapshot<K, V>) {
    if held.meta.kind.is_live() {
        env.counters.reconcile_doubted += 1;
        ledger.lossy = true;
        let stamp = ledger.registers.stamp_of(&held.meta);
        let slot = ledger.registers.bury(held, Cause::Evicted, RemovalCause::Reconcile);
        if !env.bugs().doubts_listed {
            ledger.registers.below_eviction.doubt(slot, stamp);
        }
    }
}

/// What is claimed now includes what the sender has evicted, unless we knew that.
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

/// Adopts the sender's dropped times, each up to the time that this replica claims of the origin. Beyond that this replica
/// claims nothing that could mislead a receiver, and would wait for ever for a retired origin whose record is gone.
pub(crate) fn take_dropped<K, V>(ledger: &mut Ledger<K, V>, env: &Env, dropped: &VersionVector, floor: Stamp) {
    for (origin, time) in dropped.iter() {
        let claimed = ledger.vector.get(&origin);
        if claimed >= time || !env.bugs().dropped_beyond_claim_left {
            ledger.dropped.raise(origin, time.min(claimed));
        }
    }
    take_floor(ledger, floor);
}

/// Takes over a floor.
pub(crate) fn take_floor<K, V>(ledger: &mut Ledger<K, V>, floor: Stamp) {
    ledger.floor = ledger.floor.max(floor);
}
