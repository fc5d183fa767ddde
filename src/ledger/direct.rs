//! Direct writes: own writes that are made at the table under their shard's lock, without the replica.
//!
//! A direct write issues its stamp under the lock of its shard, so the registers of one key have rising stamps. It
//! leaves a note. The replica [absorbs](super::absorb) all notes, in the order of their stamps, before its next call.
//! The caller keeps direct writes out while the replica runs a call. So a call sees the writes as if they had been made
//! by earlier calls, one after another.
//!
//! A direct write is refused if more than the table would have to change at once: the key holds a tombstone, a value
//! whose time to live is over, a value that the epoch has made absent, or a body that is kept only to be sent. Then the
//! caller writes through the replica.

use crate::arrival::{Arrival, Provenance};
use crate::crdt::Kind;
use crate::hlc::{HlcTime, Now, Stamp, next_time};
use crate::item::ItemRef;
use crate::ledger::local::Write;
use crate::replica_id::ReplicaId;
use crate::store::{Meta, SlotRef, Snapshot, Store};
use crate::sync::{Arc, AtomicU64, Ordering};

/// The state that all direct writes of a replica share.
pub(crate) struct DirectWriter<K, V> {
    table: Arc<Store<K, V>>,
    /// The highest time that the next write must exceed: of the replica's clock, its floors, its epoch, and of all
    /// direct writes.
    last: Arc<AtomicU64>,
    id: ReplicaId,
    /// The number of the id in the table.
    origin: u32,
    /// The monotonic time at which the replica was opened, in nanoseconds.
    opened: u64,
}

impl<K, V> Clone for DirectWriter<K, V> {
    fn clone(&self) -> Self {
        let Self { id, origin, opened, .. } = *self;
        Self { table: Arc::clone(&self.table), last: Arc::clone(&self.last), id, origin, opened }
    }
}

/// The part of a direct write that the replica has yet to absorb.
#[derive(Clone, Debug)]
pub(crate) struct DirectNote {
    pub(crate) slot: SlotRef,
    pub(crate) hash: u64,
    /// The value that was replaced. `None` if the key had no register.
    pub(crate) before: Option<Meta>,
    pub(crate) after: Meta,
}

/// A direct write that was made.
pub(crate) struct DirectlyWritten<K, V> {
    pub(crate) stamp: Stamp,
    pub(crate) note: DirectNote,
    /// The displaced item, for the caller to drop without a lock.
    pub(crate) displaced: Option<ItemRef<K, V>>,
}

/// A direct write that was not made.
pub(crate) enum Refused<K, V> {
    /// This register may be that of the key. The caller compares the keys without a lock, and may then
    /// [overwrite](DirectWriter::overwrite) the register.
    Found(Write<K, V>, Snapshot<K, V>),
    /// The replica has to make the write.
    ForReplica(Write<K, V>),
}

impl<K, V> DirectWriter<K, V> {
    /// Returns the direct writer of a replica. `last` is the highest time that its next write must exceed.
    pub(crate) fn new(table: Arc<Store<K, V>>, last: HlcTime, id: ReplicaId, origin: u32, opened: u64) -> Self {
        Self { table, last: Arc::new(AtomicU64::new(last)), id, origin, opened }
    }

    /// Returns the replica that writes.
    pub(crate) fn id(&self) -> ReplicaId {
        self.id
    }

    /// Raises the time that the next write must exceed.
    pub(crate) fn raise(&self, last: HlcTime) {
        self.last.fetch_max(last, Ordering::AcqRel);
    }

    /// Writes a value if no register may have the hash of its key.
    pub(crate) fn add(&self, now: Now, write: Write<K, V>) -> Result<DirectlyWritten<K, V>, Refused<K, V>> {
        let Write { hash, item, expires, size, weight } = write;
        match self.table.insert_if_new(hash, item, || self.meta(now, (expires, size, weight))) {
            Ok((slot, after)) => Ok(self.written(slot, hash, None, after, None)),
            Err((item, found)) => Err(Refused::Found(Write { hash, item, expires, size, weight }, found)),
        }
    }

    /// Writes a value over the register `seen` of its key, if the register is a readable value and has not changed
    /// since.
    pub(crate) fn overwrite(
        &self,
        now: Now,
        write: Write<K, V>,
        seen: &Snapshot<K, V>,
    ) -> Result<DirectlyWritten<K, V>, Refused<K, V>> {
        let held = &seen.meta;
        let readable = held.kind.is_live() && held.stamp_time > self.table.epoch();
        if !readable || held.retained || held.is_expired_by(now.wall) {
            return Err(Refused::ForReplica(write));
        }
        let Write { hash, item, expires, size, weight } = write;
        match self.table.replace_unchanged(seen, item, || self.meta(now, (expires, size, weight))) {
            Ok((after, displaced)) => Ok(self.written(seen.slot, hash, Some(*held), after, displaced)),
            Err(item) => Err(Refused::ForReplica(Write { hash, item, expires, size, weight })),
        }
    }

    fn written(
        &self,
        slot: SlotRef,
        hash: u64,
        before: Option<Meta>,
        after: Meta,
        displaced: Option<ItemRef<K, V>>,
    ) -> DirectlyWritten<K, V> {
        let stamp = Stamp::new(after.stamp_time, self.id);
        DirectlyWritten { stamp, note: DirectNote { slot, hash, before, after }, displaced }
    }

    /// Returns the metadata of a write that is made now. Called under the lock of its shard.
    fn meta(&self, now: Now, (expires, size, weight): (HlcTime, u32, u32)) -> Meta {
        let time = self.tick(now.wall);
        Meta {
            stamp_time: time,
            dot_time: time,
            stamp_replica: self.origin,
            dot_origin: self.origin,
            expires,
            size,
            weight,
            arrival: Arrival::new(now.mono.saturating_sub(self.opened), Provenance::Written),
            kind: Kind::Live,
            retained: false,
        }
    }

    fn tick(&self, wall: HlcTime) -> HlcTime {
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = next_time(wall, last);
            match self.last.compare_exchange_weak(last, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(seen) => last = seen,
            }
        }
    }
}
