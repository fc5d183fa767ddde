//! Does what a node asks of an open cache.

use std::any::Any;

use bytes::Bytes;

use super::{CacheStatus, Parcel, Port, incoming, outgoing};
use crate::cache::shared::Shared;
use crate::cache::{CacheKey, CacheValue, tick};
use crate::replica_id::ReplicaId;
use crate::sync::Arc;

impl<K: CacheKey, V: CacheValue> Port for Shared<K, V> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn id(&self) -> ReplicaId {
        self.around.id()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn deliver(&self, bytes: Bytes) -> bool {
        incoming::deliver(self, bytes)
    }

    fn poll(&self) -> Option<Parcel> {
        outgoing::poll(self)
    }

    fn sent(&self, to: ReplicaId, ok: bool) {
        let now = self.around.time.now();
        self.writer.change(now, |engine| engine.replica.handle_sent(now, to, ok));
    }

    fn tick(&self) -> u64 {
        tick::tick(self)
    }

    fn greeting(&self) -> Option<Bytes> {
        outgoing::greeting(self)
    }

    fn member_down(&self, id: ReplicaId) {
        let now = self.around.time.now();
        self.writer.change(now, |engine| engine.replica.handle_member_down(now, id));
        self.progress.notify(usize::MAX);
    }

    fn member_left(&self, id: ReplicaId) {
        let now = self.around.time.now();
        self.writer.change(now, |engine| engine.replica.handle_member_left(now, id));
        self.progress.notify(usize::MAX);
    }

    fn set_connected(&self, connected: bool) {
        self.connection.set_connected(connected);
    }

    fn detach(&self) {
        let now = self.around.time.now();
        self.connection.detach();
        self.writer.change(now, |engine| {
            for member in engine.replica.view().live_members() {
                engine.replica.handle_member_down(now, member);
            }
        });
        self.progress.notify(usize::MAX);
    }

    fn await_company(&self, awaits: bool) {
        self.writer.adjust(|engine| engine.replica.await_company(awaits));
    }

    fn expect_members(&self, expects: bool) {
        if self.connection.expect(expects) {
            self.progress.notify(usize::MAX);
        }
    }

    fn expects_members(&self) -> bool {
        self.connection.is_expecting()
    }

    fn has_unsent(&self) -> bool {
        !self.connection.is_detached() && self.writer.look(|engine| engine.replica.view().has_unsent())
    }

    fn count_unsent(&self) -> u64 {
        self.connection.note_unsent(self.writer.adjust(|engine| engine.replica.count_unsent()))
    }

    fn status(&self) -> CacheStatus {
        self.writer.look(|engine| {
            let view = engine.replica.view();
            CacheStatus {
                caught_up: view.caught_up(),
                members: view.peers().map(|peer| peer.id).collect(),
                live: view.live_members(),
                entries: view.live_len(),
            }
        })
    }
}
