//! The replica's side of direct writes: it lets them in, and absorbs their notes.

use super::Ledger;
use super::direct::{DirectNote, DirectWriter};
use crate::env::Env;
use crate::hlc::HlcTime;
use crate::item::CoreKey;
use crate::sync::Arc;

/// Returns the writer for direct writes of this replica, or `None` while every write must go through the replica. Time
/// that was taken over from other members is one reason: only the replica's clock knows when it ends.
pub(crate) fn direct_writer<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &Env) -> Option<DirectWriter<K, V>> {
    if !allows(env) {
        return None;
    }
    let origin = ledger.registers.own_origin();
    Some(DirectWriter::new(Arc::clone(ledger.table()), last(ledger, env), env.id, origin, env.opened))
}

/// Returns true if this writer may go on. Raises the time that its next write must exceed to what the replica has seen.
pub(crate) fn may_go_on<K: CoreKey, V>(ledger: &Ledger<K, V>, env: &Env, writer: &DirectWriter<K, V>) -> bool {
    if !env.bugs().direct_below_floor {
        writer.raise(last(ledger, env));
    }
    allows(env) && writer.id() == env.id
}

fn allows(env: &Env) -> bool {
    env.clock.offset() == 0
}

/// Returns the highest time that the next own write must exceed: see [`Ledger::issue_dot`].
fn last<K: CoreKey, V>(ledger: &Ledger<K, V>, env: &Env) -> HlcTime {
    env.clock.last().max(ledger.highest_floor().time).max(ledger.epoch())
}

/// Absorbs the notes of direct writes, in the order of their stamps. Leaves the notes in this order.
pub(crate) fn absorb<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, notes: &mut [DirectNote]) {
    notes.sort_unstable_by_key(|note| note.after.stamp_time);
    let Some(newest) = notes.last().map(|note| note.after.stamp_time) else { return };
    if !env.bugs().direct_unobserved {
        env.clock.observe(newest);
    }
    ledger.last_own = newest.max(ledger.last_own);
    ledger.vector.raise(env.id, newest);
    env.counters.writes += notes.len() as u64;
    notes.iter().for_each(|note| ledger.registers.absorb(note));
}
