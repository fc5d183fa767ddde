//! Eviction: local, and without harm to what other replicas hold.

use super::changes::RemovalCause;
use super::{Ledger, fill};
use crate::crdt::{Cause, Dot, Kind, Marker};
use crate::env::Env;
use crate::item::CoreKey;
use crate::members::Members;
use crate::store::{SlotRef, Snapshot};

/// What an eviction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// The register was stable and is gone.
    Gone,
    /// An `Evicted` tombstone stands for it.
    Tombstone,
    /// There was no value.
    Nothing,
}

/// Gives up the value in a place to stay within capacity. Local: other replicas keep theirs.
pub(crate) fn evict<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    members: &Members,
    slot: SlotRef,
) -> Evicted {
    let Some(held) = ledger.table().resolve(slot).filter(|held| held.meta.kind.is_live()) else {
        return Evicted::Nothing;
    };
    ledger.lossy = true;
    if env.bugs().evict_without_tombstone {
        ledger.registers.erase(&held, RemovalCause::Size);
        return Evicted::Gone;
    }
    let marker = ledger.registers.marker_of(&held.meta);
    if may_go_without_trace(ledger, members, marker) {
        env.counters.evicted_stable += 1;
        if members.is_empty() {
            ledger.registers.contests.note_evicted_alone(marker.stamp);
        }
        ledger.drop_register(env, &held, RemovalCause::Size);
        return Evicted::Gone;
    }
    env.counters.evicted_unstable += 1;
    if is_unsent(env, members, marker.dot) {
        retain(ledger, env, &held);
    } else {
        ledger.registers.bury(&held, Cause::Evicted, RemovalCause::Size);
    }
    Evicted::Tombstone
}

/// Whether some live member has not yet reported an own write.
fn is_unsent(env: &Env, members: &Members, dot: Dot) -> bool {
    dot.actor == env.id && dot.counter > members.held_by_all_live(env)
}

/// Evicts an own write for readers and keeps its body until every live member has reported it.
fn retain<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, held: &Snapshot<K, V>) {
    if ledger.retained_bytes() + held.meta.size as usize > env.config.max_retained_bytes {
        env.counters.evicted_unsent += 1;
        ledger.registers.bury(held, Cause::Evicted, RemovalCause::Size);
        return;
    }
    let marker = Marker { kind: Kind::Tombstone(Cause::Evicted), ..ledger.registers.marker_of(&held.meta) };
    ledger.registers.place_retained(held, marker);
}

/// Whether a register may go without a trace because it is evicted.
fn may_go_without_trace<K: CoreKey, V>(ledger: &Ledger<K, V>, members: &Members, marker: Marker) -> bool {
    let Marker { stamp, dot, .. } = marker;
    if !ledger.vector.covers(&dot) || ledger.receiving.is_some() || members.is_lonely() {
        return false;
    }
    if members.is_empty() {
        // Nobody else writes; a fill that begins later is stamped above the floor.
        return fill::lowest(ledger).is_none_or(|fill| stamp.time < fill);
    }
    members.cut().covers(stamp, dot)
}
