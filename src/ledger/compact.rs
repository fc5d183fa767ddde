//! Compaction of the logs: stale entries are dropped, and the push barrier records what the log no longer shows.

use super::registers::Registers;
use crate::crdt::Dot;
use crate::item::CoreKey;
use crate::replica_id::ReplicaId;

/// Compacts the logs that are mostly stale. An append compacts only the log that it extends, so this call also serves
/// the logs of origins that no longer write.
pub(super) fn compact_bloated_logs<K: CoreKey, V>(registers: &mut Registers<K, V>) {
    registers.logs.bloated().into_iter().for_each(|origin| compact_log(registers, origin));
}

/// Drops the stale entries of a log.
pub(super) fn compact_log<K: CoreKey, V>(registers: &mut Registers<K, V>, origin: ReplicaId) {
    let Some(mut log) = registers.logs.take(&origin) else { return };
    let own = origin == registers.id;
    let (mut gone, mut rewritten_here) = (0, 0);
    log.compact(|time, slot| {
        let dot = registers.dot_at(slot);
        let current = dot == Some(Dot::new(origin, time));
        match dot {
            _ if current || !own => {}
            // This replica rewrote the key later. A push that starts below this entry claims it, so it must carry
            // the later write. The log no longer shows which write that is, so the push must reach the log's end.
            Some(dot) if dot.actor == origin => rewritten_here = time.max(rewritten_here),
            // Another replica overtook the write, or its register is gone. A push that starts below this entry
            // would claim the write and not carry it. The log no longer shows this, so no push may start there.
            _ => gone = time.max(gone),
        }
        current
    });
    registers.logs.put(origin, log);
    registers.logs.note_compacted(gone, rewritten_here);
}
