//! The table of replica ids at the start of a body. Each id is sent once, and is a small index everywhere else.

use std::collections::BTreeSet;

use super::error::{DecodeError, EncodeError};
use crate::crdt::VersionVector;
use crate::replica_id::ReplicaId;

/// Collector of the replica ids in a message that is about to be encoded.
#[derive(Default)]
pub(super) struct Collector {
    ids: BTreeSet<ReplicaId>,
    last: Option<ReplicaId>,
}

impl Collector {
    /// Adds an id. Consecutive entries mostly repeat the same id, so the last id is compared first.
    #[inline]
    pub(super) fn add(&mut self, id: ReplicaId) {
        if self.last != Some(id) {
            self.ids.insert(id);
            self.last = Some(id);
        }
    }

    pub(super) fn add_vector(&mut self, vector: &VersionVector) {
        self.ids.extend(vector.iter().map(|(origin, _)| origin));
    }

    pub(super) fn finish(self) -> Numbers {
        Numbers { ids: self.ids.into_iter().collect() }
    }
}

/// The index of each id, for the encoder: the ids in rising order.
pub(super) struct Numbers {
    ids: Vec<ReplicaId>,
}

impl Numbers {
    pub(super) fn ids(&self) -> &[ReplicaId] {
        &self.ids
    }

    pub(super) fn number(&self, id: &ReplicaId) -> Result<u64, EncodeError> {
        self.ids.binary_search(id).map(|at| at as u64).map_err(|_| EncodeError::ReplicaTable)
    }
}

/// The id of each index, for the decoder: a slice of the message's bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Table<'a> {
    ids: &'a [[u8; 16]],
}

impl<'a> Table<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "the replica table";
        let (ids, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return Err(DecodeError::Range(WHAT));
        }
        if !ids.is_sorted_by(|first, second| first < second) {
            return Err(DecodeError::ReplicaOrder(WHAT));
        }
        Ok(Self { ids })
    }

    pub(super) fn id(&self, number: u64) -> Result<ReplicaId, DecodeError> {
        let at = usize::try_from(number).map_err(|_| DecodeError::ReplicaTable)?;
        self.ids.get(at).copied().map(ReplicaId::from_bytes).ok_or(DecodeError::ReplicaTable)
    }
}
