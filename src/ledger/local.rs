//! Writes and deletes by the user of this replica.

use super::Ledger;
use super::changes::RemovalCause;
use super::placing::Placing;
use crate::arrival::Provenance;
use crate::crdt::{Cause, Dot, Kind, Marker};
use crate::env::Env;
use crate::hlc::{HlcTime, Stamp};
use crate::item::{CoreKey, ItemRef, Key};
use crate::store::Snapshot;
use crate::wire::Unencodable;

/// A write or a delete, ready to be stamped.
#[derive(Debug)]
pub struct Write<K, V> {
    /// The hash of the key, valid in this process only.
    pub hash: u64,
    /// Key and value. A body of `Absent` makes a delete.
    pub item: ItemRef<K, V>,
    /// Absolute wall time after which the value is expired; zero means never.
    pub expires: HlcTime,
    /// Bytes of the encoded key and value.
    pub size: u32,
    /// The weight that the user's weigher returned.
    pub weight: u32,
}

/// The item that a delete removed, and the wall time at which it would have expired.
pub type Removed<K, V> = (ItemRef<K, V>, HlcTime);

/// Writes a value.
pub(crate) fn write<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, write: Write<K, V>) -> Stamp {
    put(ledger, env, write, Kind::Live).0
}

/// Deletes a key, even one that this replica has never seen: the value may be on its way. Returns the stamp of the
/// delete, and the replaced register if it was a readable value.
pub(crate) fn delete<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    write: Write<K, V>,
) -> (Stamp, Option<Removed<K, V>>) {
    if env.bugs().delete_unknown_is_noop && ledger.find(write.hash, &write.item.key).is_none() {
        return (Stamp::ZERO, None);
    }
    let (stamp, held) = put(ledger, env, write, Kind::Tombstone(Cause::Deleted));
    let readable = held.filter(|held| ledger.registers.is_readable(&held.meta));
    (stamp, readable.map(|held| (held.item, held.meta.expires)))
}

fn put<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    write: Write<K, V>,
    kind: Kind,
) -> (Stamp, Option<Snapshot<K, V>>) {
    let Write { hash, item, expires, size, weight } = write;
    let dot = ledger.issue_dot(env);
    let stamp = Stamp::new(dot.counter, env.id);
    let arrival = env.arrival(Provenance::Written);
    let placing = Placing { hash, marker: Marker { stamp, kind, dot }, expires, size, weight, arrival, item };
    let held = ledger.registers.place_own(env, placing);
    env.counters.writes += 1;
    (stamp, held)
}

/// Removes a register that can no longer be encoded, if it is still held under this dot. If its value cannot be
/// encoded, a `Void` tombstone replaces the register, so that no replica keeps the write that the register overwrote.
/// If its key cannot be encoded, the register is removed without a trace. Returns true if it was held.
pub(crate) fn void_unencodable<K: CoreKey, V>(
    ledger: &mut Ledger<K, V>,
    env: &mut Env,
    (hash, key, dot): (u64, &Key<K>, Dot),
    what: Unencodable,
) -> bool {
    let held = ledger.find(hash, key).filter(|held| ledger.registers.dot_of(&held.meta) == dot);
    let Some(held) = held else { return false };
    match what {
        Unencodable::Value => {
            // A user wrote this register, so it contests fills. The void that replaces it contests none, so the stamp
            // of the write is remembered here.
            ledger.registers.note_lost(&held, held.meta.stamp_time);
            let stamp = ledger.registers.stamp_of(&held.meta);
            ledger.void_held(env, &held, stamp, Provenance::Written);
        }
        Unencodable::Key => {
            ledger.lossy = true;
            ledger.drop_register(env, held.slot, &held.meta, RemovalCause::Void);
        }
    }
    true
}

/// An own write that is written again under a new replica id.
pub(crate) struct Kept<K, V> {
    pub(crate) stamp: Stamp,
    pub(crate) kind: Kind,
    pub(crate) hash: u64,
    pub(crate) expires: HlcTime,
    pub(crate) size: u32,
    pub(crate) weight: u32,
    pub(crate) item: ItemRef<K, V>,
}

/// Writes a write of the former replica id again, under its old stamp. Skips it if the epoch covers it.
pub(crate) fn write_again<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &mut Env, write: Kept<K, V>) {
    let Kept { stamp, kind, hash, expires, size, weight, item } = write;
    if stamp.time <= ledger.epoch() {
        return;
    }
    let marker = Marker { stamp, kind, dot: ledger.issue_dot(env) };
    let arrival = env.arrival(Provenance::Written);
    let placing = Placing { hash, marker, expires, size, weight, arrival, item };
    ledger.registers.place(None, placing, RemovalCause::Replaced);
}
