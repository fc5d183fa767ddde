//! Own writes beside the replica, as the threads of a cache make them: see [`ledger::direct`](crate::ledger::direct).
//!
//! The gate of a cache absorbs the notes of such writes before each call of the replica. Here they are absorbed before
//! the next event, so that several writes may be absorbed together.

use super::cluster::Cluster;
use super::opening::DirectWrites;
use super::report::Violation;
use super::settle;
use super::types::{SimKey, SimValue};
use crate::cache::gate::Gated;
use crate::hlc::{Now, Stamp};
use crate::ledger::direct::{DirectlyWritten, Refused};
use crate::replica::direct::Direct;
use crate::replica::{Watch, Write};

/// Writes beside the replica. Returns the write if it must go through the replica.
pub(super) fn write<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    now: Now,
    write: Write<K, V>,
) -> Result<Stamp, Write<K, V>> {
    let opening = &mut cluster.openings[number];
    let bounds = opening.engine.limits();
    let DirectWrites { writer, notes } = &mut opening.direct;
    // The gate of a cache would have relieved the stripe.
    if bounds.is_none_or(|bounds| !bounds.has_room(notes.len(), write.weight)) {
        return Err(write);
    }
    // With notes that wait, the writer goes on as it was admitted by the last call.
    if notes.is_empty() && !opening.engine.admit(writer).admits() {
        return Err(write);
    }
    let Some(writer) = writer else { return Err(write) };
    let written = writer.add(now, write).or_else(|refused| match refused {
        Refused::Found(write, found) if found.item.key == write.item.key => writer.overwrite(now, write, &found),
        other => Err(other),
    });
    match written {
        Ok(DirectlyWritten { stamp, note, .. }) => {
            notes.push(note);
            cluster.report.fault(if cluster.settings.max_capacity.is_some() {
                "write beside the replica of a bounded cache"
            } else {
                "write beside the replica"
            });
            Ok(stamp)
        }
        Err(Refused::Found(write, _) | Refused::ForReplica(write)) => Err(write),
    }
}

/// Absorbs the notes of all direct writes, and sends what was written.
pub(super) fn absorb_all<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    for number in 0..cluster.openings.len() {
        let opening = &mut cluster.openings[number];
        let notes = &mut opening.direct.notes;
        if notes.is_empty() {
            continue;
        }
        if notes.len() > 1 {
            cluster.report.fault("writes absorbed together");
        }
        if cluster.settings.bugs.absorbed_unused {
            opening.engine.replica.set_watch(Watch::CountsOnly);
            Direct::of(&mut opening.engine.replica).absorb(notes);
            notes.clear();
        } else {
            opening.engine.absorb(notes, &opening.reads);
        }
        opening.engine.replica.set_watch(Watch::Everything);
        if cluster.processes[opening.process].is_up() && opening.is_open {
            settle::opening(cluster, number)?;
        }
    }
    Ok(())
}

/// Returns true if there are notes to absorb.
pub(super) fn is_waiting<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>) -> bool {
    cluster.openings.iter().any(|opening| !opening.direct.notes.is_empty())
}
