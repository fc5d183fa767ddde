//! The replica's side of direct writes; see [`ledger::direct`](crate::ledger::direct).

use super::Replica;
use crate::env::Env;
use crate::item::CoreKey;
use crate::ledger::Ledger;
use crate::ledger::absorb;
use crate::ledger::direct::{DirectNote, DirectWriter};

/// A replica, as direct writes see it.
pub(crate) struct Direct<'a, K, V> {
    env: &'a mut Env,
    ledger: &'a mut Ledger<K, V>,
}

impl<'a, K: CoreKey, V> Direct<'a, K, V> {
    /// Returns access for own writes that are made beside a replica.
    pub(crate) fn of(replica: &'a mut Replica<K, V>) -> Self {
        Self { env: &mut replica.env, ledger: &mut replica.ledger }
    }

    /// Returns a writer for direct writes, or `None` while every write must go through the replica.
    pub(crate) fn writer(&mut self) -> Option<DirectWriter<K, V>> {
        absorb::direct_writer(self.ledger, self.env)
    }

    /// Returns true if this writer may write until the next call. Must be called after every call that may have
    /// changed the replica: the next direct write exceeds every time that the replica has seen.
    pub(crate) fn may_go_on(&self, writer: &DirectWriter<K, V>) -> bool {
        absorb::may_go_on(self.ledger, self.env, writer)
    }

    /// Absorbs the notes of direct writes. Must be called before every call and every getter, with all notes that there
    /// are. Leaves the notes in the order of their stamps.
    pub(crate) fn absorb(&mut self, notes: &mut [DirectNote]) {
        absorb::absorb(self.ledger, self.env, notes);
    }
}
