//! Registers without their values, for operators: keys, stamps and hashes.
//!
//! Takes the replica's lock to read stamps only. Encodes keys and values without it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::shared::Shared;
use super::{CacheKey, CacheValue};
use crate::crdt::Marker;
use crate::hlc::HlcTime;
use crate::item::{Body, Item, Key};
use crate::report::{Mark, Marks};
use crate::store::Snapshot;
use crate::wire;

/// The number of registers whose stamps are read during one hold of the replica's lock.
const PER_HOLD: usize = 32;

/// Runs code that encodes or compares users' types. Returns `None` if that code panics.
pub(super) fn contain<T>(work: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten()
}

/// Returns the register that is held for an encoded key.
pub(super) fn find<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, key: &[u8]) -> Option<Snapshot<K, V>> {
    contain(|| {
        let key = match wire::decode_key::<K>(key) {
            Ok(known) => Key::Known(known),
            // A key that does not decode here is held as the bytes in which it arrived.
            Err(_) => Key::Opaque(Box::new(key.to_vec().into())),
        };
        shared.reader.store().find_by(shared.reader.hash_of(&key), |other| *other == key)
    })
}

/// Encodes the key of an item. Returns `None` if it cannot be encoded.
pub(super) fn encoded_key<K: CacheKey, V>(item: &Item<K, V>) -> Option<Vec<u8>> {
    match &item.key {
        Key::Known(key) => wire::encode_key(key).ok(),
        Key::Opaque(bytes) => Some(bytes.to_vec()),
        Key::Gone => None,
    }
}

/// Encodes the value of an item. Returns `None` if there is none, or it cannot be encoded.
pub(super) fn encoded_value<K, V: CacheValue>(item: &Item<K, V>) -> Option<Vec<u8>> {
    match &item.body {
        Body::Opaque(None) => None,
        Body::Opaque(Some(bytes)) => Some(bytes.to_vec()),
        Body::Known(value) => {
            let mut bytes = Vec::new();
            ciborium::into_writer(value, &mut bytes).ok()?;
            Some(bytes)
        }
    }
}

fn mark<K: CacheKey, V: CacheValue>(
    found: &Snapshot<K, V>,
    marker: Marker,
    opened: HlcTime,
    hash: bool,
) -> Option<Mark> {
    let key = encoded_key(&found.item)?;
    let hash = if hash { encoded_value(&found.item).map(|bytes| wire::value_hash(&bytes)) } else { None };
    Some(Mark {
        key,
        kind: marker.kind.code(),
        stamp: marker.stamp,
        origin: marker.dot.actor,
        dot: marker.dot.counter,
        expires: found.meta.expires,
        size: found.meta.size,
        hash,
        arrived_at: opened.saturating_add(found.meta.arrival.since_start()),
        provenance: Some(found.meta.arrival.path),
    })
}

/// Describes registers that were found a moment ago. Hashes their values only if `hash` is true, because that encodes
/// each value. A register that has changed since it was found has `None` in its place.
pub(super) fn marks<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    found: &[Option<Snapshot<K, V>>],
    hash: bool,
) -> Marks {
    let mut marks = marks_without_registers(shared);
    let opened = opened_by_todays_clock(shared);
    for part in found.chunks(PER_HOLD) {
        let markers: Vec<_> = shared.writer.look(|engine| {
            let view = engine.replica.view();
            part.iter().map(|found| view.marker_of_snapshot(found.as_ref()?)).collect()
        });
        for (found, marker) in part.iter().zip(markers) {
            let mark =
                found.as_ref().zip(marker).and_then(|(found, marker)| contain(|| mark(found, marker, opened, hash)));
            marks.marks.push(mark);
        }
    }
    marks
}

/// Returns the time at which this replica started, by today's wall clock: the present wall time, less the replica's age
/// by the monotonic clock. So the result has no error from a step of the wall clock since the start.
fn opened_by_todays_clock<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> HlcTime {
    let now = shared.services.time.now();
    let age = now.mono.saturating_sub(shared.writer.look(|engine| engine.replica.view().opened()));
    now.wall.saturating_sub(age)
}

fn marks_without_registers<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> Marks {
    let wall = shared.services.time.wall();
    shared.writer.look(|engine| {
        let view = engine.replica.view();
        Marks {
            replica: Some(shared.services.id()),
            wall,
            lossy: view.is_lossy(),
            floor: view.floor().time,
            epoch: view.epoch(),
            vector: view.vector().iter().collect(),
            marks: Vec::new(),
        }
    })
}
