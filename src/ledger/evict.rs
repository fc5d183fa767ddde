//! Eviction: local to this replica. Other replicas keep their values.

use super::changes::RemovalCause;
use super::{Ledger, expiry, fill};
use crate::crdt::{Cause, Dot, Kind, Marker};
use crate::env::Env;
use crate::item::CoreKey;
use crate::members::Members;
use crate::store::{SlotRef, Snapshot};

/// The result of an eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// The register was stable and was removed without a trace.
    Gone,
    /// An `Evicted` or `Expired` tombstone replaced the value.
    Tombstone,
    /// The place held no value.
    Nothing,
}

/// The room that a call makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The weight that the live values may have.
    pub(crate) capacity: u64,
    /// The most values that the call removes.
    pub(crate) most: usize,
}

/// Removes values until the live values are within the capacity: the value whose time ended first, or else the value in
/// the place that `next` returns.
pub(crate) fn make_room<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    members: &Members,
    room: Room,
    mut next: impl FnMut() -> Option<SlotRef>,
) {
    let mut removed = 0;
    while removed < room.most && ledger.registers.values().weight > room.capacity {
        if !expiry::expire_first(ledger, env) {
            let Some(slot) = next() else { break };
            // A place without a value is one that this call has expired. It is out of the order by now.
            if evict(ledger, env, members, slot) == Evicted::Nothing {
                continue;
            }
        }
        removed += 1;
    }
}

/// Evicts the value in a place to stay within capacity. Other replicas keep theirs. A value whose time has ended
/// expires instead.
pub(crate) fn evict<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    members: &Members,
    slot: SlotRef,
) -> Evicted {
    let Some(meta) = ledger.table().meta(slot).filter(|meta| meta.kind.is_live()) else {
        return Evicted::Nothing;
    };
    if meta.is_expired_by(env.now.wall) {
        if let Some(held) = ledger.table().resolve(slot) {
            ledger.registers.make_expired(env, &held);
        }
        return Evicted::Tombstone;
    }
    ledger.lossy = true;
    env.timings.evicted.record(env.judging().saturating_sub(meta.stamp_time));
    if env.bugs().evict_without_tombstone {
        ledger.registers.erase(slot, &meta, RemovalCause::Size);
        return Evicted::Gone;
    }
    let marker = ledger.registers.marker_of(&meta);
    if may_go_without_trace(ledger, members, marker) {
        env.counters.evicted_stable += 1;
        // No member has seen this register. A fill that arrives later may have begun before it was written.
        if members.is_empty() {
            ledger.registers.contests.note_evicted_alone(marker.stamp);
        }
        ledger.drop_register(env, slot, &meta, RemovalCause::Size);
        return Evicted::Gone;
    }
    env.counters.evicted_unstable += 1;
    if let Some(held) = ledger.table().resolve(slot) {
        leave_trace(ledger, env, members, &held);
    }
    Evicted::Tombstone
}

/// Evicts a value that some member may not have seen: keeps its body if it is still to be sent.
fn leave_trace<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, members: &Members, held: &Snapshot<K, V>) {
    if is_unsent(env, members, ledger.registers.dot_of(&held.meta)) {
        retain(ledger, env, held);
    } else {
        ledger.registers.make_tombstone(held, Cause::Evicted, RemovalCause::Size);
    }
}

/// Returns true if the dot is an own write that some live member has not reported.
fn is_unsent(env: &Env, members: &Members, dot: Dot) -> bool {
    dot.actor == env.id && dot.counter > members.held_by_all_live(env)
}

/// Evicts an own write for readers, and keeps its body until every live member has reported it.
fn retain<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, held: &Snapshot<K, V>) {
    if ledger.retained_bytes() + held.meta.size as usize > env.config.max_retained_bytes {
        env.counters.evicted_unsent += 1;
        ledger.registers.make_tombstone(held, Cause::Evicted, RemovalCause::Size);
        return;
    }
    let marker = Marker { kind: Kind::Tombstone(Cause::Evicted), ..ledger.registers.marker_of(&held.meta) };
    ledger.registers.place_retained(held, marker);
}

/// Returns true if evicting the register may leave no trace: it is stable, or this replica has no members.
fn may_go_without_trace<K: CoreKey, V>(ledger: &Ledger<K, V>, members: &Members, marker: Marker) -> bool {
    let Marker { stamp, dot, .. } = marker;
    // While a session comes in, its entries are not claimed yet. While the first member is awaited, members may hold
    // older writes that have not arrived.
    if !ledger.vector.covers(&dot) || ledger.receiving.is_some() || members.awaits_first_member() {
        return false;
    }
    if members.is_empty() {
        // No other replica writes. A fill that begins later is stamped above the floor, so only running fills matter.
        return fill::lowest(ledger).is_none_or(|fill| stamp.time < fill);
    }
    members.cut().covers(stamp, dot)
}
