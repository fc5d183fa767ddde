//! A register on its way into the table.

use crate::arrival::Arrival;
use crate::crdt::Marker;
use crate::hlc::HlcTime;
use crate::item::{ItemRef, size_without_body, without_body};
use crate::store::{Meta, Snapshot};

/// A register to be placed.
pub(super) struct Placing<K, V> {
    pub(super) hash: u64,
    pub(super) marker: Marker,
    pub(super) expires: HlcTime,
    pub(super) size: u32,
    pub(super) weight: u32,
    pub(super) arrival: Arrival,
    pub(super) item: ItemRef<K, V>,
}

impl<K, V> Placing<K, V> {
    /// Returns a held register with its body, under another marker.
    pub(super) fn same_body(held: &Snapshot<K, V>, marker: Marker) -> Self {
        let Meta { expires, size, weight, arrival, .. } = held.meta;
        Self { hash: held.hash, marker, expires, size, weight, arrival, item: ItemRef::clone(&held.item) }
    }
}

impl<K: Clone, V> Placing<K, V> {
    /// Returns a held register without its body, under another marker.
    pub(super) fn without_body(held: &Snapshot<K, V>, marker: Marker) -> Self {
        let Meta { expires, size, arrival, .. } = held.meta;
        let item = without_body(&held.item);
        Self { hash: held.hash, marker, expires, size: size_without_body(size), weight: 0, arrival, item }
    }
}
