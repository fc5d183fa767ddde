//! Marks: what is held for keys, without the values. User types are encoded without the replica's lock.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cache::shared::Shared;
use crate::cache::{CacheKey, CacheValue};
use crate::crdt::Marker;
use crate::hlc::HlcTime;
use crate::item::{Body, Item, Key};
use crate::report::{Mark, Marks};
use crate::store::Snapshot;
use crate::wire;

/// Registers looked up under one hold of the lock.
const PER_HOLD: usize = 32;

/// Returns the register of an encoded key; `None` also if the user's types panic.
pub(super) fn find<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, key: &[u8]) -> Option<Snapshot<K, V>> {
    let find = || {
        let key = match wire::decode_key::<K>(key) {
            Ok(known) => Key::Known(known),
            Err(_) => Key::Opaque(Box::new(key.to_vec().into())),
        };
        shared.reader.store().find_by(shared.reader.hash_of(&key), |other| *other == key)
    };
    catch_unwind(AssertUnwindSafe(find)).ok().flatten()
}

pub(super) fn encoded_key<K: CacheKey, V>(item: &Item<K, V>) -> Option<Vec<u8>> {
    match &item.key {
        Key::Known(key) => wire::encode_key(key).ok(),
        Key::Opaque(bytes) => Some(bytes.to_vec()),
    }
}

pub(super) fn encoded_value<K, V: CacheValue>(item: &Item<K, V>) -> Option<Vec<u8>> {
    match &item.body {
        Body::Absent => None,
        Body::Opaque(bytes) => Some(bytes.to_vec()),
        Body::Known(value) => {
            let mut bytes = Vec::new();
            ciborium::into_writer(value, &mut bytes).ok()?;
            Some(bytes)
        }
    }
}

/// Returns the marks of registers found a moment ago.
pub(super) fn mark_all<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    found: &[Option<Snapshot<K, V>>],
    hash: bool,
) -> Marks {
    let mut marks = unmarked(shared);
    let opened = opened_by_todays_clock(shared);
    for part in found.chunks(PER_HOLD) {
        let markers: Vec<_> = shared.writer.look(|engine| {
            let view = engine.replica.view();
            part.iter().map(|found| view.marker_of_snapshot(found.as_ref()?)).collect()
        });
        for (found, marker) in part.iter().zip(markers) {
            let mark = found.as_ref().zip(marker).and_then(|(found, marker)| {
                catch_unwind(AssertUnwindSafe(|| mark(found, marker, opened, hash))).ok().flatten()
            });
            marks.marks.push(mark);
        }
    }
    marks
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
        learnt_at: opened.saturating_add(found.meta.learnt.since_start()),
        learnt_by: Some(found.meta.learnt.path),
    })
}

/// Returns the time at which this replica started, as the wall clock would have shown it had it always gone as it goes now.
fn opened_by_todays_clock<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> HlcTime {
    let now = shared.around.time.now();
    let age = now.mono.saturating_sub(shared.writer.look(|engine| engine.replica.view().opened()));
    now.wall.saturating_sub(age)
}

/// Returns what goes for all registers at this moment, without marks.
fn unmarked<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> Marks {
    let wall = shared.around.time.wall();
    shared.writer.look(|engine| {
        let view = engine.replica.view();
        Marks {
            replica: Some(shared.around.id()),
            wall,
            lossy: view.is_lossy(),
            floor: view.floor().time,
            epoch: view.epoch(),
            vector: view.vector().iter().collect(),
            marks: Vec::new(),
        }
    })
}
